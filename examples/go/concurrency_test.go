// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"example.org/cadft"
)

// together runs n goroutines.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := 0; i < n; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			f(i)
		}(i)
	}
	all.Wait()
}

func TestHandlesOfOneContextInGoroutines(t *testing.T) {
	ctx, count := newContext(t, cadft.Options{Threads: 2})
	batch, _ := tiny()
	want := must(must(cadft.NewLoss(ctx)).Compute(batch, 2, cadft.Tensor{}))
	together(8, func(int) {
		loss := must(cadft.NewLoss(ctx))
		for j := 0; j < 50; j++ {
			if got := must(loss.Compute(batch, 2, cadft.Tensor{})); got != want {
				t.Errorf("%+v, expected %+v", got, want)
			}
			must(ctx.Bytes())
		}
		ok(loss.Close())
	})
	ctx.Close()
	collected(t, count) // the first loss
}

// One handle in many goroutines: a call is done or refused, whole.
func TestOneHandleInGoroutines(t *testing.T) {
	ctx, count := newContext(t, cadft.Options{Threads: 1})
	loss := must(cadft.NewLoss(ctx))
	batch, _ := tiny()
	want := must(loss.Compute(batch, 2, cadft.Tensor{}))
	var done, busy, closed int64
	together(8, func(i int) {
		for j := 0; j < 200; j++ {
			got, err := loss.Compute(batch, 2, cadft.Tensor{})
			switch {
			case err == nil && got == want:
				atomic.AddInt64(&done, 1)
			case errors.Is(err, cadft.ErrBusy):
				atomic.AddInt64(&busy, 1)
			case errors.Is(err, cadft.ErrClosed):
				atomic.AddInt64(&closed, 1)
			default:
				t.Errorf("%+v, %v", got, err)
			}
			if i == 0 && j == 150 {
				ok(loss.Close()) // while others are inside
			}
		}
	})
	if done == 0 || closed == 0 {
		t.Errorf("%d done, %d busy, %d closed", done, busy, closed)
	}
	t.Logf("%d done, %d busy, %d closed", done, busy, closed)
	ctx.Close()
	gone(t, count)
}

// Logits that a call of another handle reads do not go under it: neither in a
// new forward pass of a second goroutine nor in one of its callback.
func TestMemoryInUseStays(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	model, loss := newModel(ctx), must(cadft.NewLoss(ctx))
	defer model.Close()
	ok(loss.Set("objective", "host"))
	tokens := cadft.View([]int32{1, 2, 3})
	logits := must(model.Forward(cadft.ModelBatch{Tokens: tokens, NoGrad: true}))
	batch := cadft.Batch{Logits: logits, Labels: tokens, SampleIDs: cadft.View(make([]int32, 3))}
	calls := 0
	ok(loss.SetCoefficient(func(l, p, entropy, k []float64) error {
		calls++
		copy(k, p)
		long := cadft.View(make([]int32, 60))
		_, err := model.Forward(cadft.ModelBatch{Tokens: long})
		wants(t, err, cadft.ErrBusy)
		_, err = model.Generate(cadft.Prompts{Tokens: long, MaxNewTokens: 1})
		wants(t, err, cadft.ErrBusy)
		wants(t, model.Reserve(cadft.Limits{Rows: 60}), cadft.ErrBusy)
		wants(t, model.Set("checkpointing", true), cadft.ErrBusy)
		must(model.Fact(cadft.ModelVocab)) // the model itself is not busy
		return nil
	}))
	must(loss.Compute(batch, 1, logits))
	must(cadft.Slice[float32](logits)) // nothing was thrown away
	must(model.Forward(cadft.ModelBatch{Tokens: tokens}))
	_, err := loss.Compute(batch, 1, logits)
	wants(t, err, cadft.ErrPhase)
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// A handle that is inside a call is busy for another goroutine, too; so is its
// model for an optimizer, by the library itself.
func TestBusy(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	r := newRun(ctx)
	r.step()
	inside, leave := make(chan bool), make(chan bool)
	go func() {
		_, err := r.model.Generate(cadft.Prompts{Tokens: cadft.View([]int32{1}), MaxNewTokens: 1,
			OnToken: func(cadft.Token) (bool, error) {
				inside <- true
				<-leave
				return false, nil
			}})
		if err != nil {
			t.Error(err)
		}
		inside <- false
	}()
	<-inside
	wants(t, r.model.ZeroGrad(), cadft.ErrBusy)
	_, err := r.optimizer.Step()
	wants(t, err, cadft.ErrBusy)
	_, err = must(cadft.NewOptimizer(ctx)).AddModel(r.model)
	wants(t, err, cadft.ErrBusy)
	wants(t, ctx.SaveCheckpoint(cadft.Checkpoint{Folder: t.TempDir(), Model: r.model, Loss: r.loss}), cadft.ErrBusy)
	ok(r.loss.Set("beta", 1)) // was left again
	leave <- true
	<-inside
	ok(r.model.ZeroGrad())
}
