#!/bin/sh
# run.sh SOURCE: the command line: its exit codes and messages, and the download with everything that can go wrong with it,
# against an index on the loopback. Needs no network and no libtorch.
set -u
source=$1
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
failed=0

# try NAME CODE TEXT COMMAND...: the command ends with CODE and says TEXT.
try() {
    name=$1 code=$2 text=$3
    shift 3
    got=0
    "$@" >"$work/out" 2>&1 || got=$?
    if [ "$got" -eq "$code" ] && grep -qF -- "$text" "$work/out"; then
        echo "ok: $name"
    else
        echo "FAILED: $name: exit $got instead of $code, or no '$text' in:"
        sed 's/^/    /' "$work/out"
        failed=1
    fi
}
that() { # NAME COMMAND...: it holds
    name=$1
    shift
    if "$@"; then echo "ok: $name"; else echo "FAILED: $name"; failed=1; fi
}
# shellcheck disable=SC2317 # called through that
absent() { [ ! -e "$1" ]; }
# shellcheck disable=SC2317
empty() { [ -z "$(ls -A "$1" 2>/dev/null)" ]; }

unset FLODL_LIBTORCH LIBTORCH LIBTORCH_PATH FLODL_PYTHON FLODL_TORCH_VERSION VIRTUAL_ENV CONDA_PREFIX PIP_FIND_LINKS
FLODL_HOME=$work/home HOME=$work PIP_CONFIG_FILE=/dev/null PIP_RETRIES=0 NO_COLOR=1
export FLODL_HOME HOME PIP_CONFIG_FILE PIP_RETRIES NO_COLOR
fdl=$source/fdl
torch=$FLODL_HOME/libtorch

try "help" 0 "Usage: fdl" "$fdl" --help
try "help of a command" 0 "--force" "$fdl" libtorch download --help
try "version" 0 "fdl 0.1.0" "$fdl" --version
try "unknown command" 2 'unknown command "frob"' "$fdl" frob
try "suggestion" 2 'did you mean "test"?' "$fdl" tets
try "unknown option" 2 'unknown option "--nope"' "$fdl" --nope
try "unknown option of a command" 2 'unknown option "--nope"' "$fdl" libtorch download --nope
try "missing value" 2 "--version needs a value" "$fdl" libtorch download --version
try "options that exclude each other" 2 "exclude" "$fdl" libtorch download --cpu --cuda
try "colours that exclude each other" 2 "exclude" "$fdl" --ansi --no-ansi build
try "unknown example" 2 "examples/nosuch/nosuch.c isn't there" "$fdl" run nosuch
try "unknown benchmark" 2 "neither of a model nor of a benchmark" "$fdl" bench nosuch
try "list without variants" 0 "No libtorch variants" "$fdl" libtorch list
try "a named libtorch binds" 3 "LIBTORCH names '/nope'" env LIBTORCH=/nope "$fdl" libtorch info

mkdir "$work/bin"
for tool in sh id env dirname basename find; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
ln -s /bin/true "$work/bin/apt-get"
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
    cp "$source/tools/fdl/packages.sh" "$work/packages.sh"
    chmod 755 "$work" "$work/bin" "$work/packages.sh"
    try "no root: the command to run, exit 3" 3 "apt-get install -y --no-install-recommends gcc g++ cmake" \
        setpriv --reuid 65534 --clear-groups env -u CC -u CXX PATH="$work/bin" sh "$work/packages.sh" build
fi

if ! python3 -m pip --version >/dev/null 2>&1 && ! /usr/bin/python3 -m pip --version >/dev/null 2>&1; then
    echo "no Python with pip: the download is not tried"
    exit $failed
fi
index=$work/index
mkdir "$index"
python3 "$source/tests/cli/index.py" "$index" &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e "$index/port" ] || sleep 0.5; done
FLODL_WHEEL_INDEX=http://127.0.0.1:$(cat "$index/port")/simple
export FLODL_WHEEL_INDEX

