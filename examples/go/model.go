// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim_model.h"
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// A Model is a decoder-only transformer. Its knobs are in model.h:
// CADFT_MODEL_CHECKPOINTING is Set("checkpointing", true).
type Model struct {
	knobs
}

// NewModel creates a model without weights, for Load or Init.
func NewModel(c *Context) (*Model, error) {
	p, err := c.create(func(p *C.cadft_context, e *C.cadft_error) (unsafe.Pointer, C.int32_t) {
		var out *C.cadft_model
		status := C.cadft_model_create(p, &out, e)
		return unsafe.Pointer(out), status
	})
	if err != nil {
		return nil, err
	}
	m := &Model{knobs{noun: C.GOCADFT_MODEL}}
	m.failed = &failure{}
	m.open("model", p, func(p unsafe.Pointer) { C.cadft_model_destroy((*C.cadft_model)(p)) })
	runtime.SetFinalizer(m, func(m *Model) { m.Close() })
	return m, nil
}

func (m *Model) do(f func(p *C.cadft_model, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	return m.doAging(forEver, f, tensors...)
}

func (m *Model) doAging(life int, f func(p *C.cadft_model, e *C.cadft_error) C.int32_t, tensors ...*Tensor) error {
	return m.callAging(life, func(p unsafe.Pointer, e *C.cadft_error) C.int32_t { return f((*C.cadft_model)(p), e) }, tensors...)
}

// A ModelFact is a number that a model with weights has.
type ModelFact int32

// Facts.
const (
	ModelParameters   ModelFact = C.CADFT_MODEL_PARAMETERS // named parameters
	ModelElements     ModelFact = C.CADFT_MODEL_ELEMENTS   // numbers in them
	ModelVocab        ModelFact = C.CADFT_MODEL_VOCAB
	ModelHidden       ModelFact = C.CADFT_MODEL_HIDDEN
	ModelLayers       ModelFact = C.CADFT_MODEL_LAYERS
	ModelHeads        ModelFact = C.CADFT_MODEL_HEADS
	ModelKVHeads      ModelFact = C.CADFT_MODEL_KV_HEADS
	ModelHeadDim      ModelFact = C.CADFT_MODEL_HEAD_DIM
	ModelIntermediate ModelFact = C.CADFT_MODEL_INTERMEDIATE
	ModelPositions    ModelFact = C.CADFT_MODEL_POSITIONS // longest sequence
	ModelWeightBytes  ModelFact = C.CADFT_MODEL_WEIGHT_BYTES
	ModelGradBytes    ModelFact = C.CADFT_MODEL_GRAD_BYTES
	ModelArenaBytes   ModelFact = C.CADFT_MODEL_ARENA_BYTES // activations, as reserved now
)

// Fact reads one.
func (m *Model) Fact(which ModelFact) (int64, error) { return m.fact(C.int32_t(which)) }

// Load reads a folder of Hugging Face's transformers.
func (m *Model) Load(folder string) error {
	return m.named("folder", folder, func(p *C.cadft_model, s *C.char, e *C.cadft_error) C.int32_t {
		return C.cadft_model_load(p, s, e)
	})
}

// Init makes random weights from the text of a config.json.
func (m *Model) Init(config string, seed uint64) error {
	return m.named("config", config, func(p *C.cadft_model, s *C.char, e *C.cadft_error) C.int32_t {
		return C.cadft_model_init(p, s, C.size_t(len(config)), C.uint64_t(seed), e)
	})
}

// Save writes such a folder, as a whole or not at all.
func (m *Model) Save(folder string) error {
	return m.named("folder", folder, func(p *C.cadft_model, s *C.char, e *C.cadft_error) C.int32_t {
		return C.cadft_model_save(p, s, e)
	})
}

func (m *Model) named(what, value string, f func(p *C.cadft_model, s *C.char, e *C.cadft_error) C.int32_t) error {
	s, err := text(what, value)
	if err != nil {
		return err
	}
	return m.do(func(p *C.cadft_model, e *C.cadft_error) C.int32_t { return f(p, s, e) })
}

// A Parameter is a model's. Value may be written between Backward and Forward.
// Grad is the zero Tensor of a frozen parameter and before the first ZeroGrad;
// Freeze makes it void.
type Parameter struct {
	Name        string
	Value, Grad Tensor
	Trainable   bool
}

// Parameter at index, 0 to ModelParameters - 1.
func (m *Model) Parameter(index int) (Parameter, error) {
	var out Parameter
	err := m.do(func(p *C.cadft_model, e *C.cadft_error) C.int32_t {
		var name, value, grad *C.char
		var trainable C.int32_t
		var v, g C.gocadft_view
		status := C.gocadft_model_parameter(p, C.int64_t(index), &name, &v, &value, &g, &grad, &trainable, e)
		if status == C.CADFT_OK {
			out = Parameter{C.GoString(name), m.tensor(v, value, forEver), m.tensor(g, grad, gradients), trainable != 0}
		}
		return status
	})
	return out, err
}

func (m *Model) tensor(view C.gocadft_view, data *C.char, life int) Tensor {
	if view.present == 0 {
		return Tensor{}
	}
	t := Tensor{data: unsafe.Pointer(data), view: view, owner: &m.handle, life: life, born: m.now(life)}
	t.space = t.Len()
	return t
}

// Find is the index of a parameter by name.
func (m *Model) Find(name string) (int, error) {
	var out C.int64_t
	err := m.named("name", name, func(p *C.cadft_model, s *C.char, e *C.cadft_error) C.int32_t {
		return C.cadft_model_find(p, s, &out, e)
	})
	return int(out), err
}

// Freeze the parameters whose names match a shell pattern, or thaw them; it
// returns how many match. Gradients are gone: call ZeroGrad again.
func (m *Model) Freeze(pattern string, trainable bool) (int, error) {
	s, err := text("pattern", pattern)
	if err != nil {
		return 0, err
	}
	var matched C.int64_t
	err = m.doAging(gradients, func(p *C.cadft_model, e *C.cadft_error) C.int32_t {
		status := C.cadft_model_freeze(p, s, flag(trainable), &matched, e)
		if status != C.CADFT_OK {
			m.rejuvenate(gradients)
		}
		return status
	})
	return int(matched), err
}

// Limits of the largest batch that is coming; zero means as many as rows.
type Limits struct {
	NoGrad                     bool
	Rows, LogitRows, Sequences int
}

func (l Limits) c() C.cadft_model_limits {
	return C.cadft_model_limits{struct_size: C.sizeof_cadft_model_limits, no_grad: flag(l.NoGrad),
		rows: C.int64_t(l.Rows), logit_rows: C.int64_t(l.LogitRows), sequences: C.int64_t(l.Sequences)}
}

// Plan is the bytes of activations that batches within the limits need.
func (m *Model) Plan(limits Limits) (int64, error) {
	var bytes C.int64_t
	c := limits.c()
	err := m.do(func(p *C.cadft_model, e *C.cadft_error) C.int32_t { return C.cadft_model_plan(p, &c, &bytes, e) })
	return int64(bytes), err
}

// Reserve allocates them.
func (m *Model) Reserve(limits Limits) error {
	c := limits.c()
	return m.doAging(activations, func(p *C.cadft_model, e *C.cadft_error) C.int32_t {
		return C.cadft_model_reserve(p, &c, e)
	})
}

// A ModelBatch is sequences and what is wanted of them; integers are int32 or
// int64.
type ModelBatch struct {
	Tokens    Tensor // packed [rows], or padded [B, T]
	CuSeqlens Tensor // packed: [n + 1]; none: one sequence
	Lengths   Tensor // padded: [B]; none: T each
	LogitRows Tensor // the packed rows that need logits; none: all
	NoGrad    bool   // no backward pass follows
	Stream    unsafe.Pointer
}

// Forward computes logits, float32 [logit rows, vocab], in the model's memory:
// the loss may write the gradient there. They are void, and refused by every
// call, after the next Forward, Reserve or Generate, even one that fails, and
// after a change of a knob. Those are ErrBusy while a call of another handle
// reads the logits.
func (m *Model) Forward(b ModelBatch) (Tensor, error) {
	var logits Tensor
	batch := C.cadft_model_batch{struct_size: C.sizeof_cadft_model_batch, no_grad: flag(b.NoGrad), stream: b.Stream}
	views := C.gocadft_model_views{tokens: b.Tokens.view, cu_seqlens: b.CuSeqlens.view, lengths: b.Lengths.view,
		logit_rows: b.LogitRows.view}
	err := m.doAging(activations, func(p *C.cadft_model, e *C.cadft_error) C.int32_t {
		var view C.gocadft_view
		var data *C.char
		status := C.gocadft_model_forward(p, &batch, &views, b.Tokens.at(), b.CuSeqlens.at(), b.Lengths.at(),
			b.LogitRows.at(), &view, &data, e)
		if status == C.CADFT_OK {
			logits = m.tensor(view, data, activations)
		}
		return status
	}, &b.Tokens, &b.CuSeqlens, &b.Lengths, &b.LogitRows)
	return logits, err
}

// Backward adds the gradient of the last forward pass to the parameters'
// gradients, once for each.
func (m *Model) Backward(gradLogits Tensor) error {
	return m.do(func(p *C.cadft_model, e *C.cadft_error) C.int32_t {
		return C.gocadft_model_backward(p, &gradLogits.view, gradLogits.at(), e)
	}, &gradLogits)
}

// ZeroGrad sets all gradients to zero; the first call allocates them.
func (m *Model) ZeroGrad() error {
	return m.do(func(p *C.cadft_model, e *C.cadft_error) C.int32_t { return C.cadft_model_zero_grad(p, e) })
}
