#!/bin/sh
# run.sh SOURCE BUILD: installs into an empty prefix and builds a ten-line program against it, outside the tree: with
# find_package and with pkg-config, shared and static. Each must print the sum that it computes.
set -eu
source=$1 build=$2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
expect=24

fail() { echo "FAILED: $*" >&2; exit 1; }
check() { # name program: runs and prints 24
    got=$("$2") || fail "$1: the program ended with $?"
    [ "$got" = $expect ] || fail "$1: printed '$got', not $expect"
    echo "ok: $1"
}

cmake --install "$build" --prefix "$prefix" >"$work/log" 2>&1 || { cat "$work/log"; fail "install"; }

{
    cmake -G Ninja -S "$source/tests/install/consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" &&
        cmake --build "$work/consumer"
} >"$work/log" 2>&1 || { cat "$work/log"; fail "find_package"; }
check "find_package, shared" "$work/consumer/consumer"
if [ -e "$work/consumer/consumer_static" ]; then check "find_package, static" "$work/consumer/consumer_static"; fi

pc=$(find "$prefix" -name flodl.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion flodl)" = 0.1.0 ] || fail "pkg-config says version $(pkg-config --modversion flodl)"
lib=$(pkg-config --variable=libdir flodl)
# pkg-config's answers are lists of words.
# shellcheck disable=SC2046
cc -std=c17 -Wall -Wextra -Wpedantic -Werror $(pkg-config --cflags flodl) "$source/tests/install/consumer/main.c" \
    -o "$work/shared" $(pkg-config --libs flodl) -Wl,-rpath,"$lib"
check "pkg-config, shared" "$work/shared"
if [ -e "$lib/libflodl.a" ]; then
    rm "$lib"/libflodl.so*
    # shellcheck disable=SC2046
    cc -std=c17 $(pkg-config --cflags flodl) "$source/tests/install/consumer/main.c" -o "$work/static" \
        $(pkg-config --static --libs flodl)
    check "pkg-config, static" "$work/static"
fi

# Where it is not installed it is not found.
if cmake -S "$source/tests/install/consumer" -B "$work/none" -DCMAKE_PREFIX_PATH="$work/nowhere" >/dev/null 2>&1; then
    fail "found flodl where it isn't"
fi
echo "ok: not found where it isn't"
