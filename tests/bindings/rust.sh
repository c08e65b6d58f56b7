# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The crates of examples/rust: their tests, their example, and whether the
# declarations are those of the installed headers. CARGO names another cargo.
CARGO=${CARGO:-cargo}
need "$CARGO" pkg-config

CARGO_TARGET_DIR=$PWD/target CARGO_HOME=$PWD/cargo CARGO_NET_OFFLINE=true
CARGO_INCREMENTAL=0 HOME=$PWD RUSTFLAGS='-D warnings' RUSTDOCFLAGS='-D warnings'
export CARGO_TARGET_DIR CARGO_HOME CARGO_NET_OFFLINE CARGO_INCREMENTAL HOME
export RUSTFLAGS RUSTDOCFLAGS
unset CADFT_LIB_DIR CADFT_INCLUDE_DIR CADFT_STATIC
crates="--offline --locked --manifest-path $SOURCE/examples/rust/Cargo.toml"

# does_without TOOL WHAT: left out where TOOL is missing, but not in CI.
does_without() {
    [ "${CADFT_BINDINGS:-}" != required ] || lacks "$1"
    echo "rust: without $1, $2" >&2
}

# wrong SENTENCE: the end.
wrong() {
    echo "rust: $1" >&2
    exit 1
}

bindings=$SOURCE/examples/rust/cadft-sys/src/bindings.rs

# Generated again. bindgen looks for libclang and its headers, and for rustfmt,
# when it runs.
echo '#include <stddef.h>' >probe.h
if [ "$(bindgen --version 2>/dev/null)" = 'bindgen 0.60.1' ] &&
    bindgen probe.h >/dev/null 2>&1 && rustfmt --version >/dev/null 2>&1; then
    sh "$SOURCE/examples/rust/cadft-sys/generate.sh" "$PREFIX/include" \
        >generated.rs
    diff -u "$bindings" generated.rs >&2 ||
        wrong 'bindings.rs is not what generate.sh makes of the headers'
    "$CARGO" fmt --manifest-path "$SOURCE/examples/rust/Cargo.toml" --all --check
else
    does_without 'bindgen 0.60.1 with libclang and rustfmt' \
        'bindings.rs was not compared'
fi

# Slices carry what cadft_tensor_init writes down.
sed -n 's/.*pub fn \(cadft_[a-z0-9_]*\).*/\1/p' "$bindings" | while read -r name; do
    [ "$name" = cadft_tensor_init ] ||
        grep -rqw "$name" "$SOURCE/examples/rust/cadft/src" ||
        wrong "the safe crate has no use for $name"
done

# shellcheck disable=SC2086 # a list of words
{
    "$CARGO" test $crates --workspace
    "$CARGO" run $crates --example train
    CADFT_STATIC=1 "$CARGO" run $crates --example train --target-dir static
    "$CARGO" doc $crates --workspace --no-deps
    if "$CARGO" clippy --version >/dev/null 2>&1; then
        "$CARGO" clippy $crates --workspace --all-targets -- -D warnings
    else
        does_without clippy 'nothing was linted'
    fi
}
