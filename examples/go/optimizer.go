// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// An Optimizer is AdamW or SGD with schedule, clipping and masters. Its knobs
// are in optimizer.h: CADFT_OPTIMIZER_LR is Set("lr", ...).
type Optimizer struct {
	knobs
	kept *[]*handle // whose memory C keeps addresses of; apart, see failure
}

// NewOptimizer creates an optimizer without parameters.
func NewOptimizer(c *Context) (*Optimizer, error) {
	p, err := c.create(func(p *C.cadft_context, e *C.cadft_error) (unsafe.Pointer, C.int32_t) {
		var out *C.cadft_optimizer
		status := C.cadft_optimizer_create(p, &out, e)
		return unsafe.Pointer(out), status
	})
	if err != nil {
		return nil, err
	}
	kept := &[]*handle{}
	o := &Optimizer{knobs{noun: C.GOCADFT_OPTIMIZER}, kept}
	o.open("optimizer", p, func(p unsafe.Pointer) {
		C.cadft_optimizer_destroy((*C.cadft_optimizer)(p))
		for _, h := range *kept {
			h.release(forEver)
		}
	})
	runtime.SetFinalizer(o, func(o *Optimizer) { o.Close() })
	return o, nil
}

func (o *Optimizer) do(f func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	return o.call(func(p unsafe.Pointer, e *C.cadft_error) C.int32_t { return f((*C.cadft_optimizer)(p), e) }, tensors...)
}

// An OptimizerFact is a number that an optimizer has.
type OptimizerFact int32

// Facts.
const (
	OptimizerSteps      OptimizerFact = C.CADFT_OPTIMIZER_STEPS   // done, without skipped ones
	OptimizerSkipped    OptimizerFact = C.CADFT_OPTIMIZER_SKIPPED // steps skipped
	OptimizerParameters OptimizerFact = C.CADFT_OPTIMIZER_PARAMETERS
	OptimizerStateBytes OptimizerFact = C.CADFT_OPTIMIZER_STATE_BYTES
)

// Fact reads one.
func (o *Optimizer) Fact(which OptimizerFact) (int64, error) { return o.fact(C.int32_t(which)) }

// Add a parameter of the host's: tensors of Buffers, which live on while the
// optimizer does. Go's own memory is refused, as C may not keep it.
func (o *Optimizer) Add(name string, value, grad Tensor) error {
	s, err := text("name", name)
	if err != nil {
		return err
	}
	for _, t := range []*Tensor{&value, &grad} {
		if t.err != nil {
			return t.err
		}
		if t.IsPresent() && (t.owner == nil || t.life != forEver) {
			return fail(ErrDevice, "%s is not in a Buffer: C may not keep addresses of Go's memory", name)
		}
	}
	return o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t {
		status := C.gocadft_optimizer_add(p, s, &value.view, value.at(), &grad.view, grad.at(), e)
		if status == C.CADFT_OK {
			o.keep(value.owner)
			o.keep(grad.owner)
		}
		return status
	}, &value, &grad)
}

// keep holds what the tensors of this call hold already.
func (o *Optimizer) keep(h *handle) {
	h.mu.Lock()
	h.used[forEver]++
	h.mu.Unlock()
	*o.kept = append(*o.kept, h)
}

// AddModel adds the trainable parameters of a model and returns how many. The
// model may be closed then: the optimizer keeps it.
func (o *Optimizer) AddModel(m *Model) (int, error) {
	model, err := m.hold(forEver, 0) // and not enter: the library asks whether it is busy
	if err != nil {
		return 0, err
	}
	defer m.release(forEver)
	var added C.int64_t
	err = o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t {
		return C.cadft_optimizer_add_model(p, (*C.cadft_model)(model), &added, e)
	})
	return int(added), err
}

// Group scales rate and weight decay of the parameters whose names match a
// shell pattern, and returns how many do.
func (o *Optimizer) Group(pattern string, lrScale, decayScale float64) (int, error) {
	s, err := text("pattern", pattern)
	if err != nil {
		return 0, err
	}
	var matched C.int64_t
	err = o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t {
		return C.cadft_optimizer_group(p, s, C.double(lrScale), C.double(decayScale), &matched, e)
	})
	return int(matched), err
}

// Norm is the sum of the squares of all gradients, for hosts whose parameters
// are spread over processes: the total goes to StepNorm.
func (o *Optimizer) Norm() (sumSquares float64, err error) {
	var out C.double
	err = o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t { return C.cadft_optimizer_norm(p, &out, e) })
	return float64(out), err
}

// A StepReport says what a step did.
type StepReport struct {
	Skipped      bool    // the norm was not finite, nothing was done
	Step         int64   // steps done, this one included
	LR           float64 // rate of this step, before groups
	GradNorm     float64 // before clipping
	Clip         float64 // factor on the gradient; 1: was not clipped
	SkippedTotal int64
}

// Step changes the weights by their gradients.
func (o *Optimizer) Step() (StepReport, error) { return o.step(nil) }

// StepNorm is Step with the square of the gradient's norm over all processes.
func (o *Optimizer) StepNorm(sumSquares float64) (StepReport, error) {
	c := C.double(sumSquares)
	return o.step(&c)
}

func (o *Optimizer) step(sumSquares *C.double) (StepReport, error) {
	r := C.cadft_optimizer_report{struct_size: C.sizeof_cadft_optimizer_report}
	err := o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t {
		return C.cadft_optimizer_step(p, sumSquares, &r, e)
	})
	if err != nil {
		return StepReport{}, err
	}
	return StepReport{r.skipped != 0, int64(r.step), float64(r.lr), float64(r.grad_norm), float64(r.clip),
		int64(r.skipped_total)}, nil
}

// LR is the learning rate of a step, the first being 0.
func (o *Optimizer) LR(step int64) (float64, error) {
	var out C.double
	err := o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t {
		return C.cadft_optimizer_lr(p, C.int64_t(step), &out, e)
	})
	return float64(out), err
}

// Save writes the state to a folder, as a whole or not at all.
func (o *Optimizer) Save(folder string) error {
	s, err := text("folder", folder)
	if err != nil {
		return err
	}
	return o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t { return C.cadft_optimizer_save(p, s, e) })
}

// Load takes it back, bit for bit, into an optimizer of the same parameters.
func (o *Optimizer) Load(folder string) error {
	s, err := text("folder", folder)
	if err != nil {
		return err
	}
	return o.do(func(p *C.cadft_optimizer, e *C.cadft_error) C.int32_t { return C.cadft_optimizer_load(p, s, e) })
}
