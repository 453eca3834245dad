# Reads what headers.awk writes into arrays, and knows how a function is called. Each script beside this one begins with it:
#
#   headers, header[i], intro[h]       the headers in order
#   items[h], item[h, i]               a header's records in order; what each has is in record[key] by fields
#   function_of[f]                     the header of function f; result[f], parameters[f], remark[f], line[f], comment[f]
#   called[f]                          the name under which it is called: fdl_topk for fdl_topk_opt
#   options[f]                         its option struct, or ""
#   fields[s], field[s, i]             an option struct's fields; type_of[s, i], text_of[s, i], place_of[s, i]
#   enumerators[e], enumerator[e, i]   an enum's; enumerator_text[e, i]
#   macro[m]                           a macro's header; macro_parameters[m], macro_body[m], macro_comment[m]
BEGIN { FS = "\t" }
function is_internal(name, type, params)
{
    # In-place operations end in an underscore and are public; what else ends so is the headers' own.
    return name ~ /_$/ && !(type == "fdl_status" && params ~ /^fdl_(tensor \*|list )/) || name ~ /_ended$/
}
# What a function is called by: without _opt where there are options.
function call_name(f, params)
{
    if (params !~ /const fdl_[a-z0-9_]+_opts \*opts$/)
        return f
    if (f ~ /_opt_$/)
        return substr(f, 1, length(f) - 5) "_"
    return f ~ /_opt$/ ? substr(f, 1, length(f) - 4) : f
}
$1 == "H" {
    h = $2
    header[++headers] = h
    intro[h] = $3
    text = ""
    section = ""
    heading = ""
    next
}
{
    key = h SUBSEP (++items[h])
    item[key] = $0
}
# A comment speaks up to the next empty line, a heading with a colon for what stands right under it.
$1 == "S" { section = $2; text = ""; heading = $2 ~ /:/ ? $2 : "" }
$1 == "C" { text = $2 }
$1 == "E" { text = heading; heading = "" }
$1 == "N" { heading = "" }
$1 == "F" {
    f = $2
    if (is_internal(f, $3, $4))
        next
    function_of[f] = h
    names[++functions] = f
    result[f] = $3
    parameters[f] = $4
    remark[f] = $5
    line[f] = $6
    comment[f] = text
    section_of[f] = section
    called[f] = call_name(f, $4)
    options[f] = ""
    if (called[f] != f) {
        match($4, /fdl_[a-z0-9_]+_opts \*opts$/)
        options[f] = substr($4, RSTART, RLENGTH - 6)
        has_options[called[f]] = f
    }
}
$1 == "T" {
    kind[$3] = $2
    type_header[$3] = h
    if ($2 == "alias")
        alias[$3] = $4
}
$1 == "L" {
    s = $2
    i = ++fields[s]
    field[s, i] = $3
    type_of[s, i] = $4
    text_of[s, i] = $5
    place_of[s, i] = $6
}
$1 == "V" {
    i = ++enumerators[$2]
    enumerator[$2, i] = $3
    enumerator_text[$2, i] = $4
}
$1 == "M" {
    macro[$2] = h
    macro_names[++macros] = $2
    macro_parameters[$2] = $3
    macro_body[$2] = $4
    macro_comment[$2] = text
}
