# Writes the calls of tests/tensor/test_bad_calls.c from the public headers:
#   NOTHING(name, kind, call)  with NULL, 0 and empty for every argument
#   ANYTHING(name, kind, call) with arguments that the test draws, for functions of tensors and numbers alone
# kind is what the function returns: status, pointer, list or value.
function trimmed(s)
{
    gsub(/[ \t\n]+/, " ", s)
    sub(/^ /, "", s)
    sub(/ $/, "", s)
    return s
}
# The type of one parameter, without its name.
function type_of(parameter)
{
    if (parameter ~ /\(\*/)
        return "function"
    sub(/[A-Za-z0-9_]+(\[[^]]*\])?$/, "", parameter)
    return trimmed(parameter)
}
function nothing(type)
{
    if (type == "function" || type ~ /\*$/)
        return "NULL"
    if (type in by_value)
        return "(" type "){0}"
    if (type in callback)
        return "NULL"
    return "0"
}
function anything(type)
{
    if (type == "fdl_tensor *")
        return "a_tensor()"
    if (type == "fdl_tensor *const *")
        return ""
    if (type == "fdl_list")
        return "a_list()"
    if (type == "fdl_shape")
        return "a_shape()"
    if (type == "int64_t")
        return "an_int64()"
    if (type == "int")
        return "an_int()"
    if (type == "double")
        return "a_double()"
    if (type == "bool")
        return "a_bool()"
    if (type == "fdl_dtype")
        return "a_dtype()"
    if (type == "fdl_device")
        return "a_device()"
    if (type ~ /^const fdl_[a-z0-9_]+_opts \*$/)
        return "NULL"
    return ""
}
function emit(declaration,    open, name, type, args, n, list, i, depth, c, part, kind, zeros, draws, drawn, t)
{
    declaration = trimmed(declaration)
    sub(/^FDL_API /, "", declaration)
    if (declaration ~ /\.\.\./ || declaration ~ /^extern/)
        return
    if (!match(declaration, /[A-Za-z0-9_]+\(/))
        return
    name = substr(declaration, RSTART, RLENGTH - 1)
    type = trimmed(substr(declaration, 1, RSTART - 1))
    open = RSTART + RLENGTH
    # What a macro of the headers expands to, what ends the process, and what waits on purpose.
    if (name ~ /^fdl_(scope_open_in|scope_leave|return|return_list|mode_leave|note_made|data_cursor_[a-z]+|data_concat_ended|[a-z_]+_open|amp_autocast_(open_opt|off))_?$/ && name != "fdl_scope_open")
        return
    if (name in seen)
        return
    seen[name] = 1
    args = substr(declaration, open)
    sub(/\)[^)]*;$/, "", args)
    n = 0
    depth = 0
    part = ""
    for (i = 1; i <= length(args); i++) {
        c = substr(args, i, 1)
        if (c == "(")
            depth++
        if (c == ")")
            depth--
        if (c == "," && depth == 0) {
            list[++n] = part
            part = ""
        } else
            part = part c
    }
    if (trimmed(part) != "" && trimmed(part) != "void")
        list[++n] = part
    kind = type == "fdl_status" ? "status" : type == "fdl_list" ? "list" : type ~ /\*$/ ? "pointer" : type == "void" ? "none" : "value"
    zeros = draws = ""
    drawn = n > 0
    for (i = 1; i <= n; i++) {
        t = type_of(trimmed(list[i]))
        zeros = zeros (i > 1 ? ", " : "") nothing(t)
        if (anything(t) == "")
            drawn = 0
        draws = draws (i > 1 ? ", " : "") anything(t)
    }
    print "NOTHING(" name ", " kind ", (" name ")(" zeros "))"
    if (drawn && declaration ~ /fdl_(tensor \*|list)/)
        print "ANYTHING(" name ", " kind ", (" name ")(" draws "))"
}
/^typedef .*\(\*fdl_[a-z0-9_]+\)\(/ {
    match($0, /\(\*fdl_[a-z0-9_]+\)/)
    callback[substr($0, RSTART + 2, RLENGTH - 3)] = 1
}
/^typedef struct fdl_[a-z0-9_]+ \{/ {
    by_value[$3] = 1
}
/^FDL_API / {
    declaration = ""
    collecting = 1
}
collecting {
    declaration = declaration " " $0
    sub(/\/\*.*\*\//, "", declaration)
    if (declaration ~ /;[ ]*$/) {
        declared[++declarations] = declaration
        collecting = 0
    }
}
# Types may be declared behind their first use.
END {
    for (k = 1; k <= declarations; k++)
        emit(declared[k])
}
