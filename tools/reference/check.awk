# What every public function owes its reader and its tests: model.awk, tables.awk, then this, over the records of headers.awk,
# the tables of tests and no_row.txt. Prints each breach, exit 1 if there is any.
#
# - A function and a macro have a comment; a heading with a colon speaks for what stands right under it.
# - An operation (what takes and returns tensors, or changes them in place, in a header of src/tensor) is named in a row of
#   a table, or stands in no_row.txt with the test that names it.
# - An operation's comment, the heading above it or the header's first comment says which shape comes out of it.
# - parity.txt names functions that there are.
function breach(place_, what)
{
    print place_ ": " what
    breaches++
}
function at(f)
{
    return "include/flodl/" function_of[f] ".h:" line[f]
}
# Whether text calls it, under its own name or the one without _opt.
function calls(text_, f,    base)
{
    base = f
    sub(/_(tensor|scalar)$/, "", base)
    return index(text_, f "(") || index(text_, called[f] "(") || base in macro && index(text_, base "(") || index(text_, "(" f ")")
}
function is_operation(f)
{
    if (!(function_of[f] in operations) || parameters[f] !~ /fdl_(tensor \*[a-z]|list )/)
        return 0
    return result[f] == "fdl_tensor *" || result[f] == "fdl_list" || result[f] == "fdl_status" && f ~ /_$/
}
function says_shape(text_)
{
    return text_ ~ /\[[^]]*\]|shape|0-d|[eE]lement|extent|[bB]roadcast|[vV]iew|[-+*\/]=|[a-z]\[i\]/
}
FILENAME ~ /no_row\.txt$/ {
    if ($0 ~ /^#/ || $0 ~ /^[ \t]*$/)
        next
    split($0, words, / +/)
    exempt[words[1]] = words[2]
    reached[words[1]] = words[3]
    exempt_line[words[1]] = FNR
}
END {
    n = split(headers_of_operations, list, " ")
    for (i = 1; i <= n; i++)
        operations[list[i]] = 1
    for (i = 1; i <= functions; i++) {
        f = names[i]
        if (comment[f] == "" && remark[f] == "")
            breach(at(f), f " has no comment")
        if (!is_operation(f))
            continue
        n_operations++
        h = function_of[f]
        if (!calls(tables, f)) {
            file = called[f] in exempt ? exempt[called[f]] : ""
            used[called[f]] = 1
            if (file == "")
                breach(at(f), f " is in no row of tests/ops.def")
            else {
                if (!(file in contents)) {
                    contents[file] = ""
                    while ((getline text_ < file) > 0)
                        contents[file] = contents[file] text_ "\n"
                }
                if (reached[called[f]] != "" ? !index(contents[file], reached[called[f]]) : !calls(contents[file], f))
                    breach(at(f), f " is in no row of tests/ops.def, and not in " file " either")
            }
        }
        if (result[f] != "fdl_status" && !says_shape(comment[f] remark[f]) && section_of[f] !~ /shape of|element by element|which broadcast/ &&
            !(intro[h] ~ /0-d|shape of/))
            breach(at(f), f ": the comment says no shape")
    }
    for (i = 1; i <= macros; i++) {
        m = macro_names[i]
        if (macro_comment[m] == "" && !(m in has_options) && macro_body[m] !~ /FDL_EITHER_/ && !(m "_of" in function_of))
            breach("include/flodl/" macro[m] ".h", m " has no comment")
    }
    for (name in exempt)
        if (!(name in used))
            breach("tools/reference/no_row.txt:" exempt_line[name], name " needs no exemption")
    for (i = 1; i <= pairs; i++) {
        n = split(pair_flodl[i], these, " ")
        for (k = 1; k <= n; k++)
            if (these[k] != "-" && !exists(these[k]))
                breach("tools/reference/parity.txt", these[k] " (" pair_torch[i] ") is in no header")
    }
    if (n_operations < 200 || pairs < 200)
        breach("tools/reference/check.awk", "sees " n_operations " operations and " pairs " pairs only: the headers are not read right")
    exit breaches > 0
}
