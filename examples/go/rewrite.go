// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"runtime"
	"unsafe"
)

// A Rewriter follows the compatibility of each sample of a data set, picks
// those that stay incompatible and keeps their new targets. Its knobs are in
// rewrite.h: CADFT_REWRITE_INTERVAL is Set("interval", ...).
type Rewriter struct {
	knobs
}

// NewRewriter creates one for a data set of that many samples.
func NewRewriter(c *Context, samples int) (*Rewriter, error) {
	p, err := c.create(func(p *C.cadft_context, e *C.cadft_error) (unsafe.Pointer, C.int32_t) {
		var out *C.cadft_rewrite
		status := C.cadft_rewrite_create(p, C.int64_t(samples), &out, e)
		return unsafe.Pointer(out), status
	})
	if err != nil {
		return nil, err
	}
	r := &Rewriter{knobs{noun: C.GOCADFT_REWRITE}}
	r.open("rewriter", p, func(p unsafe.Pointer) { C.cadft_rewrite_destroy((*C.cadft_rewrite)(p)) })
	runtime.SetFinalizer(r, func(r *Rewriter) { r.Close() })
	return r, nil
}

func (r *Rewriter) do(f func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t) error {
	return r.call(func(p unsafe.Pointer, e *C.cadft_error) C.int32_t { return f((*C.cadft_rewrite)(p), e) })
}

// A RewriteFact is a number that a Rewriter has.
type RewriteFact int32

// Facts.
const (
	RewriteSamples   RewriteFact = C.CADFT_REWRITE_SAMPLES
	RewriteObserved  RewriteFact = C.CADFT_REWRITE_OBSERVED  // observations ever taken
	RewriteIgnored   RewriteFact = C.CADFT_REWRITE_IGNORED   // not taken
	RewriteOpen      RewriteFact = C.CADFT_REWRITE_OPEN      // picks that are open now
	RewriteRewritten RewriteFact = C.CADFT_REWRITE_REWRITTEN // samples with a replacement now
	RewritePicked    RewriteFact = C.CADFT_REWRITE_PICKED    // picks ever handed out
	RewriteAccepted  RewriteFact = C.CADFT_REWRITE_ACCEPTED
	RewriteRejected  RewriteFact = C.CADFT_REWRITE_REJECTED
	RewriteLastStep  RewriteFact = C.CADFT_REWRITE_LAST_STEP // of the last picks; -1 before
	RewriteBytes     RewriteFact = C.CADFT_REWRITE_BYTES
)

// Fact reads one.
func (r *Rewriter) Fact(which RewriteFact) (int64, error) { return r.fact(C.int32_t(which)) }

// Observe what an optimizer step has shown of its samples: c and chat as from
// Loss.Samples. One of them may be nil, as the knob "signal" allows.
func (r *Rewriter) Observe(ids []int64, c, chat []float64) error {
	if c != nil && len(c) != len(ids) || chat != nil && len(chat) != len(ids) {
		return fail(ErrShape, "%d ids with %d values of c and %d of chat", len(ids), len(c), len(chat))
	}
	return r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_observe(p, (*C.int64_t)(pointer(ids)), (*C.double)(pointer(c)), (*C.double)(pointer(chat)),
			C.int64_t(len(ids)), e)
	})
}

// A SampleInfo is what is known of a sample.
type SampleInfo struct {
	Open         bool    // picked, neither committed nor rejected
	Average      float64 // of the signal; NaN without observation
	C            float64 // last observed; NaN if unknown
	Observations int64   // of the present target; 65535: or more
	Rewrites     int64
	Rewritten    bool // a replacement holds
}

// Sample reads about one.
func (r *Rewriter) Sample(id int64) (SampleInfo, error) {
	info := C.cadft_rewrite_info{struct_size: C.sizeof_cadft_rewrite_info}
	err := r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_sample(p, C.int64_t(id), &info, e)
	})
	if err != nil {
		return SampleInfo{}, err
	}
	return SampleInfo{info.is_open != 0, float64(info.average), float64(info.c), int64(info.observations),
		int64(info.rewrites), info.is_rewritten != 0}, nil
}

// Due says whether rewrites are due at a step.
func (r *Rewriter) Due(step int64) (bool, error) {
	var due C.int32_t
	err := r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_due(p, C.int64_t(step), &due, e)
	})
	return due != 0, err
}

