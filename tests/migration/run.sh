#!/bin/sh
# run.sh SOURCE BUILD: every call of flodl that the table of docs/pytorch_migration.md shows compiles without a warning: a C file with a
# function for each row is made of the table's sources.
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
