// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.CadftException;
import cadft.Context;
import cadft.Loss;
import cadft.Tensor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;

/** Replays the golden cases (doc/bindings.md) and compares every bit. */
final class Golden {
    private static final HexFormat HEX = HexFormat.of();

    private final Context context;
    private final List<String> lines;
    private int at;
    private int cases, failures, computed;
    private String name;
    private Loss loss;
    private boolean fresh;

    private Golden(Context context, List<String> lines) {
        this.context = context;
        this.lines = lines;
    }

    static void run(Path file) throws Exception {
        try (Context context = new Context()) {
            Golden golden = new Golden(context, Files.readAllLines(file));
            while (golden.at < golden.lines.size()) {
                golden.replay();
            }
            Check.that(golden.cases >= 400, golden.cases + " cases, expected 400 and more");
            Check.that(golden.failures > 0, "no case fails");
            Check.that(golden.computed > 0, "no case in one call");
            System.out.println(golden.cases + " golden cases, " + golden.failures
                    + " failing steps, " + golden.computed + " steps in one call too");
        }
    }

    private boolean next(String word) {
        return at < lines.size() && lines.get(at).startsWith(word + " ");
    }

    /** The words behind the first one of the line, which must be `word`. */
    private String[] take(String word, int words) {
        Check.that(next(word), "line " + (at + 1) + ": expected " + word);
        return lines.get(at++).substring(word.length() + 1).split(" ", words);
    }

    private void replay() {
        name = take("case", 1)[0];
        List<String[]> options = new ArrayList<>();
        while (next("option")) {
            options.add(take("option", 2));
        }
        try (Loss phases = withOptions(options)) {
            loss = phases;
            fresh = true;
            while (next("step")) {
                step(options);
                fresh = false;
            }
        }
        cases++;
    }

    private Loss withOptions(List<String[]> options) {
        Loss made = new Loss(context);
        for (String[] option : options) {
            made.set(option[0], option[1]);
        }
        return made;
    }

    private Tensor tensor(String word) {
        String[] words = take(word, 3);
        int dtype = switch (words[0]) {
            case "f32" -> Cadft.CADFT_DTYPE_F32;
            case "f64" -> Cadft.CADFT_DTYPE_F64;
            case "bf16" -> Cadft.CADFT_DTYPE_BF16;
            case "f16" -> Cadft.CADFT_DTYPE_F16;
            case "i32" -> Cadft.CADFT_DTYPE_I32;
            case "i64" -> Cadft.CADFT_DTYPE_I64;
            default -> throw new AssertionError(words[0]);
        };
        int ndim = Integer.parseInt(words[1]);
        String[] rest = words[2].split(" ", -1);
        long[] shape = new long[ndim];
        for (int d = 0; d < ndim; d++) {
            shape[d] = Long.parseLong(rest[d]);
        }
        Tensor made = Tensor.allocate(dtype, shape);
        made.bytes().put(HEX.parseHex(rest[ndim]));
        return made;
    }

    private List<Loss.Batch> batches() {
        List<Loss.Batch> batches = new ArrayList<>();
        while (next("micro")) {
            long valid = Long.parseLong(take("micro", 1)[0]);
            Tensor logits = tensor("logits"), labels = tensor("labels"), ids = tensor("sample_ids");
            Tensor k = next("k") ? tensor("k") : null;
            batches.add(new Loss.Batch(logits, labels, ids, k, valid, 0, 0));
        }
        return batches;
    }

    private void step(List<String[]> options) {
        long samples = Long.parseLong(take("step", 1)[0]);
        List<Loss.Batch> batches = batches();
        int results = at;
        int status = Cadft.CADFT_OK;
        String message = "";
        try {
            inPhases(batches, samples);
        } catch (CadftException e) {
            status = e.status();
            message = e.getMessage();
            failures++;
            loss.cancel();
        }
        String[] wanted = take("status", 2);
        Check.equal(wanted[0], Integer.toString(status), name + ": status of " + message);
        Check.equal(wanted[1], message, name);
        if (status == Cadft.CADFT_OK && fresh && batches.size() == 1
                && loss.get("scope").equals("exact")) {
            int end = at;
            at = results;
            inOneCall(options, batches.get(0), samples);
            at = end;
        }
    }

    private void inPhases(List<Loss.Batch> batches, long samples) {
        boolean each = !loss.get("scope").equals("exact");
        List<Long> micro = new ArrayList<>();
        loss.begin(samples);
        for (Loss.Batch batch : batches) {
            micro.add(loss.observe(batch));
            if (each) {
                loss.weigh();
                gradient(micro.get(micro.size() - 1), batch);
            }
        }
        if (!each) {
            loss.weigh();
            for (int i = 0; i < batches.size(); i++) {
                gradient(micro.get(i), batches.get(i));
            }
        }
        same("c", loss.samples(Loss.Samples.C));
        same("w", loss.samples(Loss.Samples.W));
        Loss.Report report = loss.end();
        same("loss", report.loss());
        same("mean_w", report.meanW());
    }

    private void gradient(long micro, Loss.Batch batch) {
        Tensor grad = Tensor.allocate(Cadft.CADFT_DTYPE_F32, batch.logits().shape());
        loss.grad(micro, batch, grad);
        same("grad", grad);
        same("l", loss.rows(micro, Loss.Rows.NLL));
        same("k", loss.rows(micro, Loss.Rows.K));
        same("scale", loss.rows(micro, Loss.Rows.SCALE));
    }

    /** The same step with cadft_loss_compute. */
    private void inOneCall(List<String[]> options, Loss.Batch batch, long samples) {
        try (Loss whole = withOptions(options)) {
            Tensor grad = Tensor.allocate(Cadft.CADFT_DTYPE_F32, batch.logits().shape());
            Loss.Report report = whole.compute(batch, samples, grad);
            same("grad", grad);
            at += 3;
            same("c", whole.samples(Loss.Samples.C));
            same("w", whole.samples(Loss.Samples.W));
            same("loss", report.loss());
            same("mean_w", report.meanW());
        }
        computed++;
    }

    private void same(String word, Tensor got) {
        byte[] bytes = new byte[got.bytes().remaining()];
        got.bytes().get(bytes);
        same(word, bytes);
    }

    private void same(String word, double... got) {
        ByteBuffer bytes = ByteBuffer.allocate(got.length * Double.BYTES)
                .order(ByteOrder.LITTLE_ENDIAN);
        bytes.asDoubleBuffer().put(got);
        same(word, bytes.array());
    }

    private void same(String word, byte[] got) {
        String wanted = take(word, 1)[0];
        Check.that(wanted.equals(HEX.formatHex(got)), name + ": " + word + " differs");
    }
}
