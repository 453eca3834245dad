#!/bin/sh
# run.sh SOURCE BUILD: every call of flodl that the table of docs/pytorch_migration.md shows compiles without a warning: a C file with a
# function for each row is made of the table's sources. And every name of flodl's and every option on the page is in a header.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$1/tools/reference/generate" --migration "$work/rows.c"
rows=$(grep -c '^void row_.*)$' "$work/rows.c")
for cc in "${CC:-cc}" gcc clang; do
    command -v "$cc" >/dev/null || continue
    "$cc" -std=gnu17 -fsyntax-only -Wall -Wextra -Werror -Wno-unused-parameter -I"$1/include" -I"$2/include" "$work/rows.c"
    echo "$cc: $rows rows compile"
done
if [ "$rows" -lt 240 ]; then
    echo "only $rows rows: the table isn't read right"
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
    grep -qE "\b$option\b[^()]*[;,]" "$work/headers" || { echo "the page says .$option, which is no option in a header"; status=1; }
done <"$work/options"
echo "$(wc -l <"$work/names") names and $(wc -l <"$work/options") options are there"
exit $status
