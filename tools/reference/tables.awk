# Reads the tables beside the headers, after model.awk: the rows of tests/ops.def and tests/modules/*.def, and parity.txt.
#
#   rows, row_c[i], row_python[i], row_kind[i]    calls that the tests hold equal
#   tables                                        the text of all of them
#   pairs, pair_torch[i], pair_flodl[i], pair_note[i], pair_area[i]   of parity.txt; pair_flodl is "-", or names with blanks
#   place[name]                                   its page and heading, of the file of anchors that pages.awk writes
FILENAME ~ /anchors$/ {
    place[$1] = $2
    next
}
function squeezed(s)
{
    gsub(/[ \t\n]+/, " ", s)
    sub(/^ /, "", s)
    sub(/ $/, "", s)
    return s
}
# Adds the text of a line to the open row; true when its parentheses are closed.
function row_complete(text_,    i, c)
{
    for (i = 1; i <= length(text_); i++) {
        c = substr(text_, i, 1)
        if (in_string) {
            if (c == "\\")
                i++
            else if (c == "\"")
                in_string = 0
        } else if (c == "\"")
            in_string = 1
        else if (c ~ /[([{]/)
            depth++
        else if (c ~ /[])}]/)
            depth--
    }
    row = row " " text_
    return depth == 0
}
# The arguments of the row into cells[1..]; their number.
function arguments(s,    i, c, n, level, quoted, part)
{
    sub(/^[^(]*\(/, "", s)
    sub(/\)[ \t]*$/, "", s)
    n = 0
    level = 0
    quoted = 0
    part = ""
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (quoted && c == "\\") {
            part = part c substr(s, ++i, 1)
            continue
        }
        if (c == "\"")
            quoted = !quoted
        if (!quoted) {
            if (c ~ /[([{]/)
                level++
            if (c ~ /[])}]/)
                level--
            if (c == "," && level == 0) {
                cells[++n] = squeezed(part)
                part = ""
                continue
            }
        }
        part = part c
    }
    cells[++n] = squeezed(part)
    return n
}
FILENAME ~ /\.def$/ {
    tables = tables $0 "\n"
    if (depth == 0 && $0 !~ /^(OP|CASE|MODULE|INIT|SPELLING)\(/)
        next
    if (depth == 0)
        row = ""
    if (!row_complete($0))
        next
    row = squeezed(row)
    kind_of_row = row
    sub(/\(.*/, "", kind_of_row)
    arguments(row)
    if (kind_of_row == "SPELLING") { # the two calls alone
        cells[3] = cells[1]
        cells[4] = cells[2]
    }
    rows++
    row_kind[rows] = kind_of_row
    row_c[rows] = cells[3]
    row_python[rows] = cells[4]
    sub(/^"/, "", row_python[rows])
    sub(/"$/, "", row_python[rows])
    gsub(/torch\.nn\.functional\./, "F.", row_python[rows])
    # What the row does to suit every dtype, or to look at one result of several, isn't the call.
    gsub(/\(a if a\.is_floating_point\(\) else a\.float\(\)\)/, "a", row_python[rows])
    sub(/\)\.bool\(\)$/, ")", row_python[rows])
    if (row_c[rows] ~ /^fdl_list_at\(.*, 0\)$/ && row_python[rows] ~ /\[0\]$/) {
        row_c[rows] = substr(row_c[rows], 13, length(row_c[rows]) - 16)
        sub(/\[0\]$/, "", row_python[rows])
    }
    # On copies, which the tests compare: the calls without them.
    if (row_c[rows] ~ /^OPS_IN_PLACE\(fdl_[^?]*\)$/ && row_python[rows] ~ /^a\.clone\(\)\./) {
        row_c[rows] = substr(row_c[rows], 14, length(row_c[rows]) - 14)
        gsub(/\(out/, "(a", row_c[rows])
        sub(/\.clone\(\)/, "", row_python[rows])
    }
    if (row_c[rows] ~ /^OPS_BOTH\(fdl_[^?]*\)$/ && row_python[rows] ~ /^both\(lambda x: .*, a, b\)$/) {
        row_c[rows] = substr(row_c[rows], 10, length(row_c[rows]) - 10)
        gsub(/\(two/, "(list", row_c[rows])
        row_python[rows] = substr(row_python[rows], 16, length(row_python[rows]) - 22)
        gsub(/\(x/, "(list", row_python[rows])
    }
    if (row_python[rows] ~ /^First\(.*\)$/)
        row_python[rows] = substr(row_python[rows], 7, length(row_python[rows]) - 7)
    if (row_python[rows] ~ /^Own\(.*\)$/)
        row_python[rows] = substr(row_python[rows], 5, length(row_python[rows]) - 5)
    next
}
FILENAME ~ /parity\.txt$/ {
    if ($0 ~ /^## /)
        area = substr($0, 4)
    if ($0 ~ /^#/ || $0 ~ /^[ \t]*$/)
        next
    text_ = $0
    pairs++
    match(text_, /^[^ ]+/)
    pair_torch[pairs] = substr(text_, 1, RLENGTH)
    text_ = substr(text_, RLENGTH + 1)
    sub(/^ +/, "", text_)
    gsub(/, /, ",", text_)
    note = ""
    if (match(text_, /  +/)) {
        note = substr(text_, RSTART + RLENGTH)
        text_ = substr(text_, 1, RSTART - 1)
    }
    # A remark has its commas' blanks again.
    gsub(/,/, ", ", note)
    gsub(/,/, " ", text_)
    pair_flodl[pairs] = text_
    pair_note[pairs] = note
    pair_area[pairs] = area
    next
}
# Whether a function or macro of that name is there to be called.
function exists(name)
{
    return name in function_of || name in has_options || name in macro
}
# A link to the name's place in the reference, from docs/.
function where(name)
{
    return "api/" place[name]
}
# Its parameters by name, without types and options.
function call_of(name,    f, params, n, parts, i, out_)
{
    if (name in macro && !(name in has_options))
        return name (macro_parameters[name] == "-" ? ";" : macro_parameters[name])
    f = name in has_options ? has_options[name] : name
    params = parameters[f]
    sub(/(, )?const fdl_[a-z0-9_]+ \*opts$/, "", params)
    if (params == "void")
        params = ""
    n = split(params, parts, ", ")
    out_ = ""
    for (i = 1; i <= n; i++) {
        if (match(parts[i], /\(\*[a-z0-9_]+\)/))
            parts[i] = substr(parts[i], RSTART + 2, RLENGTH - 3)
        else if (parts[i] ~ /\)$/)
            continue
        sub(/.*[ *]/, "", parts[i])
        out_ = out_ (out_ == "" ? "" : ", ") parts[i]
    }
    return name "(" out_ ")"
}
# The first few of its options.
function options_of(name, most,    s, i, out_)
{
    if (!(name in has_options))
        return ""
    s = options[has_options[name]]
    while (s in alias)
        s = alias[s]
    out_ = ""
    for (i = 1; i <= fields[s]; i++)
        if (i > most && fields[s] > most + 1)
            return out_ " …"
        else
            out_ = out_ (i > 1 ? " " : "") "." field[s, i]
    return out_
}