try "nothing reachable" 5 "can't reach" env FLODL_WHEEL_INDEX=http://127.0.0.1:9/simple "$fdl" libtorch download --cpu
try "a version that isn't there" 5 "has torch 2.12.0 but not 2.13.0" "$fdl" libtorch download --cpu --version 2.13.0
try "dry run" 0 "sha256  " "$fdl" libtorch download --cpu --dry-run
that "a dry run leaves nothing" absent "$torch/.active"

touch "$index/flip"
try "a wrong byte is refused" 4 "SHA-256 differs" "$fdl" libtorch download --cpu
rm "$index/flip"
that "and nothing of it stays" empty "$torch/.cache/downloads"
that "nor is active" absent "$torch/.active"
try "another version inside" 4 "the archive holds 2.11.0, not 2.12.0" "$fdl" libtorch download --cpu --version 2.12.0
try "an unusable libtorch" 4 "no lib/libc10.so" "$fdl" libtorch download --cpu --version 2.10.0
that "is never active" absent "$torch/.active"
try "an entry that leaves the folder" 4 "leaves the folder" "$fdl" libtorch download --cpu --from "$index/files/escape.whl"
that "writes nothing outside" absent "$torch/.staging/outside"
that "staging is empty" empty "$torch/.staging"
rm -rf "$torch/.cache"

# Half of the file comes, then nothing; the user interrupts.
touch "$index/stall"
# A shell's background job would ignore the interrupt; Python starts it with the usual handler.
python3 - "$fdl" "$torch" <<'EOF' >"$work/out" 2>&1
import glob, os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
child = subprocess.Popen([sys.argv[1], "libtorch", "download", "--cpu"], start_new_session=True)
for _ in range(200):
    if any(os.path.getsize(p) > 100000 for p in glob.glob(sys.argv[2] + "/.cache/downloads/*.part")):
        break
    time.sleep(0.1)
os.killpg(child.pid, signal.SIGINT)
child.wait(30)
EOF
that "an interrupted download says so" grep -q "the same command goes on" "$work/out"
rm "$index/stall"
that "its part is kept" test -n "$(find "$torch/.cache/downloads" -name '*.part' -size +100k)"
: >"$index/log"
try "the same command goes on" 0 "going on with" "$fdl" libtorch download --cpu
that "from where it was" grep -q "bytes=[1-9]" "$index/log"
that "active" test "$(cat "$torch/.active")" = precompiled/cpu
that "only what serves" absent "$torch/precompiled/cpu/torch/nn.py"
that "no library for Python" absent "$torch/precompiled/cpu/torch/lib/libtorch_python.so"
that "the archive is gone" empty "$torch/.cache/downloads"
that "staging is gone" empty "$torch/.staging"
try "info" 0 "Version: 2.11.0" "$fdl" libtorch info
try "list" 0 "precompiled/cpu  2.11.0  CPU  (active)" "$fdl" libtorch list
try "list as JSON" 0 '"active": true' "$fdl" libtorch list --json
: >"$index/log"
try "a second time" 0 "already installed" "$fdl" libtorch download --cpu
that "asks the network nothing" test ! -s "$index/log"

# What a crash leaves behind: a variant moved away and not replaced, a half-made one.
mv "$torch/precompiled/cpu" "$torch/.staging/old.cpu"
mkdir -p "$torch/.staging/new.1/torch"
try "after a crash" 0 "already installed" "$fdl" libtorch download --cpu
that "nothing half-made stays" empty "$torch/.staging"

touch "$index/flip"
try "a failed replacement" 4 "SHA-256 differs" "$fdl" libtorch download --cpu --force
rm "$index/flip"
try "leaves the old one" 0 "Version: 2.11.0" "$fdl" libtorch info

# Two at once: one works, the other waits and finds it done.
rm -rf "$torch"
touch "$index/slow"
"$fdl" libtorch download --cpu >"$work/first" 2>&1 &
first=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -s "$torch/.lock" ] || sleep 0.1; done
try "busy, not waiting" 6 "another fdl (pid" "$fdl" libtorch download --cpu --no-wait
try "busy, waiting" 0 "already installed" "$fdl" libtorch download --cpu
wait $first
that "the first installed it" grep -q "installed in" "$work/first"
rm "$index/slow"
exit $failed
