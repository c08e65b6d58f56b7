// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_coefficient;
import cadft.Cadft.cadft_loss_batch;
import cadft.Cadft.cadft_loss_report;
import com.sun.jna.Pointer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;

/**
 * Logits and labels in, compatibility-weighted gradients out: {@link #compute} for one batch, or
 * in phases {@link #begin}, {@link #observe}, {@link #weigh}, {@link #grad}, {@link #end} for
 * several.
 */
public final class Loss extends Noun {
    /** One micro-batch; what is not needed is null or 0. cadft_loss_batch says what they are. */
    public record Batch(Tensor logits, Tensor labels, Tensor sampleIds, Tensor k, long vocabValid,
            long vocabStart, long vocabTotal) {
        public Batch(Tensor logits, Tensor labels, Tensor sampleIds) {
            this(logits, labels, sampleIds, null, 0, 0, 0);
        }

        private cadft_loss_batch raw() {
            cadft_loss_batch raw = new cadft_loss_batch();
            raw.logits = Tensor.pointer(logits);
            raw.labels = Tensor.pointer(labels);
            raw.sample_ids = Tensor.pointer(sampleIds);
            raw.k = Tensor.pointer(k);
            raw.vocab_valid = vocabValid;
            raw.vocab_start = vocabStart;
            raw.vocab_total = vocabTotal;
            return raw;
        }
    }

    /** What a step did: cadft_loss_report. */
    public record Report(double loss, double nll, double meanP, double meanW, double minW,
            double shareBelow, double mu, double sigma, double gradScale, long samples, long rows,
            long skipped, long infinite) {
        private Report(cadft_loss_report r) {
            this(r.loss, r.nll, r.mean_p, r.mean_w, r.min_w, r.share_below, r.mu, r.sigma,
                    r.grad_scale, r.n_samples, r.n_rows, r.n_skipped, r.n_infinite);
        }
    }

    /** The host's own k of each row, for objective "host". It must not call this loss. */
    @FunctionalInterface
    public interface Coefficient {
        /** Buffers of [rows], valid during the call; k is to be written. */
        void write(DoubleBuffer nll, DoubleBuffer p, DoubleBuffer entropy, DoubleBuffer k);
    }

    private static final Calls CALLS = new Calls(Cadft::cadft_loss_destroy,
            Cadft::cadft_loss_key, Cadft::cadft_loss_key_at, Cadft::cadft_loss_set_str,
            Cadft::cadft_loss_get_str, Cadft::cadft_loss_get_i64);

    public Loss(Context context) {
        super(context, Cadft::cadft_loss_create, CALLS);
    }

    /** Sets a knob: set("objective", "dft"), set("beta", 2). */
    public Loss set(String name, Object value) {
        setKnob(name, value);
        return this;
    }

    /**
     * Registers, or with null removes, the host's coefficient. What it throws is the cause of
     * the exception of the call that needed it. It must not refer to this loss, or that is never
     * collected.
     */
    public synchronized void setCoefficient(Coefficient coefficient) {
        if (coefficient == null) {
            call((self, error) -> Cadft.cadft_loss_set_coefficient(self, null, error));
            state.callback = null;
            return;
        }
        State state = this.state; // the callback must not refer to the handle
        cadft_coefficient raw = new cadft_coefficient();
        raw.fn = (user, rows, l, p, entropy, k) -> {
            try {
                coefficient.write(doubles(l, rows), doubles(p, rows), doubles(entropy, rows),
                        doubles(k, rows));
                return 0;
            } catch (Throwable e) {
                state.thrown = e;
                return -1;
            }
        };
        call((self, error) -> Cadft.cadft_loss_set_coefficient(self, raw, error), raw);
        state.callback = raw;
    }

    private static DoubleBuffer doubles(Pointer data, long rows) {
        return data.getByteBuffer(0, rows * Double.BYTES).order(ByteOrder.nativeOrder())
                .asDoubleBuffer();
    }

    /** The batch is the whole step. The gradient may go over the logits; null: report only. */
    public Report compute(Batch batch, long samples, Tensor grad) {
        return compute(batch, samples, grad, null);
    }

