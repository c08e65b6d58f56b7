#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh SOURCE_DIR BUILD_DIR GOLDEN_TEXT LANGUAGE
#
# Tests a binding against an installation of its own, of which it sees headers
# and libraries alone: runs LANGUAGE.sh beside this file in a scratch folder,
# BUILD_DIR/bindings/LANGUAGE, with
#
#   SOURCE       the source tree (the binding is in $SOURCE/examples)
#   PREFIX       the installation, include/ and so on; pkg-config finds it
#   LIBRARY      the folder of libcadft.so, on LD_LIBRARY_PATH too
#   GOLDEN_TEXT  golden cases of the loss as text (doc/bindings.md)
#   CC, CXX      compilers
#
# LANGUAGE.sh calls `need COMMAND...` for its tools. What is missing skips the
# test (status 77), or fails it where CADFT_BINDINGS is "required".
set -eu
SOURCE=$(cd -- "$1" && pwd) build=$(cd -- "$2" && pwd) golden=$3 language=$4
here=$SOURCE/tests/bindings root=$build/bindings/$language
PATH=/usr/bin:/bin:$PATH
CC=${CC:-cc} CXX=${CXX:-c++}
CADFT_TEST=$language
# shellcheck source=tests/installed.sh
. "$SOURCE/tests/installed.sh"

rm -rf -- "$root"
mkdir -p -- "$root/work"
install_into "$root/root" "$build"
"$golden" "$SOURCE"/tests/golden/*.json >"$root/golden.txt"
GOLDEN_TEXT=$root/golden.txt
LD_LIBRARY_PATH=$LIBRARY${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export SOURCE GOLDEN_TEXT CC CXX PATH LD_LIBRARY_PATH
cd -- "$root/work"
# shellcheck source=/dev/null
. "$here/$language.sh"
