# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154
# find_package and ExternalProject, as the documentation has them.
need cmake
install_into "$work/root" "$build"
# Moved, with a blank in the name: DESTDIR and prefix mean nothing here.
mv root 'a root'
PREFIX=$work/a\ root${PREFIX#"$work/root"}
LIBRARY=$work/a\ root${LIBRARY#"$work/root"}
to_cxx='s/trainer C)/trainer CXX)/; s/trainer\.c)/trainer.cpp)/'
to_static='s/cadft::cadft/&_static/'

# configure DIR N EDIT VARIABLE=VALUE...: the Nth recipe, changed by sed's EDIT
configure() {
    dir=$1
    sources "$dir"
    recipe cmake "$2" | sed "$3" >"$dir/CMakeLists.txt"
    shift 3
    cmake -G Ninja -S "$dir" -B "$dir/build" "$@" >"$dir.log" 2>&1
}

# host yes|no DIR N EDIT: it builds, and runs with or without libcadft.so.0
host() {
    { configure "$2" "$3" "$4" -DCMAKE_PREFIX_PATH="$PREFIX" \
        -DCMAKE_C_FLAGS="$c_flags" -DCMAKE_CXX_FLAGS="$cxx_flags" &&
        cmake --build "$2/build" >>"$2.log" 2>&1; } ||
        { cat -- "$2.log" >&2; fail "$2 does not build"; }
    runs "$1" "$2/build/trainer"
}

# refused DIR EDIT SENTENCE: cmake stops and says the sentence. It looks for no
# compiler, which takes long, and so not in a folder of this processor's.
refused() {
    ! configure "$1" 1 "s/trainer C)/trainer NONE)/; /^add_exec/,\$d; $2" \
        -Dcadft_DIR="$LIBRARY/cmake/cadft" ||
        fail "$1 is not refused"
    tr -s ' \n' '  ' <"$1.log" | grep -qF -- "$3" ||
        { cat -- "$1.log" >&2; fail "$1: no sentence: $3"; }
}

host yes shared 1 ''
host yes shared_cxx 1 "$to_cxx"
host no static 1 "$to_static"
host no static_cxx 1 "$to_static; $to_cxx"
# Twice, with components, from a folder below: targets are made once.
host yes components 1 's/^find_package.*/&\
find_package(cadft REQUIRED CONFIG COMPONENTS static shared OPTIONAL_COMPONENTS gpu)\
if(NOT cadft_static_FOUND OR cadft_gpu_FOUND)\
  message(FATAL_ERROR "components")\
endif()/'
# No shared library at all.
host no static_all 1 "$to_static
    s/^find_package/set(CMAKE_FIND_LIBRARY_SUFFIXES .a)\\
set(CMAKE_EXE_LINKER_FLAGS -static)\\
&/"

refused newer_minor 's/0\.1/0.2/' 'version: 0.1.0'
refused major 's/0\.1/1/' 'version: 0.1.0'
refused component 's/CONFIG/& COMPONENTS device/' \
    'there is no component device, only shared and static'
refused jansson 's/^find_package/set(CMAKE_FIND_LIBRARY_SUFFIXES .none)\
&/; s/CONFIG/& COMPONENTS static/' 'libcadft.a needs jansson, which was not found'

# One of the libraries is not installed.
mv "$LIBRARY/libcadft.a" .
host yes shared_only 1 ''
refused no_static 's/CONFIG/& COMPONENTS static/' 'libcadft.a does not exist'
mkdir so
mv "$LIBRARY"/libcadft.so* so/
refused none '' 'libcadft.so does not exist'
mv libcadft.a "$LIBRARY"
host no static_only 1 ''
refused no_shared 's/CONFIG/& COMPONENTS shared/' 'libcadft.so does not exist'

cmake -DCONFIG="$LIBRARY/cmake/cadft/cadft-config-version.cmake" \
    -P "$here/versions.cmake"

mkdir external
ln -s "$source" external/libcadft
host no external 2 's/buildtype release/buildtype debug/' # sooner compiled
