// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"example.org/cadft"
)

func readFile(name string) ([]byte, error) { return os.ReadFile(name) }

// Two losses that have a half of the batch each: what they exchange makes
// their gradients those of the whole.
func TestExchangesOverTwoProcesses(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	batch, z := tiny()
	whole, want := must(cadft.NewLoss(ctx)), make([]float32, 20)
	must(whole.Compute(batch, 2, cadft.View(want, 4, 5)))
	labels, ids := []int32{0, 3, 2, 4}, []int32{0, 0, 1, 1}
	var steps [2]*cadft.Step
	var parts [2]cadft.Batch
	var losses [2]*cadft.Loss
	for i := range steps {
		losses[i] = must(cadft.NewLoss(ctx))
		steps[i] = must(losses[i].Begin(2))
		parts[i] = cadft.Batch{Logits: cadft.View(z[i*10:], 2, 5), Labels: cadft.View(labels[2*i:][:2]),
			SampleIDs: cadft.View(ids[2*i:][:2])}
		must(steps[i].Observe(parts[i], cadft.Tensor{}))
	}
	reduce := func(kind cadft.Exchange, shards int) {
		var sum []float64
		for i, step := range steps {
			part := must(step.Export(kind, i%shards, shards))
			if sum == nil {
				sum = make([]float64, len(part))
			}
			for j := range part {
				sum[j] += part[j]
			}
		}
		for _, step := range steps {
			ok(step.Import(kind, sum))
		}
	}
	reduce(cadft.ExchangeMoments, 2)
	for i, step := range steps {
		ok(step.Weigh())
		ok(step.Grad(0, parts[i], parts[i].Logits))
	}
	reduce(cadft.ExchangeReport, 2)
	for i, step := range steps {
		report := must(step.End())
		if report.Samples != 2 || report.Rows != 4 {
			t.Errorf("%+v", report)
		}
		w, all := must(losses[i].Samples(cadft.SampleW)), must(whole.Samples(cadft.SampleW))
		if math.Abs(w[i]-all[i]) > 1e-15 {
			t.Errorf("weights %v, of the whole %v", w, all)
		}
		wants(t, step.Weigh(), cadft.ErrPhase)
		ok(step.Cancel())
	}
	for i := range want {
		if math.Abs(float64(z[i]-want[i])) > 1e-7 {
			t.Errorf("gradient %d is %g, expected %g", i, z[i], want[i])
		}
	}
}

func TestAStepThatIsOverLeavesTheNextAlone(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	loss := must(cadft.NewLoss(ctx))
	batch, _ := tiny()
	first := must(loss.Begin(2))
	_, err := loss.Begin(2)
	wants(t, err, cadft.ErrPhase)
	ok(first.Cancel())
	second := must(loss.Begin(2))
	ok(first.Cancel())
	_, err = first.Observe(batch, cadft.Tensor{})
	wants(t, err, cadft.ErrPhase)
	unit := make([]float32, 20)
	micro := must(second.Observe(batch, cadft.View(unit, 4, 5)))
	_, err = loss.Report() // not weighed
	wants(t, err, cadft.ErrPhase)
	ok(second.Weigh())
	early := must(loss.Report())
	if scale := must(loss.Rows(micro, cadft.RowScale)); len(scale) != 4 || !(scale[0] > 0) {
		t.Errorf("scale %v", scale)
	}
	if report := must(second.End()); report != early || must(loss.Report()) != early || !(early.Loss > 0) {
		t.Errorf("%+v, before the end %+v", report, early)
	}
}

