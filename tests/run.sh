#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sh tests/run.sh [--werror] [--clang] [--sanitize] [--arm64] [--bindings]
#
# Installs what the tests need (Debian, Ubuntu), builds into build-tests/ and
# runs everything; ends with the line "N passed, N failed": Check's tests, and
# one for each other check (a script, a build). tests/checks/tally.py counts.
#   --werror    warnings are errors
#   --clang     once more with clang, always with -Werror
#   --sanitize  once more with address and undefined, and with thread
#   --arm64     cross build; kernel comparer and a small host under qemu
#   --bindings  installs the other languages too: without it a binding whose
#               tools are missing is skipped
# Logs stay in build-results/.
set -u
root=$(cd -- "$(dirname -- "$0")/.." && pwd) && cd -- "$root" || exit 1
# The system's tools first: the shims of a Python manager may shadow meson.
PATH=/usr/bin:/bin:$PATH
export PYTHONDONTWRITEBYTECODE=1
results=build-results
stages=

die() {
    echo "tests/run.sh: $*" >&2
    echo '0 passed, 1 failed'
    exit 1
}

werror=false clang=no sanitize=no arm64=no bindings=no
for option; do
    case $option in
    --werror) werror=true ;;
    --clang) clang=yes ;;
    --sanitize) sanitize=yes ;;
    --arm64) arm64=yes ;;
    --bindings) bindings=yes ;;
    *) die "unknown option $option" ;;
    esac
done

# ------------------------------------------------------------------ packages

