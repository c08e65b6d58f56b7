#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# update_baseline.sh SHARED
# Write the library's interface over the committed baseline; on purpose only,
# with gcc on x86-64, and with the difference explained in the commit.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd)
# shellcheck disable=SC2034 # abi.sh uses them
include=$here/../../include library=$1 baseline=$here/cadft-0.1.abi
# shellcheck source=tests/abi/abi.sh
. "$here/abi.sh"
represent >"$baseline.new"
[ ! -f "$baseline" ] || abidiff --no-show-locs "$baseline" "$baseline.new" || :
mv -- "$baseline.new" "$baseline"
