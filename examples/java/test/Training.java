// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Context;
import cadft.Loss;
import cadft.Model;
import cadft.Optimizer;
import cadft.SampleIds;
import cadft.Tensor;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Arrays;

/** Two steps make the loss fall, with the library's model and with the host's own. */
final class Training {
    private Training() {}

    static void run(Path scratch) {
        try (Context context = new Context()) {
            own(context);
            library(context, scratch);
            views(context);
            accumulation(context);
        }
    }

    private static void library(Context context, Path scratch) {
        String folder = scratch.resolve("model").toString();
        String state = scratch.resolve("optimizer").toString();
        try (Model model = Train.model(context); Model copy = new Model(context);
                Loss loss = new Loss(context).set("label_offset", 1);
                Optimizer optimizer = new Optimizer(context).set("lr", 1e-3);
                Optimizer other = new Optimizer(context)) {
            long added = optimizer.add(model);
            Check.equal(model.getLong("parameters"), added, "parameters");
            Check.that(optimizer.group("*norm*", 0.5, 0) > 0, "group");
            double[] losses = Train.train(model, loss, optimizer, 3);
            Check.that(losses[1] < losses[0] && losses[2] < losses[1], "the loss does not fall");
            Check.equal(3L, optimizer.getLong("steps"), "steps");
            Check.equal(1e-3, optimizer.lr(0), "rate");
            Check.that(optimizer.norm() > 0, "norm");
            model.save(folder);
            optimizer.save(state);
            copy.load(folder);
            other.add(copy);
            other.load(state);
            Check.equal(3L, other.getLong("steps"), "steps loaded");
            long index = model.find("model.norm.weight");
            Check.equal(model.parameter(index).value().floats(),
                    copy.parameter(index).value().floats(), "weights loaded");
        }
    }

