// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Cadft.cadft_checkpoint;
import cadft.Cadft.cadft_error;
import cadft.Cadft.cadft_rewrite_info;
import cadft.Cadft.cadft_rewrite_result;
import cadft.CadftException;
import cadft.Context;
import cadft.Model;
import cadft.Tensor;
import com.sun.jna.Memory;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.nio.file.Path;
import java.util.Arrays;

/** Rewriting and checkpoints by the functions of the headers. */
final class Raw {
    private interface Call {
        int call(cadft_error error);
    }

    private Raw() {}

    private static void must(Call call) {
        cadft_error error = new cadft_error();
        CadftException.check(call.call(error), error);
    }

    static void run(Path scratch) {
        try (Context context = new Context()) {
            PointerByReference out = new PointerByReference();
            must(e -> Cadft.cadft_rewrite_create(context.pointer(), 4, out, e));
            Pointer rewrite = out.getValue();
            try {
                rewriting(rewrite);
                checkpoint(context, rewrite, scratch.resolve("run").toString());
            } finally {
                Cadft.cadft_rewrite_destroy(rewrite);
            }
        }
    }

    private static void knob(Pointer rewrite, String name, String value) {
        int[] key = new int[1];
        must(e -> Cadft.cadft_rewrite_key(name, key, e));
        must(e -> Cadft.cadft_rewrite_set_str(rewrite, key[0], value, e));
    }

    private static void rewriting(Pointer rewrite) {
        knob(rewrite, "warmup_steps", "1");
        knob(rewrite, "interval", "1");
        knob(rewrite, "fraction", "0.5");
        knob(rewrite, "probability", "1");
        for (int i = 0; i < 2; i++) {
            must(e -> Cadft.cadft_rewrite_observe(rewrite, new long[] {0, 1, 2, 3}, null,
                    new double[] {-1, 2, 0.5, 1}, 4, e));
        }
        long[] picks = new long[4], n = new long[1];
        must(e -> Cadft.cadft_rewrite_select(rewrite, 1, picks, picks.length, n, e));
        Check.equal(2L, n[0], "picks");
        Check.that(picks[0] == 1 && picks[1] == 3, Arrays.toString(picks));

        Memory answer = new Memory(3 * Integer.BYTES);
        answer.write(0, new int[] {5, 6, 7}, 0, 3);
        cadft_rewrite_result result = new cadft_rewrite_result();
        result.ended = 1;
        result.tokens = answer;
        result.n_tokens = 3;
        int[] rejected = new int[1];
        must(e -> Cadft.cadft_rewrite_commit(rewrite, 1, result, rejected, e));
        Check.equal(Cadft.CADFT_REJECTED_NOT, rejected[0], "rejected");
        must(e -> Cadft.cadft_rewrite_reject(rewrite, 3, e));
        Check.refused(Cadft.CADFT_E_PHASE,
                () -> must(e -> Cadft.cadft_rewrite_reject(rewrite, 3, e)));
        target(rewrite);
        cadft_rewrite_info info = new cadft_rewrite_info();
        must(e -> Cadft.cadft_rewrite_sample(rewrite, 0, info, e));
        Check.equal(-1.0, info.average, "average");
        Check.equal(2L, info.observations, "observations");
    }

    private static void target(Pointer rewrite) {
        PointerByReference tokens = new PointerByReference();
        long[] n = new long[1];
        must(e -> Cadft.cadft_rewrite_target(rewrite, 1, tokens, n, e));
        Check.equal("[5, 6, 7]",
                Arrays.toString(tokens.getValue().getIntArray(0, (int) n[0])), "target");
    }

    private static void checkpoint(Context context, Pointer rewrite, String folder) {
        try (Model model = Train.model(context); Model loaded = new Model(context)) {
            Memory host = new Memory(3);
            host.write(0, new byte[] {1, 2, 3}, 0, 3);
            cadft_checkpoint point = new cadft_checkpoint();
            point.folder = folder;
            point.step = 42;
            point.model = model.pointer();
            point.rewrite = rewrite;
            point.host = host;
            point.host_bytes = 3;
            must(e -> Cadft.cadft_checkpoint_save(context.pointer(), point, e));

            long[] step = new long[1], bytes = new long[1];
            must(e -> Cadft.cadft_checkpoint_find(context.pointer(), folder, -1, step, e));
            Check.equal(42L, step[0], "step");
            must(e -> Cadft.cadft_rewrite_restore(rewrite, 1, e));
            point.model = loaded.pointer();
            byte[] back = new byte[8];
            must(e -> Cadft.cadft_checkpoint_load(context.pointer(), point, back, back.length,
                    bytes, e));
            Check.equal(3L, bytes[0], "host bytes");
            Check.that(back[0] == 1 && back[2] == 3, "host");
            target(rewrite);
            Tensor one = model.parameter(0).value(), other = loaded.parameter(0).value();
            Check.equal(one.floats(), other.floats(), "weights");
        }
    }
}