// Select picks samples to rewrite, by rising id, if the step is due; else
// none. They are open then.
func (r *Rewriter) Select(step int64) ([]int64, error) {
	// Not without space at first: that only asks, and does not open picks.
	return copied(&r.handle, 64, func(p unsafe.Pointer, out *int64, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_select((*C.cadft_rewrite)(p), C.int64_t(step), (*C.int64_t)(out), n, needed, e)
	})
}

// Open picks, by rising id.
func (r *Rewriter) Open() ([]int64, error) {
	return copied(&r.handle, 0, func(p unsafe.Pointer, out *int64, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_open((*C.cadft_rewrite)(p), (*C.int64_t)(out), n, needed, e)
	})
}

// Cancel closes all open picks.
func (r *Rewriter) Cancel() error {
	return r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		C.cadft_rewrite_cancel(p)
		return C.CADFT_OK
	})
}

// A Rejection is why an answer was not taken.
type Rejection int32

// Why not.
const (
	Accepted         Rejection = C.CADFT_REJECTED_NOT
	RejectedTooShort Rejection = C.CADFT_REJECTED_TOO_SHORT
	RejectedTooLong  Rejection = C.CADFT_REJECTED_TOO_LONG
	RejectedNotEnded Rejection = C.CADFT_REJECTED_NOT_ENDED
	RejectedNotLower Rejection = C.CADFT_REJECTED_NOT_LOWER
)

func (r Rejection) String() string {
	switch r {
	case Accepted:
		return "accepted"
	case RejectedTooShort:
		return "too short"
	case RejectedTooLong:
		return "too long"
	case RejectedNotEnded:
		return "not ended"
	case RejectedNotLower:
		return "not lower"
	}
	return fmt.Sprintf("Rejection(%d)", int32(r))
}

// An Answer to a pick.
type Answer struct {
	Tokens []int32 // copied; with Kept only their number counts
	Ended  bool    // by itself
	Kept   bool    // by the host: the Rewriter does not store the tokens
	// Mean negative log-likelihood of this answer, and of the target that it
	// replaces (NaN: the one last observed). Read with knob "require_lower".
	NewC, OldC float64
}

// Commit gives an open pick its answer, which closes it.
func (r *Rewriter) Commit(id int64, a Answer) (Rejection, error) {
	result := C.cadft_rewrite_result{struct_size: C.sizeof_cadft_rewrite_result, ended: flag(a.Ended),
		n_tokens: C.int64_t(len(a.Tokens)), c_new: C.double(a.NewC), c_old: C.double(a.OldC)}
	tokens, rejected := (*C.int32_t)(nil), C.int32_t(0)
	if !a.Kept {
		tokens = (*C.int32_t)(pointer(some(a.Tokens)))
	}
	err := r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.gocadft_rewrite_commit(p, C.int64_t(id), &result, tokens, &rejected, e)
	})
	return Rejection(rejected), err
}

// Reject closes an open pick without an answer.
func (r *Rewriter) Reject(id int64) error {
	return r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_reject(p, C.int64_t(id), e)
	})
}

// Target is a copy of the replacement that holds for a sample now; nil when
// the original holds, or when the host keeps the replacement.
func (r *Rewriter) Target(id int64) (tokens []int32, err error) {
	err = r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		var first *C.int32_t
		var n C.int64_t
		status := C.cadft_rewrite_target(p, C.int64_t(id), &first, &n, e)
		if status == C.CADFT_OK && first != nil {
			tokens = append([]int32{}, unsafe.Slice((*int32)(first), int(n))...)
		}
		return status
	})
	return tokens, err
}

// Restore takes a sample back to its original target.
func (r *Rewriter) Restore(id int64) error {
	return r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_restore(p, C.int64_t(id), e)
	})
}

// SaveState is everything but the knobs.
func (r *Rewriter) SaveState() ([]byte, error) {
	return copied(&r.handle, 0, func(p unsafe.Pointer, out *byte, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_state_save((*C.cadft_rewrite)(p), unsafe.Pointer(out), n, needed, e)
	})
}

// LoadState takes it back, bit for bit.
func (r *Rewriter) LoadState(state []byte) error {
	return r.do(func(p *C.cadft_rewrite, e *C.cadft_error) C.int32_t {
		return C.cadft_rewrite_state_load(p, pointer(state), C.size_t(len(state)), e)
	})
}
