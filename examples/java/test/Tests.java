// SPDX-License-Identifier: Apache-2.0
import java.nio.file.Path;

/** Tests GOLDEN_TEXT PREPROCESSED_HEADER HEADERS SCRATCH: runs all tests, one by one. */
public final class Tests {
    private Tests() {}

    public static void main(String[] args) throws Exception {
        test("abi", () -> Abi.run(Path.of(args[1]), Path.of(args[2])));
        test("golden", () -> Golden.run(Path.of(args[0])));
        test("buffers", Buffers::run);
        test("errors", Errors::run);
        test("callbacks", Callbacks::run);
        test("handles", Handles::run);
        test("training", () -> Training.run(Path.of(args[3])));
        test("rewriting", Rewriting::run);
        test("checkpoints", () -> Checkpoints.run(Path.of(args[3])));
    }

    private static void test(String name, Check.Body body) throws Exception {
        try {
            body.run();
            System.out.println("passed " + name);
        } catch (AssertionError | Exception e) {
            System.out.println("failed " + name);
            throw e;
        }
    }
}
