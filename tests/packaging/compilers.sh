# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154
# The compiler alone, with pkg-config and without.
install_into "$work/root" "$build"
sources .

installed=$(cd "$PREFIX/include/cadft" && echo *.h *.hpp */*)
committed=$(cd "$source/include/cadft" && echo *.h *.hpp */*)
[ "$installed" = "$committed" ] ||
    fail "headers installed: $installed; in the tree: $committed"
[ -L "$LIBRARY/libcadft.so" ] && [ -L "$LIBRARY/libcadft.so.0" ]
cmp "$source/COPYING" "$PREFIX/share/doc/cadft/COPYING"

# A shared library's users need none of its own dependencies.
case $(pkg-config --libs cadft) in
*jansson*) fail 'pkg-config --libs names what only the archive needs' ;;
esac
pkg-config --exists 'cadft >= 0.1' || fail 'pkg-config knows no version'

cc() {
    # shellcheck disable=SC2086 # a list of words
    command $CC $c_flags "$@"
}

# The flags of pkg-config and the compilers' are lists of words on purpose.
# shellcheck disable=SC2046,SC2086
{
    cc trainer.c -o plain "-I$PREFIX/include" "-L$LIBRARY" -lcadft
    eval "$(recipe sh 1)"
    mv trainer shared
    eval "$(recipe sh 2)"
    mv trainer static_cadft
    $CXX $cxx_flags trainer.cpp -o cxx17 $(pkg-config --cflags --libs cadft)
    # No shared library at all; glibc warns that plug-ins need them.
    quiet static cc trainer.c -o static_all -static -DCADFT_STATIC \
        $(pkg-config --cflags --static --libs cadft)
    # A backend, as the README of examples/backend says.
    cp -R "$source/examples/backend" toy
    (cd toy && eval "$(sed -n 's/^    cc -std=c11/cc/p' README.md)")
    # A module that embeds the archive and keeps its names to itself.
    cc -fPIC -shared -Dmain=host_main trainer.c -o module.so \
        -Wl,--exclude-libs,libcadft.a "-I$PREFIX/include" \
        "$LIBRARY/libcadft.a" -ljansson -lm
}
export LD_LIBRARY_PATH="$LIBRARY"
runs yes ./plain
runs yes ./shared
runs yes ./cxx17
runs no ./static_cadft
runs no ./static_all
unset LD_LIBRARY_PATH
names=$(nm -D --defined-only toy/libtoy.so | sed 's/.* //')
[ "$names" = cadft_backend_query_v0 ] || fail "libtoy.so exports: $names"
"$build/tests/check_backend" toy/libtoy.so --quick --only add
if nm -D --defined-only module.so | grep cadft_; then
    fail 'module.so exports names of the archive that it embeds'
fi

# Somewhere else, with a blank: pkg-config quotes, eval takes the quotes.
mv root 'another place'
moved=$work/another\ place${PREFIX#"$work/root"}
unset PKG_CONFIG_SYSROOT_DIR
PKG_CONFIG_PATH=$work/another\ place${PKG_CONFIG_PATH#"$work/root"}
eval "cc trainer.c -o moved $(pkg-config --cflags --libs cadft \
    --define-variable=prefix="$(printf %s "$moved" | sed 's/ /\\ /g')")"
export LD_LIBRARY_PATH="$work/another place${LIBRARY#"$work/root"}"
runs yes ./moved
