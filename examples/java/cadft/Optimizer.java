// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_optimizer_report;

/** AdamW or SGD, with schedule and clipping. */
public final class Optimizer extends Noun {
    /** What a step did: cadft_optimizer_report. */
    public record Report(boolean skipped, long step, double lr, double gradNorm, double clip,
            long skippedTotal) {}

    private static final Calls CALLS = new Calls(Cadft::cadft_optimizer_destroy,
            Cadft::cadft_optimizer_key, Cadft::cadft_optimizer_key_at,
            Cadft::cadft_optimizer_set_str, Cadft::cadft_optimizer_get_str,
            Cadft::cadft_optimizer_get_i64);

    public Optimizer(Context context) {
        super(context, Cadft::cadft_optimizer_create, CALLS);
    }

    /** Sets a knob: set("kind", "sgd"), set("lr", 2e-5). */
    public Optimizer set(String name, Object value) {
        setKnob(name, value);
        return this;
    }

    /**
     * Adds a parameter of the host's and its gradient, which the steps write and read in place.
     * Memory of a model is added with {@link #add(Model)}.
     */
    public void add(String name, Tensor value, Tensor grad) {
        value.checkOwn("value");
        grad.checkOwn("grad");
        value.checkWritable("value");
        call((self, error) -> Cadft.cadft_optimizer_add(self, name, value.view(), grad.view(),
                error));
        keep(value, grad);
    }

    /** Adds the trainable parameters of a model; returns how many. */
    public long add(Model model) {
        long[] added = new long[1];
        call((self, error) -> model.status((other, e) ->
                Cadft.cadft_optimizer_add_model(self, other, added, e), error));
        return added[0];
    }

    /** Scales rate and decay of the parameters of a shell pattern; returns how many match. */
    public long group(String pattern, double lrScale, double decayScale) {
        long[] matched = new long[1];
        call((self, error) -> Cadft.cadft_optimizer_group(self, pattern, lrScale, decayScale,
                matched, error));
        return matched[0];
    }

    /** Sum of the squares of all gradients. */
    public double norm() {
        double[] out = new double[1];
        call((self, error) -> Cadft.cadft_optimizer_norm(self, out, error));
        return out[0];
    }

    /** Changes the weights by their gradients. */
    public Report step() {
        return stepWith(null);
    }

    /** Likewise, with the sum of squares over all processes. */
    public Report step(double sumSquares) {
        return stepWith(new double[] {sumSquares});
    }

    private Report stepWith(double[] sumSquares) {
        cadft_optimizer_report r = new cadft_optimizer_report();
        call((self, error) -> Cadft.cadft_optimizer_step(self, sumSquares, r, error));
        return new Report(r.skipped != 0, r.step, r.lr, r.grad_norm, r.clip, r.skipped_total);
    }

    /** Learning rate of step `step`, the first being 0. */
    public double lr(long step) {
        double[] out = new double[1];
        call((self, error) -> Cadft.cadft_optimizer_lr(self, step, out, error));
        return out[0];
    }

    public void save(String folder) {
        call((self, error) -> Cadft.cadft_optimizer_save(self, folder, error));
    }

    public void load(String folder) {
        call((self, error) -> Cadft.cadft_optimizer_load(self, folder, error));
    }
}
