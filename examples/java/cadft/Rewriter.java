// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_rewrite_info;
import cadft.Cadft.cadft_rewrite_result;
import com.sun.jna.ptr.PointerByReference;

/**
 * Delayed rewriting: follows the compatibility of each sample of a data set and picks those whose
 * targets the model's own answers are to replace.
 */
public final class Rewriter extends Noun {
    /** What is known of a sample: cadft_rewrite_info. */
    public record Sample(boolean open, double average, double c, long observations, long rewrites,
            boolean rewritten) {}

    /**
     * An answer to a pick: cadft_rewrite_result. Without tokens, null, the host keeps them and
     * `length` says how many they are.
     */
    public record Answer(int[] tokens, long length, boolean ended, double cNew, double cOld) {
        /** @param ended by itself, with an end-of-sequence token */
        public Answer(int[] tokens, boolean ended) {
            this(tokens, tokens.length, ended, Double.NaN, Double.NaN);
        }

        public Answer {
            if (tokens != null && tokens.length != length) {
                throw new IllegalArgumentException(tokens.length + " tokens, length " + length);
            }
        }
    }

    private static final Calls CALLS = new Calls(Cadft::cadft_rewrite_destroy,
            Cadft::cadft_rewrite_key, Cadft::cadft_rewrite_key_at, Cadft::cadft_rewrite_set_str,
            Cadft::cadft_rewrite_get_str, Cadft::cadft_rewrite_get_i64);

    /** For a data set of so many samples; an id is a place in it, from 0. */
    public Rewriter(Context context, long samples) {
        super(context, (self, out, error) -> Cadft.cadft_rewrite_create(self, samples, out, error),
                CALLS);
    }

    /** Sets a knob: set("warmup_steps", 100), set("top_p", 0.9). */
    public Rewriter set(String name, Object value) {
        setKnob(name, value);
        return this;
    }

    /** What an optimizer step has shown of its samples; `c` or `chat` may be null. */
    public void observe(long[] ids, double[] c, double[] chat) {
        if (c != null && c.length != ids.length || chat != null && chat.length != ids.length) {
            throw new IllegalArgumentException("ids, c and chat differ in length");
        }
        call((self, error) -> Cadft.cadft_rewrite_observe(self, ids, c, chat, ids.length, error));
    }

    public Sample sample(long id) {
        cadft_rewrite_info raw = new cadft_rewrite_info();
        call((self, error) -> Cadft.cadft_rewrite_sample(self, id, raw, error));
        return new Sample(raw.is_open != 0, raw.average, raw.c, raw.observations, raw.rewrites,
                raw.is_rewritten != 0);
    }

    /** May {@link #select} pick any at this step? */
    public boolean due(long step) {
        int[] due = new int[1];
        call((self, error) -> Cadft.cadft_rewrite_due(self, step, due, error));
        return due[0] != 0;
    }

    /** The picks of a step, mostly none; each is open until {@link #commit} or {@link #reject}. */
    public long[] select(long step) {
        return array(long[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_rewrite_select(self, step, out, capacity, needed, error));
    }

    /** The picks that are open. */
    public long[] open() {
        return array(long[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_rewrite_open(self, out, capacity, needed, error));
    }

    /** Closes all open picks. */
    public void cancel() {
        call((self, error) -> {
            Cadft.cadft_rewrite_cancel(self);
            return Cadft.CADFT_OK;
        });
    }

    /** Gives a pick its answer; returns CADFT_REJECTED_..., 0 if it is the target from now on. */
    public int commit(long id, Answer answer) {
        Tensor tokens = answer.tokens == null ? null : Tensor.copyOf(answer.tokens);
        int[] rejected = new int[1];
        cadft_rewrite_result raw = new cadft_rewrite_result();
        raw.ended = answer.ended ? 1 : 0;
        raw.tokens = tokens == null ? null : tokens.data();
        raw.n_tokens = answer.length;
        raw.c_new = answer.cNew;
        raw.c_old = answer.cOld;
        call((self, error) -> Cadft.cadft_rewrite_commit(self, id, raw, rejected, error), tokens);
        return rejected[0];
    }

    /** Closes a pick for which there is no answer. */
    public void reject(long id) {
        call((self, error) -> Cadft.cadft_rewrite_reject(self, id, error));
    }

    /** A copy of the tokens that replace a sample's target; null where there are none. */
    public synchronized int[] target(long id) {
        PointerByReference tokens = new PointerByReference();
        long[] n = new long[1];
        call((self, error) -> Cadft.cadft_rewrite_target(self, id, tokens, n, error));
        return tokens.getValue() == null ? null
                : tokens.getValue().getIntArray(0, Math.toIntExact(n[0]));
    }

    /** Takes a sample back to its original target. */
    public void restore(long id) {
        call((self, error) -> Cadft.cadft_rewrite_restore(self, id, error));
    }

    /** Everything but the knobs. */
    public byte[] saveState() {
        return array(byte[]::new, (self, out, capacity, needed, error) ->
                Cadft.cadft_rewrite_state_save(self, out, capacity, needed, error));
    }

    public void loadState(byte[] state) {
        call((self, error) -> Cadft.cadft_rewrite_state_load(self, state, state.length, error));
    }
}
