// SPDX-License-Identifier: Apache-2.0
//! Closures that C calls.
mod support;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use cadft::{
    Context, Drawn, Loss, Micro, RowValue, Sampling, Status, TensorMut, TensorRef, Tokens,
};
use support::{host_loss, small_model, targets, Z};

fn logits() -> TensorRef<'static> {
    static VALUES: [f32; 16] = Z;
    TensorRef::new(&VALUES, &[4, 4]).unwrap()
}

#[test]
fn a_coefficient_closure_is_called_with_its_rows() {
    let context = Context::new().unwrap();
    let mut loss = host_loss(&context).unwrap();
    let mut calls = 0;
    loss.set_coefficient(move |rows, k| {
        calls += 1;
        assert_eq!(rows.nll.len(), 4);
        for (k, p) in k.iter_mut().zip(rows.p) {
            *k = p * f64::from(calls);
        }
    })
    .unwrap();
    for call in 1..3 {
        loss.evaluate(logits(), &targets(), 2).unwrap();
        let k = loss.computed_rows(RowValue::K).unwrap();
        let p = loss.computed_rows(RowValue::P).unwrap();
        for (k, p) in k.iter().zip(p) {
            assert_eq!(*k, p * f64::from(call));
        }
    }
}

/// The closure for `k = p` gives the bits of objective dft.
#[test]
fn a_closure_gives_the_same_gradient() {
    let context = Context::new().unwrap();
    let gradient = |loss: &mut Loss| {
        let mut z = Z;
        let mut logits = TensorMut::new(&mut z, &[4, 4]).unwrap();
        loss.compute_in_place(&mut logits, &targets(), 2).unwrap();
        z
    };
    let mut host = host_loss(&context).unwrap();
    host.set_coefficient(|rows, k| k.copy_from_slice(rows.p))
        .unwrap();
    assert_eq!(
        gradient(&mut host),
        gradient(&mut Loss::new(&context).unwrap())
    );
}

#[test]
fn a_failing_closure_is_the_calls_error() {
    let context = Context::new().unwrap();
    let mut loss = host_loss(&context).unwrap();
    loss.set_coefficient(|_, _| Err::<(), _>("the file of coefficients is gone"))
        .unwrap();
    let error = loss.evaluate(logits(), &targets(), 2).unwrap_err();
    assert_eq!(error.status(), Status::Callback);
    assert!(
        error
            .message()
            .ends_with("failed: the file of coefficients is gone"),
        "{error}"
    );

    loss.set_coefficient(|rows, _| assert!(rows.p.is_empty(), "{} rows", rows.p.len()))
        .unwrap();
    let mut step = loss.begin(2).unwrap();
    let error = step.observe(logits(), &targets()).unwrap_err();
    assert_eq!(error.status(), Status::Callback);
    assert!(error.message().ends_with("panicked: 4 rows"), "{error}");
    drop(step);

    loss.set_coefficient(|_, _| Err::<(), _>(Unspeakable))
        .unwrap();
    let error = loss.evaluate(logits(), &targets(), 2).unwrap_err();
    assert!(error.message().ends_with("panicked: no words"), "{error}");

    loss.set_coefficient(|_, k| k.fill(f64::NAN)).unwrap();
    let error = loss.evaluate(logits(), &targets(), 2).unwrap_err();
    assert_ne!(error.status(), Status::Callback, "{error}");
    loss.set_coefficient(|_, k| k.fill(1.0)).unwrap();
    loss.evaluate(logits(), &targets(), 2).unwrap();
}

/// An error whose sentence panics.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn a_second_reading_calls_it_again() {
    let context = Context::new().unwrap();
    let mut loss = host_loss(&context).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    loss.set_coefficient(move |_, k| {
        if counted.fetch_add(1, Ordering::Relaxed) == 2 {
            panic!("twice is enough");
        }
        k.fill(1.0)
    })
    .unwrap();
    let mut step = loss.begin(2).unwrap();
    step.observe(logits(), &targets()).unwrap();
    let mut step = step.weigh().unwrap();
    let mut grad = [0f32; 16];
    let mut grad = TensorMut::new(&mut grad, &[4, 4]).unwrap();
    step.grad(Micro::AGAIN, logits(), &targets(), &mut grad)
        .unwrap();
    let error = step
        .grad(Micro::AGAIN, logits(), &targets(), &mut grad)
        .unwrap_err();
    assert!(error.message().ends_with("twice is enough"), "{error}");
    assert_eq!(step.end().unwrap().n_rows, 4);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

