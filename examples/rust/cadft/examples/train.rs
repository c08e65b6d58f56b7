// SPDX-License-Identifier: Apache-2.0
//! Trains a small Llama on counting sequences, in micro-batches with exact
//! weights, and continues a prompt.
//!
//!     cargo run --example train
use cadft::{
    sample_ids, Context, Loss, LossReport, Model, Optimizer, Result, Sampling, Targets, Tokens,
};

const CONFIG: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": true
}"#;

/// Packed sequences; `labels[r]` is what row `r` predicts.
struct Part {
    tokens: Vec<i32>,
    cu_seqlens: Vec<i32>,
    labels: Vec<i32>,
    ids: Vec<i32>,
}

/// Sequences that count up, each from another number; ids from `first_id` on.
fn part(first_id: i32) -> Result<Part> {
    let (sequences, length) = (4, 8);
    let token = |row: i32| (first_id + row / length) * 5 % 24 + row % length;
    let tokens: Vec<i32> = (0..sequences * length).map(token).collect();
    let cu_seqlens: Vec<i32> = (0..=sequences).map(|s| s * length).collect();
    let labels = tokens.iter().map(|&token| token + 1).collect();
    let ids = sample_ids::cu_seqlens(&cu_seqlens, tokens.len(), first_id)?;
    Ok(Part {
        tokens,
        cu_seqlens,
        labels,
        ids,
    })
}

fn train_step(
    model: &mut Model,
    loss: &mut Loss,
    optimizer: &mut Optimizer,
    parts: &[Part],
) -> Result<LossReport> {
    model.zero_grad()?;
    // All micro-batches are observed, then each is computed again with gradient.
    let mut step = loss.begin(8)?;
    let mut micros = Vec::new();
    for part in parts {
        let logits = model.forward_no_grad(&Tokens::packed(&part.tokens, &part.cu_seqlens))?;
        micros.push(step.observe(&logits, &Targets::new(&part.labels, &part.ids))?);
    }
    let mut step = step.weigh()?;
    for (part, micro) in parts.iter().zip(micros) {
        let mut pass = model.forward(&Tokens::packed(&part.tokens, &part.cu_seqlens))?;
        let targets = Targets::new(&part.labels, &part.ids);
        step.grad_in_place(micro, &mut pass.logits_mut(), &targets)?;
        pass.backward()?;
    }
    let report = step.end()?;
    optimizer.step(model)?;
    Ok(report)
}

fn main() -> Result<()> {
    let context = Context::new()?;
    let mut model = Model::new(&context)?;
    model.init(CONFIG, 1)?;
    let mut loss = Loss::new(&context)?;
    loss.set("objective", "sft")?;
    let mut optimizer = Optimizer::new(&context)?;
    optimizer.set("lr", 0.01)?;
    optimizer.add_model(&mut model)?;

    let parts = [part(0)?, part(4)?];
    let mut reports = Vec::new();
    for step in 0..30 {
        let report = train_step(&mut model, &mut loss, &mut optimizer, &parts)?;
        if step % 10 == 0 || step == 29 {
            println!(
                "step {step:2}  nll {:.4}  mean w {:.4}",
                report.nll, report.mean_w
            );
        }
        reports.push(report.nll);
    }
    assert!(reports[29] < 0.5 * reports[0]);

    let sampling = Sampling {
        max_new_tokens: 4,
        ..Sampling::default()
    };
    let answer = model.generate(&Tokens::new(&[5, 6, 7, 8]), &sampling)?;
    println!("5 6 7 8 -> {:?}", answer[0]);
    Ok(())
}
