// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"example.org/cadft"
	"example.org/cadft/internal/counter"
)

const config = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
  "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
  "hidden_act": "silu", "tie_word_embeddings": true}`

// must is the value of a call that has to succeed.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func ok(err error) {
	if err != nil {
		panic(err)
	}
}

// wants that an error is of a kind.
func wants(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error %v, expected %v", err, kind)
	}
}

// newContext has a counting allocator: gone waits until all of it is gone.
func newContext(t *testing.T, options cadft.Options) (*cadft.Context, counter.Counter) {
	count := counter.New()
	options.Allocator = count.Allocator()
	ctx := must(cadft.NewContext(&options))
	t.Cleanup(func() { ctx.Close() })
	return ctx, count
}

// gone checks that the library has freed everything, once.
func gone(t *testing.T, count counter.Counter) {
	t.Helper()
	if count.Live() != 0 || count.Destroyed() != 1 {
		t.Errorf("%d blocks are alive, the allocator was given up %d times", count.Live(), count.Destroyed())
	}
}

// collected lets finalizers run until the library has freed everything.
func collected(t *testing.T, count counter.Counter) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); count.Destroyed() == 0 && time.Now().Before(end); {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	gone(t, count)
}

func newModel(ctx *cadft.Context) *cadft.Model {
	model := must(cadft.NewModel(ctx))
	ok(model.Init(config, 1))
	return model
}

// tiny is a batch of two samples over logits that grow with the column.
func tiny() (cadft.Batch, []float32) {
	z := make([]float32, 4*5)
	for i := range z {
		z[i] = float32(i%5) / 2 * float32(1+i/5)
	}
	return cadft.Batch{
		Logits:    cadft.View(z, 4, 5),
		Labels:    cadft.View([]int32{0, 3, 2, 4}),
		SampleIDs: cadft.View([]int32{0, 0, 1, 1}),
	}, z
}

// Names and values by which a run is trained: see train_test.go.
type run struct {
	model     *cadft.Model
	loss      *cadft.Loss
	optimizer *cadft.Optimizer
}

func newRun(ctx *cadft.Context) run {
	r := run{newModel(ctx), must(cadft.NewLoss(ctx)), must(cadft.NewOptimizer(ctx))}
	must(r.optimizer.AddModel(r.model))
	ok(r.optimizer.Set("lr", 0.02))
	return r
}

func (r run) close() {
	r.model.Close()
	r.loss.Close()
	r.optimizer.Close()
}

// step of training on two sequences.
func (r run) step() cadft.Report {
	tokens := []int32{1, 5, 9, 13, 17, 2, 1, 6, 11, 16, 21, 26}
	ok(r.model.ZeroGrad())
	logits := must(r.model.Forward(cadft.ModelBatch{
		Tokens: cadft.View(tokens), CuSeqlens: cadft.View([]int32{0, 6, 12})}))
	report := must(r.loss.Compute(cadft.Batch{
		Logits:    logits,
		Labels:    cadft.View([]int32{5, 9, 13, 17, 2, -100, 6, 11, 16, 21, 26, -100}),
		SampleIDs: cadft.View([]int32{0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1})}, 2, logits))
	ok(r.model.Backward(logits))
	must(r.optimizer.Step())
	return report
}
