// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim_loss.h"
*/
import "C"

import (
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// A Loss turns logits and labels into compatibility-weighted gradients. Its
// knobs are in loss.h: CADFT_LOSS_BETA is Set("beta", ...).
type Loss struct {
	knobs
}

// NewLoss creates a loss with the defaults: CADFT.
func NewLoss(c *Context) (*Loss, error) {
	p, err := c.create(func(p *C.cadft_context, e *C.cadft_error) (unsafe.Pointer, C.int32_t) {
		var out *C.cadft_loss
		status := C.cadft_loss_create(p, &out, e)
		return unsafe.Pointer(out), status
	})
	if err != nil {
		return nil, err
	}
	l := &Loss{knobs{noun: C.GOCADFT_LOSS}}
	l.failed = &failure{}
	l.open("loss", p, func(p unsafe.Pointer) { C.cadft_loss_destroy((*C.cadft_loss)(p)) })
	runtime.SetFinalizer(l, func(l *Loss) { l.Close() })
	return l, nil
}

func (l *Loss) do(f func(p *C.cadft_loss, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	return l.call(func(p unsafe.Pointer, e *C.cadft_error) C.int32_t { return f((*C.cadft_loss)(p), e) }, tensors...)
}

// A Batch is one micro-batch.
type Batch struct {
	Logits    Tensor // float32, BF16 or F16 [..., V], columns dense
	Labels    Tensor // int32 or int64 [rows] or [B, T]
	SampleIDs Tensor // int32 [rows]: which demonstration; negative: none
	K         Tensor // objective host without callback: float32 or float64 [rows]

	VocabValid int64 // columns that are vocabulary; 0: all
	VocabStart int64 // vocabulary parallel: first id of these columns
	VocabTotal int64 // and all of them; 0: not sharded

	Stream unsafe.Pointer // the device's; nil for host memory
}

// A reading is a call that reads a batch: which, its number (of samples, or of
// the micro-batch) and what it fills in.
type reading struct {
	call   C.int32_t
	number int64
	scale  []float32
	report C.cadft_loss_report
	micro  C.int64_t
}

// read makes such a call.
func (r *reading) read(p *C.cadft_loss, b *Batch, grad *Tensor, e *C.cadft_error) C.int32_t {
	r.report.struct_size = C.sizeof_cadft_loss_report
	batch := C.cadft_loss_batch{struct_size: C.sizeof_cadft_loss_batch, vocab_valid: C.int64_t(b.VocabValid),
		vocab_start: C.int64_t(b.VocabStart), vocab_total: C.int64_t(b.VocabTotal), stream: b.Stream}
	views := C.gocadft_loss_views{logits: b.Logits.view, labels: b.Labels.view, sample_ids: b.SampleIDs.view,
		k: b.K.view, grad: grad.view}
	return C.gocadft_loss_read(r.call, p, C.int64_t(r.number), &batch, &views,
		b.Logits.at(), b.Labels.at(), b.SampleIDs.at(), b.K.at(), grad.at(),
		(*C.float)(pointer(r.scale)), &r.report, &r.micro, e)
}

func (b *Batch) tensors(grad *Tensor) []*Tensor {
	return []*Tensor{&b.Logits, &b.Labels, &b.SampleIDs, &b.K, grad}
}

// A Report says what a step did, over the global batch as far as the loss
// knows it.
type Report struct {
	Loss       float64 // sum of scale * w * token loss
	NLL        float64 // mean negative log-likelihood: the plain SFT loss
	MeanP      float64 // mean probability of the labels
	MeanW      float64 // mean sample weight, before renormalise
	MinW       float64
	ShareBelow float64 // share of the samples with w < 1
	Mu, Sigma  float64 // of c, as the weights used them
	GradScale  float64 // sum a_r k_r over what SFT would have
	Samples    int64   // in the statistics
	Rows       int64   // of them that count
	Skipped    int64   // samples skipped as non-finite
	Infinite   int64   // samples with c = +inf
}

func reportOf(r *C.cadft_loss_report, err error) (Report, error) {
	if err != nil {
		return Report{}, err
	}
	return Report{
		Loss: float64(r.loss), NLL: float64(r.nll), MeanP: float64(r.mean_p), MeanW: float64(r.mean_w),
		MinW: float64(r.min_w), ShareBelow: float64(r.share_below), Mu: float64(r.mu), Sigma: float64(r.sigma),
		GradScale: float64(r.grad_scale), Samples: int64(r.n_samples), Rows: int64(r.n_rows),
		Skipped: int64(r.n_skipped), Infinite: int64(r.n_infinite),
	}, nil
}

// Compute is the simple case: the batch is the whole global batch, with sample
// ids below samples. The gradient with respect to the logits goes to grad,
// which may be the logits themselves; the zero Tensor: report only.
func (l *Loss) Compute(b Batch, samples int, grad Tensor) (Report, error) {
	return l.compute(b, samples, grad, nil)
}

// ComputeUnit writes softmax - target to grad, in one sweep, and to scale, one
// number a row, what to multiply each row with.
func (l *Loss) ComputeUnit(b Batch, samples int, grad Tensor, scale []float32) (Report, error) {
	if rows := b.Labels.Len(); len(scale) == 0 || len(scale) < rows {
		return Report{}, fail(ErrSpace, "scale has %d elements for %d rows", len(scale), rows)
	}
	return l.compute(b, samples, grad, scale)
}

func (l *Loss) compute(b Batch, samples int, grad Tensor, scale []float32) (Report, error) {
	r := reading{call: C.GOCADFT_COMPUTE, number: int64(samples), scale: scale}
	err := l.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		return r.read(p, &b, &grad, e)
	}, b.tensors(&grad)...)
	return reportOf(&r.report, err)
}

