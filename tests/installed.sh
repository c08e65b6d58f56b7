# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What tests of an installation share: packaging/package.sh and
# bindings/run.sh, which set CADFT_TEST, the test's name, and source this.

lacks() {
    echo "$CADFT_TEST: $1 is missing" >&2
    [ "${CADFT_BINDINGS:-}" = required ] && exit 1
    exit 77
}

# need COMMAND...: programs on PATH
need() {
    for tool; do
        command -v "$tool" >/dev/null || lacks "$tool"
    done
}

# need_file FILE...
need_file() {
    for file; do
        [ -e "$file" ] || lacks "$file"
    done
}

# install_into ROOT BUILD_DIR: a distributor's way, DESTDIR and files that
# speak of the final place. Sets PREFIX, and LIBRARY, the folder of libcadft;
# pkg-config finds it.
install_into() {
    meson install -C "$2" --no-rebuild --destdir "$1" >"$1.log" ||
        { cat -- "$1.log" >&2; exit 1; }
    pc=$(find "$1" -name cadft.pc)
    PREFIX=$1$(sed -n 's/^prefix=//p' "$pc")
    LIBRARY=$(dirname -- "$(dirname -- "$pc")")
    export PREFIX LIBRARY
    export PKG_CONFIG_PATH="$LIBRARY/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$1"
}
