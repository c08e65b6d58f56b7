// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim_loss.h"
*/
import "C"

// A Step is one optimizer step of a Loss in phases, for several micro-batches
// or several processes:
//
//	step, err := loss.Begin(samples)
//	defer step.Cancel() // does nothing after End
//	for each micro-batch:
//		micro[i], err = step.Observe(batch, cadft.Tensor{})
//	err = step.Weigh()
//	for each micro-batch:
//		err = step.Grad(micro[i], batch, grad)
//	report, err := step.End()
//
// Loss.Report, Loss.Rows and Loss.Samples tell of it, also before the end.
// After End or Cancel every method but Cancel returns ErrPhase.
type Step struct {
	loss *Loss
	over bool // guarded by the loss: it is inside the call
}

// Begin starts a step; sample ids are below samples.
func (l *Loss) Begin(samples int) (*Step, error) {
	err := l.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		return C.cadft_loss_begin(p, C.int64_t(samples), e)
	})
	if err != nil {
		return nil, err
	}
	return &Step{loss: l}, nil
}

// do makes a call of a step that is not over.
func (s *Step) do(f func(p *C.cadft_loss, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	over := false
	err := s.loss.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		if over = s.over; over {
			return C.CADFT_E_PHASE
		}
		return f(p, e)
	}, tensors...)
	if over {
		return fail(ErrPhase, "the step is over")
	}
	return err
}

// Observe reads a micro-batch and returns its number. With a tensor, softmax -
// target goes there in the same sweep; the true gradient is that times
// Rows(micro, RowScale), after Weigh.
func (s *Step) Observe(b Batch, unit Tensor) (micro int64, err error) {
	r := reading{call: C.GOCADFT_OBSERVE}
	err = s.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		return r.read(p, &b, &unit, e)
	}, b.tensors(&unit)...)
	return int64(r.micro), err
}

// Weigh turns what was observed into weights. Scope exact: once, after the
// last Observe. Scopes running and local: after each micro-batch, or several.
func (s *Step) Weigh() error {
	return s.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t { return C.cadft_loss_weigh(p, e) })
}

// Grad writes the gradient of a micro-batch, whose number may be -1 for logits
// that were computed again; grad as in Compute.
func (s *Step) Grad(micro int64, b Batch, grad Tensor) error {
	r := reading{call: C.GOCADFT_GRAD, number: micro}
	return s.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		return r.read(p, &b, &grad, e)
	}, b.tensors(&grad)...)
}

// End ends the step.
func (s *Step) End() (Report, error) {
	report := C.cadft_loss_report{struct_size: C.sizeof_cadft_loss_report}
	err := s.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		status := C.cadft_loss_end(p, &report, e)
		s.over = status == C.CADFT_OK
		return status
	})
	return reportOf(&report, err)
}

// Cancel leaves the step as if it had not begun; a step that is over is left
// alone. Its error is ErrBusy from a callback, and ErrClosed.
func (s *Step) Cancel() error {
	return s.loss.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		if !s.over {
			C.cadft_loss_cancel(p)
			s.over = true
		}
		return C.CADFT_OK
	})
}

// An Exchange is what processes add up, or take the largest of, element by
// element: loss.h says of each which, over which processes and when.
type Exchange int32

// The exchanges.
const (
	ExchangeRowMax  Exchange = C.CADFT_EXCHANGE_ROW_MAX
	ExchangeRowSum  Exchange = C.CADFT_EXCHANGE_ROW_SUM
	ExchangeSamples Exchange = C.CADFT_EXCHANGE_SAMPLES
	ExchangeMoments Exchange = C.CADFT_EXCHANGE_MOMENTS
	ExchangeWeights Exchange = C.CADFT_EXCHANGE_WEIGHTS
	ExchangeReport  Exchange = C.CADFT_EXCHANGE_REPORT
)

// Export is this process's part, to be reduced over the processes; shard of
// shards is its slot, 0 of 1 for the kinds without slots.
func (s *Step) Export(kind Exchange, shard, shards int) (values []float64, err error) {
	// Twice, for the length first: as one call, which the loss is inside of.
	err = s.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		var needed C.size_t
		status := C.cadft_loss_export(p, C.int32_t(kind), C.int64_t(shard), C.int64_t(shards), nil, 0, &needed, e)
		if status != C.CADFT_OK || needed == 0 {
			return status
		}
		values = make([]float64, needed)
		return C.cadft_loss_export(p, C.int32_t(kind), C.int64_t(shard), C.int64_t(shards),
			(*C.double)(pointer(values)), needed, &needed, e)
	})
	return values, err
}

// Import takes the reduced array back.
func (s *Step) Import(kind Exchange, values []float64) error {
	return s.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		return C.cadft_loss_import(p, C.int32_t(kind), (*C.double)(pointer(values)), C.size_t(len(values)), e)
	})
}
