# Reads public headers and writes what they declare, one record a line, fields separated by tabs, for the scripts beside
# this one. Line breaks in a text are \001.
#
#   H name intro                       a header and the comment it begins with
#   S title                            a line /* ---- title ---- */
#   N text                             a comment that stands alone
#   C text                             a comment that speaks for the declarations under it, up to an empty line
#   E                                  the empty line
#   F name result parameters text line a function, with the comment behind it
#   T kind name text                   a type: opts (an option struct), struct, enum, opaque, alias, function
#   L struct field type text position  a field of an option struct; its place among those that its comment speaks for, "1/2"
#   V enum name text value             an enumerator
#   M name parameters body             a macro
#   R map cells...                     a row of a list of constants, such as FDL_STATUS_MAP
function flat(s)
{
    gsub(/\n/, "\001", s)
    gsub(/\t/, " ", s)
    return s
}
function trimmed(s)
{
    gsub(/[ \t\n]+/, " ", s)
    sub(/^ /, "", s)
    sub(/ $/, "", s)
    return s
}
# The text of a comment without its marks; indentation beyond one blank stays.
function words(comment,    n, lines, i, s)
{
    sub(/^[ \t]*\/\*/, "", comment)
    sub(/\*\/[ \t]*$/, "", comment)
    n = split(comment, lines, "\n")
    s = ""
    for (i = 1; i <= n; i++) {
        if (i > 1)
            sub(/^[ \t]*\*?/, "", lines[i])
        sub(/^ /, "", lines[i])
        sub(/[ \t]+$/, "", lines[i])
        s = s (i > 1 ? "\n" : "") lines[i]
    }
    sub(/^\n+/, "", s)
    sub(/\n+$/, "", s)
    return s
}
# The same in one line.
function line_of(comment)
{
    gsub(/\n[ \t]*\*?/, " ", comment)
    return trimmed(words(comment))
}

# ---- structs and enums -------------------------------------------------------------------------------

