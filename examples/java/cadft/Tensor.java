// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_error;
import cadft.Cadft.cadft_tensor;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;
import java.util.function.BooleanSupplier;

/**
 * A view of memory outside of the heap: a direct buffer in the machine's byte order, from its
 * position on, without a copy; or memory of the library, such as a model's logits. Small arrays
 * (labels, sample ids) may be copied into a tensor with {@link #copyOf(int[], long...)}.
 */
public final class Tensor {
    private final cadft_tensor view;
    /** What owns the memory: a buffer or a handle. */
    private final Object owner;
    private final BooleanSupplier valid;
    private final Pointer dims;

    private Tensor(Object owner, BooleanSupplier valid, cadft_tensor view, Pointer dims) {
        this.owner = owner;
        this.valid = valid;
        this.view = view;
        this.dims = dims;
    }

    public static Tensor of(FloatBuffer data, long... shape) {
        return of(data.slice(), data.order(), Cadft.CADFT_DTYPE_F32, shape);
    }

    public static Tensor of(DoubleBuffer data, long... shape) {
        return of(data.slice(), data.order(), Cadft.CADFT_DTYPE_F64, shape);
    }

    public static Tensor of(IntBuffer data, long... shape) {
        return of(data.slice(), data.order(), Cadft.CADFT_DTYPE_I32, shape);
    }

    public static Tensor of(LongBuffer data, long... shape) {
        return of(data.slice(), data.order(), Cadft.CADFT_DTYPE_I64, shape);
    }

    /** @param dtype Cadft.CADFT_DTYPE_BF16 or _F16 */
    public static Tensor of(ShortBuffer data, int dtype, long... shape) {
        if (elementSize(dtype) != Short.BYTES) {
            throw new IllegalArgumentException("a ShortBuffer holds bfloat16 or float16");
        }
        return of(data.slice(), data.order(), dtype, shape);
    }

    /** @param dtype Cadft.CADFT_DTYPE_... */
    public static Tensor of(ByteBuffer data, int dtype, long... shape) {
        return of(data.slice(), data.order(), dtype, shape);
    }

