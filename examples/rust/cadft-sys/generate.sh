#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# generate.sh INCLUDE_DIR [bindgen options]
# Prints src/bindings.rs: the declarations of the headers in INCLUDE_DIR, by
# bindgen 0.60.1 as Debian 12 has it. With rustfmt on PATH:
#     sh generate.sh /usr/local/include >src/bindings.rs
set -eu
include=$1
shift
exec bindgen "$@" --no-doc-comments --size_t-is-usize --with-derive-default \
    --allowlist-function 'cadft_.*' --allowlist-type 'cadft_.*' \
    --allowlist-var 'CADFT_.*' "$include/cadft/cadft.h" -- -I"$include"
