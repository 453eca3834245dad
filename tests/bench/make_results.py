"""Writes tests/bench/results/: raw figures as two runs on a GPU would leave them, with round numbers, so that what the page must say is
known: alpha wins, beta is a tie, gamma loses; gamma was measured in both runs; delta was refused; an older format is passed over."""
import json
import pathlib

FOLDER = pathlib.Path(__file__).with_name("results")
MACHINE = dict(device="A GPU", driver="1.2", gpu_memory=80 * 10**9, cpu="A CPU", cores=16, memory=10**11, os="A system", kernel="Linux",
               compiler="gcc 13", build="Release", flodl="0.1.0", commit="0123456789ab", libtorch="2.11.0")


def side(name, mode, rounds, busy=None, kernels=0, classes=None, peak=10**8, held=2 * 10**8):
    raw = dict(side=name, mode=mode, version="2.11.0" + ("+cu130" if name == "pytorch" else ""), losses=[1.0, 1.0, 1.0, 1.0], steps=50,
               read_s=rounds, run_s=rounds, peak_bytes=peak, reserved_bytes=held)
    if busy:
        raw["device"] = dict(busy_s=busy, sum_s=busy, kernels=kernels, copies=2, fills=1, classes=classes)
    return raw


def model(name, sides):
    return dict(name=name, what=f"what {name} is", batch=256, parameters=16804864, sides=sides)


def write(file, date, models, **more):
    raw = dict(format=1, benchmark="step", date=date, machine=MACHINE,
               settings=dict(device="cuda", threads=1, rounds=3, ms=100, batches_by_turns=4, sizes_divided_by=1), models=models)
    (FOLDER / file).write_text(json.dumps({**raw, **more}, indent=1) + "\n")


FOLDER.mkdir(exist_ok=True)
alpha = model("alpha", [
    side("flodl", "eager", [2e-3] * 3, 0.9e-3, 90, {"pointwise": [0.5e-3, 60], "matrix products": [0.4e-3, 30]}),
    side("flodl", "trainer", [1e-3] * 3, 0.98e-3, 90, {"pointwise": [0.5e-3, 60], "matrix products": [0.48e-3, 30]}, held=3 * 10**8),
    side("pytorch", "eager", [4e-3] * 3, 1.2e-3, 100, {"pointwise": [0.8e-3, 70], "matrix products": [0.4e-3, 30]}),
    side("pytorch", "graph", [1.2e-3] * 3, 1.1e-3, 99, {"pointwise": [0.6e-3, 69], "matrix products": [0.5e-3, 30]})])
beta = model("beta", [
    side("flodl", "eager", [4e-3] * 3), side("flodl", "trainer", [2.0e-3, 2.1e-3, 1.9e-3]),
    side("pytorch", "eager", [5e-3] * 3), side("pytorch", "graph", [2.05e-3, 2.15e-3, 1.95e-3])])
old_gamma = model("gamma", [side("flodl", "trainer", [9e-3] * 3), side("pytorch", "graph", [1e-3] * 3)])
gamma = model("gamma", [
    side("flodl", "eager", [3.4e-3] * 3, 3.2e-3, 20, {"convolution": [3.2e-3, 20]}),
    side("flodl", "trainer", [3.3e-3] * 3, 3.2e-3, 20, {"convolution": [3.2e-3, 20]}),
    side("pytorch", "eager", [3.1e-3] * 3, 2.9e-3, 22, {"convolution": [2.9e-3, 22]}),
    dict(side="pytorch", mode="compile", refusal="refused: loss 1 is 2, of the first side 1"),
    side("pytorch", "graph", [3.0e-3] * 3, 2.9e-3, 22, {"convolution": [2.9e-3, 22]})])
write("step-a-1.json", "2026-01-01T10:00:00Z", [alpha, old_gamma])
write("step-a-2.json", "2026-01-02T10:00:00Z", [beta, gamma])
write("step-small.json", "2026-01-03T10:00:00Z", [model("alpha", [side("flodl", "trainer", [1.0] * 3)])],
      settings=dict(device="cuda", threads=1, rounds=3, ms=100, batches_by_turns=4, sizes_divided_by=8))
write("step-cpu.json", "2026-01-03T10:00:00Z", [alpha], settings=dict(device="cpu", threads=1, rounds=3, ms=100, batches_by_turns=4, sizes_divided_by=1))
(FOLDER / "old.json").write_text(json.dumps(dict(benchmark="step", models=[])) + "\n")


def case(name, plain, above, heap):
    return dict(name=name, what=f"what {name} is", steps=20, plain=plain, graph_us=100.0, hand_us=97.0, above_ns_a_step=above, heap_calls=heap)


def passes(name, width, graph):
    return dict(name=name, what=f"what {name} is", width=width, batch=256, graph_s=graph, hand_s=[0.1] * 3, **{"pass": "forward"})


graph = dict(format=1, benchmark="graph", date="2026-01-02T00:00:00Z", machine=MACHINE, threads=1, rounds=41, sizes_divided_by=1,
             cases=[case("identities", 1, 1.0, 0), case("linears", 1, 150.0, -1), case("loop", 0, 3000.0, 2)],
             models=[passes("tower", 1024, [0.1, 0.102, 0.104]), passes("gate", 512, [0.11, 0.103, 0.103])])
(FOLDER / "graph.json").write_text(json.dumps(graph, indent=1) + "\n")
