// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_checkpoint;
import cadft.Cadft.cadft_error;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Objects;
import java.util.stream.Stream;

/** What a run goes on from, in a folder of its own: the parts that are not null. */
public final class Checkpoint {
    /** Holds the checkpoints. */
    public final String folder;
    /** Steps done; names the checkpoint. */
    public long step;
    /** How many checkpoints stay when this one is saved; 0: all. */
    public int keep;
    public Model model;
    public Optimizer optimizer;
    public Loss loss;
    public Rewriter rewriter;
    /** The host's own, to be saved: data order, random state. No bytes are no part. */
    public byte[] host;

    public Checkpoint(String folder, long step) {
        this.folder = folder;
        this.step = step;
    }

    /** As a whole or not at all. Between optimizer steps. */
    public void save(Context context) {
        call(context, (self, raw, error) -> {
            if (host != null && host.length > 0) {
                raw.host = new Memory(host.length);
                raw.host.write(0, host, 0, host.length);
                raw.host_bytes = host.length;
            }
            return Cadft.cadft_checkpoint_save(self, raw, error);
        });
    }

    /**
     * Loads the parts; returns what the host had saved, empty if that was nothing. May be called
     * again for others: the model, which must be without weights, comes before the optimizer that
     * was made for it.
     */
    public byte[] load(Context context) {
        long[] bytes = new long[1];
        new Checkpoint(folder, step).call(context, (self, raw, error) ->
                Cadft.cadft_checkpoint_load(self, raw, null, 0, bytes, error));
        byte[] out = new byte[Math.toIntExact(bytes[0])];
        call(context, (self, raw, error) ->
                Cadft.cadft_checkpoint_load(self, raw, out, out.length, bytes, error));
        return Arrays.copyOf(out, (int) bytes[0]);
    }

    /**
     * Step of the newest checkpoint, of those below `before` unless that is -1; -1 if there is
     * none. It goes by names: whether the checkpoint is damaged {@link #load} says.
     */
    public static long find(Context context, String folder, long before) {
        long[] step = new long[1];
        context.call((self, error) -> Cadft.cadft_checkpoint_find(self, folder, before, step,
                error));
        return step[0];
    }

    /** The folder of a step's checkpoint, there or not: {@link Model#load} takes it. */
    public static String path(String folder, long step) {
        cadft_error error = new cadft_error();
        long[] needed = new long[1];
        CadftException.check(Cadft.cadft_checkpoint_path(folder, step, null, 0, needed, error),
                error);
        byte[] out = new byte[Math.toIntExact(needed[0])];
        CadftException.check(Cadft.cadft_checkpoint_path(folder, step, out, out.length, null,
                error), error);
        return Native.toString(out, StandardCharsets.UTF_8.name());
    }

    private interface Call {
        int call(Pointer context, cadft_checkpoint raw, cadft_error error);
    }

    /** A model is locked after an optimizer, as by {@link Optimizer#add(Model)}. */
    private void call(Context context, Call call) {
        cadft_error error = new cadft_error();
        CadftException.check(Handle.within(
                Stream.of(optimizer, loss, rewriter, model, context).filter(Objects::nonNull)
                        .iterator(),
                error, () -> call.call(context.pointer(), raw(), error)), error);
    }

    private cadft_checkpoint raw() {
        cadft_checkpoint raw = new cadft_checkpoint();
        raw.keep = keep;
        raw.folder = folder;
        raw.step = step;
        raw.model = pointer(model);
        raw.optimizer = pointer(optimizer);
        raw.loss = pointer(loss);
        raw.rewrite = pointer(rewriter);
        return raw;
    }

    private static Pointer pointer(Handle part) {
        return part == null ? null : part.pointer();
    }
}
