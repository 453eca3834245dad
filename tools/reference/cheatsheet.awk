# Writes docs/cheatsheet.md: model.awk, tables.awk, then this.

# A pair of calls that says the same in both languages in few words; "" if the row's Python isn't a plain call.
function plain_call(python)
{
    return python ~ /^(torch\.|F\.|nn\.|a\.)[.a-z_A-Z0-9]*\([^()]*(\([^()]*\)[^()]*)*\)(\[0\])?$/ || python ~ /^[a-z0-9]+ [-+*\/]+ [a-z0-9]+$/
}
function page(name,    s)
{
    s = place[name]
    sub(/\.md.*/, "", s)
    return s
}
function code(s)
{
    gsub(/\|/, "\\|", s)
    return s == "" ? "" : "`" s "`"
}
function entry(torch, name, note,    python, c)
{
    python = torch
    c = call_of(name)
    if (name in best) {
        python = row_python[best[name]]
        c = row_c[best[name]]
    }
    if (note == "" && options_of(name, 4) != "")
        note = code(options_of(name, 4))
    else if (options_of(name, 4) != "")
        note = code(options_of(name, 4)) "; " note
    gsub(/\|/, "\\|", note)
    print "| " code(python) " | " code(c) " | " note " | [" page(name) "](" where(name) ") |"
    written[name] = 1
}
function title(s)
{
    print ""
    print "## " s
    print ""
    print "| PyTorch | flodl | options | where |"
    print "|---|---|---|---|"
}
END {
    # Each function's shortest row, without options if there is one.
    for (i = 1; i <= rows; i++) {
        match(row_c[i], /^fdl_[A-Za-z0-9_]+/)
        name = substr(row_c[i], 1, RLENGTH)
        if (row_kind[i] == "MODULE" && !(name in is_module)) {
            modules[++n_modules] = name
            is_module[name] = 1
        } else if (row_kind[i] != "MODULE" && name != "")
            tested[name] = 1
        if (name == "" || !plain_call(row_python[i]) || row_c[i] !~ /^fdl_[A-Za-z0-9_]+\(.*\)$/)
            continue
        weight = length(row_c[i]) + (row_c[i] ~ /[(, ]\.[a-z]/ ? 1000 : 0) + (row_kind[i] == "OP" ? 0 : 100)
        if (!(name in best) || weight < weight_of[name]) {
            best[name] = i
            weight_of[name] = weight
        }
    }
    print "# Cheat sheet"
    print ""
    print "<!-- Generated from tests/ops.def, tests/modules/, tools/reference/parity.txt and the public headers by"
    print "     tools/reference/generate. -->"
    print ""
    print "One line an operation. Where the two columns show calls with values, a test holds their results equal; where they show"
    print "names, the parameters' names stand in the call. Options are named and may be left out: `fdl_topk(a, 2, 1, .smallest = true)`."
    print "`a, b, c` are tensors. What has no line yet is in the [parity list](parity.md); all functions are in the"
    print "[reference](api/README.md)."
    for (i = 1; i <= pairs; i++) {
        if (pair_flodl[i] == "-")
            continue
        # An operation under two names, torch.relu and F.relu: once.
        n = split(pair_flodl[i], these, " ")
        if (pair_area[i] != last && !started[pair_area[i]]++)
            title(pair_area[i])
        last = pair_area[i]
        for (k = 1; k <= n; k++)
            if (exists(these[k]) && !(these[k] in written))
                entry(pair_torch[i], these[k], k == 1 ? pair_note[i] : "")
    }
    title("Stock modules")
    for (i = 1; i <= n_modules; i++)
        entry("", modules[i], "")
    # Operations that no name of PyTorch's leads to.
    first = 1
    for (i = 1; i <= functions; i++) {
        f = names[i]
        name = called[f]
        base = f
        sub(/_(tensor|scalar)$/, "", base)
        if (result[f] != "fdl_tensor *" || !(name in tested) || name in written || base in written || f in has_options)
            continue
        if (first)
            title("Only here")
        first = 0
        entry("", name, "")
    }
}
