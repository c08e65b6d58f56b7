// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"errors"
	"io"
	"math/rand"
	"runtime"
	"strings"
	"testing"

	"example.org/cadft"
)

// everything there is, in use: an optimizer that keeps model and buffer, a
// step that has begun, a callback, picks that are open.
func everything(ctx *cadft.Context) []io.Closer {
	r := newRun(ctx)
	r.step()
	buffer, grad := must(cadft.NewBuffer(cadft.Float32, 2, 2)), must(cadft.NewBuffer(cadft.Float32, 2, 2))
	second := must(cadft.NewOptimizer(ctx))
	ok(second.Add("own", buffer.Tensor(), grad.Tensor()))
	ok(r.loss.SetCoefficient(func(l, p, entropy, k []float64) error { return nil }))
	must(r.loss.Begin(2))
	rewriter := must(cadft.NewRewriter(ctx, 10))
	return []io.Closer{ctx, r.model, r.loss, r.optimizer, buffer, grad, second, rewriter}
}

func TestClosingInAnyOrderTwice(t *testing.T) {
	seed := int64(20240607)
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	for round := 0; round < 30; round++ {
		ctx, count := newContext(t, cadft.Options{Threads: 1})
		handles := everything(ctx)
		random.Shuffle(len(handles), func(i, j int) { handles[i], handles[j] = handles[j], handles[i] })
		for _, h := range handles {
			if _, own := h.(*cadft.Buffer); !own && count.Destroyed() != 0 {
				t.Fatal("the context is gone before its last handle")
			}
			ok(h.Close())
			ok(h.Close())
		}
		gone(t, count)
	}
}

func TestFinalizersCloseWhatIsDropped(t *testing.T) {
	for round := 0; round < 5; round++ {
		ctx, count := newContext(&testing.T{}, cadft.Options{Threads: 1}) // without t's Cleanup
		closed := everything(ctx)[1:]
		if round%2 == 0 {
			ok(closed[round%len(closed)].Close()) // and one by hand
		}
		ctx, closed = nil, nil
		collected(t, count)
	}
}

// A tensor of a model's memory keeps the model, a slice does not.
func TestATensorKeepsItsModel(t *testing.T) {
	ctx, count := newContext(&testing.T{}, cadft.Options{Threads: 1})
	logits := must(newModel(ctx).Forward(cadft.ModelBatch{Tokens: cadft.View([]int32{1, 2})}))
	ctx.Close()
	ctx = nil
	for i := 0; i < 5; i++ {
		runtime.GC()
	}
	if count.Destroyed() != 0 || len(must(cadft.Slice[float32](logits))) != 64 {
		t.Error("the model is gone")
	}
	logits = cadft.Tensor{}
	collected(t, count)
}

func TestUseAfterClose(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	r := newRun(ctx)
	rewriter := must(cadft.NewRewriter(ctx, 4))
	step := must(r.loss.Begin(1))
	batch, _ := tiny()
	r.close()
	rewriter.Close()
	ctx.Close()
	var never cadft.Loss
	point := cadft.Checkpoint{Folder: t.TempDir()}
	for i, call := range []func() error{
		func() error { _, err := r.loss.Compute(batch, 2, cadft.Tensor{}); return err },
		func() error { _, err := r.loss.Begin(1); return err },
		func() error { return r.loss.Set("beta", 1) },
		func() error { _, err := r.loss.Get("beta"); return err },
		func() error { _, err := r.loss.SaveState(); return err },
		func() error { _, err := r.loss.Samples(cadft.SampleC); return err },
		func() error { return r.loss.SetCoefficient(nil) },
		func() error { _, err := r.loss.Report(); return err },
		step.Weigh,
		step.Cancel,
		func() error { _, err := step.End(); return err },
		func() error { _, err := step.Export(cadft.ExchangeReport, 0, 1); return err },
		r.model.ZeroGrad,
		func() error { return r.model.Save(t.TempDir()) },
		func() error { _, err := r.model.Generate(cadft.Prompts{MaxNewTokens: 1}); return err },
		func() error { _, err := r.optimizer.Step(); return err },
		func() error { _, err := r.optimizer.AddModel(r.model); return err },
		func() error { _, err := rewriter.Select(0); return err },
		func() error { _, err := cadft.NewLoss(ctx); return err },
		func() error { _, err := ctx.Bytes(); return err },
		func() error { _, err := ctx.Device(); return err },
		func() error { return ctx.SaveCheckpoint(point) },
		func() error { return never.Set("beta", 1) },
		func() error { _, err := never.SaveState(); return err },
	} {
		if err := call(); !errors.Is(err, cadft.ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	ok(never.Close())
}

// The library copies no logits, and neither does the binding.
func TestNoCopyOfLogits(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss := must(cadft.NewLoss(ctx))
	const rows, vocab = 64, 1 << 16
	z, labels, ids := make([]float32, rows*vocab), make([]int32, rows), make([]int32, rows)
	ok(cadft.SampleIDsPadded(ids, 8, 8, cadft.Tensor{}, 0))
	batch := cadft.Batch{Logits: cadft.View(z, rows, vocab), Labels: cadft.View(labels), SampleIDs: cadft.View(ids)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := 0; i < 4; i++ {
		must(loss.Compute(batch, 8, batch.Logits))
	}
	runtime.ReadMemStats(&after)
	peak := must(ctx.PeakBytes())
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 || peak > 256<<10 {
		t.Errorf("%d bytes of Go, %d of the library, of logits of %d", n, peak, len(z)*4)
	}
}

// README.md starts with the program of cmd/quickstart.
func TestReadme(t *testing.T) {
	readme, program := string(must(readFile("README.md"))), string(must(readFile("cmd/quickstart/main.go")))
	_, rest, _ := strings.Cut(readme, "```go\n")
	block, _, _ := strings.Cut(rest, "```\n")
	if _, code, _ := strings.Cut(program, "\n\n"); block != code {
		t.Error("README.md and cmd/quickstart/main.go differ")
	}
}
