#!/usr/bin/env python3
"""Writes pytorch_names.txt: every public class and function of torch.nn, torch.nn.functional, torch.optim, its schedulers and
averages, torch.nn.init, torch.nn.utils and torch.amp with its signature, one a line, in PyTorch's order. The page
docs/pytorch_migration.md has a row for each, and a test fails where one lacks it, without PyTorch. Run it with a Python
that has torch; --check writes nothing and prints what differs:

    python3 tools/reference/list_names.py
"""
import enum
import inspect
import pathlib
import re
import sys

import torch
import torch.nn.attention
import torch.nn.modules
import torch.nn.utils.parametrizations
import torch.nn.utils.parametrize
import torch.nn.utils.prune
import torch.nn.utils.rnn
import torch.optim.swa_utils

FILE = pathlib.Path(__file__).resolve().parent / "pytorch_names.txt"
nn = torch.nn
# What these modules import for themselves.
HELPERS = {"assert_int_or_pair", "boolean_dispatch", "handle_torch_function", "has_torch_function", "has_torch_function_unary",
           "has_torch_function_variadic", "ABC", "abstractmethod", "Iterable", "Union", "warn"}


def public(module):
    return [n for n in sorted(vars(module)) if not n.startswith("_") and n not in HELPERS and callable(getattr(module, n)) and
            not inspect.ismodule(getattr(module, n)) and "typing" not in str(type(getattr(module, n)))]


def of_functional():
    return [n for n in public(nn.functional) if inspect.isroutine(getattr(nn.functional, n))]


def listed(module, *more):
    return [n for n in module.__all__ if not inspect.ismodule(getattr(module, n))] + list(more)


AREAS = [("torch.nn", "nn", nn, listed(nn.modules, "Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer", "DataParallel")),
         ("torch.nn.functional", "F", nn.functional, of_functional()),
         ("torch.nn.attention", "attention", nn.attention, [n for n in public(nn.attention) if n in ("sdpa_kernel", "SDPBackend")]),
         ("torch.optim", "optim", torch.optim, listed(torch.optim)),
         ("torch.optim.lr_scheduler", "lr_scheduler", torch.optim.lr_scheduler, listed(torch.optim.lr_scheduler)),
         ("torch.optim.swa_utils", "swa_utils", torch.optim.swa_utils, listed(torch.optim.swa_utils)),
         ("torch.nn.init", "init", nn.init, listed(nn.init)),
         ("torch.nn.utils", "utils", nn.utils, listed(nn.utils)),
         ("torch.nn.utils.rnn", "utils.rnn", nn.utils.rnn, listed(nn.utils.rnn)),
         ("torch.nn.utils.parametrizations", "utils.parametrizations", nn.utils.parametrizations, listed(nn.utils.parametrizations)),
         ("torch.nn.utils.parametrize", "utils.parametrize", nn.utils.parametrize, listed(nn.utils.parametrize)),
         ("torch.nn.utils.prune", "utils.prune", nn.utils.prune, public(nn.utils.prune)),
         ("torch.amp", "amp", torch.amp, ["autocast", "GradScaler", "custom_fwd", "custom_bwd", "is_autocast_available"])]


def signature(name, thing):
    """Its parameters with their defaults, without annotations, device, dtype and what is deprecated."""
    if inspect.isclass(thing) and issubclass(thing, enum.Enum) or name in ("Parameter", "Buffer") or "Uninitialized" in name:
        return ""
    try:
        parameters = list(inspect.signature(thing).parameters.values())
    except ValueError:  # builtins say it in the first line of their documentation
        found = re.search(re.escape(name) + r"\((.*?)\)\s*->", thing.__doc__ or "", re.S)
        text = re.sub(r"\s+", " ", found.group(1)) if found else "input, ..."
        return f"({text})"
    out = []
    for p in parameters:
        if p.name in ("self", "device", "dtype", "size_average", "reduce") or p.name.startswith("_"):
            continue
        text = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        if p.default is not p.empty:
            default = p.default
            text += f"={default.__name__ if callable(default) else repr(default)}"
        out.append(text)
    return f"({', '.join(out)})"


def main():
    lines = [f"# PyTorch {torch.__version__.split('+')[0]}, written by list_names.py: name and signature."]
    for title, short, module, names in AREAS:
        lines += ["", f"## {title}"]
        for n in dict.fromkeys(names):
            lines.append(f"{short}.{n} {signature(n, getattr(module, n))}")
    text = "\n".join(lines) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
        return 0
    old, new = FILE.read_text().splitlines(), text.splitlines()
    for line in [f"-{x}" for x in old if x not in new] + [f"+{x}" for x in new if x not in old]:
        print(line)
    return old != new


sys.exit(main())
