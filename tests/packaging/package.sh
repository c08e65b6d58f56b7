#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# package.sh SOURCE_DIR BUILD_DIR WAY
#
# Installs what BUILD_DIR has built into a scratch folder, and builds and runs
# small hosts there by WAY.sh beside this file: by compilers, cmake, make or
# meson. The recipes of doc/embedding.md are taken as they stand there. CC and
# CXX are obeyed. Missing tools skip the test, or fail it where CADFT_BINDINGS
# is "required".
set -eu
# shellcheck disable=SC2034 # used by WAY.sh
source=$(cd -- "$1" && pwd) build=$(cd -- "$2" && pwd) way=$3
here=$source/tests/packaging
CADFT_TEST=$way
# shellcheck source=tests/installed.sh
. "$source/tests/installed.sh"
CC=${CC:-cc} CXX=${CXX:-c++}
export CC CXX
# shellcheck disable=SC2034
c_flags='-std=c11 -Wall -Wextra -Wpedantic -Werror'
# shellcheck disable=SC2034
cxx_flags='-std=c++17 -Wall -Wextra -Wpedantic -Werror'
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
work=$scratch
cd -- "$work"

fail() {
    echo "$way: $*" >&2
    exit 1
}

# quiet NAME COMMAND...: its output is shown when it fails
quiet() {
    log=$1.log
    shift
    "$@" >"$log" 2>&1 || { cat -- "$log" >&2; return 1; }
}

# recipe LANGUAGE N: the Nth block of that language in the section of build
# systems
recipe() {
    awk -v open="\`\`\`$1" -v n="$2" '
        /^## /          { section = $0 == "## From a build system" }
        /^```$/         { inside = 0 }
        section && inside { print; found = 1 }
        section && $0 == open { inside = ++seen == n }
        END             { exit !found }' "$source/doc/embedding.md" ||
        fail "doc/embedding.md lacks block $2 of $1"
}

# sources DIR: trainer.c and trainer.cpp, the example in cadft.h
sources() {
    mkdir -p -- "$1"
    cp -- "$here/consumer.c" "$1/trainer.c"
    cp -- "$here/consumer.cpp" "$1/trainer.cpp"
    # What stands five blanks inside its comment; the first example alone, the
    # second needs a model.
    sed -n -e '/^ \* With gradient/q' -e 's/^ \*     //p' \
        "$source/include/cadft/cadft.h" >"$1/example.h"
    grep -q cadft_loss_compute "$1/example.h"
}

# runs yes|no PROGRAM: is libcadft.so.0 loaded, and is the loss right?
runs() {
    case $(ldd "$2" 2>&1) in *libcadft.so.0*) loads=yes ;; *) loads=no ;; esac
    [ "$loads" = "$1" ] || fail "$2: loads libcadft.so.0: $loads, expected $1"
    printed=$("$2")
    echo "$2: $printed"
    # by tests/reference
    [ "${printed##*, }" = 'loss 0.164734' ] || fail "$2: another loss"
}

# shellcheck source=/dev/null
. "$here/$way.sh"