missing=
# want PACKAGES PROBE...: PACKAGES are missing when the probe fails.
want() {
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
want 'gcc libc6-dev' command -v gcc
want g++ command -v g++
want meson command -v meson
want ninja-build command -v ninja
want pkgconf command -v pkg-config
want binutils command -v readelf
want abigail-tools command -v abidiff
want check pkg-config --exists check
want libjansson-dev pkg-config --exists jansson
want libopenblas-dev pkg-config --exists openblas
want libdlpack-dev test -f /usr/include/dlpack/dlpack.h
want gnuplot-nox command -v gnuplot
want python3-numpy python3 -c 'import numpy'
want python3-venv python3 -c 'import ensurepip'
[ $clang = no ] || want clang command -v clang
if [ $arm64 = yes ]; then
    want 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross' \
        command -v aarch64-linux-gnu-gcc
    want qemu-user command -v qemu-aarch64
fi
if [ $bindings = yes ]; then
    CADFT_BINDINGS=required
    export CADFT_BINDINGS
    want cmake test -x /usr/bin/cmake
    want make command -v make
    want 'rustc cargo' test -x /usr/bin/cargo
    want rust-clippy test -x /usr/bin/cargo-clippy
    want rustfmt test -x /usr/bin/cargo-fmt
    want 'bindgen libclang1-14 libclang-common-14-dev' test -x /usr/bin/bindgen
    want golang-go test -x /usr/bin/go
    want openjdk-17-jdk-headless command -v javac
    want libjna-java test -f /usr/share/java/jna.jar
    want luajit command -v luajit
    want 'python3-cffi python3-dev' /usr/bin/python3 -c 'import cffi'
    want 'python3-setuptools python3-wheel python3-pip' \
        /usr/bin/python3 -c 'import setuptools, wheel, pip'
    want python3-torch /usr/bin/python3 -c 'import torch'
fi

if [ -n "$missing" ]; then
    admin=
    [ "$(id -u)" -eq 0 ] || admin=sudo
    if ! command -v apt-get >/dev/null ||
        { [ -n "$admin" ] && ! command -v sudo >/dev/null; }; then
        die "please install these packages (their Debian names):$missing"
    fi
    echo "== installing$missing"
    # shellcheck disable=SC2086 # a list of names
    if ! { $admin apt-get -qq update </dev/null &&
        $admin env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
            --no-install-recommends $missing </dev/null; }; then
        die "apt-get could not install$missing"
    fi
fi

# -------------------------------------------------------------------- stages

# A check of our own, in the form of meson's log: check STAGE NAME COMMAND...
check() {
    log=$results/$1.log json=$results/$1.json name=$2
    shift 2
    if "$@" >"$log" 2>&1; then
        echo "{\"name\": \"$name\", \"result\": \"OK\"}" >>"$json"
    else
        echo "{\"name\": \"$name\", \"result\": \"FAIL\"}" >>"$json"
        echo "-- $name failed:"
        tail -n 60 "$log"
        return 1
    fi
}

# build DIR OPTIONS...: a folder that was moved or left half-way is wiped.
build() {
    dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        meson setup --reconfigure "$dir" . "$@" ||
            meson setup --wipe "$dir" . "$@"
    else
        meson setup "$dir" . "$@"
    fi && ninja -C "$dir"
}

# stage NAME: a build with $build_options, then its tests with $test_options
stage() {
    stages="$stages $results/$1.json"
    echo "== $1"
    # shellcheck disable=SC2086 # lists of words
    # libdir: a Debian without dpkg-dev gets lib64 of meson, where its CMake
    # does not look.
    check "$1" "$1 build" build "build-$1" -Dtests=enabled -Dexamples=enabled \
        -Dlibdir=lib $build_options || return
    rm -f "build-$1/meson-logs/testlog.json"
    # shellcheck disable=SC2086
    $wrap meson test -C "build-$1" --no-rebuild --print-errorlogs $test_options
    cat "build-$1/meson-logs/testlog.json" >>"$results/$1.json" ||
        echo '{"name": "no test log", "result": "ERROR"}' >>"$results/$1.json"
}

# What does not depend on the compiler runs once, in the first stage.
programs='--suite check --suite kernels --suite examples'
once='--no-suite style --no-suite reference --no-suite packaging
--no-suite bindings'
wrap=

sanitizers() {
    # OpenBLAS is not instrumented: its threads would look like races.
    build_options="-Dwerror=$werror -Dblas=none -Db_lundef=false"
    test_options="$programs --timeout-multiplier 10"
    export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1
    plain_options=$build_options
    build_options="$plain_options -Db_sanitize=address,undefined"
    stage address
    build_options="$plain_options -Db_sanitize=thread"
    # The example's own loops take minutes here, and are not the library; what
    # runs in one thread was checked above.
    test_options="$test_options --no-suite examples --no-suite single"
    # gcc 12's runtime gives up on kernels that randomise addresses more.
    ! setarch -R true 2>/dev/null || wrap='setarch -R'
    stage thread
    wrap=
}

# The other processor's jansson, unpacked and not installed: apt with lists of
# its own, so that the machine's stay as they are.
fetch_arm64_jansson() {
    mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial" &&
        (
            cd -- "$1" || exit
            set -- -qq -o "Dir::State=$PWD/state" -o "Dir::Cache=$PWD/cache" \
                -o Dir::State::status=/dev/null \
                -o APT::Architecture=arm64 -o APT::Architectures::=arm64 \
                -o APT::Sandbox::User=
            apt-get "$@" update </dev/null &&
                apt-get "$@" download libjansson-dev </dev/null &&
                dpkg-deb -x libjansson-dev_*.deb .
        )
}

cross() {
    stages="$stages $results/arm64.json"
    echo '== arm64'
    sysroot=$PWD/$results/arm64-packages
    arm_libs=$sysroot/usr/lib/aarch64-linux-gnu
    check arm64 'arm64 jansson' fetch_arm64_jansson "$sysroot" || return
    arm_cc='aarch64-linux-gnu-gcc -std=c11 -O2 -Wall -Wextra -Iinclude -Ilib'
    arm_run='qemu-aarch64 -L /usr/aarch64-linux-gnu'
    libs="build-arm64/lib/libcadft.a $arm_libs/libjansson.a -lm -ldl -lpthread"
    cat >"$results/arm64.ini" <<END
    [binaries]
    c = 'aarch64-linux-gnu-gcc'
    ar = 'aarch64-linux-gnu-ar'
    strip = 'aarch64-linux-gnu-strip'
    pkgconfig = 'pkg-config'
    [properties]
    sys_root = '$sysroot'
    pkg_config_libdir = '$arm_libs/pkgconfig'
    [host_machine]
    system = 'linux'
    cpu_family = 'aarch64'
    cpu = 'armv8'
    endian = 'little'
END
    check arm64 'arm64 build' build build-arm64 -Dtests=disabled \
        --cross-file "$results/arm64.ini" -Dexamples=disabled \
        -Dwerror=$werror || return
    # as tests/packaging/package.sh does
    sed -n -e '/^ \* With gradient/q' -e 's/^ \*     //p' \
        include/cadft/cadft.h >"$results/example.h"
    # shellcheck disable=SC2086 # lists of words
    {
        check arm64 'arm64 comparer build' $arm_cc -Itests -DCADFTK_HAVE_C \
            -DCADFTK_HAVE_NEON tests/check_kernels*.c $libs \
            -o build-arm64/check_kernels &&
            check arm64 'arm64 kernels' $arm_run build-arm64/check_kernels \
                --quick --golden tests/kernels_digest.txt
        check arm64 'arm64 attention build' $arm_cc -Itests \
            -DCADFTK_HAVE_C -DCADFTK_HAVE_NEON tests/check_attention*.c \
            $libs -o build-arm64/check_attention &&
            check arm64 'arm64 attention' $arm_run \
                build-arm64/check_attention --isa neon --digest-only \
                --golden tests/attention_digest.txt
        check arm64 'arm64 matmul build' $arm_cc -Itests -DCADFTK_HAVE_C \
            -DCADFTK_HAVE_NEON tests/check_matmul*.c $libs \
            -o build-arm64/check_matmul &&
            check arm64 'arm64 matmul' $arm_run build-arm64/check_matmul \
                --isa neon --quick --golden tests/matmul_digest.txt
        check arm64 'arm64 host build' $arm_cc -I"$results" \
            tests/packaging/consumer.c $libs -o build-arm64/consumer &&
            check arm64 'arm64 host' $arm_run build-arm64/consumer
    }
}

# The tokenizer of the examples is a Python package, which Debian does not have.
tokenizer_python() {
    python3 -m venv build-python &&
        build-python/bin/python3 -m pip install --quiet tokenizers jinja2
}

rm -rf "$results"
mkdir "$results" || die "cannot write $root/$results"

if [ -z "${CADFT_PYTHON:-}" ]; then
    CADFT_PYTHON=$root/build-python/bin/python3
    export CADFT_PYTHON
    if ! "$CADFT_PYTHON" -c 'import tokenizers, jinja2' 2>/dev/null; then
        echo '== installing the Python packages tokenizers and jinja2'
        if ! tokenizer_python >"$results/python.log" 2>&1; then
            tail -n 3 "$results/python.log"
            echo '-- without them the test "tokenizer" is skipped'
            unset CADFT_PYTHON
        fi
    fi
fi

build_options=-Dwerror=$werror test_options=
stage tests
if [ $clang = yes ]; then
    CC=clang CXX=clang++
    export CC CXX
    build_options=-Dwerror=true test_options=$once
    stage clang
    unset CC CXX
fi
[ $sanitize = no ] || sanitizers
[ $arm64 = no ] || cross

echo '== results'
# shellcheck disable=SC2086 # paths without blanks
python3 tests/checks/tally.py $stages
