"""Whether PyTorch takes what flodl wrote: python round_trip.py FILE, which is flodl's copy of tests/fixtures/ckpt_modules.pt."""
import os
import sys

import torch
from safetensors.torch import load_file

fixtures = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures")
sys.path.insert(0, fixtures)
from ckpt_modules import Modules  # noqa: E402

want = torch.load(os.path.join(fixtures, "ckpt_modules.pt"), weights_only=True)
got = load_file(sys.argv[1])
assert set(got) == set(want), set(got) ^ set(want)
for name, t in want.items():
    assert got[name].dtype == t.dtype and torch.equal(got[name], t), name
a, b = Modules(), Modules()
a.load_state_dict(want, strict=True)
b.load_state_dict(got, strict=True)
torch.manual_seed(1)
tokens, image = torch.randint(10, (3, 5)), torch.randn(3, 4, 6, 6)
assert torch.equal(a.eval()(tokens, image), b.eval()(tokens, image))
print("ok")
