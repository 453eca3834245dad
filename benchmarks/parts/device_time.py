"""What a device did in a step, from a profiler's intervals: busy time, and seconds by class of kernel. gpu_trace.c and kernel_class.c are
the same in C; kernel_classes.txt is the table of both."""
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


def union(spans):
    """Nanoseconds in which any of the spans (start, end, name), sorted by start, runs."""
    busy, end = 0, 0
    for start, stop, _ in spans:
        busy += max(0, stop - max(start, end))
        end = max(end, stop)
    return busy


def busy_words(spans, n):
    """The answer to `busy` of parts/side.h: spans are of n steps."""
    classes = {}
    for start, stop, name in spans:
        row = classes.setdefault(kernel_class(name), [0, 0])
        row[0] += stop - start
        row[1] += 1
    copies = sum(name.startswith("Memcpy") for _, _, name in spans)
    fills = sum(name.startswith("Memset") for _, _, name in spans)
    total = sum(stop - start for start, stop, _ in spans)
    totals = f"{total / n / 1e9!r} {(len(spans) - copies - fills) / n!r} {copies / n!r} {fills / n!r}"
    return "; ".join([f"{union(spans) / n / 1e9!r}", totals,
                      *(f"{name} {ns / n / 1e9!r} {count / n!r}" for name, (ns, count) in classes.items())])


def listing(spans, most=25):
    """The kernels with the most time: microseconds, count, class, name."""
    rows = {}
    for start, stop, name in spans:
        row = rows.setdefault(name, [0, 0])
        row[0] += stop - start
        row[1] += 1
    ranked = sorted(rows.items(), key=lambda item: -item[1][0])[:most]
    return "\n".join(f"  {ns / 1e3:10.1f} us {count:7d}  {kernel_class(name):<16} {name[:160]}" for name, (ns, count) in ranked)