    /** New memory, zero. */
    public static Tensor allocate(int dtype, long... shape) {
        int bytes = Math.toIntExact(Math.multiplyExact(count(shape), (long) elementSize(dtype)));
        return of(ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder()), dtype, shape);
    }

    /** A copy; without a shape one of one dimension. */
    public static Tensor copyOf(int[] values, long... shape) {
        Tensor tensor = allocate(Cadft.CADFT_DTYPE_I32, shapeOf(values.length, shape));
        tensor.bytes().asIntBuffer().put(values);
        return tensor;
    }

    public static Tensor copyOf(long[] values, long... shape) {
        Tensor tensor = allocate(Cadft.CADFT_DTYPE_I64, shapeOf(values.length, shape));
        tensor.bytes().asLongBuffer().put(values);
        return tensor;
    }

    public static Tensor copyOf(float[] values, long... shape) {
        Tensor tensor = allocate(Cadft.CADFT_DTYPE_F32, shapeOf(values.length, shape));
        tensor.floats().put(values);
        return tensor;
    }

    /** A view of the library's, which is void when `valid` says so. */
    static Tensor of(cadft_tensor view, Handle owner, BooleanSupplier valid) {
        Memory dims = new Memory(Math.max(1, view.ndim) * (long) Long.BYTES);
        dims.write(0, view.shape.getLongArray(0, view.ndim), 0, view.ndim);
        return new Tensor(owner, valid, view, dims);
    }

    private static Tensor of(Buffer data, ByteOrder order, int dtype, long[] shape) {
        if (!data.isDirect()) {
            throw new IllegalArgumentException("the buffer lies on the heap, expected a direct "
                    + "one (ByteBuffer.allocateDirect), or Tensor.copyOf for a small array");
        }
        if (order != ByteOrder.nativeOrder()) {
            throw new IllegalArgumentException("the buffer's byte order is " + order
                    + ", expected the machine's, ByteOrder.nativeOrder()");
        }
        long elements = data instanceof ByteBuffer ? data.remaining() / elementSize(dtype)
                : data.remaining();
        if (count(shape) > elements) {
            throw new IllegalArgumentException("the shape has " + count(shape)
                    + " elements, the buffer " + elements);
        }
        Memory dims = new Memory(Math.max(1, shape.length) * (long) Long.BYTES);
        dims.write(0, shape, 0, shape.length);
        cadft_tensor view = new cadft_tensor();
        cadft_error error = new cadft_error();
        CadftException.check(Cadft.cadft_tensor_init(view, view.size(),
                Native.getDirectBufferPointer(data), dtype, shape.length, dims, null, error),
                error);
        return new Tensor(data, () -> true, view, dims);
    }

    private static long[] shapeOf(int length, long[] shape) {
        long[] result = shape.length == 0 ? new long[] {length} : shape;
        if (count(result) != length) {
            throw new IllegalArgumentException("the shape has " + count(result)
                    + " elements, the array " + length);
        }
        return result;
    }

    private static long count(long[] shape) {
        long n = 1;
        for (long d : shape) {
            if (d < 0) {
                throw new IllegalArgumentException("a dimension is " + d);
            }
            n = Math.multiplyExact(n, d);
        }
        return n;
    }

    private static int elementSize(int dtype) {
        return Math.max(1, (dtype >> 8 & 0xff) / Byte.SIZE);
    }

    public int dtype() {
        return view.dtype_code | (view.dtype_bits & 0xff) << 8 | view.dtype_lanes << 16;
    }

    public long[] shape() {
        return view.ndim == 0 ? new long[0] : dims.getLongArray(0, view.ndim);
    }

    /**
     * The memory itself, up to 2 GiB. Of memory of the library: valid as long as the header
     * says and the handle is open, after which it must not be touched.
     */
    public ByteBuffer bytes() {
        int bytes = Math.toIntExact(byteCount());
        if (view.device_type != Cadft.CADFT_DEVICE_CPU || view.strides != null) {
            throw new IllegalStateException("the tensor is not dense host memory");
        }
        if (owner instanceof ByteBuffer buffer) {
            return buffer.slice(0, bytes).order(ByteOrder.nativeOrder());
        }
        if (owner instanceof Buffer) {
            throw new IllegalStateException("the tensor is that of a typed buffer: use that");
        }
        return bytes == 0 ? ByteBuffer.allocateDirect(0)
                : data().getByteBuffer(0, bytes).order(ByteOrder.nativeOrder());
    }

    /** The memory of a float32 tensor. */
    public FloatBuffer floats() {
        if (dtype() != Cadft.CADFT_DTYPE_F32) {
            throw new IllegalStateException("the tensor is not float32");
        }
        if (owner instanceof FloatBuffer buffer) {
            return buffer.slice(0, (int) count(shape()));
        }
        return bytes().asFloatBuffer();
    }

    long byteCount() {
        return Math.multiplyExact(count(shape()), (long) elementSize(dtype()));
    }

    Pointer data() {
        return view().data == null ? null : view.data.share(view.byte_offset);
    }

    /** For a call, during which this object must stay reachable. */
    cadft_tensor view() {
        if (!valid.getAsBoolean()) {
            throw new IllegalStateException("the memory of the tensor is no longer there");
        }
        return view;
    }

    /** For a struct that is passed to a call, likewise; null for null. */
    static Pointer pointer(Tensor tensor) {
        if (tensor == null) {
            return null;
        }
        tensor.view().write();
        return tensor.view.getPointer();
    }

    static cadft_tensor viewOf(Tensor tensor) {
        return tensor == null ? null : tensor.view();
    }

    void checkWritable(String argument) {
        if (owner instanceof Buffer buffer && buffer.isReadOnly()) {
            throw new IllegalArgumentException(argument + " is a read-only buffer");
        }
    }

    /** Of the caller's, that is: memory that stays for as long as this object is reachable. */
    void checkOwn(String argument) {
        if (owner instanceof Handle) {
            throw new IllegalArgumentException(argument + " is memory of the library");
        }
    }
}
