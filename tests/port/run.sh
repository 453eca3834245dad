#!/bin/sh
# run.sh SOURCE BUILD: the example attention_tower and the PyTorch program that it is the port of, live: the same losses, and weights
# that go both ways (examples/attention_tower/compare.py). Needs a Python with torch and safetensors: FLODL_PYTHON, or python3.
set -eu
python=${FLODL_PYTHON:-python3}
if ! "$python" -c 'import torch, safetensors' 2>/dev/null; then
    echo "skipped: $python has no torch and safetensors (FLODL_PYTHON names another Python)"
    exit 0
fi
if [ ! -x "$2/examples/attention_tower" ]; then
    echo "skipped: the examples are not built"
    exit 0
fi
OMP_NUM_THREADS=1 "$python" "$1/examples/attention_tower/compare.py" "$2/examples/attention_tower"
