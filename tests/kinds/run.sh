#!/bin/sh
# run.sh SOURCE BUILD: every stock module and every step of flows says what it was made with: its constructor fdl_nn_x or
# fdl_flow_x has a line KIND(x, or KIND(flow_x, in the sources, so that topologies can hold it.
set -eu
cd "$1"
made=$(sed -n 's/^FDL_API fdl_module \*fdl_\(nn_\|flow_\)\([a-z0-9_]*\)(.*/\1\2/p' include/flodl/*.h |
    sed 's/^nn_//; s/_opt$//; s/_of$//' | grep -v -x -e flow -e flow_build | sort -u)
count=0
missing=0
for name in $made; do
    count=$((count + 1))
    if ! grep -q -E "^([A-Z_]+_)?KIND\(${name}[,)]" src/nn/*.c src/graph/*.c; then
        echo "fdl_nn_$name or fdl_$name has no KIND($name, ...)"
        missing=1
    fi
done
echo "$count constructors"
[ "$missing" = 0 ] && [ "$count" -gt 90 ]
