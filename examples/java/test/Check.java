// SPDX-License-Identifier: Apache-2.0
import cadft.Cadft;
import cadft.CadftException;

/** What the tests share. A failure is an AssertionError, which ends the program. */
final class Check {
    interface Body {
        void run() throws Exception;
    }

    private Check() {}

    static void that(boolean condition, String message) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    static void equal(Object wanted, Object got, String what) {
        that(wanted.equals(got), what + ": expected " + wanted + ", got " + got);
    }

    /** The body throws `type`; returns what it threw. */
    static <T extends Throwable> T fails(Class<T> type, Body body) {
        try {
            body.run();
        } catch (Throwable e) {
            that(type.isInstance(e), "expected " + type + ", got " + e);
            return type.cast(e);
        }
        throw new AssertionError("expected " + type + ", nothing was thrown");
    }

    static CadftException refused(int status, Body body) {
        CadftException e = fails(CadftException.class, body);
        equal(Cadft.cadft_status_string(status), e.statusName(), e.getMessage());
        equal(status, e.status(), "status");
        return e;
    }

    /** Collects garbage until the condition holds; a minute is the most. */
    static void eventually(java.util.function.BooleanSupplier condition, String what)
            throws InterruptedException {
        for (int i = 0; i < 600 && !condition.getAsBoolean(); i++) {
            System.gc();
            Thread.sleep(100);
        }
        that(condition.getAsBoolean(), what);
    }
}
