# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154
# A subproject: the tree as it is, found by the wrap file's [provide]. The
# fallback is forced, a cadft that is installed on the machine is not meant.
mkdir -p host/subprojects
sources host
ln -s "$source" host/subprojects/cadft
recipe ini 1 | sed 's/^\[wrap-git]/[wrap-file]/; /^url\|^revision/d' \
    >host/subprojects/cadft.wrap
# The recipe, and again for C++ with the static library.
{
    recipe meson 1 | sed "s/'c')/'c', 'cpp')/"
    recipe meson 1 | sed "/^project/d; s/'>=0.1'/&, static: true/
        s/'trainer',/'trainer_cxx',/; s/trainer\.c/trainer.cpp/"
} >host/meson.build

# subproject BUILD OPTION...: installed, when it is, to a place with a blank,
# with a .pc file that says where from its own place
subproject() {
    dir=$1
    shift
    quiet setup meson setup "$dir" host --force-fallback-for cadft \
        --buildtype debug --prefix "$work/pre fix" --libdir lib \
        -Dpkgconfig.relocatable=true -Dcadft:werror=true "$@" ||
        fail 'no subproject'
}

subproject both
quiet both ninja -C both || fail 'the subproject does not build'
runs yes both/trainer
runs no both/trainer_cxx
quiet both meson install -C both --no-rebuild
mv 'pre fix' 'moved here'
export PKG_CONFIG_PATH="$work/moved here/lib/pkgconfig"
export LD_LIBRARY_PATH="$work/moved here/lib"
eval "$CC $c_flags host/trainer.c -o moved \
    $(pkg-config --cflags --libs cadft)"
runs yes ./moved

# Where the archive is all there is, the .pc file names what it needs without
# being asked; nothing is built for this.
subproject static -Dcadft:default_library=static
pkg-config --libs static/meson-private/cadft.pc | grep -q -- '-ljansson' ||
    fail 'the .pc file of the archive alone lacks its libraries'
