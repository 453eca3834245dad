#!/bin/sh
# run.sh SOURCE BUILD: every call of flodl that the table of docs/pytorch_migration.md shows compiles without a warning: a C file with a
# function for each row is made of the table's sources. And every name of flodl's and every option on the page is in a header.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1/tools/reference/generate" --migration "$work/rows.c"
# The calls that the page's other tables show in a cell, each in a function where their names mean something.
awk '
    /^<!-- table: begin/ { exit }
    /^\|/ {
        line = $0
        while (match(line, /`[^`]*`/)) {
            span = substr(line, RSTART + 1, RLENGTH - 2)
            line = substr(line, RSTART + RLENGTH)
            if (span !~ /^((fdl|FDL)_[A-Za-z0-9_]+\(.*\)|FDL_[A-Z_]+;|self->[a-z]+ = .*;)$/ || span ~ /…|\.\.\./)
                continue
            print "\n#line " FNR - 1 " \"docs/pytorch_migration.md\"\nvoid cell_" ++n "(CELL);\nvoid cell_" n "(CELL) { " span (span ~ /;$/ ? "" : ";") " }"
        }
    }' "$1/docs/pytorch_migration.md" >"$work/found"
cat >>"$work/rows.c" <<'END'
struct cell {
    fdl_tensor *w, *mean;
    fdl_module *fc, *layers;
};
#define CELL                                                                                                            \
    fdl_tensor *x, fdl_tensor *y, fdl_tensor *w, fdl_tensor *c, fdl_tensor *t, fdl_tensor *ids, fdl_tensor *pred,       \
        fdl_tensor *target, fdl_tensor *loss, void *a, void *b, void *m, void *f, void *proj, void *cell, void *selector, \
        fdl_module *model, struct cell *self, void *opt, void *sched, void *plateau, void *s, void *ps, void *builder,   \
        void *block, fdl_device device, int dim, int n, int step, double norm, const char *path, fdl_tensor *h, void *embed,          \
        fdl_tensor *mask, void *p, fdl_status status, int i, fdl_status (*init)(fdl_module *m, const char *name, void *ctx),  \
        void *ctx, fdl_params *chosen
END
cat "$work/found" >>"$work/rows.c"
cells=$(grep -c '^#line' "$work/found")
rows=$(grep -c '^void row_.*)$' "$work/rows.c")
for cc in "${CC:-cc}" gcc clang; do
    command -v "$cc" >/dev/null || continue
    "$cc" -std=gnu17 -fsyntax-only -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-value -I"$1/include" -I"$2/include" "$work/rows.c"
    echo "$cc: $rows rows and $cells cells compile"
done
if [ "$rows" -lt 340 ] || [ "$cells" -lt 70 ]; then
    echo "only $rows rows and $cells cells: the page isn't read right"
    exit 1
fi
cat "$1"/include/flodl/*.h >"$work/headers"
sed 's/](api[^)]*)/]/g' "$1/docs/pytorch_migration.md" | grep -oE '\b(fdl|FDL)_[A-Za-z0-9_]+' | sort -u >"$work/names"
grep -oE '[ (`]\.[a-z][a-z_0-9]* = ' "$1/docs/pytorch_migration.md" | grep -oE '[a-z][a-z_0-9]*' | sort -u >"$work/options"
status=0
while read -r name; do
    grep -qE "\b$name\b" "$work/headers" || { echo "the page says $name, which is in no header"; status=1; }
done <"$work/names"
while read -r option; do
    grep -qE "\b$option\b[^()]*[;,]|\(\*$option\)" "$work/headers" || { echo "the page says .$option, which is no option in a header"; status=1; }
done <"$work/options"
echo "$(wc -l <"$work/names") names and $(wc -l <"$work/options") options are there"
exit $status
