// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Context;
import cadft.Rewriter;
import java.util.Arrays;

/** From observations to picks to new targets. */
final class Rewriting {
    private Rewriting() {}

    /** One with the picks 1 and 3 of step 1. */
    static Rewriter picked(Context context) {
        Rewriter rewriter = new Rewriter(context, 4).set("warmup_steps", 1).set("interval", 1)
                .set("fraction", 0.5).set("probability", 1);
        for (int i = 0; i < 2; i++) {
            rewriter.observe(new long[] {0, 1, 2, 3}, null, new double[] {-1, 2, 0.5, 1});
        }
        Check.that(!rewriter.due(0) && rewriter.due(1), "due");
        Check.equal("[]", Arrays.toString(rewriter.select(0)), "picks before the warm-up");
        Check.equal("[1, 3]", Arrays.toString(rewriter.select(1)), "picks");
        return rewriter;
    }

    static void run() {
        try (Context context = new Context(); Rewriter rewriter = picked(context)) {
            Check.equal("[1, 3]", Arrays.toString(rewriter.open()), "open");
            Check.that(rewriter.sample(3).open() && !rewriter.sample(0).open(), "open");
            answers(rewriter);
            refusals(rewriter);
            byte[] state = rewriter.saveState();
            rewriter.restore(1);
            Check.that(rewriter.target(1) == null, "restored");
            rewriter.loadState(state);
            Check.equal("[5, 6, 7]", Arrays.toString(rewriter.target(1)), "loaded");
            rewriter.cancel();
            Check.equal(0, rewriter.open().length, "cancelled");
        }
    }

    private static void answers(Rewriter rewriter) {
        int[] tokens = {5, 6, 7};
        Check.equal(Cadft.CADFT_REJECTED_NOT_ENDED,
                rewriter.commit(3, new Rewriter.Answer(tokens, false)), "rejected");
        Check.equal(Cadft.CADFT_REJECTED_NOT,
                rewriter.commit(1, new Rewriter.Answer(tokens, true)), "taken");
        Check.equal("[5, 6, 7]", Arrays.toString(rewriter.target(1)), "target");
        Check.that(rewriter.target(0) == null, "a target that nobody gave");
        Check.equal(1L, rewriter.getLong("rewritten"), "rewritten");
        Rewriter.Sample first = rewriter.sample(0), second = rewriter.sample(1);
        Check.equal(-1.0, first.average(), "average");
        Check.that(Double.isNaN(first.c()), "c was not observed");
        Check.equal(2L, first.observations(), "observations");
        Check.that(second.rewritten() && !first.rewritten(), "rewritten");
        Check.equal("[2, 3]", Arrays.toString(rewriter.select(2)), "picks again");
        double nan = Double.NaN;
        Check.equal(Cadft.CADFT_REJECTED_NOT,
                rewriter.commit(3, new Rewriter.Answer(null, 9, true, nan, nan)), "host's own");
        Check.that(rewriter.sample(3).rewritten() && rewriter.target(3) == null, "host's own");
    }

    private static void refusals(Rewriter rewriter) {
        Check.refused(Cadft.CADFT_E_PHASE, () -> rewriter.reject(3));
        Check.refused(Cadft.CADFT_E_SAMPLE, () -> rewriter.target(4));
        Check.refused(Cadft.CADFT_E_KEY, () -> rewriter.set("fractoin", 1));
        Check.refused(Cadft.CADFT_E_STATE, () -> rewriter.loadState(new byte[40]));
        Check.fails(IllegalArgumentException.class,
                () -> rewriter.observe(new long[2], new double[1], null));
        Check.fails(IllegalArgumentException.class,
                () -> new Rewriter.Answer(new int[1], 2, true, 0, 0));
    }
}
