#!/bin/sh
# Installs what is missing of the tools and libraries that building needs (`build`), or that downloading libtorch needs
# (`fetch`), through apt: as root or with sudo after one line that says what and how much, otherwise prints the command
# and exits with 3. Says nothing when nothing is missing.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

missing=
want() { missing="$missing $1"; }

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
[ -n "$missing" ] || exit 0
missing=${missing# }

if ! has apt-get; then
    echo "error: missing: $missing (these are Debian's names); install them with this system's package manager" >&2
    exit 3
fi
install="apt-get install -y --no-install-recommends $missing"

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if has sudo && { sudo -n true 2>/dev/null || [ -t 2 ]; }; then
        as_root=sudo
    else
        echo "error: missing: $missing; as root run: apt-get update && $install" >&2
        exit 3
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
    echo "error: could not install: $missing; try: apt-get update && $install" >&2
    exit 3
fi
