// SPDX-License-Identifier: Apache-2.0
//! Training with the library's own model, loss and optimizer, and what goes
//! with it.
mod support;

use cadft::{
    Answer, Checkpoint, Context, Error, Exchange, Limits, Loss, Model, ModelFact, Optimizer,
    OptimizerFact, RewriteFact, Rewriter, RowValue, SampleValue, Status, Targets, TensorMut,
    TensorRef, Tokens, Verdict,
};
use support::{small_model, targets, Scratch, Z};

const TOKENS: [i32; 8] = [1, 2, 3, 4, 9, 8, 7, 6];
const ENDS: [i32; 3] = [0, 4, 8];
const LABELS: [i32; 8] = [2, 3, 4, 5, 8, 7, 6, 5];
const IDS: [i32; 8] = [0, 0, 0, 0, 1, 1, 1, 1];

fn train(model: &mut Model, loss: &mut Loss, optimizer: &mut Optimizer) -> Result<f64, Error> {
    model.zero_grad()?;
    let mut pass = model.forward(&Tokens::packed(&TOKENS, &ENDS))?;
    assert_eq!(pass.logits().shape(), [8, 16]);
    let targets = Targets::new(&LABELS, &IDS);
    let report = loss.compute_in_place(&mut pass.logits_mut(), &targets, 2)?;
    pass.backward()?;
    optimizer.step(model)?;
    Ok(report.nll)
}

fn trainer(context: &Context) -> Result<(Model, Loss, Optimizer), Error> {
    let mut model = small_model(context)?;
    let mut optimizer = Optimizer::new(context)?;
    optimizer.set("lr", 0.01)?;
    assert_eq!(
        optimizer.add_model(&mut model)?,
        model.fact(ModelFact::Parameters)?
    );
    Ok((model, Loss::new(context)?, optimizer))
}

#[test]
fn two_steps_lower_the_loss() {
    let context = Context::new().unwrap();
    let (mut model, mut loss, mut optimizer) = trainer(&context).unwrap();
    let first = train(&mut model, &mut loss, &mut optimizer).unwrap();
    let second = train(&mut model, &mut loss, &mut optimizer).unwrap();
    let third = train(&mut model, &mut loss, &mut optimizer).unwrap();
    assert!(second < first && third < second, "{first} {second} {third}");
    assert_eq!(optimizer.fact(OptimizerFact::Steps).unwrap(), 3);
}

#[test]
fn logits_elsewhere_give_the_same_gradients() {
    let context = Context::new().unwrap();
    let mut model = small_model(&context).unwrap();
    let mut loss = Loss::new(&context).unwrap();
    let targets = Targets::new(&LABELS, &IDS);
    let tokens = Tokens::packed(&TOKENS, &ENDS);
    let gradient = |model: &Model| {
        let parameter = model
            .parameter(model.find("model.norm.weight").unwrap())
            .unwrap();
        parameter.grad.unwrap().as_slice::<f32>().unwrap().to_vec()
    };
    model.zero_grad().unwrap();
    let mut pass = model.forward(&tokens).unwrap();
    loss.compute_in_place(&mut pass.logits_mut(), &targets, 2)
        .unwrap();
    pass.backward().unwrap();
    let first = gradient(&model);

    model.zero_grad().unwrap();
    let pass = model.forward(&tokens).unwrap();
    let mut grad = vec![0f32; 8 * 16];
    let mut grad = TensorMut::new(&mut grad, &[8, 16]).unwrap();
    loss.compute(pass.logits(), &targets, 2, &mut grad).unwrap();
    pass.backward_from(&grad).unwrap();
    assert_eq!(first, gradient(&model));
    assert!(first.iter().any(|g| *g != 0.0));

    let padded = TensorRef::new(&TOKENS, &[2, 4]).unwrap();
    let all = model
        .forward_no_grad(&tokens)
        .unwrap()
        .as_slice::<f32>()
        .unwrap()
        .to_vec();
    let some = model
        .forward_no_grad(&Tokens::padded(padded, &[4i64, 4]).logit_rows(&[7]))
        .unwrap();
    assert_eq!(some.as_slice::<f32>().unwrap(), &all[7 * 16..]);
}

