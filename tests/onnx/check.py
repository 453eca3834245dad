"""check.py FOLDER: each ONNX file that test_graph_onnx left there is well formed, and onnxruntime gives what flodl gave."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

DTYPES = {"float32": np.float32, "float64": np.float64, "int64": np.int64}


def tensor(folder, text):
    name, dtype, dims = text.split(":")
    shape = [int(d) for d in dims.split(",")] if dims else []
    return np.fromfile(folder / name, DTYPES[dtype]).reshape(shape)


def main():
    folder = Path(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wrong = count = 0
    for line in (folder / "list.txt").read_text().splitlines():
        name, _, *tensors = line.split()
        path = folder / f"{name}.onnx"
        count += 1
        try:
            onnx.checker.check_model(onnx.load(path), full_check=True)
            session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
            *inputs, want = (tensor(folder, t) for t in tensors)
            (got,) = session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs)))
            if got.shape != want.shape or got.dtype != want.dtype:
                raise AssertionError(f"{got.dtype} {got.shape}, not {want.dtype} {want.shape}")
            far = np.max(np.abs(got - want) / (1 + np.abs(want)), initial=0)
            if not far <= 1e-5:
                raise AssertionError(f"off by {far:.3g}")
        except Exception as e:
            wrong += 1
            print(f"{name}: {str(e)[:400]}")
    print(f"{count} models, {wrong} of them wrong")
    return 1 if wrong or not count else 0


sys.exit(main())