function field(struct, declaration, text,    base, n, parts, i, name, type, stars, several)
{
    declaration = trimmed(declaration)
    several = ""
    if (match(declaration, /\[[0-9]+\]$/)) { # double scale_dims[3]
        several = substr(declaration, RSTART)
        declaration = substr(declaration, 1, RSTART - 1)
    }
    if (declaration == "fdl_by_name opts_" || declaration == "int opts_" || declaration == "")
        return
    if (declaration ~ /\(\*/) {
        match(declaration, /\(\*[A-Za-z0-9_]+\)/)
        name = substr(declaration, RSTART + 2, RLENGTH - 3)
        print "L", struct, name, declaration, text, "1/1"
        return
    }
    n = split(declaration, parts, /, */)
    base = parts[1]
    sub(/ *\**(const *\**)?[A-Za-z0-9_]+$/, "", base)
    for (i = 1; i <= n; i++) {
        name = parts[i]
        if (i == 1)
            name = substr(name, length(base) + 1)
        stars = name
        sub(/[A-Za-z0-9_]+$/, "", stars)
        match(name, /[A-Za-z0-9_]+$/)
        name = substr(name, RSTART)
        type = trimmed(base " " stars) several
        print "L", struct, name, type, text, i "/" n
    }
}
function fields(struct, body,    before, declaration, text, end, rest)
{
    before = ""
    while (1) {
        sub(/^[ \t\n]+/, "", body)
        if (body == "")
            return
        if (body ~ /^\/\*/) {
            end = index(body, "*/") + 1
            before = line_of(substr(body, 1, end))
            body = substr(body, end + 1)
            continue
        }
        end = index(body, ";")
        if (!end)
            return
        declaration = substr(body, 1, end - 1)
        body = substr(body, end + 1)
        text = ""
        if (match(body, /^[ \t]*\/\*/)) {
            end = index(body, "*/") + 1
            text = line_of(substr(body, 1, end))
            body = substr(body, end + 1)
        }
        if (before != "")
            text = before (text == "" ? "" : "; " text)
        before = ""
        field(struct, declaration, text)
    }
}
function enumerators(name, body,    value, end, text, item, next_value)
{
    value = 0
    while (1) {
        sub(/^[ \t\n,]+/, "", body)
        if (!match(body, /^[A-Z][A-Z0-9_]*/))
            return
        item = substr(body, 1, RLENGTH)
        body = substr(body, RLENGTH + 1)
        if (body ~ /^\(/)
            return
        if (match(body, /^[ \t\n]*=[ \t\n]*-?[0-9]+/)) {
            next_value = substr(body, 1, RLENGTH)
            sub(/.*=[ \t\n]*/, "", next_value)
            value = next_value + 0
            body = substr(body, RLENGTH + 1)
        }
        sub(/^[ \t\n]*,?/, "", body)
        text = ""
        if (match(body, /^[ \t\n]*\/\*/)) {
            end = index(body, "*/") + 1
            text = line_of(substr(body, 1, end))
            body = substr(body, end + 1)
        }
        print "V", name, item, text, value
        value++
    }
}

# ---- lines ------------------------------------------------------------------------------------------

# What belongs together, from the current line to one that matches `last`.
function upto(last,    s)
{
    s = $0
    while ($0 !~ last && (getline) > 0)
        s = s "\n" $0
    return s
}
function prototype(s, place,    open, head, name, text, parameters)
{
    text = ""
    if (match(s, /\/\*.*\*\//)) {
        text = line_of(substr(s, RSTART, RLENGTH))
        s = substr(s, 1, RSTART - 1)
    }
    s = trimmed(s)
    sub(/^FDL_API /, "", s)
    sub(/^static inline /, "", s)
    sub(/;$/, "", s)
    sub(/ FDL_PRINTF\([0-9, ]*\)$/, "", s)
    open = index(s, "(")
    head = substr(s, 1, open - 1)
    parameters = substr(s, open + 1, length(s) - open - 1)
    match(head, /[A-Za-z0-9_]+$/)
    name = substr(head, RSTART)
    head = trimmed(substr(head, 1, RSTART - 1))
    print "F", name, head, parameters, text, place
}
function macro(s,    name, parameters, n, rows, i, cells)
{
    gsub(/\\\n/, " ", s)
    s = trimmed(s)
    sub(/^#define /, "", s)
    match(s, /^[A-Za-z0-9_]+/)
    name = substr(s, 1, RLENGTH)
    s = substr(s, RLENGTH + 1)
    if (name ~ /_H$/ || name ~ /_$/ || name ~ /^FDL_(BEGIN|END)_DECLS$/)
        return
    parameters = "-"
    if (s ~ /^\(/) {
        i = index(s, ")")
        parameters = substr(s, 1, i)
        s = substr(s, i + 1)
    }
    if (name ~ /_MAP$/) {
        n = split(s, rows, / X\(/)
        for (i = 2; i <= n; i++) {
            sub(/\) *$/, "", rows[i])
            gsub(/, /, "\t", rows[i])
            gsub(/"/, "", rows[i])
            print "R", name, rows[i]
        }
        return
    }
    print "M", name, parameters, trimmed(s)
}
function finish_comment()
{
    if (comment != "")
        print "N", flat(comment)
    comment = ""
}
function begin()
{
    if (comment != "")
        print "C", flat(comment)
    comment = ""
}
function close_block()
{
    finish_comment()
    print "E"
}
BEGIN { OFS = "\t" }
FNR == 1 {
    if (NR > 1)
        close_block()
    name = FILENAME
    sub(/.*\//, "", name)
    sub(/\.h$/, "", name)
    intro = ""
    public = 0
    comment = ""
    if ($0 ~ /^\/\*/)
        intro = words(upto("\\*/"))
    print "H", name, flat(intro)
    next
}
/^FDL_BEGIN_DECLS/ || /^#ifndef __cplusplus/ { public = 1 }
/^FDL_END_DECLS/ { close_block(); print "S", "macros"; next }
!public { next }
/^[ \t]*$/ { close_block(); next }
/^\/\* ---- .* ---- \*\// || /^\/\* ---- .* -+ ?\*\/$/ {
    close_block()
    title = $0
    sub(/^\/\* -+ /, "", title)
    sub(/ -+ ?\*\/$/, "", title)
    print "S", title
    next
}
/^\/\*/ { finish_comment(); comment = words(upto("\\*/")); next }
/^FDL_API extern / { next }
/^FDL_API / { begin(); place = FNR; prototype(upto(";[ \t]*(/\\*.*\\*/)?[ \t]*$"), place); next }
/^static inline / {
    begin()
    place = FNR
    s = $0
    while ((getline) > 0 && $0 !~ /^}/)
        if ($0 !~ /^[ {]/)
            s = s " " $0
    if (s ~ /fdl_[a-z0-9_]*[a-z0-9]\(/)
        prototype(s, place)
    next
}
/^typedef struct [a-z0-9_]+ \{/ {
    begin()
    s = upto("^}")
    struct = $0
    sub(/^} */, "", struct)
    sub(/;.*/, "", struct)
    if (s ~ /(int|fdl_by_name) opts_;/) {
        print "T", "opts", struct, ""
        body = s
        sub(/^[^{]*\{/, "", body)
        sub(/\n}[^\n]*$/, "", body)
        fields(struct, body)
    } else
        print "T", "struct", struct, flat(s)
    next
}
/^(typedef )?enum / {
    begin()
    s = upto(";[ \t]*(/\\*.*\\*/)?$")
    enum = ""
    if (match(s, /} *[a-z0-9_]+;/)) {
        enum = substr(s, RSTART + 1, RLENGTH - 2)
        sub(/^ +/, "", enum)
    }
    text = flat(s)
    print "T", "enum", (enum == "" ? "-" : enum), text
    sub(/^[^{]*\{/, "", s)
    enumerators(enum == "" ? "-" : enum, s)
    next
}
/^typedef struct [a-z0-9_]+ [a-z0-9_]+;/ {
    begin()
    s = $0
    text = ""
    if (match(s, /\/\*.*\*\//))
        text = line_of(substr(s, RSTART, RLENGTH))
    sub(/;.*/, "", s)
    sub(/.* /, "", s)
    print "T", "opaque", s, text
    next
}
/^typedef / {
    begin()
    s = trimmed(upto(";"))
    name = s
    if (match(s, /\(\*[a-z0-9_]+\)/))
        print "T", "function", substr(s, RSTART + 2, RLENGTH - 3), s
    else {
        sub(/;.*/, "", name)
        sub(/.* /, "", name)
        split(s, parts, " ")
        print "T", "alias", name, parts[2]
    }
    next
}
/^#define / {
    s = $0
    while (s ~ /\\$/ && (getline) > 0)
        s = s "\n" $0
    if (s ~ /^#define [A-Za-z0-9]+_?[A-Za-z0-9_]*[A-Za-z0-9][( ]/)
        begin()
    macro(s)
    next
}
END { close_block() }