#[test]
fn parameters_are_the_hosts_to_change() {
    let context = Context::new().unwrap();
    let mut model = small_model(&context).unwrap();
    assert!(model.parameter(0).unwrap().grad.is_none());
    let matched = model.freeze("model.layers.*", false).unwrap();
    model.zero_grad().unwrap();
    let parameters = model.parameters().unwrap();
    let frozen = parameters
        .iter()
        .filter(|p| !p.trainable && p.grad.is_none())
        .count();
    assert_eq!(frozen as i64, matched);
    let elements: i64 = parameters
        .iter()
        .map(|p| p.value.shape().iter().product::<i64>())
        .sum();
    assert_eq!(elements, model.fact(ModelFact::Elements).unwrap());
    assert_eq!(elements, model.get_i64("elements").unwrap());

    let index = model.find("model.norm.weight").unwrap();
    let mut norm = model.parameter_mut(index).unwrap();
    assert_eq!(norm.name, "model.norm.weight");
    norm.value.as_mut_slice::<f32>().unwrap().fill(0.0);
    norm.grad
        .as_mut()
        .unwrap()
        .as_mut_slice::<f32>()
        .unwrap()
        .fill(1.0);
    let logits = model.forward_no_grad(&Tokens::new(&[1, 2])).unwrap();
    assert!(logits.as_slice::<f32>().unwrap().iter().all(|z| *z == 0.0));
}

#[test]
fn batches_are_planned_and_calls_refused() {
    let context = Context::new().unwrap();
    let mut model = small_model(&context).unwrap();
    let limits = Limits {
        rows: 8,
        ..Limits::default()
    };
    let bytes = model.plan(limits).unwrap();
    model.reserve(limits).unwrap();
    assert!(model.fact(ModelFact::ArenaBytes).unwrap() >= bytes && bytes > 0);
    assert_eq!(model.find("model.norm").unwrap_err().status(), Status::Key);
    assert_eq!(model.init("{", 1).unwrap_err().status(), Status::Phase);
    let empty = Model::new(&context).unwrap();
    assert_eq!(
        empty.fact(ModelFact::Vocab).unwrap_err().status(),
        Status::Phase
    );
}

#[test]
fn arrays_of_the_host_are_optimized() {
    let context = Context::new().unwrap();
    let mut optimizer = Optimizer::new(&context).unwrap();
    for (name, value) in [
        ("lr", 0.1),
        ("momentum", 0.0),
        ("clip_norm", 0.0),
        ("weight_decay", 0.0),
    ] {
        optimizer.set(name, value).unwrap();
    }
    optimizer.set("kind", "sgd").unwrap();
    let number = optimizer
        .add("w", &[2, 2], vec![1f32; 4], vec![0f32; 4])
        .unwrap();
    for _ in 0..2 {
        let (value, grad) = optimizer.arrays::<f32, f32>(number).unwrap();
        grad.copy_from_slice(value); // of value^2 / 2
        assert_eq!(
            optimizer.norm(()).unwrap(),
            optimizer.step(()).unwrap().grad_norm.powi(2)
        );
    }
    let (value, _) = optimizer.arrays::<f32, f32>(number).unwrap();
    assert!(value.iter().all(|w| (w - 0.81).abs() < 1e-6), "{value:?}");
    assert!(optimizer.arrays::<f32, f64>(number).is_none());
    let again = optimizer.add("w", &[4], vec![1f32; 4], vec![0f32; 4]);
    assert!(matches!(
        again.unwrap_err().status(),
        Status::Arg | Status::Phase
    ));
    assert_eq!(optimizer.group("w*", 0.0, 1.0).unwrap(), 1);
    assert_eq!(optimizer.step_with((), 1.0).unwrap().grad_norm, 1.0);
    assert_eq!(optimizer.lr(5).unwrap(), 0.1);
}

// ------------------------------------------------------------------- phases

#[test]
fn a_dropped_step_had_not_begun() {
    let context = Context::new().unwrap();
    let mut loss = Loss::new(&context).unwrap();
    let logits = TensorRef::new(&Z, &[4, 4]).unwrap();
    let mut step = loss.begin(2).unwrap();
    step.observe(logits, &targets()).unwrap();
    drop(step);
    loss.set("beta", 0.5).unwrap(); // between steps
    std::mem::forget(loss.begin(2).unwrap());
    assert_eq!(loss.begin(2).unwrap_err().status(), Status::Phase);
    loss.cancel();
    let step = loss.begin(2).unwrap();
    assert!(step.weigh().unwrap().end().is_ok());
}

#[test]
fn unit_gradients_and_their_scales() {
    let context = Context::new().unwrap();
    let mut loss = Loss::new(&context).unwrap();
    let (mut unit, mut grad) = (Z, Z);
    loss.compute_in_place(
        &mut TensorMut::new(&mut grad, &[4, 4]).unwrap(),
        &targets(),
        2,
    )
    .unwrap();
    let mut logits = TensorMut::new(&mut unit, &[4, 4]).unwrap();
    let mut step = loss.begin(2).unwrap();
    let micro = step.observe_unit_in_place(&mut logits, &targets()).unwrap();
    let step = step.weigh().unwrap();
    let scale = step.rows(micro, RowValue::Scale).unwrap();
    step.end().unwrap();
    for (i, g) in grad.iter().enumerate() {
        assert!((f64::from(*g) - scale[i / 4] * f64::from(unit[i])).abs() < 1e-8);
    }
    assert_eq!(loss.samples(SampleValue::Rows).unwrap(), [2.0, 2.0]);
}

