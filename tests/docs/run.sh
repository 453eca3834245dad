#!/bin/sh
# The programs on the pages of docs/: each ```c block with a main is compiled against the built library, and run.
# run.sh SOURCE BUILD
set -eu
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for page in "$source"/docs/*.md; do
    awk -v to="$work/$(basename "$page" .md)" '
        /^```c$/ { inside = 1; text = ""; first = FNR; next }
        /^```$/ && inside {
            inside = 0
            if (text ~ /\nint main\(/)
                printf "#line %d \"%s\"\n%s", first + 1, FILENAME, text >(to "-" ++n ".c")
        }
        inside { text = text $0 "\n" }' "$page"
done
n=0
for program in "$work"/*.c; do
    [ -e "$program" ] || { echo "no programs found in docs/"; exit 1; }
    "${CC:-cc}" -std=gnu17 -O1 -Wall -Wextra -Werror -I"$source/include" -I"$build/include" "$program" -o "$program.run" \
        -L"$build" -lflodl -lm -Wl,-rpath,"$build"
    "$program.run" || { echo "$(basename "$program" .c) failed"; exit 1; }
    n=$((n + 1))
done
echo "$n programs ran"
