// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Cadft.cadft_error;
import cadft.CadftException;
import cadft.Context;
import cadft.Loss;
import cadft.Model;
import cadft.Noun;
import cadft.Optimizer;
import cadft.Rewriter;
import cadft.Tensor;

/** Errors of the library are exceptions with its status and sentence; knobs. */
final class Errors {
    private Errors() {}

    static void run() {
        try (Context context = new Context(); Loss loss = new Loss(context)) {
            label(context, loss);
            knobs(context, loss);
        }
        CadftException e = Check.refused(Cadft.CADFT_E_BACKEND,
                () -> Context.builder().backend("abacus").create());
        Check.that(e.getMessage().contains("abacus"), e.getMessage());
        Check.refused(Cadft.CADFT_E_ARG, () -> Context.builder().threads(-1).create());
    }

    private static void label(Context context, Loss loss) {
        Loss.Batch batch = new Loss.Batch(Tensor.copyOf(new float[] {1, 2, 3, 4}, 2, 2),
                Tensor.copyOf(new int[] {0, 7}), Tensor.copyOf(new int[] {0, 0}));
        CadftException e = Check.refused(Cadft.CADFT_E_LABEL, () -> loss.compute(batch, 1, null));
        Check.equal("CADFT_E_LABEL", e.statusName(), "name");
        Check.that(e.getMessage().contains("7"), e.getMessage());
        Check.equal(e.getMessage(), context.get(Cadft.CADFT_CONTEXT_LAST_ERROR), "last error");
        Check.refused(Cadft.CADFT_E_PHASE, loss::weigh);
        Check.refused(Cadft.CADFT_E_NULL, () -> loss.compute(
                new Loss.Batch(null, batch.labels(), batch.sampleIds()), 1, null));
        Check.refused(Cadft.CADFT_E_STATE, () -> loss.loadState(new byte[40]));
        loss.loadState(loss.saveState());
    }

    private static void knobs(Context context, Loss loss) {
        loss.set("objective", "power").set("power_q", 0.25).set("renormalise", true);
        Check.equal("power", loss.get("objective"), "objective");
        Check.equal(0.25, loss.getDouble("power_q"), "power_q");
        Check.equal(1L, loss.getLong("renormalise"), "renormalise");
        Check.refused(Cadft.CADFT_E_KEY, () -> loss.set("power", 1));
        Check.refused(Cadft.CADFT_E_ARG, () -> loss.set("power_q", Double.NaN));
        Check.refused(Cadft.CADFT_E_ARG, () -> loss.set("objective", "\u00e4"));
        raw(loss);
        try (Model model = new Model(context); Optimizer optimizer = new Optimizer(context);
                Rewriter rewriter = new Rewriter(context, 1)) {
            Check.refused(Cadft.CADFT_E_PHASE, () -> model.getLong("vocab"));
            Check.refused(Cadft.CADFT_E_IO, () -> model.load("not/there"));
            Check.refused(Cadft.CADFT_E_FORMAT, () -> model.init("{", 1));
            optimizer.set("lr", 1e-5).set("nesterov", false);
            Check.equal(1e-5, optimizer.getDouble("lr"), "lr");
            Check.refused(Cadft.CADFT_E_PHASE, optimizer::step);
            listed(loss, "beta");
            listed(model, "checkpointing");
            listed(optimizer, "lr");
            listed(rewriter, "interval");
        }
        Check.equal("cpu", context.get(Cadft.CADFT_CONTEXT_BACKEND), "backend");
        Check.that(context.getLong(Cadft.CADFT_CONTEXT_WORKERS) >= 1, "workers");
        Check.that(Context.version() > 0, "version");
    }

    /** What has no method, by the functions of the headers. */
    private static void raw(Loss loss) {
        cadft_error error = new cadft_error();
        int[] key = new int[1];
        double[] value = new double[1];
        CadftException.check(Cadft.cadft_loss_key("power_q", key, error), error);
        CadftException.check(Cadft.cadft_loss_get_f64(loss.pointer(), key[0], value, error),
                error);
        Check.equal(0.25, value[0], "power_q");
        Check.refused(Cadft.CADFT_E_KEY, () -> CadftException.check(
                Cadft.cadft_loss_bounds(0, null, null, null, null, error), error));
    }

    private static void listed(Noun noun, String knob) {
        Check.that(noun.knobs().contains(knob), noun.knobs().toString());
        for (String name : noun.knobs()) {
            Check.that(!noun.get(name).isEmpty(), name);
        }
    }
}
