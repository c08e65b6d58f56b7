// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_allocator;
import cadft.Cadft.cadft_context_desc;
import cadft.Cadft.cadft_log;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** Backend, memory, threads and log of everything that is created from it. */
public final class Context extends Handle {
    /** Gets what the library has to tell, on the thread that called it. */
    @FunctionalInterface
    public interface Log {
        /** @param level Cadft.CADFT_LOG_... */
        void write(int level, String text);
    }

    /** How to create a context; what is not called stays the default. */
    public static final class Builder {
        final cadft_context_desc desc = new cadft_context_desc();
        final List<Object> keep = new ArrayList<>();

        Builder() {}

        /** Threads that work, the caller's included; 0, the default: as many as there are. */
        public Builder threads(int n) {
            desc.n_threads = n;
            return this;
        }

        /** Where messages up to `level` go. What it throws is the thread's uncaught exception. */
        public Builder log(int level, Log log) {
            cadft_log raw = new cadft_log();
            raw.max_level = level;
            raw.write = (user, at, text, length) -> {
                try {
                    byte[] bytes = text.getByteArray(0, Math.toIntExact(length));
                    log.write(at, new String(bytes, StandardCharsets.UTF_8));
                } catch (Throwable e) {
                    Thread thread = Thread.currentThread();
                    thread.getUncaughtExceptionHandler().uncaughtException(thread, e);
                }
            };
            raw.write();
            desc.log = raw.getPointer();
            keep.add(raw);
            return this;
        }

        /** Memory from the host: a raw struct, the callbacks of which must not throw. */
        public Builder allocator(cadft_allocator allocator) {
            allocator.write();
            desc.allocator = allocator.getPointer();
            keep.add(allocator);
            return this;
        }

        /** "cpu", the default, or the path of a plug-in. */
        public Builder backend(String backend) {
            desc.backend = backend;
            return this;
        }

        /** For the backend: "avx2", say. */
        public Builder backendOptions(String options) {
            desc.backend_options = options;
            return this;
        }

        public Context create() {
            return new Context(this);
        }
    }

    /** A context with the defaults. */
    public Context() {
        this(builder());
    }

    private Context(Builder builder) {
        super(Cadft::cadft_context_destroy,
                (out, error) -> Cadft.cadft_context_create(builder.desc, out, error),
                builder.keep.toArray());
    }

    public static Builder builder() {
        return new Builder();
    }

    /** Version of the library: major * 1000000 + minor * 1000 + patch. */
    public static int version() {
        return Cadft.cadft_version();
    }

    /** A number: Cadft.CADFT_CONTEXT_WORKERS, _BYTES, _PEAK_BYTES. */
    public long getLong(int key) {
        long[] out = new long[1];
        call((self, error) -> Cadft.cadft_context_get_i64(self, key, out, error));
        return out[0];
    }

    /** A text: Cadft.CADFT_CONTEXT_BACKEND, _DEVICE, _LAST_ERROR. */
    public String get(int key) {
        return text((self, out, capacity, needed, error) ->
                Cadft.cadft_context_get_str(self, key, out, capacity, needed, error));
    }

    /** Copies a tensor of the backend's memory into host memory, dense and of the same type. */
    public void read(Tensor from, Tensor to) {
        to.checkWritable("to");
        call((self, error) -> Cadft.cadft_context_read(self, from.view(), to.data(),
                to.byteCount(), error), from, to);
    }

    /** The way back. */
    public void write(Tensor to, Tensor from) {
        to.checkWritable("to");
        call((self, error) -> Cadft.cadft_context_write(self, to.view(), from.data(),
                from.byteCount(), error), from, to);
    }
}
