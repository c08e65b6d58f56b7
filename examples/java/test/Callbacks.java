// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.CadftException;
import cadft.Context;
import cadft.Loss;
import cadft.Model;
import cadft.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Callbacks, and what becomes of their exceptions. */
final class Callbacks {
    private Callbacks() {}

    private static final Loss.Batch BATCH = new Loss.Batch(
            Tensor.copyOf(new float[] {1, 2, 3, 4}, 2, 2), Tensor.copyOf(new int[] {0, 1}),
            Tensor.copyOf(new int[] {0, 0}));

    static void run() throws Exception {
        try (Context context = new Context()) {
            coefficient(context);
            tokens(context);
        }
    }

    private static void coefficient(Context context) throws Exception {
        try (Loss host = new Loss(context).set("objective", "host");
                Loss dft = new Loss(context)) {
            Tensor wanted = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 2, 2);
            Tensor got = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 2, 2);
            dft.compute(BATCH, 1, wanted);
            host.setCoefficient((nll, p, entropy, k) -> k.put(p));
            System.gc();
            host.compute(BATCH, 1, got);
            Check.equal(wanted.floats(), got.floats(), "k = p is DFT");

            RuntimeException mine = new RuntimeException("mine");
            host.setCoefficient((nll, p, entropy, k) -> {
                throw mine;
            });
            CadftException e = Check.refused(Cadft.CADFT_E_CALLBACK,
                    () -> host.compute(BATCH, 1, got));
            Check.that(e.getCause() == mine, "cause");
            e = Check.refused(Cadft.CADFT_E_PHASE, host::weigh);
            Check.that(e.getCause() == null, "an old cause");

            host.setCoefficient((nll, p, entropy, k) -> host.begin(1));
            e = Check.refused(Cadft.CADFT_E_CALLBACK, () -> host.compute(BATCH, 1, got));
            Check.equal(Cadft.CADFT_E_BUSY, ((CadftException) e.getCause()).status(), "status");
            Runnable closing = host::close;
            host.setCoefficient((nll, p, entropy, k) -> closing.run());
            e = Check.refused(Cadft.CADFT_E_CALLBACK, () -> host.compute(BATCH, 1, got));
            Check.that(e.getCause() instanceof IllegalStateException, "closed by its callback");

            host.setCoefficient(null);
            Check.fails(CadftException.class, () -> host.compute(BATCH, 1, got));
        }
    }

    private static void tokens(Context context) {
        try (Model model = Train.model(context)) {
            List<Integer> seen = new ArrayList<>();
            Model.Generation wanted = new Model.Generation();
            wanted.maxNewTokens = 5;
            wanted.temperature = 1;
            wanted.keys = new long[] {7, 8};
            Model.Batch prompts = new Model.Batch(Tensor.copyOf(new int[] {1, 2, 3, 4}, 2, 2));
            int[][] all = model.generate(prompts, wanted);
            Check.equal(5, all[0].length, "tokens");
            Check.that(Arrays.deepEquals(all, model.generate(prompts, wanted)), "repeated");
            wanted.listener = (prompt, position, token, logprob) -> {
                seen.add(token);
                Check.that(logprob <= 0, "logprob " + logprob);
                return prompt != 1;
            };
            int[][] ended = model.generate(prompts, wanted);
            Check.equal(6, seen.size(), "tokens seen");
            Check.that(Arrays.equals(all[0], ended[0]), "first prompt");
            Check.that(Arrays.equals(new int[] {all[1][0]}, ended[1]), "second prompt");
            wanted.listener = (prompt, position, token, logprob) -> {
                throw new IllegalStateException("enough");
            };
            CadftException e = Check.refused(Cadft.CADFT_E_CALLBACK,
                    () -> model.generate(prompts, wanted));
            Check.equal("enough", e.getCause().getMessage(), "cause");
            wanted.listener = null;
            wanted.stopTokens = new int[] {all[0][0]};
            Check.equal(1, model.generate(prompts, wanted)[0].length, "stopped");
            Check.fails(IllegalArgumentException.class, () -> {
                wanted.keys = new long[1];
                model.generate(prompts, wanted);
            });
        }
    }
}
