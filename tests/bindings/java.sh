# SPDX-License-Identifier: Apache-2.0
# examples/java: see run.sh.
jna=/usr/share/java/jna.jar java=$SOURCE/examples/java
need javac java
need_file "$jna"

# The first program of the README is compiled and run as it stands there.
awk '/^```/ { if (on) exit; on = 1; next } on' "$java/README.md" >Quickstart.java
$CC -E -P -I"$PREFIX/include" "$PREFIX/include/cadft/cadft.h" >cadft.i
javac --release 17 -Xlint:all,-options -Werror -d classes -cp "$jna" \
    "$java"/cadft/*.java "$java"/test/*.java "$java/Train.java" Quickstart.java

run_java() {
    LC_ALL=C java -ea -Xmx256m -Djna.library.path="$LIBRARY" -cp "classes:$jna" "$@"
}
run_java Quickstart >quickstart.txt
cat quickstart.txt
grep -qF "$(cat quickstart.txt)" "$java/README.md"
run_java Train
run_java Tests "$GOLDEN_TEXT" cadft.i "$PREFIX/include/cadft" "$PWD"
