// SPDX-License-Identifier: Apache-2.0
import cadft.Context;
import cadft.Loss;
import cadft.Model;
import cadft.Optimizer;
import cadft.SampleIds;
import cadft.Tensor;
import java.util.Arrays;

/**
 * Fine-tunes a small random transformer on three sequences with the library's own model, loss
 * and optimizer, and lets it continue the first one.
 */
public final class Train {
    private static final String CONFIG = """
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32,
             "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
             "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
             "tie_word_embeddings": true}""";

    /** The sequences follow each other; each row predicts the next token of its sequence. */
    private static final int[] TOKENS = {1, 2, 3, 4, 5, 6, 1, 3, 5, 7, 9, 1, 9, 4, 20, 6, 30};
    private static final int[] STARTS = {0, 6, 11, 17};

    private Train() {}

    /** The loss of each step. */
    static double[] train(Model model, Loss loss, Optimizer optimizer, int steps) {
        Tensor tokens = Tensor.copyOf(TOKENS), starts = Tensor.copyOf(STARTS);
        Tensor ids = SampleIds.packed(starts, TOKENS.length, 0);
        double[] losses = new double[steps];
        for (int step = 0; step < steps; step++) {
            model.zeroGrad();
            Tensor logits = model.forward(new Model.Batch(tokens, starts));
            // The gradient goes over the logits, in the model's memory.
            Loss.Report report = loss.compute(new Loss.Batch(logits, tokens, ids),
                    STARTS.length - 1, logits);
            model.backward(logits);
            optimizer.step();
            losses[step] = report.nll();
        }
        return losses;
    }

    static Model model(Context context) {
        return new Model(context).init(CONFIG, 1);
    }

    public static void main(String[] args) {
        try (Context context = new Context();
                Model model = model(context);
                Loss loss = new Loss(context).set("label_offset", 1).set("objective", "dft");
                Optimizer optimizer = new Optimizer(context).set("lr", 3e-3)) {
            optimizer.add(model);
            double[] losses = train(model, loss, optimizer, 60);
            for (int step = 0; step < losses.length; step += 10) {
                System.out.printf("step %2d  nll %.4f%n", step, losses[step]);
            }
            Model.Generation wanted = new Model.Generation();
            wanted.maxNewTokens = 4;
            int[][] answers = model.generate(new Model.Batch(Tensor.copyOf(new int[] {1, 2})),
                    wanted);
            System.out.println("1 2 goes on with " + Arrays.toString(answers[0]));
        }
    }
}
