// SPDX-License-Identifier: Apache-2.0

package cadft

/*
#include "shim_model.h"
*/
import "C"

import (
	"math"
	"runtime/cgo"
)

// A Token was drawn.
type Token struct {
	Prompt   int // which
	Position int // 0: its first new token
	ID       int32
	LogProb  float64 // at temperature 1, before top_p
}

// Prompts is what to generate from; zero means the most likely token each
// time.
type Prompts struct {
	Tokens, CuSeqlens, Lengths Tensor // as in ModelBatch

	MaxNewTokens int     // at least 1
	Temperature  float64 // 0: the largest logit
	TopP         float64 // 0: 1
	StopTokens   []int32 // end a prompt, are kept

	// Random numbers are a function of seed, key, step and position.
	Seed uint64
	Keys []int64 // one a prompt; nil: 0, 1, ...
	Step int64

	// OnToken may be nil. It is told each token, and may end its prompt there
	// (the token is kept), or all of Generate by an error or a panic, which
	// the Error of ErrCallback wraps. It may not use this model.
	OnToken func(Token) (stop bool, err error)
}

// count of the prompts. Of shapes that the library refuses it is only not too
// small.
func (g *Prompts) count() int {
	switch {
	case g.Tokens.view.ndim > 1:
		return int(g.Tokens.view.shape[0])
	case g.CuSeqlens.Len() > 1:
		return g.CuSeqlens.Len() - 1
	}
	return 1
}

// Generate continues prompts and returns the new tokens of each. With an error
// that is not about the arguments they are what was drawn before.
func (m *Model) Generate(g Prompts) ([][]int32, error) {
	n := g.count()
	switch {
	case g.Tokens.err != nil:
		return nil, g.Tokens.err
	case g.Keys != nil && len(g.Keys) != n:
		return nil, fail(ErrShape, "%d keys for %d prompts", len(g.Keys), n)
	case n > math.MaxInt32, n > 0 && g.MaxNewTokens > math.MaxInt32/n:
		return nil, fail(ErrArg, "%d new tokens of %d prompts are too many", g.MaxNewTokens, n)
	}
	columns := g.MaxNewTokens
	if columns < 0 {
		columns = 0 // the library refuses it
	}
	drawn, counts := make([]int32, n*columns), make([]int64, n)
	desc := C.cadft_generate_desc{struct_size: C.sizeof_cadft_generate_desc, max_new_tokens: C.int64_t(g.MaxNewTokens),
		temperature: C.double(g.Temperature), top_p: C.double(g.TopP), n_stop_tokens: C.int64_t(len(g.StopTokens)),
		seed: C.uint64_t(g.Seed), step: C.int64_t(g.Step), n_prompts: C.int64_t(n)}
	views := C.gocadft_model_views{tokens: g.Tokens.view, cu_seqlens: g.CuSeqlens.view, lengths: g.Lengths.view}
	err := m.doAging(activations, func(p *C.cadft_model, e *C.cadft_error) C.int32_t {
		user := C.uintptr_t(0)
		if g.OnToken != nil {
			h := cgo.NewHandle(&token{g.OnToken, m.failed})
			defer h.Delete()
			user = C.uintptr_t(h)
		}
		return C.gocadft_model_generate(p, &desc, &views, g.Tokens.at(), g.CuSeqlens.at(), g.Lengths.at(),
			(*C.int32_t)(pointer(g.StopTokens)), (*C.int64_t)(pointer(g.Keys)), user,
			(*C.int32_t)(pointer(some(drawn))), (*C.int64_t)(pointer(some(counts))), e)
	}, &g.Tokens, &g.CuSeqlens, &g.Lengths)
	out := make([][]int32, n)
	for i := range out {
		out[i] = drawn[i*columns:][:counts[i]:counts[i]]
	}
	return out, err
}
