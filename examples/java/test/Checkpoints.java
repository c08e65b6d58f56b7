// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Checkpoint;
import cadft.Context;
import cadft.Loss;
import cadft.Model;
import cadft.Optimizer;
import cadft.Rewriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** A run that goes on from a checkpoint takes the steps of one that was not stopped. */
final class Checkpoints {
    private Checkpoints() {}

    static void run(Path scratch) throws Exception {
        String folder = scratch.resolve("run").toString();
        try (Context context = new Context()) {
            Check.equal(-1L, Checkpoint.find(context, folder, -1), "step of none");
            double[] wanted = saved(context, folder);
            Check.that(Arrays.equals(wanted, resumed(context, folder)), "other losses");
            damaged(context, folder);
        }
    }

    /** Two steps, a checkpoint, the losses of two more. */
    private static double[] saved(Context context, String folder) {
        try (Model model = Train.model(context); Loss loss = loss(context);
                Optimizer optimizer = new Optimizer(context);
                Rewriter rewriter = Rewriting.picked(context)) {
            optimizer.add(model);
            rewriter.commit(1, new Rewriter.Answer(new int[] {5, 6, 7}, true));
            Checkpoint point = new Checkpoint(folder, 1);
            point.model = model;
            point.save(context);
            Train.train(model, loss, optimizer, 2);
            point.step = 2;
            point.optimizer = optimizer;
            point.loss = loss;
            point.rewriter = rewriter;
            point.host = new byte[] {1, 2, 3};
            point.save(context);
            return Train.train(model, loss, optimizer, 2);
        }
    }

    /** The weights of a step depend on the steps before. */
    private static Loss loss(Context context) {
        return new Loss(context).set("label_offset", 1).set("scope", "running")
                .set("reduction", "sum");
    }

    private static double[] resumed(Context context, String folder) {
        try (Model model = new Model(context); Loss loss = loss(context);
                Optimizer optimizer = new Optimizer(context);
                Rewriter rewriter = new Rewriter(context, 4)) {
            Checkpoint first = new Checkpoint(folder, Checkpoint.find(context, folder, -1));
            first.model = model;
            first.load(context);
            optimizer.add(model);
            Checkpoint rest = new Checkpoint(folder, first.step);
            rest.optimizer = optimizer;
            rest.loss = loss;
            rest.rewriter = rewriter;
            Check.equal("[1, 2, 3]", Arrays.toString(rest.load(context)), "the host's bytes");
            Check.equal("[5, 6, 7]", Arrays.toString(rewriter.target(1)), "target");
            Check.equal("[3]", Arrays.toString(rewriter.open()), "open");
            Check.refused(Cadft.CADFT_E_PHASE, () -> first.load(context));
            double[] losses = Train.train(model, loss, optimizer, 2);
            try (Model again = new Model(context)) {
                again.load(Checkpoint.path(folder, first.step));
                first.model = again;
            }
            Check.fails(IllegalStateException.class, () -> first.save(context));
            return losses;
        }
    }

    private static void damaged(Context context, String folder) throws Exception {
        Files.writeString(Path.of(Checkpoint.path(folder, 2), "checkpoint.json"), "{");
        Checkpoint newest = new Checkpoint(folder, Checkpoint.find(context, folder, -1));
        Check.refused(Cadft.CADFT_E_FORMAT, () -> newest.load(context));
        Check.equal(1L, Checkpoint.find(context, folder, newest.step), "the one before");
        Check.equal(0, new Checkpoint(folder, 1).load(context).length, "bytes of no host");
        Check.refused(Cadft.CADFT_E_ARG, () -> Checkpoint.path(folder, -1));
    }
}
