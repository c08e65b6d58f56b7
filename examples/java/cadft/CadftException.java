// SPDX-License-Identifier: Apache-2.0
package cadft;

/**
 * A call that the library refused or that failed. The message is the library's sentence; it
 * names the argument, its value and what was expected. The cause is what the host's callback
 * threw, if that ended the call.
 */
public final class CadftException extends RuntimeException {
    private static final long serialVersionUID = 1;

    private final int status;

    CadftException(int status, String message, Throwable cause) {
        super(message, cause);
        this.status = status;
    }

    /** Throws unless the status is CADFT_OK: for calls of {@link Cadft} itself. */
    public static void check(int status, Cadft.cadft_error error) {
        if (status != Cadft.CADFT_OK) {
            throw new CadftException(status, error.text(), null);
        }
    }

    /** CADFT_E_..., see {@link Cadft}. */
    public int status() {
        return status;
    }

    /** Its name, "CADFT_E_LABEL". */
    public String statusName() {
        return Cadft.cadft_status_string(status);
    }
}