func TestSampleIDs(t *testing.T) {
	ids := make([]int32, 6)
	check := func(want ...int32) {
		t.Helper()
		if !reflect.DeepEqual(ids, want) {
			t.Errorf("ids %v, expected %v", ids, want)
		}
	}
	ok(cadft.SampleIDsPadded(ids, 2, 3, cadft.View([]int64{1, 3}), 5))
	check(5, -1, -1, 6, 6, 6)
	ok(cadft.SampleIDsPacked(ids, cadft.View([]int32{1, 3, 5}), 0))
	check(-1, 0, 0, 1, 1, -1)
	if n := must(cadft.SampleIDsPositions(ids, cadft.View([]int32{0, 1, 2, 0, 0, 1}), 2)); n != 3 {
		t.Errorf("%d samples", n)
	}
	check(2, 2, 2, 3, 4, 4)
	wants(t, cadft.SampleIDsPacked(ids, cadft.View([]float32{0}), 0), cadft.ErrDType)
}

func newRewriter(ctx *cadft.Context) *cadft.Rewriter {
	r := must(cadft.NewRewriter(ctx, 10))
	for name, value := range map[string]any{"warmup_steps": 0, "interval": 1, "fraction": 0.2, "probability": 1, "min_observations": 1} {
		ok(r.Set(name, value))
	}
	ids, c, chat := make([]int64, 10), make([]float64, 10), make([]float64, 10)
	for i := range ids {
		ids[i], c[i], chat[i] = int64(i), float64(i), float64(i)-4.5
	}
	ok(r.Observe(ids, c, chat))
	return r
}

func TestRewriting(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	r := newRewriter(ctx)
	if !must(r.Due(1)) {
		t.Error("not due")
	}
	picks := must(r.Select(1))
	if !reflect.DeepEqual(picks, []int64{8, 9}) || !reflect.DeepEqual(must(r.Open()), picks) {
		t.Errorf("picks %v", picks)
	}
	if why := must(r.Commit(8, cadft.Answer{Tokens: []int32{4, 5}})); why != cadft.RejectedNotEnded || why.String() != "not ended" {
		t.Errorf("rejected: %v", why)
	}
	if why := must(r.Commit(9, cadft.Answer{Tokens: []int32{4, 5}, Ended: true})); why != cadft.Accepted {
		t.Errorf("rejected: %d", why)
	}
	if target := must(r.Target(9)); !reflect.DeepEqual(target, []int32{4, 5}) || must(r.Target(8)) != nil {
		t.Errorf("target %v", target)
	}
	if info := must(r.Sample(9)); !info.Rewritten || info.Rewrites != 1 || info.Open || !math.IsNaN(info.Average) {
		t.Errorf("%+v", info)
	}
	state := must(r.SaveState())
	ok(r.Restore(9))
	ok(r.LoadState(state))
	if n := must(r.Fact(cadft.RewriteRewritten)); n != 1 {
		t.Errorf("%d rewritten", n)
	}
	state[20] ^= 1
	wants(t, r.LoadState(state), cadft.ErrState)
	ok(r.Set("cap", 3))
	if picks = must(r.Select(2)); len(picks) != 2 {
		t.Errorf("picks %v", picks)
	}
	ok(r.Reject(picks[0]))
	ok(r.Cancel())
	wants(t, r.Reject(picks[1]), cadft.ErrPhase)
	ok(r.Observe(nil, nil, nil))
	wants(t, r.Observe([]int64{1}, []float64{1, 2}, nil), cadft.ErrShape)
	wants(t, r.Observe([]int64{10}, []float64{1}, []float64{1}), cadft.ErrSample)
	_, err := r.Target(10)
	wants(t, err, cadft.ErrSample)
}

func TestOptimizersRest(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	r := newRun(ctx)
	r.step()
	if n := must(r.optimizer.Group("*norm*", 0.5, 0)); n != 5 {
		t.Errorf("%d norms", n)
	}
	squares := must(r.optimizer.Norm())
	report := must(r.optimizer.StepNorm(4 * squares))
	if math.Abs(report.GradNorm-2*math.Sqrt(squares)) > 1e-9 || report.Step != 2 {
		t.Errorf("%+v", report)
	}
	if must(r.optimizer.LR(0)) != 0.02 {
		t.Error("another rate")
	}
	folder := filepath.Join(t.TempDir(), "state")
	ok(r.optimizer.Save(folder))
	ok(r.optimizer.Load(folder))
	_, err := r.optimizer.Group("no such", 1, 1)
	wants(t, err, cadft.ErrKey)
	state := must(r.loss.SaveState())
	ok(r.loss.LoadState(state))
	wants(t, r.loss.LoadState(state[1:]), cadft.ErrState)
}

