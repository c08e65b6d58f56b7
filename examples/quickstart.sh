#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sh examples/quickstart.sh [arguments of finetune]
#
# From a fresh clone to a training run: installs what is missing (Debian,
# Ubuntu), builds into build/, runs examples/finetune from the folder where you
# are; without arguments its demonstration, into ./finetune-demo. A second run
# installs and builds nothing.
set -eu
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
# The system's tools first: the shims of a Python manager may shadow meson.
PATH=/usr/bin:/bin:$PATH

missing=
command -v cc >/dev/null || missing="$missing gcc libc6-dev"
command -v meson >/dev/null || missing="$missing meson"
command -v ninja >/dev/null || missing="$missing ninja-build"
if command -v pkg-config >/dev/null; then
    pkg-config --exists jansson || missing="$missing libjansson-dev"
else
    missing="$missing pkgconf libjansson-dev"
fi

# install PACKAGES: 1 where there is no apt-get or no right to use it.
install() {
    admin=
    if [ "$(id -u)" -ne 0 ]; then admin=sudo; fi
    command -v apt-get >/dev/null || return 1
    [ -z "$admin" ] || command -v sudo >/dev/null || return 1
    echo "quickstart: installing $*" >&2
    $admin apt-get -qq update >&2
    $admin env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
        --no-install-recommends "$@" </dev/null >&2
}

# shellcheck disable=SC2086 # a list of names
if [ -n "$missing" ] && ! install $missing; then
    echo "quickstart: please install these packages first (their Debian" \
        "names), or run as root where there is apt-get:$missing" >&2
    exit 1
fi

# It draws the curves; without it there is everything else.
if ! command -v gnuplot >/dev/null && ! install gnuplot-nox; then
    echo "quickstart: going on without gnuplot, and so without a picture" >&2
fi

# A build folder that was moved or left half-way is wiped and made again.
if [ ! -f "$root/build/build.ninja" ]; then
    meson setup "$root/build" "$root" -Dexamples=enabled >&2
elif ! meson setup --reconfigure "$root/build" "$root" -Dexamples=enabled \
    >/dev/null 2>&1; then
    meson setup --wipe "$root/build" "$root" -Dexamples=enabled >&2
fi
trainer=examples/finetune/finetune
ninja --quiet -C "$root/build" "$trainer" >&2

exec "$root/build/$trainer" "$@"
