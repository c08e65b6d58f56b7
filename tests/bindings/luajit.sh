# SPDX-License-Identifier: Apache-2.0
# examples/luajit: see run.sh.
lua=$SOURCE/examples/luajit
need luajit

# The first program of the README is run as it stands there.
awk '/^```/ { if (on) exit; on = 1; next } on' "$lua/README.md" >quickstart.lua
sh "$lua/generate.sh" "$PREFIX/include" >cadft_h.lua
cmp cadft_h.lua "$lua/cadft_h.lua" || {
    echo 'run examples/luajit/generate.sh: the headers have changed' >&2
    exit 1
}
LUA_PATH="$lua/?.lua;$lua/test/?.lua" # nothing of this machine
export LUA_PATH
luajit quickstart.lua >quickstart.txt
cat quickstart.txt
grep -qF "$(cat quickstart.txt)" "$lua/README.md"
luajit "$lua/train.lua"
luajit "$lua/test/tests.lua" "$GOLDEN_TEXT" "$PWD"
