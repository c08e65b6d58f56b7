// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.TokenFn;
import cadft.Cadft.cadft_generate_desc;
import cadft.Cadft.cadft_model_batch;
import cadft.Cadft.cadft_model_limits;
import cadft.Cadft.cadft_tensor;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * A decoder-only transformer: weights of a folder of Hugging Face or random ones, forward,
 * backward, generation.
 */
public final class Model extends Noun {
    /** Sequences; what is not needed is null. cadft_model_batch says what they are. */
    public record Batch(Tensor tokens, Tensor cuSeqlens, Tensor lengths, Tensor logitRows,
            boolean noGrad) {
        /** One sequence [rows], or full ones [B, T]. */
        public Batch(Tensor tokens) {
            this(tokens, null, null, null, false);
        }

        /** Sequences after each other. */
        public Batch(Tensor tokens, Tensor cuSeqlens) {
            this(tokens, cuSeqlens, null, null, false);
        }

        /** The same, for a forward pass that no backward pass follows. */
        public Batch withoutGrad() {
            return new Batch(tokens, cuSeqlens, lengths, logitRows, true);
        }
    }

    /** The gradient is null where there is none: frozen, or before {@link #zeroGrad}. */
    public record Parameter(String name, Tensor value, Tensor grad, boolean trainable) {}

    /** Sees the tokens as they are drawn; returns false to end this prompt. */
    @FunctionalInterface
    public interface TokenListener {
        boolean token(long prompt, long position, int token, double logprob);
    }

    /** What to generate, as cadft_generate_desc: the most likely tokens, if nothing is set. */
    public static final class Generation {
        public long maxNewTokens = 1;
        public double temperature, topP;
        public int[] stopTokens = {};
        public long seed, step;
        /** A key of each prompt, for the random numbers; or null. */
        public long[] keys;
        public TokenListener listener;
    }

    private static final Calls CALLS = new Calls(Cadft::cadft_model_destroy,
            Cadft::cadft_model_key, Cadft::cadft_model_key_at, Cadft::cadft_model_set_str,
            Cadft::cadft_model_get_str, Cadft::cadft_model_get_i64);

    /** Count the events that void views of activations, and of gradients. Written under the lock,
     *  read by tensors without it. */
    private volatile int arena, grads;

    /** A model without weights. */
    public Model(Context context) {
        super(context, Cadft::cadft_model_create, CALLS);
    }

    /** Sets a knob: set("checkpointing", true). */
    public synchronized Model set(String name, Object value) {
        arena++;
        setKnob(name, value);
        return this;
    }

    /** Weights of a folder. */
    public Model load(String folder) {
        call((self, error) -> Cadft.cadft_model_load(self, folder, error));
        return this;
    }

    /** Random weights; `config` is the text of a config.json. */
    public Model init(String config, long seed) {
        int length = config.getBytes(StandardCharsets.UTF_8).length;
        call((self, error) -> Cadft.cadft_model_init(self, config, length, seed, error));
        return this;
    }

    /** Writes a folder that transformers loads. */
    public void save(String folder) {
        call((self, error) -> Cadft.cadft_model_save(self, folder, error));
    }

    public synchronized Parameter parameter(long index) {
        PointerByReference name = new PointerByReference();
        cadft_tensor value = new cadft_tensor(), grad = new cadft_tensor();
        int[] trainable = new int[1];
        int mine = grads;
        call((self, error) -> Cadft.cadft_model_parameter(self, index, name, value, grad,
                trainable, error));
        return new Parameter(name.getValue().getString(0, StandardCharsets.UTF_8.name()),
                Tensor.of(value, this, () -> !isClosed()),
                grad.data == null ? null
                        : Tensor.of(grad, this, () -> !isClosed() && grads == mine),
                trainable[0] != 0);
    }

    /** Index of a parameter by its name. */
    public long find(String name) {
        long[] out = new long[1];
        call((self, error) -> Cadft.cadft_model_find(self, name, out, error));
        return out[0];
    }

    /** Freezes or thaws the parameters of a shell pattern; returns how many match. */
    public synchronized long freeze(String pattern, boolean trainable) {
        long[] matched = new long[1];
        grads++;
        call((self, error) -> Cadft.cadft_model_freeze(self, pattern, trainable ? 1 : 0, matched,
                error));
        return matched[0];
    }

    /** Bytes of activations that batches within these limits need. */
    public long plan(long rows, long logitRows, long sequences, boolean noGrad) {
        long[] bytes = new long[1];
        cadft_model_limits limits = limits(rows, logitRows, sequences, noGrad);
        call((self, error) -> Cadft.cadft_model_plan(self, limits, bytes, error));
        return bytes[0];
    }

