#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# package.sh SOURCE_DIR BUILD_DIR
# Install what BUILD_DIR has built into a scratch folder, and build and run a
# small host in every way that the documentation names. CC and CXX are obeyed.
set -eu
source=$(cd -- "$1" && pwd) build=$(cd -- "$2" && pwd)
here=$source/tests/packaging
cc=${CC:-cc} cxx=${CXX:-c++}
c_flags='-std=c11 -Wall -Wextra -Wpedantic -Werror'
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd -- "$work"

# A distributor's way: DESTDIR, and a .pc file that speaks of the final place.
meson install -C "$build" --no-rebuild --destdir "$work/root" >install.log
pc=$(find root -name cadft.pc)
prefix=$work/root$(sed -n 's/^prefix=//p' "$pc")
library=$(dirname -- "$(dirname -- "$work/$pc")")
export PKG_CONFIG_PATH="$library/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$work/root"

installed=$(cd "$prefix/include/cadft" && echo *.h *.hpp */*)
committed=$(cd "$source/include/cadft" && echo *.h *.hpp */*)
[ "$installed" = "$committed" ] || {
    echo "headers installed: $installed; in the tree: $committed" >&2
    exit 1
}
[ -L "$library/libcadft.so" ] && [ -L "$library/libcadft.so.0" ]

# cadft.h's example: what stands five blanks inside its comment.
# the first of its examples: the second needs a model
sed -n -e '/^ \* With gradient/q' -e 's/^ \*     //p' \
    "$prefix/include/cadft/cadft.h" >example.h
grep -q cadft_loss_compute example.h
cp "$here/consumer.c" "$here/consumer.cpp" .

# $1: yes or no, is libcadft.so.0 loaded?  $2: the program
runs() {
    case $(ldd "$2" 2>&1) in *libcadft.so.0*) loads=yes ;; *) loads=no ;; esac
    [ "$loads" = "$1" ] || {
        echo "$2: loads libcadft.so.0: $loads, expected $1" >&2
        exit 1
    }
    printf '%-20s ' "$2:"
    "./$2"
}

# The flags of pkg-config and the compilers' are lists of words on purpose.
# shellcheck disable=SC2046,SC2086
{
    $cc $c_flags consumer.c -o plain \
        "-I$prefix/include" "-L$library" -lcadft -lm
    $cc $c_flags consumer.c -o shared $(pkg-config --cflags --libs cadft) -lm
    $cxx -std=c++17 -Wall -Wextra -Wpedantic -Werror consumer.cpp -o cxx17 \
        $(pkg-config --cflags --libs cadft)
    # One library static, the rest of the process as usual.
    $cc $c_flags -DCADFT_STATIC consumer.c -o static_cadft \
        $(pkg-config --cflags --static --libs cadft |
            sed 's/-lcadft/-Wl,-Bstatic -lcadft -Wl,-Bdynamic/') -lm
    # No shared library at all; glibc warns that plug-ins need them.
    $cc $c_flags consumer.c -o static_all -static \
        $(pkg-config --cflags --static --libs cadft) -lm 2>static.log ||
        { cat static.log >&2; exit 1; }
    # A backend, as the README of examples/backend says.
    cp -R "$source/examples/backend" toy
    (cd toy && eval "$(sed -n 's/^    cc -std=c11/$cc $c_flags/p' README.md)")
    # A module that embeds the archive and keeps its names to itself.
    $cc $c_flags -fPIC -shared -Dmain=host_main consumer.c -o module.so \
        -Wl,--exclude-libs,ALL "-I$prefix/include" "$library/libcadft.a" \
        -ljansson -lm
}
export LD_LIBRARY_PATH="$library"
runs yes plain
runs yes shared
runs yes cxx17
runs no static_cadft
runs no static_all
unset LD_LIBRARY_PATH
names=$(nm -D --defined-only toy/libtoy.so | sed 's/.* //')
[ "$names" = cadft_backend_query_v0 ] || {
    echo "libtoy.so exports: $names" >&2
    exit 1
}
"$build/tests/check_backend" toy/libtoy.so --quick --only add
if nm -D --defined-only module.so | grep cadft_; then
    echo 'module.so exports names of the archive that it embeds' >&2
    exit 1
fi

# Subproject: the tree as it is. The fallback is forced, a cadft that is
# installed on the machine is not meant.
unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
mkdir -p host/subprojects
ln -s "$source" host/subprojects/cadft
cp consumer.c example.h host/
cp "$here/subproject.meson.build" host/meson.build
for kind in shared static; do
    { meson setup "host/$kind" host --default-library "$kind" \
        --force-fallback-for cadft -Dcadft:werror=true &&
        ninja -C "host/$kind" consumer; } >subproject.log 2>&1 ||
        { cat subproject.log >&2; exit 1; }
    printf '%-20s ' "subproject, $kind:"
    "host/$kind/consumer"
done
