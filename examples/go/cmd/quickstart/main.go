// SPDX-License-Identifier: Apache-2.0

// Fine-tunes a very small Llama on two sequences.
package main

import (
	"fmt"
	"log"

	"example.org/cadft"
)

const config = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
  "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
  "hidden_act": "silu", "tie_word_embeddings": true}`

func train() error {
	ctx, err := cadft.NewContext(nil)
	if err != nil {
		return err
	}
	defer ctx.Close()
	model, err := cadft.NewModel(ctx)
	if err != nil {
		return err
	}
	defer model.Close()
	loss, err := cadft.NewLoss(ctx)
	if err != nil {
		return err
	}
	defer loss.Close()
	optimizer, err := cadft.NewOptimizer(ctx)
	if err != nil {
		return err
	}
	defer optimizer.Close()

	if err := model.Init(config, 1); err != nil { // or model.Load(folder)
		return err
	}
	if _, err := optimizer.AddModel(model); err != nil {
		return err
	}
	if err := optimizer.Set("lr", 0.02); err != nil {
		return err
	}

	// Two demonstrations, one behind the other; each token predicts the next.
	tokens := []int32{1, 5, 9, 13, 17, 2, 1, 6, 11, 16, 21, 26}
	labels := []int32{5, 9, 13, 17, 2, -100, 6, 11, 16, 21, 26, -100}
	ends := cadft.View([]int32{0, 6, 12})
	ids := make([]int32, len(tokens))
	if err := cadft.SampleIDsPacked(ids, ends, 0); err != nil {
		return err
	}
	for step := 0; step < 20; step++ {
		if err := model.ZeroGrad(); err != nil {
			return err
		}
		logits, err := model.Forward(cadft.ModelBatch{Tokens: cadft.View(tokens), CuSeqlens: ends})
		if err != nil {
			return err
		}
		batch := cadft.Batch{Logits: logits, Labels: cadft.View(labels), SampleIDs: cadft.View(ids)}
		report, err := loss.Compute(batch, 2, logits) // gradient over the logits
		if err != nil {
			return err
		}
		if err := model.Backward(logits); err != nil {
			return err
		}
		if _, err := optimizer.Step(); err != nil {
			return err
		}
		fmt.Printf("step %2d  nll %.4f  mean w %.3f\n", step, report.NLL, report.MeanW)
	}
	return nil
}

func main() {
	if err := train(); err != nil {
		log.Fatal(err)
	}
}
