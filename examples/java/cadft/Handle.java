// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_error;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.PointerByReference;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.IntFunction;
import java.util.function.IntSupplier;

/**
 * A handle of the library. {@link #close()} gives it back, once, in any order with others: the
 * library keeps what a child needs of its context. A handle that is forgotten is given back
 * after the garbage collector has found it, whenever that is.
 *
 * <p>Its calls exclude each other, so that any thread may use it; a call waits for one that is
 * under way in another thread.
 */
public abstract class Handle implements AutoCloseable {
    private static final Cleaner CLEANER = Cleaner.create();

    interface Create {
        int call(PointerByReference out, cadft_error error);
    }

    interface Call {
        int call(Pointer self, cadft_error error);
    }

    /** What must outlive the Java object. It does not refer to it, or that would stay. */
    static final class State implements Runnable {
        private final Consumer<Pointer> destroy;
        /** Null when closed. Tensors ask without the lock. */
        private volatile Pointer pointer;
        /** Callbacks and memory that the library uses. A child has its context's state here: its
         *  log may be written to as long as there is a child. */
        private final List<Object> keep = new ArrayList<>();
        /** The callback that is registered now. */
        Object callback;
        /** What a callback threw in the call that is under way. */
        Throwable thrown;

        private State(Consumer<Pointer> destroy) {
            this.destroy = destroy;
        }

        @Override
        public void run() {
            destroy.accept(pointer);
            pointer = null;
        }
    }

    final State state;
    private final Cleaner.Cleanable cleanable;
    private int calls;

    Handle(Consumer<Pointer> destroy, Create create, Object... keep) {
        PointerByReference out = new PointerByReference();
        cadft_error error = new cadft_error();
        CadftException.check(create.call(out, error), error);
        state = new State(destroy);
        state.pointer = out.getValue();
        keep(keep);
        cleanable = CLEANER.register(this, state);
    }

    final synchronized void keep(Object... objects) {
        state.keep.addAll(List.of(objects));
    }

    /** Calls the library, or throws; `used` stays reachable meanwhile. */
    final synchronized void call(Call call, Object... used) {
        cadft_error error = new cadft_error();
        Throwable thrown = null;
        int status;
        try {
            status = status(call, error);
            thrown = state.thrown;
        } finally {
            state.thrown = null;
            Reference.reachabilityFence(used);
        }
        if (status != Cadft.CADFT_OK) {
            throw new CadftException(status, error.text(), thrown);
        }
    }

    final synchronized int status(Call call, cadft_error error) {
        calls++;
        try {
            return call.call(pointer(), error);
        } finally {
            calls--;
            Reference.reachabilityFence(this);
        }
    }

    /** Calls with all of these open, and locked in their order. */
    static int within(Iterator<? extends Handle> handles, cadft_error error, IntSupplier call) {
        return !handles.hasNext() ? call.getAsInt()
                : handles.next().status((self, e) -> within(handles, e, call), error);
    }

    interface Fill<T> {
        int call(Pointer self, T out, long capacity, long[] needed, cadft_error error);
    }

    /** An array of which the library says how long it is; no other call comes between. */
    final synchronized <T> T array(IntFunction<T> make, Fill<T> fill) {
        long[] needed = new long[1];
        call((self, error) -> fill.call(self, null, 0, needed, error));
        T out = make.apply(Math.toIntExact(needed[0]));
        call((self, error) -> fill.call(self, out, needed[0], needed, error));
        return out;
    }

    final String text(Fill<byte[]> fill) {
        return Native.toString(array(byte[]::new, fill), StandardCharsets.UTF_8.name());
    }

    /**
     * The C handle, for calls of {@link Cadft}: valid while this object is open and reachable.
     *
     * @throws IllegalStateException if it was closed
     */
    public final synchronized Pointer pointer() {
        if (state.pointer == null) {
            throw new IllegalStateException(getClass().getSimpleName() + " is closed");
        }
        return state.pointer;
    }

    public final boolean isClosed() {
        return state.pointer == null;
    }

    /** Gives the handle back; does nothing the second time. Not from its own callback. */
    @Override
    public final synchronized void close() {
        if (calls > 0) {
            throw new IllegalStateException(getClass().getSimpleName()
                    + " cannot be closed by its own callback");
        }
        cleanable.clean();
    }
}