struct CountsDrops(Arc<AtomicUsize>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_closure_is_dropped_once() {
    let context = Context::new().unwrap();
    let mut loss = host_loss(&context).unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    let register = |loss: &mut Loss| {
        let held = CountsDrops(drops.clone());
        loss.set_coefficient(move |_, k| {
            let _ = &held;
            k.fill(1.0)
        })
    };
    register(&mut loss).unwrap();
    register(&mut loss).unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    loss.clear_coefficient().unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), 2);
    register(&mut loss).unwrap();
    // Refused inside a step: the new one is dropped, the old one stays.
    let step = loss.begin(2).unwrap();
    std::mem::forget(step);
    assert_eq!(register(&mut loss).unwrap_err().status(), Status::Phase);
    assert_eq!(drops.load(Ordering::Relaxed), 3);
    drop(context);
    drop(loss);
    assert_eq!(drops.load(Ordering::Relaxed), 4);
}

#[test]
fn tokens_are_told_as_they_are_drawn() {
    let context = Context::new().unwrap();
    let mut model = small_model(&context).unwrap();
    let (prompts, ends) = ([1, 2, 3, 4, 5], [0, 3, 5]);
    let prompts = Tokens::packed(&prompts, &ends);
    let sampling = Sampling {
        max_new_tokens: 4,
        temperature: 1.0,
        seed: 3,
        ..Default::default()
    };
    let all = model.generate(&prompts, &sampling).unwrap();
    let mut told = vec![Vec::new(); 2];
    let cut = model
        .generate_with(&prompts, &sampling, |drawn: Drawn| {
            assert!(drawn.logprob < 0.0);
            told[drawn.prompt as usize].push(drawn.token);
            match (drawn.prompt, drawn.position) {
                (1, 1) => Ok(ControlFlow::Break(())),
                _ => Ok(ControlFlow::Continue(())),
            }
        })
        .unwrap();
    assert_eq!(all[0].len(), 4);
    assert_eq!(cut, [all[0].clone(), all[1][..2].to_vec()]);
    assert_eq!(cut, told);

    let error = model
        .generate_with(&prompts, &sampling, |_| panic!("enough"))
        .unwrap_err();
    assert_eq!(error.status(), Status::Callback);
    assert_eq!(error.message(), "the token closure panicked: enough");
    let error = model
        .generate_with(&prompts, &sampling, |_| Err("full".into()))
        .unwrap_err();
    assert_eq!(error.message(), "the token closure failed: full");
    assert_eq!(model.generate(&prompts, &sampling).unwrap(), all);
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let context = Context::new().unwrap();
    let mut model = small_model(&context).unwrap();
    let (prompts, ends) = ([1, 2, 3, 4, 5], [0, 3, 5]);
    let prompts = Tokens::packed(&prompts, &ends);
    let mut wrong = |prompts: &Tokens<'_>, sampling: Sampling<'_>| {
        model.generate(prompts, &sampling).unwrap_err().status()
    };
    let new = |n: i64| Sampling {
        max_new_tokens: n,
        ..Default::default()
    };
    assert_eq!(wrong(&prompts, new(0)), Status::Arg);
    assert_eq!(wrong(&prompts, new(i64::MAX)), Status::Arg);
    assert_eq!(wrong(&prompts.logit_rows(&[4]), new(4)), Status::Arg);
    let keys = Sampling {
        keys: &[1],
        ..new(4)
    };
    assert_eq!(wrong(&prompts, keys), Status::Shape);
    // As many prompts as there are numbers, each empty.
    let nothing = TensorRef::new::<i32>(&[], &[usize::MAX, 0]).unwrap();
    assert_eq!(wrong(&Tokens::new(nothing), new(4)), Status::NoMemory);
}
