# Writes docs/api/<header>.md and docs/api/README.md from the records of headers.awk: awk -f model.awk -f pages.awk -v out=DIR
# -v anchors=FILE; that file gets each name's page and place, for links from elsewhere.

# ---- text ----------------------------------------------------------------------------------------------

# One paragraph, its lines joined, as Markdown: what would be read as a mark is escaped, names of the library are code.
function escaped(s,    result_, before, word, rest)
{
    result_ = ""
    while (match(s, /`[^`]*`|[Ff][Dd][Ll]_[A-Za-z0-9_]*|\.[a-z][a-z0-9_]*( = (-?[0-9]+(\.[0-9]+)?|[A-Za-z_][A-Za-z0-9_]*(\([^()]*\))?))?/)) {
        before = substr(s, 1, RSTART - 1)
        word = substr(s, RSTART, RLENGTH)
        rest = substr(s, RSTART + RLENGTH)
        if (word ~ /^\./) {
            # An option, .name; not the end of a sentence, a file's ending or part of another name.
            if (before !~ /(^|[ (])$/) {
                result_ = result_ plain(before "." )
                s = substr(word, 2) rest
                continue
            }
        }
        if (word !~ /^`/) {
            # A call's arguments belong to it.
            if (word ~ /^fdl_/ && match(rest, /^\([^()]*(\([^()]*\)[^()]*)*\)/)) {
                word = word substr(rest, 1, RLENGTH)
                rest = substr(rest, RLENGTH + 1)
            }
            word = "`" word "`"
        }
        result_ = result_ plain(before) word
        s = rest
    }
    return result_ plain(s)
}
function plain(s)
{
    gsub(/[*]/, "\\\\&", s)
    while (match(s, /(^|[^\\])<[A-Za-z\/!]/))
        s = substr(s, 1, RSTART + RLENGTH - 3) "\\" substr(s, RSTART + RLENGTH - 2)
    gsub(/ _/, " \\_", s)
    return s
}
# Breaks before column 110; a line never begins like a list, a heading or a quotation.
function wrapped(s,    n, w, i, out_, line_)
{
    n = split(s, w, / +/)
    out_ = ""
    line_ = ""
    for (i = 1; i <= n; i++) {
        if (w[i] == "")
            continue
        if (line_ != "" && length(line_) + 1 + length(w[i]) > 108) {
            out_ = out_ line_ "\n"
            line_ = ""
        }
        if (line_ == "" && out_ != "" && w[i] ~ /^([-+#>]|[0-9]+[.)]$)/)
            w[i] = "\\" w[i]
        if (line_ == "" && out_ != "" && w[i] ~ /^\\[0-9]/)
            sub(/^\\/, "", w[i])
        line_ = line_ (line_ == "" ? "" : " ") w[i]
    }
    return out_ line_
}
# A comment as Markdown: paragraphs; indented lines as code.
function markdown(s,    n, lines, i, out_, paragraph, code)
{
    n = split(s, lines, "\001")
    out_ = ""
    paragraph = ""
    code = 0
    for (i = 1; i <= n; i++) {
        if (lines[i] ~ /^  /) {
            if (paragraph != "") {
                out_ = out_ wrapped(escaped(paragraph)) "\n\n"
                paragraph = ""
            }
            if (!code)
                out_ = out_ "```c\n"
            code = 1
            sub(/^  (  )?/, "", lines[i])
            out_ = out_ lines[i] "\n"
        } else if (lines[i] == "" && code && i < n && lines[i + 1] ~ /^  /)
            out_ = out_ "\n"
        else {
            if (code)
                out_ = out_ "```\n\n"
            code = 0
            if (lines[i] == "") {
                if (paragraph != "")
                    out_ = out_ wrapped(escaped(paragraph)) "\n\n"
                paragraph = ""
            } else
                paragraph = paragraph (paragraph == "" ? "" : " ") lines[i]
        }
    }
    if (code)
        out_ = out_ "```\n"
    if (paragraph != "")
        out_ = out_ wrapped(escaped(paragraph)) "\n"
    return out_
}
function cell(s)
{
    s = escaped(s)
    gsub(/\|/, "\\|", s)
    return s
}
function unwrapped(s)
{
    gsub(/\001 */, " ", s)
    return s
}

# ---- options ------------------------------------------------------------------------------------------

function struct_of(name)
{
    while (name in alias)
        name = alias[name]
    return name
}
# The value that a field left out has, from its comment or its type.
function default_of(s, i,    text_, d, n, parts, place, type)
{
    text_ = text_of[s, i]
    type = type_of[s, i]
    if (match(text_, /[Dd]efaults?:? /)) {
        d = substr(text_, RSTART + RLENGTH)
        if (d !~ /^to /) {
            sub(/(;|: |, |\. ).*/, "", d)
            split(place_of[s, i], place, "/")
            n = split(d, parts, " and ")
            if (n == place[2] && n > 1)
                d = parts[place[1]]
            return escaped(d)
        }
    }
    if (match(text_, /[^ ]+ \(default\)/)) {
        d = substr(text_, RSTART, RLENGTH)
        sub(/ .*/, "", d)
        return escaped(d)
    }
    if (text_ ~ /required/)
        return "required"
    if (type == "bool")
        return "false"
    if (type ~ /\*$/ || type == "fdl_shape" || type == "fdl_list" || type == "fdl_opt_i64" || type ~ /\(\*/ || type ~ /\]$/)
        return "none"
    if (type in enumerators && type != "fdl_dtype")
        return "`" enumerator[type, 1] "`"
    if (type == "int" || type == "int64_t" || type == "double")
        return text_ == "" ? "0" : ""
    return ""
}
# An enum that only a few options speak: its names stand with the option.
function is_small(type,    i)
{
    if (!(type in enumerators) || enumerators[type] > 4 || type in in_parameters)
        return 0
    for (i = 1; i <= enumerators[type]; i++)
        if (enumerator_text[type, i] != "")
            return 0
    return 1
}
function meaning_of(s, i,    text_, type, k, all)
{
    text_ = text_of[s, i]
    type = type_of[s, i]
    if (text_ ~ /^[Dd]efault:? [^;,]*$/ && default_of(s, i) != "")
        text_ = ""
    else if (default_of(s, i) != "" && text_ ~ /(;|,) default:? [^;,:]*$/)
        sub(/(;|,) default:? [^;,:]*$/, "", text_)
    if (is_small(type)) {
        all = ""
        for (k = 1; k <= enumerators[type]; k++)
            all = all (k > 1 ? ", " : "") enumerator[type, k]
        text_ = text_ (text_ == "" ? "" : ": ") all
    }
    return cell(text_)
}
function link_to(name, h)
{
    return (page_of[name] == h ? "" : page_of[name] ".md") "#" place_in[name]
}
# The table of options of a block's functions, or where it stands.
function option_table(h, n, fs,    i, k, f, s, rows, seen, out_, refers, shown)
{
    out_ = ""
    refers = ""
    for (i = 1; i <= n; i++) {
        f = fs[i]
        s = struct_of(options[f])
        if (s == "" || s in seen_here)
            continue
        seen_here[s] = 1
        if (s in table_at) {
            refers = refers (refers == "" ? "" : ", ") "[`" called[table_at[s]] "`](" link_to(called[table_at[s]], h) ")"
            continue
        }
        table_at[s] = f
        for (k = 1; k <= fields[s]; k++) {
            if ((field[s, k], type_of[s, k]) in shown)
                continue
            shown[field[s, k], type_of[s, k]] = 1
            out_ = out_ "| `." field[s, k] "` | `" (type_of[s, k] ~ /\(\*/ ? "function" : type_of[s, k]) "` | " \
                default_of(s, k) " | " meaning_of(s, k) " |\n"
        }
    }
    split("", seen_here)
    if (out_ != "")
        out_ = "\n| option | type | default | |\n|---|---|---|---|\n" out_
    if (refers != "")
        out_ = out_ "\nOptions" (out_ == "" ? "" : " of the others") " as for " refers ".\n"
    return out_
}

# ---- prototypes ---------------------------------------------------------------------------------------

function spaced(type)
{
    return type ~ /\*$/ ? type : type " "
}
# A call as the user writes it: options as .name, broken at 100 columns.
function signature(f,    s, i, text_, head, n, parts, line_, out_, params)
{
    head = spaced(result[f]) called[f] "("
    params = parameters[f]
    if (options[f] != "") {
        sub(/(, )?const fdl_[a-z0-9_]+ \*opts$/, "", params)
        s = struct_of(options[f])
        # Many options stand once on each page.
        if (fields[s] > 3 && (function_of[f], s) in listed)
            params = params (params == "" ? "" : ", ") "..."
        else
            for (i = 1; i <= fields[s]; i++)
                params = params (params == "" ? "" : ", ") "." field[s, i]
        listed[function_of[f], s] = 1
    }
    if (params == "void")
        params = "void"
    n = split(params, parts, ", ")
    out_ = ""
    line_ = head
    for (i = 1; i <= n; i++) {
        text_ = parts[i] (i < n ? "," : "")
        if (length(line_) + length(text_) + 1 > 104 && line_ !~ /^ *$/ && line_ != head) {
            sub(/ $/, "", line_)
            out_ = out_ line_ "\n"
            line_ = "        "
        }
        line_ = line_ text_ (i < n ? " " : "")
    }
    return out_ line_ ");" (remark[f] == "" ? "" : " /* " remark[f] " */")
}
# The number form's and the tensor form's common name, fdl_add of fdl_add_tensor; "" otherwise.
function either_of(f,    base)
{
    base = f
    if (!sub(/_(tensor|scalar)$/, "", base))
        return ""
    return base in macro && macro_body[base] ~ /FDL_EITHER_/ ? base : ""
}
# The macro of a list form: fdl_flow of fdl_flow_of.
function macro_over(f,    m)
{
    return f in over ? over[f] : ""
}
# A macro that is a page's matter: not the call form of a function with options.
function is_shown(m)
{
    return !(m in has_options) && !(m in consumed) && macro_body[m] !~ /FDL_EITHER_/
}

# ---- pages --------------------------------------------------------------------------------------------

function note_use(params,    n, parts, i)
{
    n = split(params, parts, /, */)
    for (i = 1; i <= n; i++) {
        sub(/ [a-z0-9_]+$/, "", parts[i])
        in_parameters[parts[i]] = 1
    }
}
# Cuts a header's items into blocks: section, note, or entry of a comment, types, functions and macros.
function blocks(h,    i, k, n, parts, b, kind_, has_functions, name)
{
    b = 0
    open_ = 0
    for (i = 1; i <= items[h]; i++) {
        n = split(item[h, i], parts, "\t")
        kind_ = parts[1]
        if (kind_ == "S") {
            block_kind[h, ++b] = "S"
            block_text[h, b] = parts[2]
            open_ = 0
        } else if (kind_ == "N") {
            block_kind[h, ++b] = "N"
            block_text[h, b] = parts[2]
            open_ = 0
        } else if (kind_ == "C") {
            block_kind[h, ++b] = "B"
            block_text[h, b] = parts[2]
            open_ = 1
        } else if (kind_ == "E")
            open_ = 0
        else if (kind_ == "F") {
            name = parts[2]
            if (!(name in function_of))
                continue
            if (!open_) {
                block_kind[h, ++b] = "B"
                block_text[h, b] = ""
                open_ = 1
            }
            add_line(h, b, name)
        } else if (kind_ == "T") {
            if (parts[2] == "opts" || parts[2] == "alias" || is_small(parts[3]) || parts[3] ~ /_cursor$/)
                continue
            if (parts[4] ~ /_MAP\(/)
                continue # its rows say it
            if (!open_ || block_functions[h, b] > 0) {
                block_kind[h, ++b] = "B"
                block_text[h, b] = ""
                open_ = 1
            }
            if (parts[2] == "opaque") {
                block_code[h, b] = block_code[h, b] "typedef struct " parts[3] " " parts[3] ";" \
                    (parts[4] == "" ? "" : " /* " parts[4] " */") "\n"
            } else {
                name = parts[4]
                gsub(/\001/, "\n", name)
                block_code[h, b] = block_code[h, b] name "\n"
            }
            name = parts[3] == "-" ? enum_name(parts[4]) : parts[3]
            if (block_name[h, b] == "")
                block_name[h, b] = name
            enter(name, h, block_name[h, b])
        } else if (kind_ == "M") {
            name = parts[2]
            if (!is_shown(name))
                continue
            if (!open_) {
                block_kind[h, ++b] = "B"
                block_text[h, b] = ""
                open_ = 1
            }
            block_code[h, b] = block_code[h, b] name (parts[3] == "-" ? "" : parts[3]) "\n"
            if (block_name[h, b] == "")
                block_name[h, b] = name
            enter(name, h, block_name[h, b])
            block_list[h, b] = block_list[h, b] " " name
        } else if (kind_ == "R") {
            if (!open_) {
                block_kind[h, ++b] = "B"
                block_text[h, b] = ""
                open_ = 1
            }
            if (block_rows[h, b] == "") {
                name = tolower(parts[2])
                sub(/_map$/, "", name)
                block_name[h, b] = name
                enter(name, h, name)
                block_rows[h, b] = "|"
                for (k = 3; k <= n; k++)
                    block_rows[h, b] = block_rows[h, b] " |"
                block_rows[h, b] = block_rows[h, b] "\n|"
                for (k = 3; k <= n; k++)
                    block_rows[h, b] = block_rows[h, b] "---|"
                block_rows[h, b] = block_rows[h, b] "\n"
            }
            block_rows[h, b] = block_rows[h, b] "| `" parts[3] "` |"
            for (k = 4; k <= n; k++)
                block_rows[h, b] = block_rows[h, b] " " cell(parts[k]) " |"
            block_rows[h, b] = block_rows[h, b] "\n"
        }
    }
    return b
}
function enum_name(s)
{
    match(s, /FDL_[A-Z0-9_]+/)
    return substr(s, RSTART, RLENGTH)
}
# The heading's place in its page, as GitHub names it: in small letters, a second one of that name with -1.
function anchor(h, heading,    base)
{
    if ((h, heading) in anchor_of)
        return anchor_of[h, heading]
    base = tolower(heading)
    if (taken[h, base]++)
        base = base "-" taken[h, base] - 1
    return anchor_of[h, heading] = base
}
function enter(name, h, place)
{
    if (name in page_of)
        return
    page_of[name] = h
    place_in[name] = anchor(h, place)
}
function add_line(h, b, f,    shown, text_)
{
    shown = called[f]
    if (either_of(f) != "") {
        shown = either_of(f)
        enter_block(h, b, shown)
        enter(f, h, block_name[h, b])
        if (!((h, b, shown) in block_has)) {
            block_has[h, b, shown] = 1
            block_code[h, b] = block_code[h, b] spaced(result[f]) shown "(fdl_tensor *a, b); /* b: a tensor (" shown \
                "_tensor) or a number (" shown "_scalar) */\n"
            block_list[h, b] = block_list[h, b] " " shown
            block_functions[h, b]++
        }
        return
    }
    # fdl_gelu and fdl_gelu_opt: one call.
    if (f in has_options) {
        enter(f, h, block_name[h, b] == "" ? f : block_name[h, b])
        if (block_name[h, b] == "")
            block_name[h, b] = f
        return
    }
    if (macro_over(f) != "") {
        shown = macro_over(f)
        enter_block(h, b, shown)
        block_code[h, b] = block_code[h, b] spaced(result[f]) shown macro_parameters[shown] ";\n"
        block_list[h, b] = block_list[h, b] " " shown
    }
    enter_block(h, b, called[f])
    enter(f, h, block_name[h, b])
    block_code[h, b] = block_code[h, b] signature(f) "\n"
    block_list[h, b] = block_list[h, b] " " called[f]
    block_functions[h, b]++
    block_function[h, b, block_functions[h, b]] = f
}
function enter_block(h, b, name)
{
    if (block_name[h, b] == "")
        block_name[h, b] = name
    enter(name, h, block_name[h, b])
}
function summary(h,    s)
{
    s = unwrapped(intro[h])
    sub(/\001.*/, "", s)
    if (match(s, /\. /))
        s = substr(s, 1, RSTART)
    return escaped(s)
}
function page(h, n,    b, file, i, fs, k, words_, contents, list_, line_, title, first, word)
{
    file = out "/" h ".md"
    print "# " h > file
    print "" > file
    print "<!-- Generated from include/flodl/" h ".h by tools/reference/generate. -->" > file
    print "" > file
    printf "%s", markdown(intro[h]) > file
    print "" > file
    print "`#include <flodl/" h ".h>` · [all pages](README.md)" > file
    print "" > file
    # What the page has, section by section.
    contents = ""
    line_ = ""
    title = ""
    first = 1
    for (b = 1; b <= n + 1; b++) {
        if (b > n || block_kind[h, b] == "S") {
            if (line_ != "")
                contents = contents "- " (title == "" ? "" : "**" escaped(title) "** ") line_ "\n"
            line_ = ""
            title = block_text[h, b]
            sub(/:.*/, "", title)
            continue
        }
        if (block_kind[h, b] != "B")
            continue
        k = split(block_list[h, b] == "" ? block_name[h, b] : block_list[h, b], list_, " ")
        for (i = 1; i <= k; i++)
            line_ = line_ (line_ == "" ? "" : ", ") "[" list_[i] "](#" anchor(h, block_name[h, b]) ")"
    }
    contents = wrap_links(contents)
    if (contents != "")
        print contents > file
    for (b = 1; b <= n; b++) {
        if (block_kind[h, b] == "S") {
            if (b == n || block_kind[h, b + 1] == "S")
                continue
            title = block_text[h, b]
            word = ""
            if (match(title, /[:;] /)) {
                word = substr(title, RSTART + 2)
                title = substr(title, 1, RSTART - 1)
            }
            print "## " toupper(substr(title, 1, 1)) escaped(substr(title, 2)) > file
            print "" > file
            if (word != "") {
                print wrapped(toupper(substr(word, 1, 1)) escaped(substr(word, 2)) (word ~ /\.$/ ? "" : ".")) > file
                print "" > file
            }
        } else if (block_kind[h, b] == "N") {
            printf "%s", markdown(block_text[h, b]) > file
            print "" > file
        } else if (block_code[h, b] != "" || block_rows[h, b] != "") {
            print "### " block_name[h, b] > file
            print "" > file
            if (block_code[h, b] != "") {
                print "```c" > file
                printf "%s", block_code[h, b] > file
                print "```" > file
            }
            if (block_text[h, b] != "") {
                if (block_code[h, b] != "")
                    print "" > file
                printf "%s", markdown(block_text[h, b]) > file
            }
            if (block_rows[h, b] != "")
                printf "%s%s", (block_text[h, b] != "" || block_code[h, b] != "" ? "\n" : ""), block_rows[h, b] > file
            split("", fs)
            for (i = 1; i <= block_functions[h, b]; i++)
                fs[i] = block_function[h, b, i]
            printf "%s", option_table(h, block_functions[h, b] + 0, fs) > file
            print "" > file
        }
    }
    close(file)
}
# Breaks a line of links at 110 columns, between links.
function wrap_links(s,    n, lines, i, out_)
{
    n = split(s, lines, "\n")
    out_ = ""
    for (i = 1; i < n; i++)
        out_ = out_ indented(wrapped(lines[i])) "\n"
    return out_
}
function indented(s)
{
    gsub(/\n/, "\n  ", s)
    return s
}
function overview(    file, i, h, k, letters, l, name, m, sorted, j, t)
{
    file = out "/README.md"
    print "# Reference" > file
    print "" > file
    print "<!-- Generated from the public headers by tools/reference/generate. -->" > file
    print "" > file
    print "One page a header, in the order in which you need them. Looking for an operation by its PyTorch name: the" > file
    print "[cheat sheet](../cheatsheet.md) and the [parity list](../parity.md)." > file
    print "" > file
    print "How to read a prototype:" > file
    print "" > file
    print "```c" > file
    print "fdl_tensor *fdl_topk(fdl_tensor *x, int64_t k, int dim, .smallest, .unsorted, .indices);" > file
    print "```" > file
    print "" > file
    print "What begins with a dot is an option: named, in any order, or left out, which means PyTorch's default:" > file
    print "`fdl_topk(x, 5, -1, .indices = &places)`. `...` stands for many options that a call above on the page shows. Such a" > file
    print "call is a macro; the plain function under it, for C++ and for pointers to functions, is" > file
    print "`fdl_topk_opt(x, 5, -1, &opts)` with the struct of the options or NULL. A result belongs" > file
    print "to the innermost open scope unless its text says *owned* or *borrowed* ([memory](../memory.md)); NULL is a" > file
    print "failure, which passes through ([errors](../errors.md))." > file
    print "" > file
    print "| page | | functions |" > file
    print "|---|---|---|" > file
    for (i = 1; i <= headers; i++) {
        h = header[i]
        if (h == "flodl")
            continue
        m = 0
        for (k = 1; k <= functions; k++)
            if (function_of[names[k]] == h && called[names[k]] == names[k] && !(names[k] in has_options))
                m++
        for (name in has_options)
            if (function_of[has_options[name]] == h)
                m++
        t = summary(h)
        gsub(/\|/, "\\|", t)
        print "| [" h "](" h ".md) | " t " | " m " |" > file
    }
    print "" > file
    print "[Every name](names.md), by letter." > file
    close(file)
    file = out "/names.md"
    print "# Every name" > file
    print "" > file
    print "<!-- Generated from the public headers by tools/reference/generate. -->" > file
    print "" > file
    print "Functions and macros by letter, without their `fdl_`. [All pages](README.md)" > file
    print "" > file
    # By letter; sort(1) isn't needed for some hundred names.
    m = 0
    for (name in page_of)
        if (name ~ /^fdl_/ && name !~ /_opt_?$/ && !(name in kind) && name !~ /_(tensor|scalar)$/)
            sorted[++m] = name
    for (i = 2; i <= m; i++) {
        t = sorted[i]
        for (j = i - 1; j >= 1 && sorted[j] > t; j--)
            sorted[j + 1] = sorted[j]
        sorted[j + 1] = t
    }
    l = ""
    t = ""
    for (i = 1; i <= m; i++) {
        if (substr(sorted[i], 5, 1) != l) {
            if (t != "")
                print wrapped(t) "\n" > file
            l = substr(sorted[i], 5, 1)
            t = "**" toupper(l) "**"
        } else
            t = t ","
        t = t " [" substr(sorted[i], 5) "](" page_of[sorted[i]] ".md#" place_in[sorted[i]] ")"
    }
    print wrapped(t) > file
    close(file)
}
END {
    for (i = 1; i <= functions; i++)
        note_use(parameters[names[i]])
    # Macros over a function of their header: fdl_forward over fdl_forward_list.
    for (i = 1; i <= macros; i++) {
        m = macro_names[i]
        if (m !~ /^fdl_/ || m in has_options || macro_body[m] ~ /FDL_EITHER_/)
            continue
        f = ""
        if (match(macro_body[m], /^fdl_[a-z0-9_]+/))
            f = substr(macro_body[m], 1, RLENGTH)
        if (f in function_of && (macro_comment[m] == "" || f == m "_list"))
            over[f] = m
        else if (m "_of" in function_of)
            over[m "_of"] = m
        else
            continue
        consumed[m] = 1
    }
    for (i = 1; i <= headers; i++)
        count[i] = blocks(header[i])
    for (i = 1; i <= headers; i++)
        if (header[i] != "flodl")
            page(header[i], count[i])
    overview()
    for (name in page_of)
        print name "\t" page_of[name] ".md#" place_in[name] > anchors
    for (name in has_options)
        if (name in page_of || has_options[name] in page_of)
            print name "\t" page_of[has_options[name]] ".md#" place_in[has_options[name]] > anchors
}
