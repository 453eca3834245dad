# Writes docs/parity.md: model.awk, tables.awk, then this.
END {
    for (i = 1; i <= pairs; i++)
        if (pair_flodl[i] == "-")
            absent++
    print "# PyTorch's names"
    print ""
    print "<!-- Generated from tools/reference/parity.txt and the public headers by tools/reference/generate. -->"
    print ""
    print "What stands in flodl for a name of PyTorch's: " pairs - absent " of the " pairs " names below" (absent ? "; the others have none yet" : "") "."
    print "Stock modules (`nn.Linear`, …) are in the [cheat sheet](cheatsheet.md#stock-modules), which shows the calls as well."
    for (i = 1; i <= pairs; i++) {
        if (pair_area[i] != last) {
            print ""
            print "## " pair_area[i]
            print ""
            print "| PyTorch | flodl | |"
            print "|---|---|---|"
            last = pair_area[i]
        }
        out_ = ""
        n = split(pair_flodl[i], these, " ")
        for (k = 1; k <= n && these[k] != "-"; k++)
            out_ = out_ (k > 1 ? ", " : "") "[`" these[k] "`](" where(these[k]) ")"
        gsub(/\|/, "\\|", pair_note[i])
        print "| `" pair_torch[i] "` | " (out_ == "" ? "not yet" : out_) " | " pair_note[i] " |"
    }
}
