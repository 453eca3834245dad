#!/bin/sh
# run.sh SOURCE BUILD: the generated pages are what headers and tables say, and every function has its comment, shape and test.
exec "$1/tools/reference/generate" --check