/// Autograd wants the loss before the gradient.
#[test]
fn the_report_is_there_before_the_end() {
    let context = Context::new().unwrap();
    let mut loss = Loss::new(&context).unwrap();
    assert_eq!(loss.report().unwrap_err().status(), Status::Phase);
    let mut z = Z;
    let mut logits = TensorMut::new(&mut z, &[4, 4]).unwrap();
    let mut step = loss.begin(2).unwrap();
    let micro = step.observe(&logits, &targets()).unwrap();
    let mut step = step.weigh().unwrap();
    let early = step.report().unwrap();
    step.grad_in_place(micro, &mut logits, &targets()).unwrap();
    assert_eq!(step.end().unwrap(), early);
    assert_eq!(loss.report().unwrap(), early);
    assert!(early.loss > 0.0 && early.n_rows == 4);

    loss.set("scope", "local").unwrap();
    let mut step = loss.begin_one_pass(2).unwrap();
    step.set("denominator", 4).unwrap();
    assert_eq!(step.report().unwrap_err().status(), Status::Phase);
    step.observe(TensorRef::new(&Z, &[4, 4]).unwrap(), &targets())
        .unwrap();
    step.weigh().unwrap();
    assert_eq!(step.report().unwrap().nll, early.nll);
}

/// A batch cut over two losses that exchange their moments.
#[test]
fn two_processes_weigh_as_one() {
    let context = Context::new().unwrap();
    let mut losses = [Loss::new(&context).unwrap(), Loss::new(&context).unwrap()];
    let whole = {
        let mut loss = Loss::new(&context).unwrap();
        loss.evaluate(TensorRef::new(&Z, &[4, 4]).unwrap(), &targets(), 2)
            .unwrap();
        loss.samples(SampleValue::W).unwrap()
    };
    let mut steps: Vec<_> = losses
        .iter_mut()
        .map(|loss| loss.begin(1).unwrap())
        .collect();
    let mut sum = vec![0.0; 12];
    for (rank, step) in steps.iter_mut().enumerate() {
        let rows = TensorRef::new(&Z[rank * 8..][..8], &[2, 4]).unwrap();
        let labels = &support::LABELS[rank * 2..][..2];
        step.observe(rows, &Targets::new(labels, &[0, 0])).unwrap();
        let own = step.export(Exchange::Moments, rank as i64, 2).unwrap();
        own.iter().zip(&mut sum).for_each(|(own, sum)| *sum += own);
    }
    for (step, w) in steps.into_iter().zip(whole) {
        let mut step = step;
        step.exchange(Exchange::Moments, 0, 2, |values| {
            values.copy_from_slice(&sum)
        })
        .unwrap();
        let step = step.weigh().unwrap();
        assert!((step.samples(SampleValue::W).unwrap()[0] - w).abs() < 1e-12);
        step.end().unwrap();
    }
}

#[test]
fn running_statistics_are_saved() {
    let context = Context::new().unwrap();
    let logits = TensorRef::new(&Z, &[4, 4]).unwrap();
    let mut first = Loss::new(&context).unwrap();
    first.set("scope", "running").unwrap();
    let mut step = first.begin_one_pass(2).unwrap();
    step.set("denominator", 4).unwrap();
    step.observe(logits, &targets()).unwrap();
    step.weigh().unwrap();
    step.end().unwrap();
    let state = first.state_save().unwrap();
    let mut second = Loss::new(&context).unwrap();
    second.state_load(&state).unwrap();
    assert_eq!(second.state_save().unwrap(), state);
    assert_eq!(
        second.state_load(&state[1..]).unwrap_err().status(),
        Status::State
    );
}

// ---------------------------------------------------------------- rewriting

