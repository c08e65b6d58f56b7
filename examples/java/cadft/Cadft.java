// SPDX-License-Identifier: Apache-2.0
package cadft;

import com.sun.jna.Callback;
import com.sun.jna.Library;
import com.sun.jna.Native;
import com.sun.jna.NativeLibrary;
import com.sun.jna.Pointer;
import com.sun.jna.Structure;
import com.sun.jna.Structure.FieldOrder;
import com.sun.jna.ptr.PointerByReference;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * The C interface as it is: functions, structs and constants under the names of the headers,
 * which document them. The other classes of this package are made of it; what they lack is
 * reached here, with {@link Handle#pointer()}.
 *
 * <p>size_t is a long: 64-bit virtual machines only. A pointer to one number is an array of
 * length 1, or null where the header allows it. A struct writes its own struct_size; one that
 * another struct points to is written with {@link Structure#write()} by whoever made it.
 */
public final class Cadft {
    private Cadft() {}

    static {
        if (Native.SIZE_T_SIZE != 8) {
            throw new UnsatisfiedLinkError("cadft needs a 64-bit virtual machine");
        }
        Native.register(Cadft.class, NativeLibrary.getInstance("libcadft.so.0",
                Map.of(Library.OPTION_STRING_ENCODING, StandardCharsets.UTF_8.name())));
    }

    // constants; what has a name (knobs, facts) or an enum (Loss.Rows) is not here

    public static final int CADFT_OK = 0;
    public static final int CADFT_E_NULL = -10, CADFT_E_ARG = -11, CADFT_E_SHAPE = -12,
            CADFT_E_DTYPE = -13, CADFT_E_ALIGN = -14, CADFT_E_ALIAS = -15, CADFT_E_DEVICE = -16,
            CADFT_E_TOO_NEW = -17, CADFT_E_KEY = -18, CADFT_E_SPACE = -19, CADFT_E_PHASE = -30,
            CADFT_E_BUSY = -31, CADFT_E_UNSUPPORTED = -32, CADFT_E_LABEL = -50,
            CADFT_E_SAMPLE = -51, CADFT_E_NONFINITE = -52, CADFT_E_STATE = -53,
            CADFT_E_FORMAT = -54, CADFT_E_NOMEM = -70, CADFT_E_THREADS = -71, CADFT_E_BACKEND = -72,
            CADFT_E_CALLBACK = -73, CADFT_E_IO = -74;
    public static final int CADFT_DTYPE_I32 = 0x12000, CADFT_DTYPE_I64 = 0x14000,
            CADFT_DTYPE_F16 = 0x11002, CADFT_DTYPE_F32 = 0x12002, CADFT_DTYPE_F64 = 0x14002,
            CADFT_DTYPE_BF16 = 0x11004;
    public static final int CADFT_DEVICE_CPU = 1, CADFT_DEVICE_CUDA = 2, CADFT_DEVICE_CUDA_HOST = 3,
            CADFT_DEVICE_ROCM = 10;
    public static final int CADFT_LOG_WARNING = 1, CADFT_LOG_INFO = 2;
    public static final int CADFT_CONTEXT_WORKERS = 1, CADFT_CONTEXT_BYTES = 2,
            CADFT_CONTEXT_PEAK_BYTES = 3, CADFT_CONTEXT_BACKEND = 4, CADFT_CONTEXT_DEVICE = 5,
            CADFT_CONTEXT_LAST_ERROR = 6;
    public static final int CADFT_REJECTED_NOT = 0, CADFT_REJECTED_TOO_SHORT = 1,
            CADFT_REJECTED_TOO_LONG = 2, CADFT_REJECTED_NOT_ENDED = 3, CADFT_REJECTED_NOT_LOWER = 4;

    // callbacks; whoever hands one over keeps it reachable as long as the library may call it

    public interface DestroyFn extends Callback {
        void invoke(Pointer user);
    }

    public interface AllocFn extends Callback {
        Pointer invoke(Pointer user, long size, long align);
    }

    public interface FreeFn extends Callback {
        void invoke(Pointer user, Pointer memory, long size, long align);
    }

    public interface LogFn extends Callback {
        void invoke(Pointer user, int level, Pointer text, long length);
    }

    public interface ParallelFn extends Callback {
        int invoke(Pointer user, long n, Pointer fn, Pointer task);
    }

    public interface CoefficientFn extends Callback {
        int invoke(Pointer user, long rows, Pointer l, Pointer p, Pointer entropy, Pointer k);
    }

    public interface TokenFn extends Callback {
        int invoke(Pointer user, long prompt, long position, int token, double logprob);
    }

    // structs

    @FieldOrder("struct_size")
    public abstract static class Struct extends Structure {
        public int struct_size;

        Struct() {
            setStringEncoding(StandardCharsets.UTF_8.name());
        }

        @Override
        public void write() {
            struct_size = size();
            super.write();
        }
    }

    @FieldOrder({"code", "message"})
    public static class cadft_error extends Struct {
        public int code;
        public byte[] message = new byte[256];

        /** The sentence. */
        public String text() {
            return Native.toString(message, StandardCharsets.UTF_8.name());
        }
    }

    @FieldOrder({"reserved", "flags", "data", "device_type", "device_id", "ndim", "dtype_code",
            "dtype_bits", "dtype_lanes", "shape", "strides", "byte_offset"})
    public static class cadft_tensor extends Struct {
        public int reserved;
        public long flags;
        public Pointer data;
        public int device_type, device_id, ndim;
        public byte dtype_code, dtype_bits;
        public short dtype_lanes;
        public Pointer shape, strides;
        public long byte_offset;
    }

    @FieldOrder({"reserved", "user", "alloc", "free", "destroy"})
    public static class cadft_allocator extends Struct {
        public int reserved;
        public Pointer user;
        public AllocFn alloc;
        public FreeFn free;
        public DestroyFn destroy;
    }

    @FieldOrder({"max_level", "user", "write", "destroy"})
    public static class cadft_log extends Struct {
        public int max_level;
        public Pointer user;
        public LogFn write;
        public DestroyFn destroy;
    }

    @FieldOrder({"max_workers", "user", "parallel_for", "destroy"})
    public static class cadft_parallel extends Struct {
        public int max_workers;
        public Pointer user;
        public ParallelFn parallel_for;
        public DestroyFn destroy;
    }

    @FieldOrder({"n_threads", "allocator", "log", "parallel", "backend", "backend_options"})
    public static class cadft_context_desc extends Struct {
        public int n_threads;
        public Pointer allocator, log, parallel;
        public String backend, backend_options;
    }

    @FieldOrder({"reserved", "user", "fn", "destroy"})
    public static class cadft_coefficient extends Struct {
        public int reserved;
        public Pointer user;
        public CoefficientFn fn;
        public DestroyFn destroy;
    }

    @FieldOrder({"reserved", "logits", "labels", "sample_ids", "k", "vocab_valid", "vocab_start",
            "vocab_total", "stream"})
    public static class cadft_loss_batch extends Struct {
        public int reserved;
        public Pointer logits, labels, sample_ids, k;
        public long vocab_valid, vocab_start, vocab_total;
        public Pointer stream;
    }

    @FieldOrder({"reserved", "loss", "nll", "mean_p", "mean_w", "min_w", "share_below", "mu",
            "sigma", "grad_scale", "n_samples", "n_rows", "n_skipped", "n_infinite"})
    public static class cadft_loss_report extends Struct {
        public int reserved;
        public double loss, nll, mean_p, mean_w, min_w, share_below, mu, sigma, grad_scale;
        public long n_samples, n_rows, n_skipped, n_infinite;
    }

    @FieldOrder({"no_grad", "rows", "logit_rows", "sequences"})
    public static class cadft_model_limits extends Struct {
        public int no_grad;
        public long rows, logit_rows, sequences;
    }

    @FieldOrder({"no_grad", "tokens", "cu_seqlens", "lengths", "logit_rows", "stream"})
    public static class cadft_model_batch extends Struct {
        public int no_grad;
        public Pointer tokens, cu_seqlens, lengths, logit_rows, stream;
    }

    @FieldOrder({"reserved", "tokens", "cu_seqlens", "lengths", "max_new_tokens", "temperature",
            "top_p", "stop_tokens", "n_stop_tokens", "seed", "keys", "step", "on_token", "user",
            "n_prompts"})
    public static class cadft_generate_desc extends Struct {
        public int reserved;
        public Pointer tokens, cu_seqlens, lengths;
        public long max_new_tokens;
        public double temperature, top_p;
        public Pointer stop_tokens;
        public long n_stop_tokens, seed;
        public Pointer keys;
        public long step;
        public TokenFn on_token;
        public Pointer user;
        public long n_prompts;
    }

    @FieldOrder({"skipped", "step", "lr", "grad_norm", "clip", "skipped_total"})
    public static class cadft_optimizer_report extends Struct {
        public int skipped;
        public long step;
        public double lr, grad_norm, clip;
        public long skipped_total;
    }

    @FieldOrder({"is_open", "average", "c", "observations", "rewrites", "is_rewritten", "reserved"})
    public static class cadft_rewrite_info extends Struct {
        public int is_open;
        public double average, c;
        public long observations, rewrites;
        public int is_rewritten, reserved;
    }

    @FieldOrder({"ended", "tokens", "n_tokens", "c_new", "c_old"})
    public static class cadft_rewrite_result extends Struct {
        public int ended;
        public Pointer tokens;
        public long n_tokens;
        public double c_new, c_old;
    }

    @FieldOrder({"keep", "folder", "step", "model", "optimizer", "loss", "rewrite", "host",
            "host_bytes"})
    public static class cadft_checkpoint extends Struct {
        public int keep;
        public String folder;
        public long step;
        public Pointer model, optimizer, loss, rewrite, host;
        public long host_bytes;
    }

    // versions, tensors

    public static native int cadft_version();
    public static native String cadft_status_string(int status);
    public static native int cadft_tensor_init(cadft_tensor tensor, int structSize, Pointer data,
            int dtype, int ndim, Pointer shape, Pointer strides, cadft_error error);

    // context

    public static native int cadft_context_create(cadft_context_desc desc, PointerByReference out,
            cadft_error error);
    public static native void cadft_context_destroy(Pointer context);
    public static native int cadft_context_get_i64(Pointer context, int key, long[] out,
            cadft_error error);
    public static native int cadft_context_get_str(Pointer context, int key, byte[] buffer,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_context_read(Pointer context, cadft_tensor from, Pointer to,
            long bytes, cadft_error error);
    public static native int cadft_context_write(Pointer context, cadft_tensor to, Pointer from,
            long bytes, cadft_error error);

    // loss

    public static native int cadft_loss_create(Pointer context, PointerByReference out,
            cadft_error error);
    public static native void cadft_loss_destroy(Pointer loss);
    public static native int cadft_loss_set_i64(Pointer loss, int key, long value,
            cadft_error error);
    public static native int cadft_loss_set_f64(Pointer loss, int key, double value,
            cadft_error error);
    public static native int cadft_loss_set_str(Pointer loss, int key, String value,
            cadft_error error);
    public static native int cadft_loss_get_i64(Pointer loss, int key, long[] out,
            cadft_error error);
    public static native int cadft_loss_get_f64(Pointer loss, int key, double[] out,
            cadft_error error);
    public static native int cadft_loss_get_str(Pointer loss, int key, byte[] buffer, long capacity,
            long[] needed, cadft_error error);
    public static native int cadft_loss_bounds(int key, int[] type, double[] smallest,
            double[] largest, double[] standard, cadft_error error);
    public static native int cadft_loss_key(String name, int[] key, cadft_error error);
    public static native int cadft_loss_key_at(int index, PointerByReference name, int[] key,
            cadft_error error);
    public static native int cadft_loss_set_coefficient(Pointer loss, cadft_coefficient coefficient,
            cadft_error error);
    public static native int cadft_sample_ids_padded(long nSequences, long length,
            cadft_tensor lengths, int firstId, Pointer ids, cadft_error error);
    public static native int cadft_sample_ids_cu_seqlens(cadft_tensor cuSeqlens, long rows,
            int firstId, Pointer ids, cadft_error error);
    public static native int cadft_sample_ids_position_ids(cadft_tensor positionIds, int firstId,
            Pointer ids, long[] nSamples, cadft_error error);
    public static native int cadft_loss_compute(Pointer loss, cadft_loss_batch batch, long nSamples,
            cadft_tensor grad, Pointer rowScale, cadft_loss_report report, cadft_error error);
    public static native int cadft_loss_begin(Pointer loss, long nSamples, cadft_error error);
    public static native int cadft_loss_observe(Pointer loss, cadft_loss_batch batch,
            cadft_tensor unitGrad, long[] micro, cadft_error error);
    public static native int cadft_loss_weigh(Pointer loss, cadft_error error);
    public static native int cadft_loss_grad(Pointer loss, long micro, cadft_loss_batch batch,
            cadft_tensor grad, cadft_error error);
    public static native int cadft_loss_end(Pointer loss, cadft_loss_report report,
            cadft_error error);
    public static native int cadft_loss_get_report(Pointer loss, cadft_loss_report report,
            cadft_error error);
    public static native void cadft_loss_cancel(Pointer loss);
    public static native int cadft_loss_export(Pointer loss, int kind, long shard, long nShards,
            double[] out, long capacity, long[] needed, cadft_error error);
    public static native int cadft_loss_import(Pointer loss, int kind, double[] values, long count,
            cadft_error error);
    public static native int cadft_loss_get_rows(Pointer loss, long micro, int what, double[] out,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_loss_get_samples(Pointer loss, int what, double[] out,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_loss_state_save(Pointer loss, byte[] buffer, long capacity,
            long[] needed, cadft_error error);
    public static native int cadft_loss_state_load(Pointer loss, byte[] buffer, long size,
            cadft_error error);

    // model

    public static native int cadft_model_create(Pointer context, PointerByReference out,
            cadft_error error);
    public static native void cadft_model_destroy(Pointer model);
    public static native int cadft_model_set_i64(Pointer model, int key, long value,
            cadft_error error);
    public static native int cadft_model_set_str(Pointer model, int key, String value,
            cadft_error error);
    public static native int cadft_model_set_f64(Pointer model, int key, double value,
            cadft_error error);
    public static native int cadft_model_get_i64(Pointer model, int key, long[] out,
            cadft_error error);
    public static native int cadft_model_get_f64(Pointer model, int key, double[] out,
            cadft_error error);
    public static native int cadft_model_get_str(Pointer model, int key, byte[] buffer,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_model_bounds(int key, int[] type, double[] smallest,
            double[] largest, double[] standard, cadft_error error);
    public static native int cadft_model_key(String name, int[] key, cadft_error error);
    public static native int cadft_model_key_at(int index, PointerByReference name, int[] key,
            cadft_error error);
    public static native int cadft_model_load(Pointer model, String folder, cadft_error error);
    public static native int cadft_model_init(Pointer model, String config, long length, long seed,
            cadft_error error);
    public static native int cadft_model_save(Pointer model, String folder, cadft_error error);
    public static native int cadft_model_parameter(Pointer model, long index,
            PointerByReference name, cadft_tensor value, cadft_tensor grad, int[] trainable,
            cadft_error error);
    public static native int cadft_model_find(Pointer model, String name, long[] out,
            cadft_error error);
    public static native int cadft_model_freeze(Pointer model, String pattern, int trainable,
            long[] matched, cadft_error error);
    public static native int cadft_model_plan(Pointer model, cadft_model_limits limits,
            long[] bytes, cadft_error error);
    public static native int cadft_model_reserve(Pointer model, cadft_model_limits limits,
            cadft_error error);
    public static native int cadft_model_forward(Pointer model, cadft_model_batch batch,
            cadft_tensor logits, cadft_error error);
    public static native int cadft_model_backward(Pointer model, cadft_tensor gradLogits,
            cadft_error error);
    public static native int cadft_model_zero_grad(Pointer model, cadft_error error);
    public static native int cadft_model_generate(Pointer model, cadft_generate_desc desc,
            int[] tokens, long[] lengths, cadft_error error);

    // optimizer

    public static native int cadft_optimizer_create(Pointer context, PointerByReference out,
            cadft_error error);
    public static native void cadft_optimizer_destroy(Pointer optimizer);
    public static native int cadft_optimizer_set_i64(Pointer optimizer, int key, long value,
            cadft_error error);
    public static native int cadft_optimizer_set_f64(Pointer optimizer, int key, double value,
            cadft_error error);
    public static native int cadft_optimizer_set_str(Pointer optimizer, int key, String value,
            cadft_error error);
    public static native int cadft_optimizer_get_i64(Pointer optimizer, int key, long[] out,
            cadft_error error);
    public static native int cadft_optimizer_get_f64(Pointer optimizer, int key, double[] out,
            cadft_error error);
    public static native int cadft_optimizer_get_str(Pointer optimizer, int key, byte[] buffer,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_optimizer_bounds(int key, int[] type, double[] smallest,
            double[] largest, double[] standard, cadft_error error);
    public static native int cadft_optimizer_key(String name, int[] key, cadft_error error);
    public static native int cadft_optimizer_key_at(int index, PointerByReference name, int[] key,
            cadft_error error);
    public static native int cadft_optimizer_add(Pointer optimizer, String name, cadft_tensor value,
            cadft_tensor grad, cadft_error error);
    public static native int cadft_optimizer_add_model(Pointer optimizer, Pointer model,
            long[] added, cadft_error error);
    public static native int cadft_optimizer_group(Pointer optimizer, String pattern,
            double lrScale, double decayScale, long[] matched, cadft_error error);
    public static native int cadft_optimizer_norm(Pointer optimizer, double[] sumSquares,
            cadft_error error);
    public static native int cadft_optimizer_step(Pointer optimizer, double[] sumSquares,
            cadft_optimizer_report report, cadft_error error);
    public static native int cadft_optimizer_lr(Pointer optimizer, long step, double[] out,
            cadft_error error);
    public static native int cadft_optimizer_save(Pointer optimizer, String folder,
            cadft_error error);
    public static native int cadft_optimizer_load(Pointer optimizer, String folder,
            cadft_error error);

    // rewriting

    public static native int cadft_rewrite_create(Pointer context, long nSamples,
            PointerByReference out, cadft_error error);
    public static native void cadft_rewrite_destroy(Pointer rewrite);
    public static native int cadft_rewrite_set_i64(Pointer rewrite, int key, long value,
            cadft_error error);
    public static native int cadft_rewrite_set_f64(Pointer rewrite, int key, double value,
            cadft_error error);
    public static native int cadft_rewrite_set_str(Pointer rewrite, int key, String value,
            cadft_error error);
    public static native int cadft_rewrite_get_i64(Pointer rewrite, int key, long[] out,
            cadft_error error);
    public static native int cadft_rewrite_get_f64(Pointer rewrite, int key, double[] out,
            cadft_error error);
    public static native int cadft_rewrite_get_str(Pointer rewrite, int key, byte[] buffer,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_rewrite_bounds(int key, int[] type, double[] smallest,
            double[] largest, double[] standard, cadft_error error);
    public static native int cadft_rewrite_key(String name, int[] key, cadft_error error);
    public static native int cadft_rewrite_key_at(int index, PointerByReference name, int[] key,
            cadft_error error);
    public static native int cadft_rewrite_observe(Pointer rewrite, long[] ids, double[] c,
            double[] chat, long n, cadft_error error);
    public static native int cadft_rewrite_sample(Pointer rewrite, long id, cadft_rewrite_info out,
            cadft_error error);
    public static native int cadft_rewrite_due(Pointer rewrite, long step, int[] due,
            cadft_error error);
    public static native int cadft_rewrite_select(Pointer rewrite, long step, long[] ids,
            long capacity, long[] needed, cadft_error error);
    public static native int cadft_rewrite_open(Pointer rewrite, long[] ids, long capacity,
            long[] needed, cadft_error error);
    public static native void cadft_rewrite_cancel(Pointer rewrite);
    public static native int cadft_rewrite_commit(Pointer rewrite, long id,
            cadft_rewrite_result result, int[] rejected, cadft_error error);
    public static native int cadft_rewrite_reject(Pointer rewrite, long id, cadft_error error);
    public static native int cadft_rewrite_target(Pointer rewrite, long id,
            PointerByReference tokens, long[] n, cadft_error error);
    public static native int cadft_rewrite_restore(Pointer rewrite, long id, cadft_error error);
    public static native int cadft_rewrite_state_save(Pointer rewrite, byte[] buffer, long capacity,
            long[] needed, cadft_error error);
    public static native int cadft_rewrite_state_load(Pointer rewrite, byte[] buffer, long size,
            cadft_error error);

    // checkpoints

    public static native int cadft_checkpoint_save(Pointer context, cadft_checkpoint checkpoint,
            cadft_error error);
    public static native int cadft_checkpoint_find(Pointer context, String folder, long before,
            long[] step, cadft_error error);
    public static native int cadft_checkpoint_load(Pointer context, cadft_checkpoint checkpoint,
            byte[] host, long capacity, long[] hostBytes, cadft_error error);
    public static native int cadft_checkpoint_path(String folder, long step, byte[] buffer,
            long capacity, long[] needed, cadft_error error);
}
