// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"example.org/cadft"
)

func TestAnErrorHasStatusAndSentence(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss := must(cadft.NewLoss(ctx))
	batch, _ := tiny()
	batch.Labels = cadft.View([]int32{0, 3, 2, 99})
	_, err := loss.Compute(batch, 2, cadft.Tensor{})
	var e *cadft.Error
	if !errors.As(err, &e) || e.Status != cadft.ErrLabel || !strings.Contains(e.Message, "99") {
		t.Errorf("error %v", err)
	}
	wants(t, err, cadft.ErrLabel)
	if errors.Is(err, cadft.ErrArg) || e.Status.Error() != "CADFT_E_LABEL" || err.Error() != "cadft: "+e.Message {
		t.Errorf("error %v, %v", err, e.Status)
	}

	_, err = cadft.NewContext(&cadft.Options{Backend: "no such"})
	wants(t, err, cadft.ErrBackend)
	_, err = cadft.NewContext(&cadft.Options{Backend: "a\x00b"})
	wants(t, err, cadft.ErrArg)
	_, err = cadft.NewContext(&cadft.Options{Threads: 1 << 32})
	wants(t, err, cadft.ErrArg)
	wants(t, ctx.SaveCheckpoint(cadft.Checkpoint{Folder: t.TempDir(), Keep: 1<<32 + 1}), cadft.ErrArg)
	wants(t, must(cadft.NewModel(ctx)).Load("/no/such/folder"), cadft.ErrIO)
	_, err = cadft.NewRewriter(ctx, -1)
	wants(t, err, cadft.ErrArg)
	if cadft.Version() == "" || must(ctx.Backend()) != "cpu" || must(ctx.Device()) == "" || must(ctx.Workers()) < 1 {
		t.Error("no facts of the library")
	}
}

func TestKnobs(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss, model := must(cadft.NewLoss(ctx)), must(cadft.NewModel(ctx))
	type level uint8
	for _, set := range []struct {
		name  string
		value any
		text  string
	}{
		{"beta", 1.5, "1.5"}, {"beta", 2, "2"}, {"beta", float32(0.5), "0.5"}, {"beta", "0.25", "0.25"},
		{"weighting", false, "0"}, {"weighting", level(1), "1"}, {"reduction", "sum", "sum"}, {"ignore_index", int64(-1), "-1"},
	} {
		ok(loss.Set(set.name, set.value))
		if got := must(loss.Get(set.name)); got != set.text {
			t.Errorf("%s is %s after %v", set.name, got, set.value)
		}
	}
	if must(loss.Float("beta")) != 0.25 || must(loss.Int("reduction")) != 3 {
		t.Error("other numbers")
	}
	if names := model.Knobs(); len(names) != 2 || names[1] != "checkpointing" || len(loss.Knobs()) != 21 {
		t.Errorf("knobs %v, %v", names, loss.Knobs())
	}
	if b := must(loss.Bounds("running_decay")); !b.IsFloat || b.Smallest != 0 || !(b.Largest < 1) || b.Default != 0.9 {
		t.Errorf("%+v", b)
	}
	for _, refused := range []struct {
		name  string
		value any
		kind  error
	}{
		{"no such", 1, cadft.ErrKey}, {"beta", -1, cadft.ErrArg}, {"beta", math.NaN(), cadft.ErrArg},
		{"weighting", 0.5, cadft.ErrKey}, {"reduction", "none", cadft.ErrArg}, {"ddof", uint64(1) << 63, cadft.ErrArg},
		{"beta", nil, cadft.ErrArg}, {"beta", []int{1}, cadft.ErrArg}, {"be\x00ta", 1, cadft.ErrArg},
	} {
		wants(t, loss.Set(refused.name, refused.value), refused.kind)
	}
	ok(model.Set("checkpointing", true))
	if must(model.Int("checkpointing")) != 1 {
		t.Error("not set")
	}
	wants(t, model.Set("checkpointing", 1.0), cadft.ErrKey)
	_, err := model.Float("checkpointing")
	wants(t, err, cadft.ErrKey)
	_, err = model.Fact(cadft.ModelVocab)
	wants(t, err, cadft.ErrPhase)
}

