#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_abidiff.sh INCLUDE_DIR SHARED BASELINE
# The library's interface equals the committed one. Additions count as a
# difference, too: abidiff reports an appended field and a reordered one alike,
# so a person looks at it and runs update_baseline.sh.
set -eu
# shellcheck disable=SC2034 # abi.sh uses them
include=$1 library=$2 baseline=$3
here=$(dirname -- "$0")
# shellcheck source=tests/abi/abi.sh
. "$here/abi.sh"
now=$(mktemp)
trap 'rm -f -- "$now"' EXIT
represent >"$now"
abidiff --no-show-locs "$baseline" "$now"
echo "same interface as $(basename -- "$baseline")"
