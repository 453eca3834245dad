"""Writes docs/benchmark.md, and the README's table of what was measured, from the raw figures in benchmarks/results/.

    publish.py [--results FOLDER] [--output FILE] [--readme FILE] [--check]

Reads every *.json there that says "format": 1. Of each benchmark and device the newest measurement of each model counts, so that a run
may be spread over several files, and older ones stay for comparison. Where a benchmark was run on several devices, the page has the one
with the most models, of equals the newest. --check: writes nothing, and fails where the page differs. Needs nothing but Python."""
import argparse
import difflib
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = ("eager", "graph", "trainer")
BARS = dict(best=1.0, busy=1.05, eager=0.75, cxx=1.05, peak=1.0, held=1.25, cpu_eager=0.6, cpu_compile=0.9, graph_ns=100,
            graph_ratio=1.02)


# ---- figures ----------------------------------------------------------------------------------------------------

def median(values):
    return statistics.median(values)


def sigma(values):
    """The spread of rounds: 1.4826 x their median absolute deviation, which for normally distributed ones is their standard
    deviation, and which a few stalled rounds don't move."""
    middle = median(values)
    return 1.4826 * median(abs(v - middle) for v in values)


class Model:
    """A model's sides by name: model["flodl/trainer"], None where it wasn't measured."""

    def __init__(self, raw, source):
        self.name, self.what, self.batch, self.parameters = (raw[k] for k in ("name", "what", "batch", "parameters"))
        self.source = source
        self.all = {f"{s['side']}/{s['mode']}": s for s in raw["sides"]}
        self.sides = {key: s for key, s in self.all.items() if "refusal" not in s}

    def __getitem__(self, key):
        return self.sides.get(key)

    def modes(self, side):
        return [key for key in self.sides if key.startswith(side + "/")]

    def seconds(self, key):
        return median(self.sides[key]["read_s"]) if key in self.sides else None

    def sigma(self, key):
        return sigma(self.sides[key]["read_s"])

    def best(self, side):
        return min(self.modes(side), key=self.seconds, default=None)

    def ratio(self, a, b):
        """Of the rounds, whose sides were measured one after the other."""
        if a not in self.sides or b not in self.sides:
            return None
        return median(x / y for x, y in zip(self.sides[a]["read_s"], self.sides[b]["read_s"]))

    def device(self, key):
        return (self.sides.get(key) or {}).get("device")

    def busy(self, key):
        device = self.device(key)
        return device["busy_s"] if device else None

    def launch_bound(self):
        """The device is idle for over a fifth of PyTorch's eager step. None: not known."""
        busy = self.busy("pytorch/eager")
        return None if busy is None else busy < 0.8 * self.seconds("pytorch/eager")

    def bytes(self, key, which):
        side = self.sides.get(key)
        return side.get(which) if side else None

    def quotient(self, a, b, which):
        x, y = self.bytes(a, which), self.bytes(b, which)
        return x / y if x and y else None


def read(folder):
    """The raw files, oldest first."""
    files = []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = json.loads(path.read_text())
        except ValueError as error:
            sys.exit(f"{path} is no JSON: {error}")
        if isinstance(raw, dict) and raw.get("format") == 1:
            files.append(dict(raw, file=path.name))
    return sorted(files, key=lambda raw: (raw["date"], raw["file"]))


def on_gpu(raw):
    return raw.get("settings", {}).get("device") == "cuda"


def steps_of(files, benchmark, gpu):
    """(models, the files that they come from) of the device that has the most."""
    devices = {}
    for raw in files:
        if raw["benchmark"] == benchmark and on_gpu(raw) == gpu and raw["settings"]["sizes_divided_by"] == 1:
            models = devices.setdefault(raw["machine"]["device"], {})
            for model in raw["models"]:
                key = (model["name"], model["batch"])
                models.pop(key, None)
                models[key] = Model(model, raw)
    if not devices:
        return [], []
    models = list(max(devices.values(), key=lambda m: (len(m), max(x.source["date"] for x in m.values()))).values())
    sources = [raw for raw in files if any(m.source is raw for m in models)]
    return models, sources


def newest(files, benchmark, wanted=lambda raw: True):
    return next((raw for raw in reversed(files) if raw["benchmark"] == benchmark and wanted(raw)), None)


# ---- words ------------------------------------------------------------------------------------------------------

