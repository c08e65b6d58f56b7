// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"math"
	"testing"

	"example.org/cadft"
)

func TestTwoStepsOfTraining(t *testing.T) {
	ctx, count := newContext(t, cadft.Options{})
	r := newRun(ctx)
	first, second := r.step(), r.step()
	if !(second.NLL < first.NLL) || first.Rows != 10 || first.Samples != 2 {
		t.Errorf("first step %+v, second %+v", first, second)
	}
	if n := must(r.optimizer.Fact(cadft.OptimizerSteps)); n != 2 {
		t.Errorf("%d steps", n)
	}
	r.close()
	ctx.Close()
	gone(t, count)
}

// A host with weights of its own: logits = weights[token], plain Go but for
// the loss and the optimizer.
func TestHostsOwnWeights(t *testing.T) {
	ctx, count := newContext(t, cadft.Options{})
	loss, optimizer := must(cadft.NewLoss(ctx)), must(cadft.NewOptimizer(ctx))
	ok(optimizer.Set("lr", 0.1))
	const v = 8
	value, grad := must(cadft.NewBuffer(cadft.Float32, v, v)), must(cadft.NewBuffer(cadft.Float32, v, v))
	ok(optimizer.Add("bigram", value.Tensor(), grad.Tensor()))
	weights, gradient := must(cadft.Slice[float32](value.Tensor())), must(cadft.Slice[float32](grad.Tensor()))

	tokens, labels := []int32{0, 1, 2, 3, 4, 5}, []int32{1, 2, 3, 4, 5, 6}
	logits := make([]float32, len(tokens)*v)
	batch := cadft.Batch{Logits: cadft.View(logits, len(tokens), v), Labels: cadft.View(labels),
		SampleIDs: cadft.View([]int32{0, 0, 0, 1, 1, 1})}
	var nll [2]float64
	for step := range nll {
		for i, token := range tokens {
			copy(logits[i*v:][:v], weights[int(token)*v:])
		}
		nll[step] = must(loss.Compute(batch, 2, batch.Logits)).NLL
		for i, token := range tokens {
			copy(gradient[int(token)*v:][:v], logits[i*v:])
		}
		report := must(optimizer.Step())
		if report.Step != int64(step+1) || report.LR != 0.1 || report.GradNorm <= 0 || report.Skipped {
			t.Errorf("%+v", report)
		}
	}
	if math.Abs(nll[0]-math.Log(v)) > 1e-6 || !(nll[1] < nll[0]) {
		t.Errorf("NLL %v", nll)
	}

	// The optimizer holds on to the memory. This much would be unmapped.
	large, zero := must(cadft.NewBuffer(cadft.Float32, 1<<18)), must(cadft.NewBuffer(cadft.Float32, 1<<18))
	second := must(cadft.NewOptimizer(ctx))
	ok(second.Add("large", large.Tensor(), zero.Tensor()))
	large.Close()
	zero.Close()
	must(second.Step())
	second.Close()

	value.Close()
	_, err := cadft.Slice[float32](value.Tensor())
	wants(t, err, cadft.ErrClosed)
	wants(t, optimizer.Add("again", value.Tensor(), grad.Tensor()), cadft.ErrClosed)
	own := cadft.View(make([]float32, 4))
	wants(t, optimizer.Add("go", own, own), cadft.ErrDevice)
	loss.Close()
	optimizer.Close()
	grad.Close()
	ctx.Close()
	gone(t, count)
}

func TestModelsParametersAndPlans(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	model := newModel(ctx)
	defer model.Close()
	n := int(must(model.Fact(cadft.ModelParameters)))
	elements := 0
	for i := 0; i < n; i++ {
		p := must(model.Parameter(i))
		if must(model.Find(p.Name)) != i || !p.Trainable || p.Grad.IsPresent() {
			t.Errorf("%d: %+v", i, p)
		}
		elements += p.Value.Len()
	}
	if int64(elements) != must(model.Fact(cadft.ModelElements)) || n < 10 {
		t.Errorf("%d parameters, %d elements", n, elements)
	}
	ok(model.ZeroGrad())
	norm := must(model.Parameter(must(model.Find("model.norm.weight"))))
	for _, x := range must(cadft.Slice[float32](norm.Value)) {
		if x != 1 {
			t.Errorf("a norm is %v", x)
		}
	}
	_, err := cadft.Slice[int32](norm.Value)
	wants(t, err, cadft.ErrDType)
	norm = must(model.Parameter(must(model.Find("model.norm.weight"))))
	_, err = model.Freeze("no such", false)
	wants(t, err, cadft.ErrKey)
	must(cadft.Slice[float32](norm.Grad)) // is there still
	if matched := must(model.Freeze("*norm*", false)); matched != 5 {
		t.Errorf("%d norms", matched)
	}
	_, err = cadft.Slice[float32](norm.Grad) // went with the freezing
	wants(t, err, cadft.ErrPhase)
	limits := cadft.Limits{Rows: 12, LogitRows: 3, Sequences: 2}
	bytes := must(model.Plan(limits))
	ok(model.Reserve(limits))
	if arena := must(model.Fact(cadft.ModelArenaBytes)); arena < bytes || bytes <= 0 {
		t.Errorf("planned %d, reserved %d", bytes, arena)
	}
	if _, err = model.Find("no such"); err == nil {
		t.Error("found what is not there")
	}

	// Read and write through the context, as for memory of a device.
	host := make([]float32, norm.Value.Len())
	host[0] = 3
	ok(ctx.Write(norm.Value, cadft.View(host)))
	host[0] = 0
	ok(ctx.Read(norm.Value, cadft.View(host)))
	if host[0] != 3 {
		t.Errorf("read %v", host)
	}
	wants(t, ctx.Read(norm.Value, cadft.View(host[1:])), cadft.ErrSpace)
	wants(t, ctx.Read(norm.Value, cadft.View(make([]int32, 16))), cadft.ErrDType)
}

func TestLogitsOfAnEarlierPassAreVoid(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	model := newModel(ctx)
	batch := cadft.ModelBatch{Tokens: cadft.View([]int32{1, 2, 3})}
	logits := must(model.Forward(batch))
	if shape := logits.Shape(); len(shape) != 2 || shape[0] != 3 || shape[1] != 32 {
		t.Errorf("shape %v", shape)
	}
	must(cadft.Slice[float32](logits.Strided(32, 1)))
	_, err := cadft.Slice[float32](logits.Strided(33, 1))
	wants(t, err, cadft.ErrShape)
	_, err = model.Forward(cadft.ModelBatch{Tokens: cadft.View([]int32{1}, 2)})
	wants(t, err, cadft.ErrShape) // of a view: C was not asked
	must(cadft.Slice[float32](logits))
	again := must(model.Forward(batch))
	_, err = cadft.Slice[float32](logits)
	wants(t, err, cadft.ErrPhase)
	wants(t, model.Set("checkpointing", true), cadft.ErrPhase)
	ok(model.ZeroGrad())
	ok(model.Backward(again))
	ok(model.Set("checkpointing", true))
	_, err = cadft.Slice[float32](again)
	wants(t, err, cadft.ErrPhase)
	last := must(model.Forward(cadft.ModelBatch{Tokens: batch.Tokens, LogitRows: cadft.View([]int64{2}), NoGrad: true}))
	model.Close()
	_, err = cadft.Slice[float32](last)
	wants(t, err, cadft.ErrClosed)
	_, err = model.Forward(batch)
	wants(t, err, cadft.ErrClosed)
}
