// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim_loss.h"
*/
import "C"

// SampleIDsPadded fills the sample ids of padded [sequences, length] rows:
// those of sequence b before lengths[b] (int32 or int64; the zero Tensor: all)
// belong to sample first + b, the rest to none.
func SampleIDsPadded(ids []int32, sequences, length int, lengths Tensor, first int32) error {
	if sequences > 0 && length > len(ids)/sequences {
		return fail(ErrSpace, "ids has %d elements for %d sequences of %d", len(ids), sequences, length)
	}
	return with([]*Tensor{&lengths}, func(e *C.cadft_error) C.int32_t {
		return C.gocadft_sample_ids_padded(C.int64_t(sequences), C.int64_t(length), &lengths.view, lengths.at(),
			C.int32_t(first), (*C.int32_t)(pointer(some(ids))), e)
	})
}

// SampleIDsPacked fills the sample ids of packed rows: cuSeqlens[i] to
// cuSeqlens[i+1] - 1 belong to sample first + i.
func SampleIDsPacked(ids []int32, cuSeqlens Tensor, first int32) error {
	return with([]*Tensor{&cuSeqlens}, func(e *C.cadft_error) C.int32_t {
		return C.gocadft_sample_ids_cu_seqlens(&cuSeqlens.view, cuSeqlens.at(), C.int64_t(len(ids)),
			C.int32_t(first), (*C.int32_t)(pointer(some(ids))), e)
	})
}

// SampleIDsPositions fills the sample ids of packed rows from position ids: a
// sample starts wherever the position does not rise. It returns their number.
func SampleIDsPositions(ids []int32, positions Tensor, first int32) (int, error) {
	if positions.Len() > len(ids) {
		return 0, fail(ErrSpace, "ids has %d elements for %d positions", len(ids), positions.Len())
	}
	var samples C.int64_t
	err := with([]*Tensor{&positions}, func(e *C.cadft_error) C.int32_t {
		return C.gocadft_sample_ids_position_ids(&positions.view, positions.at(), C.int32_t(first),
			(*C.int32_t)(pointer(some(ids))), &samples, e)
	})
	return int(samples), err
}

// some memory, where C refuses NULL even for nothing.
func some[T any](s []T) []T {
	if len(s) == 0 {
		return make([]T, 1)
	}
	return s
}
