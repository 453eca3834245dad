#!/bin/sh
# run.sh SOURCE BUILD: the generated pages are what headers and tables say, byte for byte.
exec "$1/tools/reference/generate" --check
