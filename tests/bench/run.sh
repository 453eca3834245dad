#!/bin/sh
# run.sh SOURCE BUILD: the page of the benchmarks is what the committed raw figures give; the generator on figures with known answers; and
# that Python's side reads the table of kernels as C's does; what a run does without PyTorch, and with one that computes something else.
set -u
source=$1 build=$2
python=${FLODL_PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "skipped: no $python"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
failed=0

that() { # NAME COMMAND...: it holds
    name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        echo "ok: $name"
    else
        echo "FAILED: $name"
        sed 's/^/    /' "$work/out"
        failed=1
    fi
}
says() { # NAME TEXT: the generated page has it
    that "$1" grep -qF -- "$2" "$work/page.md"
}
# shellcheck disable=SC2317 # called through that
fails() { ! "$@"; }
# shellcheck disable=SC2317
lacks() { ! grep -qF -- "$1" "$work/page.md"; }

cp "$source/README.md" "$work/readme.md"
# shellcheck disable=SC2317 # called through that
publish() { "$python" "$source/benchmarks/publish.py" --readme "$work/readme.md" "$@"; }
that "docs/benchmark.md and the README are what the raw figures give" "$python" "$source/benchmarks/publish.py" --check
that "a page from figures with known answers" publish --results "$source/tests/bench/results" --output "$work/page.md"
says "the counts" "1 win, 1 tie, 1 loss."
says "a win is bold" "| alpha | 1.200 (graph) | 1.000 | **−16.7 %** | 0.000 | 0.000 |"
says "a tie is named" "| beta | 2.050 (graph) | 2.000 | −2.4 %, tie | 0.148 | 0.148 |"
says "a loss is bold, from the newer run" "| gamma | 3.000 (graph) | 3.300 | **+10.0 %** |"
that "not from the older run" lacks "9.000"
says "where a win comes from" "- **alpha** (bound by launches in PyTorch's eager mode), against graph: device busy 980.0 µs against 1100.0, idle 20.0 against 100.0, 90 kernels against 99; kernels that differ most: pointwise −100.0 µs, matrix products −20.0 µs."
says "where a loss comes from" "- **gamma** (bound by the device in PyTorch's eager mode), against graph: device busy 3200.0 µs against 2900.0, idle 100.0 against 100.0, 20 kernels against 22; kernels that differ most: convolution +300.0 µs."
says "what has no record says so" "- **beta** (not recorded what binds it in PyTorch's eager mode), against graph: the device's time wasn't recorded."
says "a refused side is named" "- gamma, pytorch/compile: refused: loss 1 is 2, of the first side 1"
says "the bar of the best mode" "| **doesn't hold** | 2 of 3; not: gamma 1.100 |"
says "the bar of the busy time" "| trainer ≤ 1.05 × the time its device is busy | holds | 2 of 2 |"
says "the bar of launches" "where launches bind | holds | 1 of 1 |"
says "the bar of memory" "| **doesn't hold** | 2 of 3; not: alpha 1.500 |"
says "both runs in the environment" "step-a-2.json"
that "divided sizes are no figures" lacks "step-small.json"
says "a model by its rounds" "| tower | forward | 1024 | 256 | 102.000 | 100.000 | 1.020 | 0.030 | 3 |"
says "the bar of a plain step" "| a plain step: at most 100 ns above its call | **doesn't hold** | 1 of 2; not: linears 150.000 |"
says "the bar of heap calls" "| no heap calls beyond those of the calls by hand | **doesn't hold** | 2 of 3; not: loop 2.000 |"
says "the bar of models" "| a model: at most 2 % above the calls by hand | **doesn't hold** | 1 of 2; not: gate, forward 1.030 |"
that "the README's table" grep -qF "| a training step of 3 models on one A GPU: trainer, by the fastest of PyTorch's modes | 0.83 to 1.10 × |" "$work/readme.md"
that "the README's other lines stay" grep -qF "## Documentation" "$work/readme.md"
that "the order is by difference" sh -c "[ \"\$(sed -n 's/^| \(alpha\|beta\|gamma\) | [0-9.]* (.*/\1/p' '$work/page.md' | tr '\n' ' ')\" = 'alpha beta gamma ' ]"
cp "$work/page.md" "$work/changed.md"
echo "changed by hand" >>"$work/changed.md"
that "a page that was changed fails" fails publish --check --results "$source/tests/bench/results" --output "$work/changed.md"
that "the same page passes" publish --check --results "$source/tests/bench/results" --output "$work/page.md"
mkdir "$work/none"
mkdir "$work/broken"
echo '{"format": 1, ' >"$work/broken/step.json"
publish --results "$work/broken" --output "$work/none.md" 2>"$work/named"
that "a broken file fails" fails publish --results "$work/broken" --output "$work/none.md"
that "and is named" grep -qx "$work/broken/step.json is no JSON: .*" "$work/named"
that "no figures give a page all the same" publish --results "$work/none" --output "$work/none.md"

cat >"$work/table.py" <<'EOF'
import pathlib, sys
source = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(source / "benchmarks"))
from parts.device_time import busy_words, kernel_class, union
rows = [line.split("\t") for line in (source / "tests/bench/kernel_names.txt").read_text().splitlines() if not line.startswith("#")]
assert len(rows) > 20
for name, kernel in rows:
    assert kernel_class(kernel) == name, (kernel, name, kernel_class(kernel))
# The same intervals as in tests/train/test_gpu_trace.c.
spans = [(0, 10, "gemm"), (5, 20, "elementwise"), (6, 7, "gemm"), (20, 30, "elementwise"), (50, 60, "Memset (Device)"), (55, 60, "Memcpy DtoD")]
assert union(spans) == 40 and union([]) == 0
assert busy_words(spans, 2) == "2e-08; 2.55e-08 2.0 0.5 0.5; matrix products 5.5e-09 1.0; pointwise 1.25e-08 1.0; fills 5e-09 0.5; copies 2.5e-09 0.5", busy_words(spans, 2)
EOF
that "Python reads the table of kernels as C does" "$python" "$work/table.py" "$source"

if [ -x "$build/benchmarks/cpu" ]; then
    cpu() { "$build/benchmarks/cpu" digits_mlp --batch 2,8 --rounds 2 --ms 5 "$@"; }
    # shellcheck disable=SC2317 # called through that
    told() { grep -qF -- "$1" "$work/told"; }
    cpu --python /no/such/python --json "$work/cpu.json" >"$work/told" 2>&1
    that "a run without PyTorch" test $? -eq 0
    that "says so" told "PyTorch isn't measured: /no/such/python has no torch"
    that "and judges nothing that wasn't measured" told "not measured   trainer <= 0.6 x PyTorch's eager: 0 of 0"
    mkdir "$work/results"
    cp "$work/cpu.json" "$work/results/"
    that "its figures make a page" publish --results "$work/results" --output "$work/page.md"
    says "flodl's columns alone" "| digits_mlp | 2 | – | – | – | "
    cat >"$work/python" <<'EOF'
#!/bin/sh
[ "$1" = -c ] && exit
echo "= loaded 0"
read -r begin
echo "= loss 9 9 9 9"
echo "= ready"
cat >/dev/null
EOF
    chmod +x "$work/python"
    cpu --python "$work/python" >"$work/told" 2>&1
    that "another loss is refused" told "refused: loss 1 is 9, of the first side"
    that "and not compared with" told "not measured   trainer <= 0.6 x PyTorch's eager: 0 of 0"
else
    echo "skipped: no $build/benchmarks/cpu"
fi
exit $failed
