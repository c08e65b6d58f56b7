// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.CadftException;
import cadft.Context;
import cadft.Loss;
import cadft.SampleIds;
import cadft.Tensor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Arrays;

/** What a tensor takes and what it refuses; sample ids. */
final class Buffers {
    private Buffers() {}

    static FloatBuffer floats(float... values) {
        FloatBuffer buffer = ByteBuffer.allocateDirect(values.length * Float.BYTES)
                .order(ByteOrder.nativeOrder()).asFloatBuffer();
        return buffer.put(values).flip();
    }

    static void run() {
        refusals();
        positions();
        sampleIds();
        rowScale();
    }

    private static void refusals() {
        Class<IllegalArgumentException> refused = IllegalArgumentException.class;
        Check.fails(refused, () -> Tensor.of(FloatBuffer.wrap(new float[4]), 4));
        ByteBuffer swapped = ByteBuffer.allocateDirect(16).order(
                ByteOrder.nativeOrder() == ByteOrder.BIG_ENDIAN ? ByteOrder.LITTLE_ENDIAN
                        : ByteOrder.BIG_ENDIAN);
        Check.fails(refused, () -> Tensor.of(swapped.asFloatBuffer(), 4));
        Check.fails(refused, () -> Tensor.of(floats(1, 2, 3), 2, 2));
        Check.fails(refused, () -> Tensor.of(floats(1, 2, 3), -1));
        Check.fails(refused, () -> Tensor.copyOf(new int[] {1, 2}, 3));
        Check.fails(ArithmeticException.class,
                () -> Tensor.of(floats(1), Long.MAX_VALUE, 2));
        Check.refused(Cadft.CADFT_E_DTYPE,
                () -> Tensor.of(ByteBuffer.allocateDirect(16).order(ByteOrder.nativeOrder()), 7));
        try (Context context = new Context(); Loss loss = new Loss(context)) {
            FloatBuffer data = floats(1, 2, 3, 4);
            Loss.Batch batch = new Loss.Batch(Tensor.of(data, 2, 2),
                    Tensor.copyOf(new int[] {0, 1}), Tensor.copyOf(new int[] {0, 0}));
            Check.fails(refused,
                    () -> loss.compute(batch, 1, Tensor.of(data.asReadOnlyBuffer(), 2, 2)));
        }
    }

    /** A view starts at the buffer's position, and writes go to the caller's memory. */
    private static void positions() {
        FloatBuffer data = floats(9, 9, 2, 0, 0, 2, 9);
        data.position(2).limit(6);
        Tensor logits = Tensor.of(data, 2, 2);
        Check.equal(2.0f, logits.floats().get(0), "first logit");
        Check.equal(2, Tensor.of(data, 2).floats().remaining(), "numbers of a smaller shape");
        try (Context context = new Context(); Loss loss = new Loss(context)) {
            loss.compute(new Loss.Batch(logits, Tensor.copyOf(new long[] {0, 0}),
                    Tensor.copyOf(new int[] {0, 1})), 2, logits);
        }
        data.clear();
        Check.equal(9.0f, data.get(1), "before the view");
        Check.equal(9.0f, data.get(6), "behind the view");
        Check.that(data.get(2) < 0 && data.get(3) > 0, "gradient over the logits");
    }

    private static void sampleIds() {
        Tensor padded = SampleIds.padded(2, 3, Tensor.copyOf(new int[] {3, 1}), 5);
        same(padded, 5, 5, 5, 6, -1, -1);
        same(SampleIds.packed(Tensor.copyOf(new long[] {0, 1, 3}), 4, 0), 0, 1, 1, -1);
        SampleIds.Found found = SampleIds.positions(Tensor.copyOf(new int[] {0, 1, 0, 1, 2}), 0);
        same(found.ids(), 0, 0, 1, 1, 1);
        Check.equal(2L, found.samples(), "samples");
        Check.refused(Cadft.CADFT_E_ARG,
                () -> SampleIds.packed(Tensor.copyOf(new int[] {0, 9}), 4, 0));
        Check.fails(CadftException.class, () -> SampleIds.padded(-1, 3, null, 0));
    }

    private static void same(Tensor ids, int... wanted) {
        int[] got = new int[wanted.length];
        ids.bytes().asIntBuffer().get(got);
        Check.equal(Arrays.toString(wanted), Arrays.toString(got), "sample ids");
    }

    /** Unit gradient times scale is the gradient. */
    private static void rowScale() {
        try (Context context = new Context(); Loss loss = new Loss(context)) {
            Loss.Batch batch = new Loss.Batch(Tensor.of(floats(2, 0, 0, 3, 1, 1), 3, 2),
                    Tensor.copyOf(new int[] {0, 1, 1}), Tensor.copyOf(new int[] {0, 0, 1}));
            Tensor grad = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 3, 2);
            Tensor unit = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 3, 2);
            Tensor scale = Tensor.allocate(Cadft.CADFT_DTYPE_F32, 3);
            loss.compute(batch, 2, grad);
            loss.compute(batch, 2, unit, scale);
            for (int i = 0; i < 6; i++) {
                float product = unit.floats().get(i) * scale.floats().get(i / 2);
                Check.that(Math.abs(product - grad.floats().get(i)) < 1e-6, "row scale");
            }
            Check.fails(IllegalArgumentException.class, () -> loss.compute(batch, 2, unit,
                    Tensor.allocate(Cadft.CADFT_DTYPE_F32, 2)));
        }
    }
}