// SetCoefficient registers the coefficient of objective host: it gets negative
// log-likelihood, probability and entropy of a micro-batch's rows and writes
// k; nil removes it. An error, or a panic, fails the call that asked, which
// returns an Error of ErrCallback that wraps it. The slices are C's and end
// with the callback. It may not use this loss; and if it refers to this loss,
// the loss is not collected until it is closed.
func (l *Loss) SetCoefficient(fn func(l, p, entropy, k []float64) error) error {
	return l.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		user := C.uintptr_t(0)
		if fn != nil {
			user = C.uintptr_t(cgo.NewHandle(&coefficient{fn, l.failed})) // given back by gocadftRelease
		}
		return C.gocadft_loss_set_coefficient(p, user, e)
	})
}

// Report says what Step.End would report now, once all is weighed: for who
// needs the loss before the gradients. After the step, what it reported.
func (l *Loss) Report() (Report, error) {
	report := C.cadft_loss_report{struct_size: C.sizeof_cadft_loss_report}
	err := l.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t { return C.cadft_loss_get_report(p, &report, e) })
	return reportOf(&report, err)
}

// A RowValue is a number of each row of a micro-batch.
type RowValue int32

// What there is of rows.
const (
	RowNLL     RowValue = C.CADFT_ROWS_NLL
	RowP       RowValue = C.CADFT_ROWS_P
	RowEntropy RowValue = C.CADFT_ROWS_ENTROPY
	RowK       RowValue = C.CADFT_ROWS_K
	RowScale   RowValue = C.CADFT_ROWS_SCALE // after weigh
	RowLoss    RowValue = C.CADFT_ROWS_LOSS  // after weigh
)

// Rows copies a number of each row of an observed micro-batch, of the step at
// hand or of the one that ended.
func (l *Loss) Rows(micro int64, what RowValue) ([]float64, error) {
	return copied(&l.handle, 0, func(p unsafe.Pointer, out *float64, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_loss_get_rows((*C.cadft_loss)(p), C.int64_t(micro), C.int32_t(what), (*C.double)(out), n, needed, e)
	})
}

// A SampleValue is a number of each sample of a step.
type SampleValue int32

// What there is of samples.
const (
	SampleC    SampleValue = C.CADFT_SAMPLES_C
	SampleChat SampleValue = C.CADFT_SAMPLES_CHAT
	SampleW    SampleValue = C.CADFT_SAMPLES_W
	SampleRows SampleValue = C.CADFT_SAMPLES_ROWS
)

// Samples copies a number of each sample, likewise.
func (l *Loss) Samples(what SampleValue) ([]float64, error) {
	return copied(&l.handle, 0, func(p unsafe.Pointer, out *float64, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_loss_get_samples((*C.cadft_loss)(p), C.int32_t(what), (*C.double)(out), n, needed, e)
	})
}

// SaveState is the running statistics of scope running, a few dozen bytes.
func (l *Loss) SaveState() ([]byte, error) {
	return copied(&l.handle, 0, func(p unsafe.Pointer, out *byte, n C.size_t, needed *C.size_t, e *C.cadft_error) C.int32_t {
		return C.cadft_loss_state_save((*C.cadft_loss)(p), unsafe.Pointer(out), n, needed, e)
	})
}

// LoadState takes them back, bit for bit.
func (l *Loss) LoadState(state []byte) error {
	return l.do(func(p *C.cadft_loss, e *C.cadft_error) C.int32_t {
		return C.cadft_loss_state_load(p, pointer(state), C.size_t(len(state)), e)
	})
}
