// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.Context;
import cadft.Handle;
import cadft.Loss;
import cadft.Model;
import cadft.Optimizer;
import cadft.Rewriter;
import cadft.Tensor;
import com.sun.jna.Function;
import com.sun.jna.NativeLibrary;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/** Handles are given back once, in any order, by hand or by the collector. */
final class Handles {
    private Handles() {}

    /** An allocator that counts; it is destroyed with the last handle of its context. */
    private static final class Counter {
        final AtomicLong bytes = new AtomicLong();
        final AtomicInteger destroyed = new AtomicInteger();
        final Cadft.cadft_allocator raw = new Cadft.cadft_allocator();

        Counter() {
            NativeLibrary libc = NativeLibrary.getInstance("c");
            Function alloc = libc.getFunction("aligned_alloc"), free = libc.getFunction("free");
            raw.alloc = (user, size, align) -> {
                bytes.addAndGet(size);
                long whole = (size + align - 1) / align * align;
                return alloc.invokePointer(new Object[] {align, whole});
            };
            raw.free = (user, memory, size, align) -> {
                bytes.addAndGet(-size);
                free.invoke(new Object[] {memory});
            };
            raw.destroy = user -> destroyed.incrementAndGet();
            raw.write();
        }

        Context context() {
            return Context.builder().allocator(raw).create();
        }

        boolean isGone() {
            return destroyed.get() == 1 && bytes.get() == 0;
        }
    }

    static void run() throws Exception {
        orders();
        afterClose();
        collected();
        logKept();
        threads();
    }

    /** The handles of a trainer that has taken a step. */
    private static List<Handle> trainer(Context context) {
        Model model = Train.model(context);
        Loss loss = new Loss(context).set("label_offset", 1);
        Optimizer optimizer = new Optimizer(context);
        optimizer.add(model);
        Train.train(model, loss, optimizer, 1);
        loss.begin(1);
        return new ArrayList<>(List.of(context, model, loss, optimizer,
                new Rewriter(context, 10)));
    }

    private static void orders() {
        long seed = System.nanoTime();
        Random random = new Random(seed);
        for (int i = 0; i < 24; i++) {
            Counter counter = new Counter();
            List<Handle> handles = trainer(counter.context());
            Collections.shuffle(handles, random);
            for (Handle handle : handles) {
                Check.equal(0, counter.destroyed.get(), "destroyed too early, seed " + seed);
                handle.close();
                handle.close();
            }
            Check.that(counter.isGone(), counter.bytes + " bytes left, destroyed "
                    + counter.destroyed + " times, seed " + seed);
        }
    }

    private static void afterClose() {
        Context context = new Context();
        Loss loss = new Loss(context);
        context.close();
        loss.set("beta", 2);
        Check.fails(IllegalStateException.class, () -> new Loss(context));
        Check.fails(IllegalStateException.class, () -> context.getLong(1));
        loss.close();
        Check.that(loss.isClosed(), "closed");
        Check.fails(IllegalStateException.class, loss::weigh);
        Check.fails(IllegalStateException.class, loss::cancel);
        Check.fails(IllegalStateException.class, loss::pointer);
    }

    private static void collected() throws InterruptedException {
        Counter counter = new Counter();
        Check.equal(5, trainer(counter.context()).size(), "handles");
        Check.eventually(counter::isGone, "forgotten handles were not collected");
    }

    /** A child writes to the log of a context that is closed and collected. */
    private static void logKept() throws InterruptedException {
        List<String> lines = new ArrayList<>();
        try (Optimizer optimizer = logging(lines)) {
            for (int i = 0; i < 5; i++) {
                System.gc();
                Thread.sleep(20);
            }
            optimizer.add("w", Tensor.copyOf(new float[1]), Tensor.copyOf(new float[] {Float.NaN}));
            Check.that(optimizer.step().skipped(), "skipped");
            Check.equal(1, lines.size(), "lines");
        }
    }

    private static Optimizer logging(List<String> lines) {
        try (Context context = Context.builder().log(Cadft.CADFT_LOG_WARNING,
                (level, text) -> lines.add(text)).create()) {
            return new Optimizer(context);
        }
    }

    /** Threads may share a handle; one that closes it waits for the call that is under way. */
    private static void threads() throws InterruptedException {
        AtomicInteger refused = new AtomicInteger(), wrong = new AtomicInteger();
        try (Context context = new Context()) {
            Loss loss = new Loss(context);
            Loss.Batch batch = new Loss.Batch(Tensor.allocate(Cadft.CADFT_DTYPE_F32, 64, 512),
                    Tensor.copyOf(new int[64]), Tensor.copyOf(new int[64]));
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                Thread thread = new Thread(() -> {
                    try {
                        while (true) {
                            loss.compute(batch, 1, null);
                        }
                    } catch (IllegalStateException e) {
                        refused.incrementAndGet();
                    } catch (Throwable e) {
                        wrong.incrementAndGet();
                    }
                });
                thread.start();
                threads.add(thread);
            }
            Thread.sleep(100);
            loss.close();
            for (Thread thread : threads) {
                thread.join();
            }
        }
        Check.equal(4, refused.get(), "threads that saw it closed");
        Check.equal(0, wrong.get(), "other errors");
    }
}
