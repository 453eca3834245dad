"""The table kernel_classes.txt: what a GPU's kernel does, by its name. kernel_class.c is the same in C."""
import functools
import pathlib
import re


@functools.cache
def table():
    rows = []
    for line in pathlib.Path(__file__).with_name("kernel_classes.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, pattern = re.split(r"\t+", line, maxsplit=1)
            rows.append((name, re.compile(pattern, re.IGNORECASE)))
    return rows


@functools.cache
def kernel_class(name):
    return next((class_ for class_, pattern in table() if pattern.search(name)), "other")
