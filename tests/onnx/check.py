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


def compare(session, got, wanted, given):
    """The outputs in order, by their names; a name that an input has already is followed by "_"."""
    for output, value, (name, want) in zip(session.get_outputs(), got, wanted.items(), strict=True):
        name += "_" * (name in given)
        if output.name != name:
            raise AssertionError(f"output {output.name}, not {name}")
        if value.shape != want.shape or value.dtype != want.dtype:
            raise AssertionError(f"{name}: {value.dtype} {value.shape}, not {want.dtype} {want.shape}")
        far = np.max(np.abs(value - want) / (1 + np.abs(want)), initial=0)
        if not far <= 1e-5:
            raise AssertionError(f"{name} is off by {far:.3g}")


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
            mark = tensors.index(">")
            inputs = [tensor(folder, t) for t in tensors[:mark]]
            wanted = dict(t.split("=", 1) for t in tensors[mark + 1 :])
            given = {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)}
            compare(session, session.run(None, given), {n: tensor(folder, t) for n, t in wanted.items()}, given)
        except Exception as e:
            wrong += 1
            print(f"{name}: {str(e)[:400]}")
    print(f"{count} models, {wrong} of them wrong")
    return 1 if wrong or not count else 0


sys.exit(main())