def table(heads, rows):
    """Columns whose head begins with ">" are numbers."""
    lines = ["| " + " | ".join(h.lstrip(">") for h in heads) + " |",
             "|" + "|".join("---:" if h.startswith(">") else "---" for h in heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, form="{:.3f}", none="–"):
    return none if value is None else form.format(value)


def ms(seconds):
    return number(seconds and seconds * 1e3)


def us(seconds, form="{:.1f}"):
    return number(None if seconds is None else seconds * 1e6, form)


def mb(count):
    return number(count and count / 1e6, "{:.0f}")


def percent(ratio):
    return f"{(ratio - 1) * 100:+.1f} %".replace("-", "−")


def mode(key):
    return key.split("/")[1]


def side_name(key):
    side, mode_ = key.split("/")
    return f"{dict(pytorch='PyTorch', cxx='C++').get(side, side)} {mode_}"


def plural(n, word):
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def verdict(name, values, most, enough=None):
    """A row of what should hold: values is [(model, value)], those that weren't measured left out."""
    values = [(m, v) for m, v in values if v is not None]
    if not values:
        return [name, "not measured", "–"]
    misses = sorted(((m, v) for m, v in values if not v <= most), key=lambda row: -row[1])
    held = len(values) - len(misses)
    holds = not misses or (enough is not None and held >= enough * len(values))
    text = f"{held} of {len(values)}"
    if misses:
        text += "; not: " + ", ".join(f"{m} {v:.3f}" for m, v in misses)
    return [name, "holds" if holds else "**doesn't hold**", text]


# ---- steps on a GPU -----------------------------------------------------------------------------------------------

def delta_row(m):
    """The row of the results table, with Δ to sort by."""
    ours, theirs = "flodl/trainer", m.best("pytorch")
    if ours not in m.sides or not theirs:
        return None
    ratio, a, b = m.ratio(ours, theirs), m.sigma(ours), m.sigma(theirs)
    clear = abs(m.seconds(ours) - m.seconds(theirs)) > 2 * (a + b)
    delta = f"**{percent(ratio)}**" if clear else f"{percent(ratio)}, tie"
    return ratio, clear, [m.name, f"{ms(m.seconds(theirs))} ({mode(theirs)})", ms(m.seconds(ours)), delta, ms(b), ms(a),
                          *(mb(m.bytes(k, w)) for w in ("peak_bytes", "reserved_bytes") for k in (theirs, ours))]


def causes(m, ours, theirs):
    """Where the difference between two sides is: in the device's time, by class, or in its pauses."""
    a, b = m.device(ours), m.device(theirs)
    if not a or not b:
        return "the device's time wasn't recorded"
    pause = [m.seconds(k) - m.busy(k) for k in (ours, theirs)]
    classes = {c: a["classes"].get(c, [0])[0] - b["classes"].get(c, [0])[0] for c in {**a["classes"], **b["classes"]}}
    large = [c for c in sorted(classes, key=lambda c: (-abs(classes[c]), c)) if abs(classes[c]) * 1e6 >= 1][:3]
    text = (f"device busy {us(a['busy_s'])} µs against {us(b['busy_s'])}, idle {us(pause[0])} against {us(pause[1])}, "
            f"{a['kernels']:.0f} kernels against {b['kernels']:.0f}")
    if large:
        text += "; kernels that differ most: " + ", ".join(f"{c} {classes[c] * 1e6:+.1f} µs".replace("-", "−") for c in large)
    return text


def gpu_section(models, sources):
    ranked = sorted((r for r in ((delta_row(m), m) for m in models) if r[0]), key=lambda r: (r[0][0], r[1].name))
    wins = [m for (ratio, clear, _), m in ranked if clear and ratio < 1]
    losses = [m for (ratio, clear, _), m in ranked if clear and ratio > 1]
    ties = [m for (_, clear, _), m in ranked if not clear]
    settings = sources[-1]["settings"]
    out = [f"## Training steps on a GPU: {sources[-1]['machine']['device']}", "",
           "A whole training step with the loss read: flodl's trainer, as a user writes it, against the fastest of PyTorch's "
           f"modes for that model. {plural(len(wins), 'win')}, {plural(len(ties), 'tie')}, "
           f"{plural(len(losses), 'loss') if len(losses) == 1 else str(len(losses)) + ' losses'}.", ""]
    out += [table(["model", ">PyTorch's best, ms", ">flodl, ms", ">Δ", ">σ PyTorch", ">σ flodl", ">peak MB PyTorch",
                   ">peak MB flodl", ">held MB PyTorch", ">held MB flodl"], [r[2] for r, _ in ranked]), ""]
    out += ["### How to read it", "",
            "Δ is the median over the rounds of flodl's time by PyTorch's, less one: negative is faster. It is bold where the two "
            "medians are further apart than 2·(σ + σ), else a tie. σ is the spread of rounds, in ms. *Peak* is the most memory that "
            "tensors had at once after the warm-up, *held* the most that the allocator had of the device; a captured step's memory "
            "lies in a pool of which peak doesn't tell, so where modes capture, held is the figure to compare.", ""]
    out += ["### Every mode", "", "Milliseconds a step, loss read. *By hand* is the loop that a user writes without a trainer.", ""]
    modes = ["flodl/eager", "flodl/graph", "flodl/trainer"]
    modes += [k for m in models for k in m.sides if k not in modes]
    modes = list(dict.fromkeys(modes))
    heads = {"flodl/eager": "flodl by hand", "flodl/graph": "flodl, graph by hand", "flodl/trainer": "flodl, trainer"}
    out += [table(["model"] + [">" + heads.get(k, side_name(k)) for k in modes],
                  [[m.name] + [ms(m.seconds(k)) for k in modes] for m in models]), ""]
    refused = [f"- {m.name}, {key}: {s['refusal']}" for m in models for key, s in m.all.items() if "refusal" in s]
    if refused:
        out += ["Not measured:", "", *refused, ""]
    out += ["### The device's time", "",
            "What the device did in a step, recorded kernel by kernel. *Busy* is the time in which it did anything; kernels that "
            "overlap count once. A step that takes as long as its device is busy can only become faster by other kernels.", ""]
    rows = []
    for m in models:
        theirs = m.best("pytorch")
        row = [m.name]
        for key in ("flodl/trainer", theirs):
            busy, seconds = m.busy(key), m.seconds(key)
            row += [us(seconds), us(busy), number(busy and seconds / busy),
                    number(m.device(key) and m.device(key)["kernels"], "{:.0f}")]
        rows.append(row + [f"{mode(theirs)}" if theirs else "–"])
    out += [table(["model", ">flodl's trainer, µs", ">busy", ">ratio", ">kernels", ">PyTorch's best, µs", ">busy", ">ratio",
                   ">kernels", "its mode"], rows), ""]
    out += classes_tables(models)
    out += ["### Where it wins and why", ""]
    out += reasons(wins, "flodl's trainer is clearly faster") + reasons(ties, "Ties")
    out += ["### Where it loses, and where the time goes", ""]
    out += reasons(losses, "PyTorch's best mode is clearly faster") or ["Nowhere, in this measurement.", ""]
    out += ["### What should hold", "", "The project's own bars.", "", table(["what", "", "of the models"], gpu_bars(models)), ""]
    out += [f"{settings['rounds']} rounds of {settings['ms']} ms a side, {settings['batches_by_turns']} batches by turns.", ""]
    return out


def classes_tables(models):
    names = {}
    for m in models:
        for key in ("flodl/trainer", m.best("pytorch")):
            for c, (seconds, _) in ((m.device(key) or {}).get("classes") or {}).items():
                names[c] = names.get(c, 0) + seconds
    if not names:
        return []
    columns = sorted(names, key=lambda c: -names[c])
    rows = []
    for m in models:
        for key in ("flodl/trainer", m.best("pytorch")):
            device = m.device(key)
            if device:
                rows.append([m.name, side_name(key)] +
                            [us(device["classes"].get(c, [None])[0]) for c in columns])
    return ["By class of kernels, µs a step; kernels that overlap count each:", "",
            table(["model", "side"] + [">" + c for c in columns], rows), ""]


def reasons(models, title):
    if not models:
        return []
    lines = [f"{title}:", ""]
    for m in models:
        bound = {True: "bound by launches", False: "bound by the device", None: "not recorded what binds it"}[m.launch_bound()]
        theirs = m.best("pytorch")
        lines.append(f"- **{m.name}** ({bound} in PyTorch's eager mode), against {mode(theirs)}: "
                     f"{causes(m, 'flodl/trainer', theirs)}.")
    return lines + [""]


def gpu_bars(models):
    def over(f):
        return [(m.name, f(m)) for m in models]

    def by_busy(m):
        busy, seconds = m.busy("flodl/trainer"), m.seconds("flodl/trainer")
        return seconds / busy if busy else None

    return [verdict("trainer ≤ the best of PyTorch's modes, on 8 of 10", over(lambda m: m.ratio("flodl/trainer", m.best("pytorch"))),
                    BARS["best"], 0.8),
            verdict("trainer ≤ 1.05 × the time its device is busy", over(by_busy), BARS["busy"]),
            verdict("by hand ≤ 0.75 × PyTorch eager, where launches bind",
                    over(lambda m: m.ratio("flodl/eager", "pytorch/eager") if m.launch_bound() else None), BARS["eager"]),
            verdict("by hand ≤ 1.05 × C++ libtorch by hand", over(lambda m: m.ratio("flodl/eager", m.best("cxx"))), BARS["cxx"]),
            verdict("by hand: peak memory ≤ PyTorch eager's",
                    over(lambda m: m.quotient("flodl/eager", "pytorch/eager", "peak_bytes")), BARS["peak"]),
            verdict("trainer: memory held ≤ 1.25 × PyTorch eager's",
                    over(lambda m: m.quotient("flodl/trainer", "pytorch/eager", "reserved_bytes")), BARS["held"])]


# ---- the CPU, starts, calls -----------------------------------------------------------------------------------------

def cpu_section(models, sources):
    settings = sources[-1]["settings"]
    rows = []
    for m in sorted(models, key=lambda m: (m.name, m.batch)):
        rows.append([m.name, str(m.batch)] +
                    [us(m.seconds(k)) for k in ("pytorch/eager", "pytorch/fused", "pytorch/compile", "flodl/eager", "flodl/trainer")] +
                    [number(m.ratio("flodl/trainer", k), "{:.2f}") for k in ("pytorch/eager", "pytorch/compile")] +
                    [us(m.sigma(k)) if m[k] else "–" for k in ("pytorch/eager", "flodl/trainer")])
    small = [m for m in models if m.batch <= 8]

    def over(ours, theirs):
        return [(f"{m.name} at {m.batch}", m.ratio(ours, theirs)) for m in small]

    bars = [verdict(f"{what} ≤ {BARS[bar]} × {theirs}, batches up to 8", over(ours, key), BARS[bar])
            for what, ours in (("by hand", "flodl/eager"), ("trainer", "flodl/trainer"))
            for theirs, key, bar in (("PyTorch eager", "pytorch/eager", "cpu_eager"), ("torch.compile", "pytorch/compile", "cpu_compile"))]
    return ["## Training steps on the CPU", "",
            f"Small models, whose time is calls more than arithmetic: {plural(settings['threads'], 'thread')}, Adam, loss read, µs a step. "
            f"{settings['rounds']} rounds of {settings['ms']} ms a side, {settings['batches_by_turns']} batches by turns.", "",
            table(["model", ">batch", ">PyTorch eager", ">fused Adam", ">compile", ">flodl by hand", ">trainer", ">trainer / eager",
                   ">trainer / compile", ">σ eager", ">σ trainer"], rows), "",
            "Both sides compute with the same kernels, so flodl can only save what lies between them: the more arithmetic in a step, the "
            "less of it. *By hand* is the loop that a user writes without a trainer.", "",
            table(["what should hold", "", "of the cases"], bars), ""]


def start_section(raw):
    rows, values = [], {}
    for case in raw["cases"]:
        for s in case["sides"]:
            name = {"flodl/eager": "flodl by hand", "flodl/trainer": "flodl, trainer"}.get(f"{s['side']}/{s['mode']}", "PyTorch " + s["mode"])
            rows.append([case["name"], case["device"], name, number(median(s["seconds"]), "{:.2f}"), number(sigma(s["seconds"]), "{:.2f}"),
                         mb(median(s["rss_bytes"])), mb(median(s["peak_rss_bytes"]))])
            if s["side"] == "flodl":
                values.setdefault(case["device"], []).append((f"{case['name']}, {s['mode']}", median(s["seconds"])))
    sizes = raw["sizes"]
    bars = [verdict(f"first step within {most} s, {device}", values[device], most)
            for device, most in (("cpu", 1), ("cuda", 3)) if device in values]
    return ["## From start to first step", "",
            f"Seconds from the start of a process until its first training step has finished, its loss read, and the memory resident then; "
            f"medians of {plural(raw['starts'], 'start')} of each side, by turns, after one that brings the files into the system's cache. PyTorch's include its import; its version says "
            "whether it is one with CUDA, which loads more.", "",
            table(["model", "device", "side", ">s", ">σ", ">resident MB", ">at most MB"], rows), "",
            table(["what should hold", "", "of the cases"], bars), "",
            f"The program that is started has {sizes['program_bytes'] / 1e6:.2f} MB, libflodl {sizes['libflodl_bytes'] / 1e6:.1f} MB, "
            f"libtorch's libraries that it loads {sizes['libtorch_bytes'] / 1e6:.0f} MB.", ""]


def ops_section(raw):
    ops = raw["ops"]
    above = {name: o["above_us"] for name, o in ops.items()}
    surely = {name: above[name] - o.get("noise_us", 0) for name, o in ops.items()}
    worst = sorted(ops, key=lambda name: (-surely[name], name))[:10]
    over, clear = (sum(v > 0.05 for v in values.values()) for values in (above, surely))
    heap = max(o["heap_calls"] for o in ops.values())
    return ["## An operation above the same C++ call", "",
            f"{len(ops)} operations on small tensors, flodl's call and the same call in C++ by turns in one program, {raw['rounds']} rounds: "
            f"median {median(above.values()):+.3f} µs; {over} over 0.05 µs, {clear} of them by more than the noise, which is what the same method "
            f"makes of C++ against itself; at most {heap:.2f} heap calls of flodl's own. The ten with the most above the noise:", "",
            table(["operation", ">C++ µs", ">flodl µs", ">above µs", ">noise µs", ">heap calls"],
                  [[f"`{n}`", number(ops[n]["torch_us"]), number(ops[n]["flodl_us"]), number(above[n], "{:+.3f}"),
                    number(ops[n].get("noise_us")), number(ops[n]["heap_calls"], "{:.2f}")] for n in worst]), ""]


def graph_section(raw):
    cases, models = raw["cases"], raw.get("models", [])
    plain = [(c["name"], c["above_ns_a_step"]) for c in cases if c.get("plain")]
    ratios = [(f"{m['name']}, {m['pass']}", median(a / b for a, b in zip(m["graph_s"], m["hand_s"]))) for m in models]
    out = ["## A graph above the same calls by hand", "",
           f"A forward of a graph, and the same modules called one by one, by turns in one program"
           f"{', in its own time on the CPU' if raw.get('clock') == 'process' else ''}; {raw['rounds']} rounds, "
           f"{plural(raw['threads'], 'thread')}.", "",
           table(["a forward of", ">graph µs", ">by hand µs", ">above, ns a step", ">heap calls"],
                 [[c["what"], number(c["graph_us"], "{:.2f}"), number(c["hand_us"], "{:.2f}"), number(c["above_ns_a_step"], "{:+.1f}"),
                   number(c["heap_calls"], "{:.2f}")] for c in cases]), ""]
    if models:
        out += ["Whole models, a pass of each side by turns; the ratio is the median over the rounds, σ that of the ratios.", "",
                table(["model", "pass", ">width", ">batch", ">graph ms", ">by hand ms", ">ratio", ">σ", ">rounds"],
                      [[m["name"], m["pass"], str(m["width"]), str(m["batch"]), ms(median(m["graph_s"])), ms(median(m["hand_s"])),
                        number(ratio), number(sigma([a / b for a, b in zip(m["graph_s"], m["hand_s"])])), str(len(m["graph_s"]))]
                       for m, (_, ratio) in zip(models, ratios)]), ""]
    return out + [table(["what should hold", "", "of the cases"],
                        [verdict(f"a plain step: at most {BARS['graph_ns']} ns above its call", plain, BARS["graph_ns"]),
                         verdict("no heap calls beyond those of the calls by hand", [(c["name"], c["heap_calls"]) for c in cases], 0),
                         verdict("a model: at most 2 % above the calls by hand", ratios, BARS["graph_ratio"])]), ""]


# ---- the page -------------------------------------------------------------------------------------------------------

HEAD = """# Benchmark

What does the framework cost between kernels? Both sides run the same libtorch version with the same architecture, initial weights, batches,
optimizer and dtype, by turns on one machine; so what differs is what flodl and PyTorch add to the same kernels, and which kernels they
choose.

This page is written by `./fdl bench publish` from the raw figures in [benchmarks/results](../benchmarks/results); a test holds it to them.
""".splitlines()

METHOD = """## The method

- **By turns.** Every side is a process of its own, started before anything is measured. They take turns in rounds whose order alternates,
  so that a machine whose speed drifts slows all of them. A round of a side is as many steps as take a given time; its value is the mean
  step of the round. A result is the median of the rounds; a ratio is the median of the ratios within the rounds.
- **Spread.** σ is 1.4826 times the median absolute deviation of the rounds: for normally distributed rounds that is their standard
  deviation, and unlike it a few stalled rounds don't move it. The raw figures have every round, so any other measure can be taken.
- **Batches.** Each side goes through the same four batches, which lie on the device, by turns. PyTorch's whole-step graph copies each into
  the tensors that it was captured with, as PyTorch's documentation of whole-network capture does; flodl's trainer and
  `reduce-overhead` do the like by themselves.
- **Equality first.** All sides begin with the same weights, and the losses of their first four steps are compared, the first to 1e-4,
  those after it to 1e-3, relative. A side that differs is refused.
- **Loss read or not.** A step is measured with its loss read each time, which waits for the device, and (in the raw figures) with only the
  last waited for.
- **The device's time** is recorded after the timed rounds, by CUPTI on both sides (PyTorch's through `torch.profiler`), over ten steps, and is
  the union of all intervals. Classes are by the kernels' names: `benchmarks/parts/kernel_classes.txt`.
- **Memory** is measured from after the warm-up, by the allocator of each process.
- **Compilers** are done before: each side with one is started once beforehand, and it has warmed up before it is measured.
- **Clocks** are not locked, and machines may be shared with other work: σ shows how much that mattered.
""".splitlines()

REPRODUCE = """## Reproduce

```sh
export FLODL_PYTHON=python3                            # one that has torch of the same version, and safetensors
./fdl bench --json benchmarks/results/step-gpu.json    # all ten; or some: ./fdl bench mlp convnet --json ...
./fdl bench cpu --json benchmarks/results/cpu-host.json
./fdl bench start --json benchmarks/results/start-host.json
./fdl bench ops --json benchmarks/results/ops-host.json
./fdl bench graph --json benchmarks/results/graph-host.json
./fdl bench publish                                    # this page
```

Raw files are named `<benchmark>-<machine>-<date>.json`; a run may be spread over several, for each model the newest counts.
`--rounds`, `--ms` (of a round of a side), `--sides flodl,pytorch/graph`, `--batch` and `--threads` say how much is measured. Without PyTorch
flodl's column comes alone. With `BENCH_TRACE=1` each side lists the kernels with the most time, with `BENCH_PLAN=1` the trainer says what it
runs and why.

To add a model: its two files in `benchmarks/models/`, `<name>.c` on public headers and `<name>.py` as PyTorch's users write it, and its name in
`benchmarks/models/models.h`. To add a side: a row in the table of `benchmarks/step.c`, and a program that answers the lines of
`benchmarks/parts/side.h`.
""".splitlines()


def models_section(models):
    rows = {}
    for m in models:
        row = rows.setdefault(m.name, [m.name, m.what, f"{m.parameters:,}", []])
        row[3].append(m.batch)
    return ["## The models", "",
            table(["model", "what", ">parameters", ">batch"],
                  [[name, what, parameters, ", ".join(str(b) for b in sorted(batches))] for name, what, parameters, batches in rows.values()]), ""]


def environment_section(sources):
    def versions(raw):
        theirs = sorted({s["version"] for m in raw.get("models", raw.get("cases", [])) for s in m.get("sides", []) if s["side"] == "pytorch" and "version" in s})
        return ", ".join(theirs) or "–"

    rows = []
    for raw in sources:
        m = raw["machine"]
        device = m["device"] + (f", driver {m['driver']}" if m.get("driver") else "")
        rows.append([f"[{raw['file']}](../benchmarks/results/{raw['file']})", device, f"{m['cpu']}, {m['cores']} cores",
                     f"{m['os']}, {m['kernel']}", m["libtorch"], versions(raw), f"{m['compiler']}, {m['build']}", m["commit"] or "–", raw["date"][:10]])
    return ["## Environment and raw data", "",
            table(["raw figures", "device", "CPU", "system", "libtorch", "PyTorch", "flodl built by", "commit", "date"], rows), "",
            "Older figures stay in the same folder.", ""]


def page(folder):
    files = read(folder)
    gpu, gpu_files = steps_of(files, "step", True)
    cpu, cpu_files = steps_of(files, "cpu", False)
    start, ops, graph = (newest(files, name, lambda raw: raw.get("sizes_divided_by", 1) == 1) for name in ("start", "ops", "graph"))
    out = list(HEAD)
    if gpu:
        out += [""] + gpu_section(gpu, gpu_files)
    if cpu:
        out += [""] + cpu_section(cpu, cpu_files)
    for raw, section in ((start, start_section), (ops, ops_section), (graph, graph_section)):
        if raw:
            out += [""] + section(raw)
    if gpu or cpu:
        out += [""] + models_section(gpu + cpu)
    out += [""] + METHOD + [""] + environment_section(gpu_files + cpu_files + [raw for raw in (start, ops, graph) if raw])
    out += [""] + REPRODUCE
    text = "\n".join(out) + "\n"
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


# ---- the README's table ----------------------------------------------------------------------------------------------

BEGIN, END = "<!-- fdl bench publish: begin -->", "<!-- fdl bench publish: end -->"


def span(values, form="{:.2f}"):
    values = sorted(v for v in values if v is not None)
    return f"{form.format(values[0])} to {form.format(values[-1])}" if values else "–"


def summary(folder):
    """The results in a few rows."""
    files = read(folder)
    gpu, gpu_files = steps_of(files, "step", True)
    cpu, _ = steps_of(files, "cpu", False)
    start, ops = (newest(files, name) for name in ("start", "ops"))
    rows = []
    if gpu:
        device = gpu_files[-1]["machine"]["device"]
        rows += [[f"a training step of {plural(len(gpu), 'model')} on one {device}: trainer, by the fastest of PyTorch's modes",
                  span([m.ratio("flodl/trainer", m.best("pytorch")) for m in gpu]) + " ×"],
                 ["the same by hand, by PyTorch eager", span([m.ratio("flodl/eager", "pytorch/eager") for m in gpu]) + " ×"]]
    small = [m for m in cpu if m.batch <= 8]
    if small:
        rows += [["a training step of small models on the CPU, batches up to 8: trainer, by PyTorch eager",
                  span([m.ratio("flodl/trainer", "pytorch/eager") for m in small]) + " ×"],
                 ["the same, by `torch.compile`", span([m.ratio("flodl/trainer", "pytorch/compile") for m in small]) + " ×"]]
    for case in start["cases"][:1] if start else []:
        seconds = {s["side"] + "/" + s["mode"]: median(s["seconds"]) for s in case["sides"]}
        resident = {s["side"] + "/" + s["mode"]: median(s["rss_bytes"]) for s in case["sides"]}
        beside = (f"; PyTorch {seconds['pytorch/eager']:.2f} s and {mb(resident['pytorch/eager'])} MB" if "pytorch/eager" in seconds else "")
        rows.append([f"from a process's start to its first training step ({case['name']}, {case['device']})",
                     f"{seconds['flodl/eager']:.2f} s and {mb(resident['flodl/eager'])} MB resident{beside}"])
    if ops:
        above = [o["above_us"] for o in ops["ops"].values()]
        rows.append(["an operation above the same C++ call", f"median {median(above):+.3f} µs over {len(above)} operations"])
    return table(["what", "measured"], rows)


def with_summary(text, block):
    """The README's text with the block between its marks; without its marks that is an error."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit(f"the README has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(prog="fdl bench publish", description="docs/benchmark.md and the README's table from the raw figures")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "docs/benchmark.md")
    parser.add_argument("--readme", type=pathlib.Path, default=ROOT / "README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    options = parser.parse_args()
    readme = options.readme.read_text()
    failed = False
    for path, text in ((options.output, page(options.results)), (options.readme, with_summary(readme, summary(options.results)))):
        if not options.check:
            path.write_text(text)
            continue
        there = path.read_text() if path.exists() else ""
        if there != text:
            sys.stdout.writelines(difflib.unified_diff(there.splitlines(True), text.splitlines(True), str(path), "as published"))
            print(f"{path} isn't what the raw figures give: ./fdl bench publish", file=sys.stderr)
            failed = True
    return failed


sys.exit(main())
