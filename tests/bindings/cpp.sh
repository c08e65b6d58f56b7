# SPDX-License-Identifier: Apache-2.0
# examples/cpp, by g++ with sanitizers, and by clang++ if it is there.
# shellcheck shell=sh disable=SC2086 # lists of words
need g++ pkg-config nm
here=$SOURCE/examples/cpp
flags="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
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

# The second is the inside of a function without exceptions.
{
    echo '#include <cadft/cadft.hpp>'
    echo '#include <cstdio>'
    echo 'int second(const cadft::context &, const cadft::loss_batch &,'
    echo '           std::int64_t, const cadft::tensor &);'
    echo 'int second(const cadft::context &ctx, const cadft::loss_batch &batch,'
    echo '           std::int64_t n_samples, const cadft::tensor &grad) {'
    awk '/^```/ { n += /^```cpp$/; on = /^```cpp$/; next } on && n == 2' \
        "$here/README.md"
    echo 'return 0; }'
} >second.cpp
g++ -std=c++17 -fno-exceptions $flags -c second.cpp

# Every function of C is called by some header.
for name in $(nm -D --defined-only "$LIBRARY/libcadft.so" |
    sed -n 's/.* T \(cadft_[a-z0-9_]*\).*/\1/p'); do
    [ "$name" = cadft_tensor_init ] ||
        grep -qw "$name" "$PREFIX"/include/cadft/cpp/*.hpp || {
        echo "$name is not in cadft.hpp" >&2
        exit 1
    }
done

# Files with exceptions and without go into one program.
program train g++ -std=c++17 "$here/train.cpp" second.o
./train run
./train run
program bench g++ -std=c++17 -O2 "$here/bench.cpp"
./bench

# tests COMPILER-AND-FLAGS...
tests() {
    program golden "$@" "$here/tests/golden.cpp"
    ./golden "$GOLDEN_TEXT"
    for name in calls nouns; do
        program "$name" "$@" "$here/tests/$name.cpp"
        "./$name"
    done
    program returning "$@" -fno-exceptions -fno-rtti \
        "$here/tests/returning.cpp"
    ./returning
}
tests g++ -std=c++17 -O1 -g -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined
if command -v clang++ >/dev/null; then
    tests clang++ -std=c++2b -O1
else
    tests g++ -std=c++2b -O1
fi
