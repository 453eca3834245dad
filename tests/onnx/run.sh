#!/bin/sh
# run.sh SOURCE BUILD: onnxruntime gives what flodl gave, on every model that test_graph_onnx writes. Needs a Python with onnx and
# onnxruntime: FLODL_PYTHON, or python3.
set -eu
python=${FLODL_PYTHON:-python3}
if ! "$python" -c 'import onnx, onnxruntime' 2>/dev/null; then
    echo "skipped: $python has no onnx and onnxruntime (pip install onnx onnxruntime; FLODL_PYTHON names another Python)"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
FLODL_ONNX="$folder" "$2/test_graph_onnx" >/dev/null
"$python" "$1/tests/onnx/check.py" "$folder"
