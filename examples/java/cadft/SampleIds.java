// SPDX-License-Identifier: Apache-2.0
package cadft;

import cadft.Cadft.cadft_error;
import java.lang.ref.Reference;

/** Which demonstration each row belongs to: int32 tensors for {@link Loss.Batch}. */
public final class SampleIds {
    private SampleIds() {}

    /** Padded rows [B, T]; `lengths` is null, or int32 or int64 [B]. */
    public static Tensor padded(long sequences, long length, Tensor lengths, int firstId) {
        Tensor ids = ids(sequences, length);
        cadft_error error = new cadft_error();
        try {
            CadftException.check(Cadft.cadft_sample_ids_padded(sequences, length,
                    Tensor.viewOf(lengths), firstId, ids.data(), error), error);
        } finally {
            Reference.reachabilityFence(lengths);
        }
        return ids;
    }

    /** Packed rows; sequence i is rows [cuSeqlens[i], cuSeqlens[i + 1]). */
    public static Tensor packed(Tensor cuSeqlens, long rows, int firstId) {
        Tensor ids = ids(rows);
        cadft_error error = new cadft_error();
        try {
            CadftException.check(Cadft.cadft_sample_ids_cu_seqlens(Tensor.viewOf(cuSeqlens), rows,
                    firstId, ids.data(), error), error);
        } finally {
            Reference.reachabilityFence(cuSeqlens);
        }
        return ids;
    }

    /** Ids, and how many samples were found. */
    public record Found(Tensor ids, long samples) {}

    /** Packed rows; a sample starts wherever the position does not rise. */
    public static Found positions(Tensor positionIds, int firstId) {
        Tensor ids = ids(positionIds.shape());
        long[] samples = new long[1];
        cadft_error error = new cadft_error();
        try {
            CadftException.check(Cadft.cadft_sample_ids_position_ids(positionIds.view(), firstId,
                    ids.data(), samples, error), error);
        } finally {
            Reference.reachabilityFence(positionIds);
        }
        return new Found(ids, samples[0]);
    }

    /** One dimension: as many rows as the shape has elements. */
    private static Tensor ids(long... shape) {
        long rows = 1;
        for (long d : shape) {
            rows = Math.multiplyExact(rows, Math.max(0, d));
        }
        return Tensor.allocate(Cadft.CADFT_DTYPE_I32, rows);
    }
}