    /** Likewise; with `rowScale`, float32 [rows], the scale of each row stays apart. */
    public Report compute(Batch batch, long samples, Tensor grad, Tensor rowScale) {
        cadft_loss_report report = new cadft_loss_report();
        checkWritable(grad);
        checkScale(batch, rowScale);
        call((self, error) -> Cadft.cadft_loss_compute(self, batch.raw(), samples,
                Tensor.viewOf(grad), rowScale == null ? null : rowScale.data(), report, error),
                batch, grad, rowScale);
        return new Report(report);
    }

    private static void checkScale(Batch batch, Tensor rowScale) {
        if (rowScale == null) {
            return;
        }
        long[] shape = batch.logits.shape();
        long rows = 1;
        for (int d = 0; d < shape.length - 1; d++) {
            rows *= shape[d];
        }
        rowScale.checkWritable("rowScale");
        if (rowScale.dtype() != Cadft.CADFT_DTYPE_F32
                || rowScale.byteCount() < rows * Float.BYTES) {
            throw new IllegalArgumentException("rowScale: expected float32 [" + rows + "]");
        }
    }

    private static void checkWritable(Tensor grad) {
        if (grad != null) {
            grad.checkWritable("grad");
        }
    }

    /** Starts a step of so many samples, over all its micro-batches; ids are below that. */
    public void begin(long samples) {
        call((self, error) -> Cadft.cadft_loss_begin(self, samples, error));
    }

    /** Reads a micro-batch; returns its number. */
    public long observe(Batch batch) {
        return observe(batch, null);
    }

    /** Likewise, and writes softmax - target, which {@link Rows#SCALE} makes the gradient. */
    public long observe(Batch batch, Tensor unitGrad) {
        long[] micro = new long[1];
        checkWritable(unitGrad);
        call((self, error) -> Cadft.cadft_loss_observe(self, batch.raw(),
                Tensor.viewOf(unitGrad), micro, error), batch, unitGrad);
        return micro[0];
    }

    /** Makes weights of what was observed: once, but with scope running or local each time. */
    public void weigh() {
        call((self, error) -> Cadft.cadft_loss_weigh(self, error));
    }

    /** Writes the gradient of micro-batch `micro`, or of a new one if that is -1. */
    public void grad(long micro, Batch batch, Tensor grad) {
        checkWritable(grad);
        call((self, error) -> Cadft.cadft_loss_grad(self, micro, batch.raw(),
                Tensor.viewOf(grad), error), batch, grad);
    }

    public Report end() {
        cadft_loss_report report = new cadft_loss_report();
        call((self, error) -> Cadft.cadft_loss_end(self, report, error));
        return new Report(report);
    }

    /** What {@link #end} would report now, once all is weighed, or what it reported. */
    public Report report() {
        cadft_loss_report report = new cadft_loss_report();
        call((self, error) -> Cadft.cadft_loss_get_report(self, report, error));
        return new Report(report);
    }

    /** Leaves the step, if any, as if it had not begun. */
    public void cancel() {
        call((self, error) -> {
            Cadft.cadft_loss_cancel(self);
            return Cadft.CADFT_OK;
        });
    }

    /** What processes exchange. */
    public enum Exchange { ROW_MAX, ROW_SUM, SAMPLES, MOMENTS, WEIGHTS, REPORT }

    /** This process's part, to be reduced over the processes. */
    public double[] exportPart(Exchange kind, long shard, long shards) {
        return array(double[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_loss_export(self, kind.ordinal() + 1, shard, shards, out, capacity,
                        needed, error));
    }

    public void importPart(Exchange kind, double[] reduced) {
        call((self, error) -> Cadft.cadft_loss_import(self, kind.ordinal() + 1, reduced,
                reduced.length, error));
    }

    /** Arrays of a number for each row. */
    public enum Rows { NLL, P, ENTROPY, K, SCALE, LOSS }

    /** Arrays of a number for each sample. */
    public enum Samples { C, CHAT, W, ROWS }

    public double[] rows(long micro, Rows what) {
        return array(double[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_loss_get_rows(self, micro, what.ordinal() + 1, out, capacity, needed,
                        error));
    }

    public double[] samples(Samples what) {
        return array(double[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_loss_get_samples(self, what.ordinal() + 1, out, capacity, needed,
                        error));
    }

    /** The running statistics. */
    public byte[] saveState() {
        return array(byte[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_loss_state_save(self, out, capacity, needed, error));
    }

    public void loadState(byte[] state) {
        call((self, error) -> Cadft.cadft_loss_state_load(self, state, state.length, error));
    }
}
