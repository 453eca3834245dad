#!/bin/sh
# run.sh SOURCE BUILD: each list tests/<layer>/promises.txt counts without a gap as far as it says, and each test that it names
# is there.
set -eu
cd "$1"
status=0
for list in tests/*/promises.txt; do
    awk -v list="$list" '
        function wrong(what) { print list ":" FNR ": " what; failed = 1 }
        # Whether cmocka knows the name: as a test that is listed, or as the first part of names that the program makes.
        function has(source, name,    line, text) {
            if (!(source in read)) {
                read[source] = 1
                while ((getline line < source) > 0)
                    content[source] = content[source] line "\n"
                close(source)
            }
            if (content[source] == "")
                return 0
            if (name == "*") # all of the program
                return 1
            if (name ~ /\*$/) {
                text = name
                sub(/_\*$/, "", text)
                return index(content[source], "\"" text "\"") > 0
            }
            return content[source] ~ ("cmocka_unit_test[a-z_]*[(]" name "[,)]")
        }
        /^# [0-9]+ promises/ { all = $2 }
        /^#/ || /^[ \t]*$/ { next }
        {
            count++
            if ($1 != count)
                wrong("promise " $1 ", expected " count)
            if (NF < 4)
                wrong("promise " $1 " says nothing")
            n = split($2, tests, ",")
            for (i = 1; i <= n; i++) {
                if (split(tests[i], part, "/") != 2 || split(part[1], program, ".") != 2)
                    wrong(tests[i] " is not program/name")
                else if (!has("tests/" program[1] "/test_" program[2] ".c", part[2]))
                    wrong("no test " tests[i])
            }
        }
        END {
            if (!all || count != all)
                wrong(count " promises, where its head says \"# " all " promises\"")
            else
                print list ": " count " promises"
            exit failed
        }' "$list" || status=1
done
exit $status
