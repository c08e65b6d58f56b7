// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.org/cadft"
)

var errOwn = errors.New("an error of the host's")

func TestCoefficient(t *testing.T) {
	ctx, count := newContext(t, cadft.Options{})
	own, dft := must(cadft.NewLoss(ctx)), must(cadft.NewLoss(ctx))
	ok(own.Set("objective", "host"))
	batch, _ := tiny()
	calls := 0
	ok(own.SetCoefficient(func(l, p, entropy, k []float64) error {
		calls++
		for i := range k {
			if math.Abs(p[i]-math.Exp(-l[i])) > 1e-12 || !(entropy[i] > 0) {
				t.Errorf("row %d: l %g, p %g, H %g", i, l[i], p[i], entropy[i])
			}
		}
		copy(k, p)
		wants(t, own.Set("beta", 1), cadft.ErrBusy) // inside its own call
		own.Close()
		wants(t, own.Set("beta", 1), cadft.ErrClosed)
		return nil
	}))
	got, want := make([]float32, 20), make([]float32, 20)
	must(own.Compute(batch, 2, cadft.View(got, 4, 5)))
	must(dft.Compute(batch, 2, cadft.View(want, 4, 5)))
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("gradient %d is %g, expected %g", i, got[i], want[i])
		}
	}
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
	dft.Close()
	ctx.Close()
	gone(t, count) // own was closed by its callback, and went after its call
}