func TestTensorsThatDoNotFit(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss := must(cadft.NewLoss(ctx))
	data := make([]float32, 20)
	for name, logits := range map[string]cadft.Tensor{
		"too short":  cadft.View(data, 4, 6),
		"huge":       cadft.View(data, math.MaxInt, math.MaxInt),
		"negative":   cadft.View(data, -4, -5),
		"strides":    cadft.View(data, 4, 5).Strided(6, 1),
		"few":        cadft.View(data, 4, 5).Strided(5),
		"backwards":  cadft.View(data, 4, 5).Strided(-5, 1),
		"dimensions": cadft.View(data, make([]int, 17)...),
	} {
		batch, _ := tiny()
		batch.Logits = logits
		_, err := loss.Compute(batch, 2, cadft.Tensor{})
		if !errors.Is(err, cadft.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err = cadft.Slice[float32](logits); !errors.Is(err, cadft.ErrShape) {
			t.Errorf("%s: slice %v", name, err)
		}
		if n, shape := logits.Len(), logits.Shape(); n != 0 || len(shape) > 2 {
			t.Errorf("%s: %d elements in %v", name, n, shape)
		}
	}
	batch, _ := tiny()
	_, err := loss.ComputeUnit(batch, 2, batch.Logits, make([]float32, 3))
	wants(t, err, cadft.ErrSpace)
	_, err = loss.Compute(cadft.Batch{}, 2, cadft.Tensor{})
	wants(t, err, cadft.ErrNull)
	wants(t, cadft.SampleIDsPadded(make([]int32, 5), 2, 3, cadft.Tensor{}, 0), cadft.ErrSpace)
	_, err = cadft.SampleIDsPositions(make([]int32, 1), cadft.View([]int32{0, 1}), 0)
	wants(t, err, cadft.ErrSpace)
	_, err = cadft.NewBuffer(cadft.Float32, math.MaxInt, 2)
	wants(t, err, cadft.ErrShape)
	_, err = cadft.NewBuffer(cadft.Float32, 1<<58)
	wants(t, err, cadft.ErrNoMem)
	_, err = cadft.NewBuffer(cadft.DType(0), 4)
	wants(t, err, cadft.ErrDType)
	_, err = cadft.Slice[float32](cadft.Tensor{})
	wants(t, err, cadft.ErrNull)
	wants(t, ctx.Read(cadft.View(data), cadft.Tensor{}), cadft.ErrNull)
	if n := must(cadft.NewBuffer(cadft.Float32, 0)).Tensor().Len(); n != 0 {
		t.Errorf("%d elements in none", n)
	}
}

// Logits with gaps between rows; the gradient beside them.
func TestStrides(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss := must(cadft.NewLoss(ctx))
	batch, z := tiny()
	dense := make([]float32, 20)
	want := must(loss.Compute(batch, 2, cadft.View(dense, 4, 5)))
	wide := make([]float32, 4*8)
	for i := range z {
		wide[i/5*8+i%5] = z[i]
	}
	batch.Logits = cadft.View(wide, 4, 5).Strided(8, 1)
	if got := must(loss.Compute(batch, 2, batch.Logits)); got != want {
		t.Errorf("%+v, expected %+v", got, want)
	}
	for i := range dense {
		if wide[i/5*8+i%5] != dense[i] || wide[i/5*8+5] != 0 {
			t.Fatalf("gradient %d differs", i)
		}
	}
	_, err := cadft.Slice[float32](batch.Logits)
	wants(t, err, cadft.ErrShape)

	unit, scale := make([]float32, 20), make([]float32, 4)
	must(loss.ComputeUnit(cadft.Batch{Logits: cadft.View(z, 4, 5), Labels: batch.Labels, SampleIDs: batch.SampleIDs},
		2, cadft.View(unit, 4, 5), scale))
	for i := range unit {
		if d := math.Abs(float64(unit[i]*scale[i/5] - dense[i])); d > 1e-7 {
			t.Errorf("unit gradient %d is off by %g", i, d)
		}
	}
}
