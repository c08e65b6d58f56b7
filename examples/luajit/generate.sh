#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sh generate.sh INCLUDE_DIR >cadft_h.lua
#
# The declarations of the headers as ffi.cdef takes them: without macros and
# without the C library's own, which LuaJIT knows. CC is the compiler.
set -eu
empty=$(mktemp -d)
trap 'rm -rf -- "$empty"' EXIT
: >"$empty/stddef.h"
: >"$empty/stdint.h"
echo '-- SPDX-License-Identifier: Apache-2.0'
echo '-- Written by generate.sh from the installed headers; do not edit.'
echo 'return [['
# CADFT_STATIC leaves attributes out. One declaration a line, whatever the
# compiler makes of blanks.
${CC:-cc} -E -P -nostdinc -DCADFT_STATIC -I"$empty" -I"$1" "$1/cadft/cadft.h" |
    tr -s ' \t\n' ' ' | sed -e 's/^ //' -e 's/; */;\n/g' -e 's/( /(/g' |
    fold -s -w 100 | sed 's/ *$//'
echo ']]'
