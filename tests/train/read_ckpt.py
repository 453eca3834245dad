"""Checks with Python's safetensors a file that tests/train/test_ckpt.c wrote: python read_ckpt.py FILE."""
import json
import struct
import sys

import safetensors

with open(sys.argv[1], "rb") as f:
    data = f.read()
found = dict(safetensors.deserialize(data))  # refuses gaps, overlaps, wrong sizes
(length,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + length])
meta = header.pop("__metadata__")
assert (8 + length) % 8 == 0, length
assert meta["format"] == "pt" and meta["fdl.version"] == "3", meta
assert meta["note"] == 'quotes " and \u00fcmlauts', meta
assert meta["fdl.saved_at"][10] == "T", meta

want = {
    "fc.weight": ("F32", [4, 3], "f", lambda i: i / 8 - 0.5),
    "fc.bias": ("F32", [4], "f", lambda i: i / 4),
    "bn.weight": ("F32", [4], "f", lambda i: i + 1),
    "bn.bias": ("F32", [4], "f", lambda i: -i),
    "bn.running_mean": ("F32", [4], "f", lambda i: i / 2),
    "bn.running_var": ("F32", [4], "f", lambda i: i + 0.5),
    "bn.num_batches_tracked": ("I64", [], "q", lambda i: 7),
    "all.f64": ("F64", [2, 3], "d", lambda i: i / 4 - 2),
    "all.f32": ("F32", [2, 3], "f", lambda i: i / 4 - 2),
    "all.f16": ("F16", [2, 3], "e", lambda i: i / 4 - 2),
    "all.bf16": ("BF16", [2, 3], "H", lambda i: struct.unpack("<I", struct.pack("<f", i / 4 - 2))[0] >> 16),
    "all.i64": ("I64", [2, 3], "q", lambda i: i - 2),
    "all.i32": ("I32", [2, 3], "i", lambda i: i - 2),
    "all.i16": ("I16", [2, 3], "h", lambda i: i - 2),
    "all.i8": ("I8", [2, 3], "b", lambda i: i - 2),
    "all.u8": ("U8", [2, 3], "B", lambda i: i),
    "all.bool": ("BOOL", [2, 3], "B", lambda i: i % 2),
    "all.empty": ("F32", [0, 3], "f", lambda i: 0),
}
assert set(found) == set(want), set(found) ^ set(want)
for name, (dtype, shape, code, value) in want.items():
    t = found[name]
    assert t["dtype"] == dtype and list(t["shape"]) == shape, (name, t["dtype"], t["shape"])
    raw = bytes(t["data"])
    values = list(struct.unpack("<%d%s" % (len(raw) // struct.calcsize(code), code), raw))
    n = 1
    for s in shape:
        n *= s
    assert values == [value(i) for i in range(n)], (name, values)
    begin = header[name]["data_offsets"][0]
    assert begin % struct.calcsize(code) == 0, (name, begin)
print("ok")