#[test]
fn samples_are_rewritten() {
    let context = Context::new().unwrap();
    let mut rewriter = Rewriter::new(&context, 4).unwrap();
    for (name, value) in [
        ("warmup_steps", 0),
        ("interval", 1),
        ("fraction", 1),
        ("probability", 1),
    ] {
        rewriter.set(name, value).unwrap();
    }
    rewriter.set("min_observations", 1).unwrap();
    rewriter.observe(&[0, 2], None, Some(&[-1.0, 1.5])).unwrap();
    let short = rewriter.observe(&[0, 2], None, Some(&[1.0]));
    assert_eq!(short.unwrap_err().status(), Status::Shape);
    assert_eq!(rewriter.sample(2).unwrap().average, 1.5);
    assert!(rewriter.due(1).unwrap());
    assert_eq!(rewriter.select(1).unwrap(), [2]);
    assert_eq!(rewriter.open().unwrap(), [2]);
    let state = rewriter.state_save().unwrap();
    assert_eq!(
        rewriter.commit(2, &Answer::new(&[5, 6], false)).unwrap(),
        Verdict::NotEnded
    );
    rewriter.state_load(&state).unwrap();
    assert_eq!(
        rewriter.commit(2, &Answer::new(&[5, 6], true)).unwrap(),
        Verdict::Taken
    );
    assert_eq!(rewriter.target(2).unwrap(), Some(&[5, 6][..]));
    assert_eq!(rewriter.target(0).unwrap(), None);
    assert_eq!(rewriter.fact(RewriteFact::Accepted).unwrap(), 1);
    rewriter.restore(2).unwrap();
    assert_eq!(rewriter.target(2).unwrap(), None);
    assert_eq!(rewriter.target(4).unwrap_err().status(), Status::Sample);
    assert_eq!(rewriter.reject(2).unwrap_err().status(), Status::Phase);
    rewriter.cancel();
}

// -------------------------------------------------------------- checkpoints

#[test]
fn a_run_goes_on_from_a_checkpoint() {
    let context = Context::new().unwrap();
    let folder = Scratch::new("checkpoint");
    let run = folder.path().join("run");
    let (mut model, mut loss, mut optimizer) = trainer(&context).unwrap();
    assert_eq!(Checkpoint::find(&context, &run, None).unwrap(), None);
    train(&mut model, &mut loss, &mut optimizer).unwrap();
    Checkpoint::new(&run, 1)
        .keep(2)
        .model(&mut model)
        .optimizer(&mut optimizer)
        .loss(&mut loss)
        .host(b"order")
        .save(&context)
        .unwrap();
    let expected = train(&mut model, &mut loss, &mut optimizer).unwrap();
    drop((model, loss, optimizer));

    assert_eq!(Checkpoint::find(&context, &run, None).unwrap(), Some(1));
    assert_eq!(Checkpoint::find(&context, &run, Some(1)).unwrap(), None);
    let mut model = Model::new(&context).unwrap();
    Checkpoint::new(&run, 1)
        .model(&mut model)
        .load(&context)
        .unwrap();
    let mut optimizer = Optimizer::new(&context).unwrap();
    optimizer.set("lr", 0.01).unwrap();
    optimizer.add_model(&mut model).unwrap();
    let mut loss = Loss::new(&context).unwrap();
    let rest = Checkpoint::new(&run, 1)
        .optimizer(&mut optimizer)
        .loss(&mut loss);
    assert_eq!(rest.load_with_host(&context).unwrap(), b"order");
    assert_eq!(
        train(&mut model, &mut loss, &mut optimizer).unwrap(),
        expected
    );
}

#[test]
fn folders_are_read_and_refused() {
    let context = Context::new().unwrap();
    let folder = Scratch::new("folders");
    let (mut model, mut loss, mut optimizer) = trainer(&context).unwrap();
    train(&mut model, &mut loss, &mut optimizer).unwrap();
    let point = Checkpoint::new(folder.path(), 1).model(&mut model);
    point.save(&context).unwrap();
    let host = Checkpoint::new(folder.path(), 1).load_with_host(&context);
    assert!(host.unwrap().is_empty());

    let path = Checkpoint::path(folder.path(), 1).unwrap();
    let mut copy = Model::new(&context).unwrap();
    copy.load(&path).unwrap();
    copy.save(folder.path().join("copy")).unwrap();
    optimizer
        .save(&mut model, folder.path().join("state"))
        .unwrap();
    optimizer.load(folder.path().join("state")).unwrap();
    std::fs::write(path.join("checkpoint.json"), "{").unwrap();
    assert_eq!(
        Checkpoint::find(&context, folder.path(), None).unwrap(),
        Some(1)
    );
    let damaged = Checkpoint::new(folder.path(), 1).load(&context);
    assert_eq!(damaged.unwrap_err().status(), Status::Format);
    let error = copy.load(folder.path().join("nothing")).unwrap_err();
    assert_eq!(error.status(), Status::Phase, "{error}");
    let error = Model::new(&context)
        .unwrap()
        .load(folder.path().join("nothing"))
        .unwrap_err();
    assert_eq!(error.status(), Status::Io, "{error}");
}
