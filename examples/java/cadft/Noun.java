// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_error;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * A handle with knobs, which are set and read by name: the constant's in lower case, "beta" for
 * CADFT_LOSS_BETA. The headers list them with bounds and defaults, and the facts, which are read
 * only.
 */
public abstract class Noun extends Handle {
    interface CreateCall {
        int call(Pointer context, PointerByReference out, cadft_error error);
    }

    interface KeyCall {
        int call(String name, int[] key, cadft_error error);
    }

    interface KeyAtCall {
        int call(int index, PointerByReference name, int[] key, cadft_error error);
    }

    interface SetCall {
        int call(Pointer self, int key, String value, cadft_error error);
    }

    interface GetCall {
        int call(Pointer self, int key, byte[] buffer, long capacity, long[] needed,
                cadft_error error);
    }

    interface LongCall {
        int call(Pointer self, int key, long[] out, cadft_error error);
    }

    /** The functions of a kind of handle. */
    record Calls(Consumer<Pointer> destroy, KeyCall key, KeyAtCall keyAt, SetCall set, GetCall get,
            LongCall number) {}

    private final Calls calls;

    Noun(Context context, CreateCall create, Calls calls) {
        super(calls.destroy, (out, error) -> context.status(
                (self, e) -> create.call(self, out, e), error), context.state);
        this.calls = calls;
    }

    private int key(String name) {
        int[] key = new int[1];
        cadft_error error = new cadft_error();
        CadftException.check(calls.key.call(name, key, error), error);
        return key[0];
    }

    /** Names of all knobs. */
    public final List<String> knobs() {
        List<String> names = new ArrayList<>();
        PointerByReference name = new PointerByReference();
        while (calls.keyAt.call(names.size(), name, null, null) == Cadft.CADFT_OK) {
            names.add(name.getValue().getString(0));
        }
        return names;
    }

    final void setKnob(String name, Object value) {
        int key = key(name);
        String text = value instanceof Boolean on ? (on ? "1" : "0") : value.toString();
        call((self, error) -> calls.set.call(self, key, text, error));
    }

    /** A knob as text. */
    public final String get(String name) {
        int key = key(name);
        return text((self, out, capacity, needed, error) ->
                calls.get.call(self, key, out, capacity, needed, error));
    }

    /** A knob that is a number. */
    public final double getDouble(String name) {
        return Double.parseDouble(get(name));
    }

    /** An integer knob, or a fact: "vocab" for CADFT_MODEL_VOCAB. */
    public final long getLong(String name) {
        int key = key(name);
        long[] out = new long[1];
        call((self, error) -> calls.number.call(self, key, out, error));
        return out[0];
    }
}
