#!/bin/sh
# Installs what is missing of the tools and libraries that building needs (`build`), or that downloading libtorch needs
# (`fetch`), through apt: as root or with sudo after one line that says what and how much, otherwise prints the command
# and exits with 3. Says nothing when nothing is missing. What flodl can do without (libgraphviz, libzip) is installed with the rest,
# and no reason to stop when it can't be.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

missing=
want() { missing="$missing $1"; }
wished=
wish() { wished="$wished $1"; }

case ${1:-} in
build)
    has "${CC:-cc}" || want gcc
    has "${CXX:-c++}" || want g++
    has cmake || want cmake
    has ninja || want ninja-build
    has ccache || want ccache
    has pkg-config || want pkg-config
    # One look for all libraries; one by one only when something is missing.
    if ! { has pkg-config && pkg-config --exists jansson zlib cmocka; }; then
        for pair in jansson:libjansson-dev zlib:zlib1g-dev cmocka:libcmocka-dev; do
            { has pkg-config && pkg-config --exists "${pair%%:*}"; } || want "${pair#*:}"
        done
    fi
    { has pkg-config && pkg-config --exists libgvc libcgraph; } || wish libgraphviz-dev
    { has pkg-config && pkg-config --exists libzip; } || wish libzip-dev
    # A compiler without the C library's headers, which a minimal system may have.
    if has "${CC:-cc}" && [ ! -e /usr/include/stdio.h ] && has apt-get; then want libc6-dev; fi
    ;;
fetch)
    has python3 || want python3
    python3 -m pip --version >/dev/null 2>&1 || /usr/bin/python3 -m pip --version >/dev/null 2>&1 || want python3-pip
    [ -e /etc/ssl/certs/ca-certificates.crt ] || want ca-certificates
    ;;
*)
    echo "usage: packages.sh build|fetch" >&2
    exit 2
    ;;
esac
[ -n "$missing$wished" ] || exit 0

# The end where nothing can be installed: $1 is the message about what building needs.
give_up() {
    if [ -n "$needed" ]; then
        echo "error: $1" >&2
        exit 3
    fi
    echo "fdl: $wished isn't installed: flodl is built without what it is for (drawings as SVG, files of torch.save)" >&2
    exit 0
}
needed=${missing# }
wished=${wished# }
missing=${needed:+$needed${wished:+ }}$wished

if ! has apt-get; then
    give_up "missing: $missing (these are Debian's names); install them with this system's package manager"
fi
install="apt-get install -y --no-install-recommends $missing"

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if has sudo && { sudo -n true 2>/dev/null || [ -t 2 ]; }; then
        as_root=sudo
    else
        give_up "missing: $missing; as root run: apt-get update && $install"
    fi
fi

# The lists may be empty or old; if they can't be renewed, the installation says what it lacks.
DEBIAN_FRONTEND=noninteractive $as_root apt-get update -qq >/dev/null 2>&1 || true
# shellcheck disable=SC2086 # a list of words
size=$(LC_ALL=C apt-get install --assume-no --no-install-recommends $missing 2>/dev/null |
    sed -n 's/^Need to get \(.*\) of archives.*/\1 to download/p; s/^After this operation, \(.*\) of additional.*/\1 on disk/p' |
    paste -s -d, - | sed 's/,/, /') || size=
echo "fdl: installing $missing${size:+ with what they need ($size)}: $as_root${as_root:+ }$install" >&2
# shellcheck disable=SC2086
if ! DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 install -y \
    --no-install-recommends $missing >&2; then
    give_up "could not install: $missing; try: apt-get update && $install"
fi