    /** A table of logits for each token is the model, written in Java. */
    private static void own(Context context) {
        try (Loss loss = new Loss(context);
                Optimizer sgd = new Optimizer(context).set("kind", "sgd").set("lr", 1)
                        .set("clip_norm", 0)) {
            FloatBuffer table = Buffers.floats(new float[3 * 3]);
            Tensor weights = Tensor.of(table, 3, 3);
            Tensor grad = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 3, 3);
            sgd.add("table", weights, grad);
            int[] tokens = {0, 1, 2, 0}, labels = {1, 2, 0, 1};
            Tensor y = Tensor.copyOf(labels), ids = Tensor.copyOf(new int[] {0, 0, 1, 1});
            Tensor logits = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 4, 3);
            double before = Double.POSITIVE_INFINITY;
            for (int step = 0; step < 3; step++) {
                for (int r = 0; r < 4; r++) {
                    logits.floats().put(3 * r, table, 3 * tokens[r], 3);
                }
                double nll = loss.compute(new Loss.Batch(logits, y, ids), 2, logits).nll();
                Check.that(nll < before, "nll " + nll + " after " + before);
                before = nll;
                FloatBuffer g = grad.floats(), dz = logits.floats();
                for (int i = 0; i < 9; i++) {
                    g.put(i, 0);
                }
                for (int i = 0; i < 12; i++) {
                    int at = 3 * tokens[i / 3] + i % 3;
                    g.put(at, g.get(at) + dz.get(i));
                }
                Optimizer.Report report = sgd.step();
                Check.equal(step + 1L, report.step(), "step");
            }
        }
    }

    /** A view that the model has voided says so. */
    private static void views(Context context) {
        Tensor kept, weights;
        try (Model model = Train.model(context)) {
            Model.Batch batch = new Model.Batch(Tensor.copyOf(new int[] {1, 2, 3}));
            Tensor logits = model.forward(batch);
            kept = model.forward(batch);
            Check.fails(IllegalStateException.class, logits::floats);
            Tensor copy = Tensor.allocate(Cadft.CADFT_DTYPE_F32, kept.shape());
            context.read(kept, copy);
            Check.equal(copy.floats(), kept.floats(), "read");
            copy.floats().put(0, 42);
            context.write(kept, copy);
            Check.equal(42.0f, kept.floats().get(0), "written");
            weights = model.parameter(0).value();
            Check.that(model.parameter(0).grad() == null, "a gradient before zeroGrad");
            model.zeroGrad();
            Tensor grad = model.parameter(0).grad();
            Check.equal(0.0f, grad.floats().get(0), "gradient");
            model.backward(kept);
            Check.that(grad.floats().get(0) != 0, "no gradient");
            Check.that(model.freeze("*", false) > 0, "frozen");
            Check.fails(IllegalStateException.class, grad::floats);
            Check.that(!model.parameter(0).trainable(), "trainable");
            Check.that(model.plan(100, 100, 1, false) > 0, "plan");
            model.reserve(100, 100, 1, true);
            try (Optimizer optimizer = new Optimizer(context)) {
                Check.fails(IllegalArgumentException.class,
                        () -> optimizer.add("w", weights, weights));
            }
        }
        Check.fails(IllegalStateException.class, kept::floats);
        Check.fails(IllegalStateException.class, weights::bytes);
    }

    private static final Model.Batch[] MICRO = {
        new Model.Batch(Tensor.copyOf(new int[] {1, 2, 3, 4, 5})),
        new Model.Batch(Tensor.copyOf(new int[] {1, 9, 4, 20, 6, 30})),
    };
    private static final Model.Batch WHOLE = new Model.Batch(
            Tensor.copyOf(new int[] {1, 2, 3, 4, 5, 1, 9, 4, 20, 6, 30}),
            Tensor.copyOf(new int[] {0, 5, 11}));

    private static Loss.Batch rows(Tensor logits, Model.Batch batch, int firstId) {
        Tensor starts = batch.cuSeqlens() != null ? batch.cuSeqlens()
                : Tensor.copyOf(new long[] {0, batch.tokens().shape()[0]});
        return new Loss.Batch(logits, batch.tokens(),
                SampleIds.packed(starts, batch.tokens().shape()[0], firstId));
    }

    /** Two micro-batches give loss and gradient of the batch that they are together. */
    private static void accumulation(Context context) {
        try (Model model = Train.model(context); Loss loss = new Loss(context)) {
            loss.set("label_offset", 1);
            model.zeroGrad();
            Tensor logits = model.forward(WHOLE);
            double wanted = loss.compute(rows(logits, WHOLE, 0), 2, logits).loss();
            model.backward(logits);
            float[] whole = gradient(model);

            exact(model, loss, wanted);
            close(whole, gradient(model));
            running(model, loss);
        }
    }

    private static void exact(Model model, Loss loss, double wanted) {
        model.zeroGrad();
        loss.begin(2);
        for (int i = 0; i < MICRO.length; i++) {
            Tensor logits = model.forward(MICRO[i].withoutGrad());
            Check.equal((long) i, loss.observe(rows(logits, MICRO[i], i)), "micro-batch");
            Check.refused(Cadft.CADFT_E_PHASE, () -> model.backward(logits));
        }
        Check.refused(Cadft.CADFT_E_PHASE, loss::report);
        loss.weigh();
        Loss.Report before = loss.report();
        Check.that(Math.abs(before.loss() - wanted) < 1e-12, "loss " + before.loss());
        for (int i = 0; i < MICRO.length; i++) {
            Tensor logits = model.forward(MICRO[i]);
            loss.grad(i, rows(logits, MICRO[i], i), logits);
            model.backward(logits);
        }
        double sum = 0;
        for (int i = 0; i < MICRO.length; i++) {
            sum += Arrays.stream(loss.rows(i, Loss.Rows.LOSS)).sum();
        }
        Check.that(Math.abs(sum - wanted) < 1e-12, "loss of the rows " + sum);
        Loss.Report after = loss.end();
        Check.equal(after.loss(), before.loss(), "loss before the end");
        Check.equal(after, loss.report(), "report after the end");
    }

    /** Each micro-batch goes through the model once. */
    private static void running(Model model, Loss loss) {
        loss.set("scope", "running").set("denominator", 9);
        model.zeroGrad();
        loss.begin(2);
        double last = 0;
        for (int i = 0; i < MICRO.length; i++) {
            Tensor logits = model.forward(MICRO[i]);
            Loss.Batch batch = rows(logits, MICRO[i], i);
            long micro = loss.observe(batch);
            loss.weigh();
            Check.that(loss.report().loss() > last, "loss so far");
            last = loss.report().loss();
            loss.grad(micro, batch, logits);
            model.backward(logits);
        }
        Check.equal(last, loss.end().loss(), "loss");
    }

    private static float[] gradient(Model model) {
        FloatBuffer from = model.parameter(model.find("model.embed_tokens.weight")).grad().floats();
        float[] out = new float[from.remaining()];
        from.get(out);
        return out;
    }

    private static void close(float[] wanted, float[] got) {
        for (int i = 0; i < wanted.length; i++) {
            Check.that(Math.abs(wanted[i] - got[i]) < 1e-6, "gradient " + i);
        }
        Check.that(wanted[32] != 0, "no gradient");
    }
}