// A run that goes on from a checkpoint takes the same step.
func TestCheckpoints(t *testing.T) {
	ctx, _ := newContext(t, cadft.Options{})
	folder := filepath.Join(t.TempDir(), "run")
	if step := must(ctx.FindCheckpoint(folder, -1)); step != -1 {
		t.Errorf("step %d", step)
	}
	r, rewriter := newRun(ctx), newRewriter(ctx)
	r.step()
	host := make([]byte, 10000)
	host[9999] = 7
	ok(ctx.SaveCheckpoint(cadft.Checkpoint{Folder: folder, Step: 1, Model: r.model, Optimizer: r.optimizer,
		Loss: r.loss, Rewriter: rewriter, Host: host, Keep: 3}))
	want := r.step()

	if step := must(ctx.FindCheckpoint(folder, -1)); step != 1 {
		t.Errorf("step %d", step)
	}
	s := run{must(cadft.NewModel(ctx)), must(cadft.NewLoss(ctx)), must(cadft.NewOptimizer(ctx))}
	ok(s.optimizer.Set("lr", 0.02))
	must(ctx.LoadCheckpoint(cadft.Checkpoint{Folder: folder, Step: 1, Model: s.model}))
	must(s.optimizer.AddModel(s.model))
	second := must(cadft.NewRewriter(ctx, 10))
	back := must(ctx.LoadCheckpoint(cadft.Checkpoint{Folder: folder, Step: 1, Optimizer: s.optimizer, Loss: s.loss,
		Rewriter: second}))
	if !reflect.DeepEqual(back, host) || !reflect.DeepEqual(must(second.SaveState()), must(rewriter.SaveState())) {
		t.Error("another state")
	}
	if got := s.step(); got != want {
		t.Errorf("%+v, expected %+v", got, want)
	}
	for i, host := range [][]byte{nil, {}, {7}} { // no bytes, no part
		point := cadft.Checkpoint{Folder: folder, Step: int64(2 + i), Loss: s.loss, Host: host}
		ok(ctx.SaveCheckpoint(point))
		if back := must(ctx.LoadCheckpoint(point)); len(back) != len(host) {
			t.Errorf("the host's bytes %v are %v", host, back)
		}
	}
	point := cadft.Checkpoint{Folder: folder, Step: 2, Model: must(cadft.NewModel(ctx))}
	_, err := ctx.LoadCheckpoint(point) // a part that is not there
	wants(t, err, cadft.ErrFormat)
	for step := 2; step <= 4; step++ {
		ok(os.RemoveAll(must(cadft.CheckpointPath(folder, int64(step)))))
	}
	path := must(cadft.CheckpointPath(folder, 1))
	third := must(cadft.NewModel(ctx))
	ok(third.Load(path))
	ok(third.Save(filepath.Join(t.TempDir(), "model")))
	ok(os.WriteFile(filepath.Join(path, "checkpoint.json"), []byte("{"), 0o600))
	_, err = ctx.LoadCheckpoint(cadft.Checkpoint{Folder: folder, Step: 1, Loss: s.loss})
	wants(t, err, cadft.ErrFormat)
	if step := must(ctx.FindCheckpoint(folder, -1)); step != 1 { // never passed over
		t.Errorf("step %d", step)
	}
	step, err := ctx.FindCheckpoint(folder, -2)
	if wants(t, err, cadft.ErrArg); step != -1 {
		t.Errorf("step %d", step)
	}
}
