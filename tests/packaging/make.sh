# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2153,SC2154
# Both Makefiles of the documentation, in C and in C++.
need make
install_into "$work/root" "$build"
to_cxx='s/trainer\.c$/trainer.cpp/'

# host DIR N EDIT [VARIABLE=VALUE...]
host() {
    dir=$1
    sources "$dir"
    recipe make "$2" | sed "$3" >"$dir/Makefile"
    [ -z "$3" ] || rm "$dir/trainer.c" # make's own rules prefer it
    shift 3
    quiet "$dir" make -C "$dir" CC="$CC" CXX="$CXX" CFLAGS="$c_flags" \
        CXXFLAGS="$cxx_flags" "$@" trainer || fail "$dir does not build"
}

host pkgconfig 1 ''
host pkgconfig_cxx 1 "$to_cxx"
export LD_LIBRARY_PATH="$LIBRARY"
runs yes pkgconfig/trainer
runs yes pkgconfig_cxx/trainer
unset LD_LIBRARY_PATH

# By its run path, from a place with a blank.
mv root 'a root'
prefix=$work/a\ root${PREFIX#"$work/root"}
library=$work/a\ root${LIBRARY#"$work/root"}
host plain 2 '' CADFT="$prefix" CADFT_LIB="$library"
host plain_cxx 2 "$to_cxx" CADFT="$prefix" CADFT_LIB="$library"
runs yes plain/trainer
runs yes plain_cxx/trainer