func TestFailuresOfCallbacksAreErrors(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss, model := must(cadft.NewLoss(ctx)), newModel(ctx)
	ok(loss.Set("objective", "host"))
	batch, _ := tiny()
	compute := func(fn func(l, p, entropy, k []float64) error) error {
		ok(loss.SetCoefficient(fn))
		_, err := loss.Compute(batch, 2, cadft.Tensor{})
		return err
	}
	generate := func(fn func(cadft.Token) (bool, error)) error {
		_, err := model.Generate(cadft.Prompts{Tokens: cadft.View([]int32{1, 2}), MaxNewTokens: 4, OnToken: fn})
		return err
	}
	for name, call := range map[string]func(fail func() error) error{
		"coefficient": func(fail func() error) error {
			return compute(func(l, p, entropy, k []float64) error { return fail() })
		},
		"token": func(fail func() error) error {
			return generate(func(cadft.Token) (bool, error) { return false, fail() })
		},
	} {
		err := call(func() error { return errOwn })
		if !errors.Is(err, cadft.ErrCallback) || !errors.Is(err, errOwn) || !strings.Contains(err.Error(), errOwn.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		var p *cadft.PanicError
		err = call(func() error { var none []int; none[3] = 1; return nil })
		if !errors.Is(err, cadft.ErrCallback) || !errors.As(err, &p) || !strings.Contains(p.Error(), "index out of range") ||
			len(p.Stack) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if err = call(func() error { panic(nil) }); !errors.As(err, &p) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok(loss.SetCoefficient(nil))
	_, err := loss.Compute(batch, 2, cadft.Tensor{})
	if err == nil || errors.Is(err, cadft.ErrCallback) {
		t.Errorf("without callback: %v", err)
	}
	ok(loss.Set("objective", "sft")) // and it works on
	must(loss.Compute(batch, 2, cadft.Tensor{}))
}

func TestGeneration(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	model := newModel(ctx)
	defer model.Close()
	told := make([][]int32, 3)
	prompts := cadft.Prompts{
		Tokens: cadft.View([]int64{1, 2, 3, 4, 5, 6}), CuSeqlens: cadft.View([]int32{0, 1, 3, 6}),
		MaxNewTokens: 5, Temperature: 1, Seed: 7, Keys: []int64{10, 11, 12},
		OnToken: func(token cadft.Token) (bool, error) {
			told[token.Prompt] = append(told[token.Prompt], token.ID)
			if !(token.LogProb < 0) || token.Position != len(told[token.Prompt])-1 {
				t.Errorf("%+v", token)
			}
			return token.Prompt == 1 && token.Position == 2, nil
		},
	}
	drawn := must(model.Generate(prompts))
	for i, length := range []int{5, 3, 5} {
		if len(drawn[i]) != length || len(told[i]) != length {
			t.Errorf("prompt %d: %v, told %v", i, drawn[i], told[i])
		}
	}
	// A padded batch draws the same.
	padded := prompts
	padded.Tokens, padded.CuSeqlens = cadft.View([]int32{1, 0, 0, 2, 3, 0, 4, 5, 6}, 3, 3), cadft.Tensor{}
	padded.Lengths, padded.OnToken = cadft.View([]int32{1, 2, 3}), nil
	again := must(model.Generate(padded))
	for i := range drawn {
		for j := range drawn[i] {
			if again[i][j] != drawn[i][j] {
				t.Errorf("prompt %d: %v, padded %v", i, drawn[i], again[i])
				break
			}
		}
	}
	padded.StopTokens = []int32{again[0][0]}
	if stopped := must(model.Generate(padded)); len(stopped[0]) != 1 {
		t.Errorf("%v", stopped)
	}
	padded.Keys = padded.Keys[1:]
	_, err := model.Generate(padded)
	wants(t, err, cadft.ErrShape)
	_, err = model.Generate(cadft.Prompts{Tokens: cadft.View([]int32{1, 2}, 2, 1), MaxNewTokens: -1})
	wants(t, err, cadft.ErrArg)
	_, err = model.Generate(cadft.Prompts{Tokens: cadft.View([]int32{1}, -2, 1), MaxNewTokens: 1})
	wants(t, err, cadft.ErrShape)
	for _, shape := range [][]int{{-2, 0}, {0, -2}} {
		_, err = model.Generate(cadft.Prompts{Tokens: cadft.View([]int32{}, shape...), MaxNewTokens: 1})
		wants(t, err, cadft.ErrShape)
	}
	_, err = model.Generate(cadft.Prompts{Tokens: cadft.View([]int32{}, 1<<44, 0)})
	wants(t, err, cadft.ErrArg)
	_, err = model.Generate(cadft.Prompts{MaxNewTokens: 1})
	wants(t, err, cadft.ErrNull)
}

// What a callback refers to is collected when the library has given it up.
func TestCallbacksAreGivenUp(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss := must(cadft.NewLoss(ctx))
	var given int64
	register := func() error {
		mark := new([16]float64)
		runtime.SetFinalizer(mark, func(*[16]float64) { atomic.AddInt64(&given, 1) })
		return loss.SetCoefficient(func(l, p, entropy, k []float64) error { copy(k, mark[:]); return nil })
	}
	expect := func(want int64) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); atomic.LoadInt64(&given) < want && time.Now().Before(end); {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		if got := atomic.LoadInt64(&given); got != want {
			t.Errorf("%d given up, expected %d", got, want)
		}
	}
	ok(register())
	ok(register()) // replaces
	expect(1)
	step := must(loss.Begin(1))
	wants(t, register(), cadft.ErrPhase) // fails
	expect(2)
	ok(step.Cancel())
	loss.Close()
	expect(3)
	wants(t, register(), cadft.ErrClosed)
	expect(4)
}

// An optimizer tells of a step that it skips.
func TestLog(t *testing.T) {
	var lines []string
	ctx, count := newContext(t, cadft.Options{Log: func(level cadft.LogLevel, text string) {
		if lines = append(lines, text); len(lines) == 2 {
			panic("full")
		}
		if level != cadft.LogWarning {
			t.Errorf("level %d: %s", level, text)
		}
	}})
	optimizer := must(cadft.NewOptimizer(ctx))
	value, grad := must(cadft.NewBuffer(cadft.Float32, 2)), must(cadft.NewBuffer(cadft.Float32, 2))
	ok(optimizer.Add("own", value.Tensor(), grad.Tensor()))
	must(cadft.Slice[float32](grad.Tensor()))[1] = float32(math.NaN())
	for i := 0; i < 2; i++ {
		if report := must(optimizer.Step()); !report.Skipped {
			t.Errorf("%+v", report)
		}
	}
	if len(lines) != 2 || lines[0] == "" {
		t.Errorf("lines %q", lines)
	}
	var p *cadft.PanicError
	if err := ctx.Close(); !errors.As(err, &p) || p.Value != "full" {
		t.Errorf("closing: %v", err)
	}
	ok(ctx.Close())
	optimizer.Close()
	gone(t, count)
}
