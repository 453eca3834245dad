#!/bin/sh
# The programs on the pages of docs/ (tools/reference/programs.awk says which blocks are some): each is compiled against the built
# library, and run; where the page says what it prints, it prints that. Pictures that pages show are there.
# run.sh SOURCE BUILD
set -eu
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for page in "$source"/docs/*.md; do
    awk -v to="$work" -f "$source/tools/reference/programs.awk" "$page"
    sed -n 's/.*(\(pictures\/[a-z0-9_.-]*\)).*/\1/p' "$page" >"$work/pictures"
    while read -r picture; do
        [ -s "$source/docs/$picture" ] && continue
        echo "$(basename "$page") shows docs/$picture, which isn't there"
        failed=1
    done <"$work/pictures"
done
n=0
for program in "$work"/*.c; do
    [ -e "$program" ] || { echo "no programs found in docs/"; exit 1; }
    name=$(basename "$program" .c)
    "${CC:-cc}" -std=gnu17 -O1 -Wall -Wextra -Werror -I"$source/include" -I"$build/include" "$program" -o "$program.run" \
        -L"$build" -lflodl -lm -Wl,-rpath,"$build"
    if [ -e "$work/$name.txt" ]; then
        "$program.run" >"$program.out" || { echo "$name failed"; exit 1; }
        diff -u "$work/$name.txt" "$program.out" || { echo "$name prints something else than the page says"; failed=1; }
    else
        "$program.run" || { echo "$name failed"; exit 1; }
    fi
    n=$((n + 1))
done
echo "$n programs ran"
exit $failed
