#!/bin/sh
# run.sh SOURCE BUILD: the rules that a script can check, on the library as built.
exec "$1/tools/check-style" "$2"
