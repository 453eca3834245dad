#!/bin/sh
# run.sh SOURCE BUILD: tests/tensor/promises.txt counts without a gap, and each test that it names is there.
set -eu
cd "$1"
awk '
    function wrong(what) { print "tests/tensor/promises.txt:" FNR ": " what; failed = 1 }
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
        text = "cmocka_unit_test(" name ")"
        if (name ~ /\*$/) {
            text = name
            sub(/_\*$/, "", text)
            text = "\"" text "\""
        }
        return index(content[source], text) > 0
    }
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
        print count " promises"
        exit failed || count < 142
    }' tests/tensor/promises.txt