    /** Allocates them. */
    public synchronized void reserve(long rows, long logitRows, long sequences, boolean noGrad) {
        cadft_model_limits limits = limits(rows, logitRows, sequences, noGrad);
        arena++;
        call((self, error) -> Cadft.cadft_model_reserve(self, limits, error));
    }

    private static cadft_model_limits limits(long rows, long logitRows, long sequences,
            boolean noGrad) {
        cadft_model_limits limits = new cadft_model_limits();
        limits.no_grad = noGrad ? 1 : 0;
        limits.rows = rows;
        limits.logit_rows = logitRows;
        limits.sequences = sequences;
        return limits;
    }

    /**
     * Logits [rows, vocab] in the model's memory, float32. The tensor is void, and says so, after
     * the next call of forward, generate, reserve, set or close.
     */
    public synchronized Tensor forward(Batch batch) {
        cadft_tensor logits = new cadft_tensor();
        int mine = ++arena;
        call((self, error) -> {
            cadft_model_batch raw = new cadft_model_batch();
            raw.no_grad = batch.noGrad ? 1 : 0;
            raw.tokens = Tensor.pointer(batch.tokens);
            raw.cu_seqlens = Tensor.pointer(batch.cuSeqlens);
            raw.lengths = Tensor.pointer(batch.lengths);
            raw.logit_rows = Tensor.pointer(batch.logitRows);
            return Cadft.cadft_model_forward(self, raw, logits, error);
        }, batch);
        return Tensor.of(logits, this, () -> !isClosed() && arena == mine);
    }

    /** Adds the gradient of the last forward pass: that of its logits goes in. */
    public void backward(Tensor gradLogits) {
        call((self, error) -> Cadft.cadft_model_backward(self, Tensor.viewOf(gradLogits), error),
                gradLogits);
    }

    public void zeroGrad() {
        call((self, error) -> Cadft.cadft_model_zero_grad(self, error));
    }

    /** Continues prompts, given as in {@link Batch}; returns the new tokens of each. */
    public synchronized int[][] generate(Batch prompts, Generation wanted) {
        int n = prompts(prompts);
        if (wanted.keys != null && wanted.keys.length != n) {
            throw new IllegalArgumentException(wanted.keys.length + " keys, " + n + " prompts");
        }
        int most = Math.toIntExact(Math.max(0, wanted.maxNewTokens));
        int[] tokens = new int[Math.multiplyExact(n, most)];
        long[] lengths = new long[n];
        Tensor stop = Tensor.copyOf(wanted.stopTokens);
        Tensor keys = wanted.keys == null ? null : Tensor.copyOf(wanted.keys);
        TokenFn listener = wanted.listener == null ? null : guard(wanted.listener);
        arena++;
        call((self, error) -> {
            cadft_generate_desc raw = new cadft_generate_desc();
            raw.tokens = Tensor.pointer(prompts.tokens);
            raw.cu_seqlens = Tensor.pointer(prompts.cuSeqlens);
            raw.lengths = Tensor.pointer(prompts.lengths);
            raw.max_new_tokens = wanted.maxNewTokens;
            raw.temperature = wanted.temperature;
            raw.top_p = wanted.topP;
            raw.stop_tokens = stop.data();
            raw.n_stop_tokens = wanted.stopTokens.length;
            raw.seed = wanted.seed;
            raw.keys = keys == null ? null : keys.data();
            raw.step = wanted.step;
            raw.on_token = listener;
            raw.n_prompts = n;
            return Cadft.cadft_model_generate(self, raw, tokens, lengths, error);
        }, prompts, stop, keys, listener);
        int[][] out = new int[n][];
        for (int i = 0; i < n; i++) {
            out[i] = Arrays.copyOfRange(tokens, i * most, i * most + (int) lengths[i]);
        }
        return out;
    }

    private TokenFn guard(TokenListener listener) {
        State state = this.state; // the callback must not refer to the handle
        return (Pointer user, long prompt, long position, int token, double logprob) -> {
            try {
                return listener.token(prompt, position, token, logprob) ? 0 : 1;
            } catch (Throwable e) {
                state.thrown = e;
                return -1;
            }
        };
    }

    private static int prompts(Batch batch) {
        long[] shape = batch.tokens.shape();
        if (batch.cuSeqlens != null) {
            return Math.toIntExact(Math.max(0, batch.cuSeqlens.shape()[0] - 1));
        }
        return shape.length == 2 ? Math.toIntExact(shape[0]) : 1;
    }
}
