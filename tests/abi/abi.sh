# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154
# Sourced by check_abidiff.sh and update_baseline.sh, which set $include,
# $library and $here.

# Without debug info abidw and abidiff see symbols only and call every layout
# change harmless, whatever --fail-no-debug-info.
case $(readelf -SW "$library") in
*' .debug_info '*) ;;
*)
    echo "$library has no .debug_info: build with -g and do not strip" >&2
    exit 1
    ;;
esac

# Places in files are left out, and paths of the build: they are nobody's ABI.
represent() {
    abidw --headers-dir "$include/cadft" --suppressions "$here/opaque.abignore" \
        --drop-private-types --exported-interfaces-only --no-corpus-path \
        --no-comp-dir-path --no-show-locs "$library" |
        sed "s# path='[^']*/\([^/']*/[^/']*\)'# path='\1'#"
}
