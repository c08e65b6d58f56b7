// SPDX-License-Identifier: Apache-2.0

package cadft_test

import (
	"fmt"
	"os"

	"example.org/cadft"
)

// Demonstrations: a prompt of one token, an answer that ends with token 2.
var demonstrations = [][]int32{{1, 5, 9, 13, 2}, {1, 6, 11, 16, 21, 2}, {1, 4, 4, 4, 2}, {1, 20, 3, 17, 8, 2}}

// batchOf is a forward pass of one demonstration, as sample id of the step. Its
// last row predicts nothing.
func batchOf(model *cadft.Model, tokens []int32, id int) cadft.Batch {
	ids := make([]int32, len(tokens))
	ok(cadft.SampleIDsPadded(ids, 1, len(ids), cadft.Tensor{}, int32(id)))
	return cadft.Batch{
		Logits:    must(model.Forward(cadft.ModelBatch{Tokens: cadft.View(tokens)})),
		Labels:    cadft.View(append(append([]int32{}, tokens[1:]...), -100)),
		SampleIDs: cadft.View(ids),
	}
}

// trainStep accumulates over micro-batches of one demonstration each. With
// scope running it is done in one pass; the weights are by the mean and
// deviation of earlier steps.
func trainStep(r run, data [][]int32) cadft.Report {
	rows := 0
	for _, tokens := range data {
		rows += len(tokens) - 1
	}
	// Of a step that goes on nobody knows the rows yet.
	ok(r.loss.Set("denominator", rows))
	ok(r.model.ZeroGrad())
	step := must(r.loss.Begin(len(data)))
	defer step.Cancel() // does nothing after End
	for i, tokens := range data {
		batch := batchOf(r.model, tokens, i)
		micro := must(step.Observe(batch, cadft.Tensor{}))
		ok(step.Weigh())
		ok(step.Grad(micro, batch, batch.Logits)) // over the logits
		ok(r.model.Backward(batch.Logits))
	}
	report := must(step.End())
	must(r.optimizer.Step())
	return report
}

// Micro-batches in one pass.
func ExampleStep() {
	ctx := must(cadft.NewContext(nil))
	defer ctx.Close()
	r := newRun(ctx)
	defer r.close()
	ok(r.loss.Set("scope", "running"))
	first := trainStep(r, demonstrations)
	second := trainStep(r, demonstrations)
	fmt.Println(first.Rows, second.NLL < first.NLL)
	// Output: 18 true
}

// What stays incompatible is rewritten by the model itself.
func ExampleRewriter() {
	ctx := must(cadft.NewContext(nil))
	defer ctx.Close()
	r := newRun(ctx)
	defer r.close()
	ok(r.loss.Set("scope", "running"))
	rewriter := must(cadft.NewRewriter(ctx, len(demonstrations)))
	defer rewriter.Close()
	for name, value := range map[string]any{"warmup_steps": 30, "interval": 10, "fraction": 0.25, "probability": 1} {
		ok(rewriter.Set(name, value))
	}
	data, ids := append([][]int32{}, demonstrations...), []int64{0, 1, 2, 3}
	for step := int64(0); step <= 30; step++ {
		for _, id := range must(rewriter.Select(step)) {
			prompt := demonstrations[id][:1]
			answer := must(r.model.Generate(cadft.Prompts{
				Tokens: cadft.View(prompt), MaxNewTokens: 20, StopTokens: []int32{2},
				Temperature: must(rewriter.Float("temperature")), TopP: must(rewriter.Float("top_p")),
				Keys: []int64{id}, Step: step}))[0]
			why := must(rewriter.Commit(id, cadft.Answer{Tokens: answer, Ended: answer[len(answer)-1] == 2}))
			fmt.Println("sample", id, why)
			if target := must(rewriter.Target(id)); target != nil {
				data[id] = append(append([]int32{}, prompt...), target...)
			}
		}
		trainStep(r, data)
		ok(rewriter.Observe(ids, must(r.loss.Samples(cadft.SampleC)), must(r.loss.Samples(cadft.SampleChat))))
	}
	// Output: sample 0 accepted
}

// A run that goes on takes the same steps as one that was not stopped.
func ExampleContext_LoadCheckpoint() {
	folder := must(os.MkdirTemp("", "run"))
	defer os.RemoveAll(folder)
	ctx := must(cadft.NewContext(nil))
	defer ctx.Close()
	steps := func(upTo int64) cadft.Report {
		r := run{must(cadft.NewModel(ctx)), must(cadft.NewLoss(ctx)), must(cadft.NewOptimizer(ctx))}
		defer r.close()
		ok(r.loss.Set("scope", "running")) // knobs are not in a checkpoint
		done := must(ctx.FindCheckpoint(folder, -1))
		if done < 0 {
			done = 0
			ok(r.model.Init(config, 1))
			must(r.optimizer.AddModel(r.model))
		} else { // the model first, then the optimizer that was made for it
			must(ctx.LoadCheckpoint(cadft.Checkpoint{Folder: folder, Step: done, Model: r.model}))
			must(r.optimizer.AddModel(r.model))
			must(ctx.LoadCheckpoint(cadft.Checkpoint{Folder: folder, Step: done, Optimizer: r.optimizer, Loss: r.loss}))
		}
		var report cadft.Report
		for ; done < upTo; done++ {
			report = trainStep(r, demonstrations)
		}
		ok(ctx.SaveCheckpoint(cadft.Checkpoint{Folder: folder, Step: done, Keep: 2,
			Model: r.model, Optimizer: r.optimizer, Loss: r.loss}))
		return report
	}
	steps(3)
	stopped := steps(5)
	ok(os.RemoveAll(folder))
	ok(os.Mkdir(folder, 0o700))
	fmt.Println(stopped == steps(5))
	// Output: true
}
