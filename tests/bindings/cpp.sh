# SPDX-License-Identifier: Apache-2.0
# examples/cpp, by g++ and clang++ (if it is there), and with sanitizers.
# shellcheck shell=sh disable=SC2086 # lists of words
need g++ pkg-config
here=$SOURCE/examples/cpp
flags="-O1 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
$(pkg-config --cflags cadft)"
libs=$(pkg-config --libs cadft)

# program NAME COMPILER-AND-FLAGS... SOURCE
program() {
    name=$1
    shift
    "$@" $flags $libs -o "$name"
}

# The first block of the README is a program, and prints what the README says.
sed -n -e '1,/^```cpp$/d' -e '/^```$/q' -e p "$here/README.md" >first.cpp
program first g++ -std=c++17 first.cpp
first=$(./first)
grep -F -- "$first" "$here/README.md"

program train g++ -std=c++17 "$here/train.cpp"
./train run
./train run
program bench g++ -std=c++17 -O2 "$here/bench.cpp"
./bench

# tests COMPILER-AND-FLAGS...
tests() {
    program golden "$@" "$here/tests/golden.cpp"
    ./golden "$GOLDEN_TEXT"
    program calls "$@" "$here/tests/calls.cpp"
    ./calls
    program returning "$@" -fno-exceptions -fno-rtti \
        "$here/tests/returning.cpp"
    ./returning
}
tests g++ -std=c++17 -g -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined
tests g++ -std=c++20
if command -v clang++ >/dev/null; then
    tests clang++ -std=c++2b
fi
