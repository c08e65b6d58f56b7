// SPDX-License-Identifier: Apache-2.0
//! The golden cases of the loss, replayed to the same bits. GOLDEN_TEXT names
//! the file; doc/bindings.md has its format.
use std::collections::HashMap;
use std::str::SplitWhitespace;

use cadft::{
    Context, Dtype, Element, Error, Loss, Micro, RowValue, SampleValue, Targets, TensorMut,
    TensorRef, BF16, F16,
};

/// Numbers of any type, with their shape.
struct Array {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

impl Array {
    /// DTYPE NDIM SHAPE... HEX
    fn read(mut words: SplitWhitespace<'_>) -> Self {
        let dtype = match words.next().unwrap() {
            "f32" => Dtype::F32,
            "f64" => Dtype::F64,
            "bf16" => Dtype::BF16,
            "f16" => Dtype::F16,
            "i32" => Dtype::I32,
            "i64" => Dtype::I64,
            other => panic!("data type {other}"),
        };
        let dims: usize = words.next().unwrap().parse().unwrap();
        let shape = (0..dims)
            .map(|_| words.next().unwrap().parse().unwrap())
            .collect();
        Self {
            dtype,
            shape,
            bytes: unhex(words.next().unwrap_or("")),
        }
    }

    fn to<T, const N: usize>(&self, from: fn([u8; N]) -> T) -> Vec<T> {
        self.bytes
            .chunks(N)
            .map(|chunk| from(chunk.try_into().unwrap()))
            .collect()
    }

    /// Calls `f` with a view of the numbers in their own type.
    fn view<R>(&self, f: impl FnOnce(TensorRef<'_>) -> R) -> R {
        fn go<T: Element, R>(data: &[T], a: &Array, f: impl FnOnce(TensorRef<'_>) -> R) -> R {
            f(TensorRef::new(data, &a.shape).unwrap())
        }
        match self.dtype {
            Dtype::F32 => go(&self.to(f32::from_le_bytes), self, f),
            Dtype::F64 => go(&self.to(f64::from_le_bytes), self, f),
            Dtype::I32 => go(&self.to(i32::from_le_bytes), self, f),
            Dtype::I64 => go(&self.to(i64::from_le_bytes), self, f),
            Dtype::F16 => go(F16::slice(&self.to(u16::from_le_bytes)), self, f),
            Dtype::BF16 => go(BF16::slice(&self.to(u16::from_le_bytes)), self, f),
        }
    }
}

/// A micro-batch, and what the library made of it.
struct Part {
    valid: i64,
    arrays: HashMap<String, Array>,
    results: HashMap<String, Vec<u8>>,
}

impl Part {
    fn with<R>(&self, f: impl FnOnce(TensorRef<'_>, &Targets<'_>) -> R) -> R {
        let arrays = &self.arrays;
        arrays["logits"].view(|logits| {
            arrays["labels"].view(|labels| {
                arrays["sample_ids"].view(|ids| {
                    let targets = Targets::new(labels, ids).vocab_valid(self.valid);
                    match arrays.get("k") {
                        Some(k) => k.view(|k| f(logits, &targets.k(k))),
                        None => f(logits, &targets),
                    }
                })
            })
        })
    }

    /// Float32 memory apart for the gradient.
    fn with_grad<R>(
        &self,
        f: impl FnOnce(TensorRef<'_>, &Targets<'_>, &mut TensorMut<'_>) -> R,
    ) -> (R, Vec<f32>) {
        self.with(|logits, targets| {
            let shape = &self.arrays["logits"].shape;
            let mut grad = vec![0f32; shape.iter().product()];
            let result = f(
                logits,
                targets,
                &mut TensorMut::new(&mut grad, shape).unwrap(),
            );
            (result, grad)
        })
    }

    fn expect(&self, name: &str, got: &[u8], case: &str) {
        if let Some(expected) = self.results.get(name) {
            assert_eq!(got, expected.as_slice(), "{name} of {case}");
        }
    }
}

#[derive(Default)]
struct Golden {
    n_samples: i64,
    parts: Vec<Part>,
    /// Of the parts, those whose gradient was read.
    done: usize,
    results: HashMap<String, Vec<u8>>,
    code: i32,
    message: String,
}

struct Case {
    name: String,
    options: Vec<(String, String)>,
    steps: Vec<Golden>,
}

impl Golden {
    /// A line of the step.
    fn read(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or("");
        match kind {
            "micro" => self.parts.push(Part {
                valid: words.next().unwrap().parse().unwrap(),
                arrays: HashMap::new(),
                results: HashMap::new(),
            }),
            "logits" | "labels" | "sample_ids" => self.input(kind, words),
            // An array of coefficients, or the coefficients that came out.
            "k" if line.split_whitespace().count() > 2 => self.input(kind, words),
            "grad" | "l" | "k" | "scale" => {
                self.done += usize::from(kind == "grad");
                let bytes = unhex(words.next().unwrap_or(""));
                let part = &mut self.parts[self.done - 1];
                part.results.insert(kind.into(), bytes);
            }
            "c" | "w" | "loss" | "mean_w" => {
                let bytes = unhex(words.next().unwrap_or(""));
                self.results.insert(kind.into(), bytes);
            }
            "status" => {
                self.code = words.next().unwrap().parse().unwrap();
                self.message = line.splitn(3, ' ').nth(2).unwrap_or("").into();
            }
            _ => panic!("{line}"),
        }
    }

    fn input(&mut self, kind: &str, words: SplitWhitespace<'_>) {
        let part = self.parts.last_mut().unwrap();
        part.arrays.insert(kind.into(), Array::read(words));
    }
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if words[0] == "case" {
            cases.push(Case {
                name: words[1].into(),
                options: Vec::new(),
                steps: Vec::new(),
            });
            continue;
        }
        let case = cases.last_mut().expect("a case first");
        match words[0] {
            "option" => case.options.push((words[1].into(), words[2].into())),
            "step" => case.steps.push(Golden {
                n_samples: words[1].parse().unwrap(),
                ..Golden::default()
            }),
            _ => case.steps.last_mut().expect("a step first").read(line),
        }
    }
    cases
}

fn bytes64(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn bytes32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

const ROWS: [(&str, RowValue); 3] = [
    ("l", RowValue::Nll),
    ("k", RowValue::K),
    ("scale", RowValue::Scale),
];

/// Compares what a step of either type shows before it ends.
macro_rules! compare_part {
    ($step:expr, $micro:expr, $part:expr, $grad:expr, $case:expr) => {
        $part.expect("grad", &bytes32(&$grad), $case);
        for (name, what) in ROWS {
            $part.expect(name, &bytes64(&$step.rows($micro, what)?), $case);
        }
    };
}

fn exact(loss: &mut Loss, step: &Golden, case: &str) -> Result<(f64, f64), Error> {
    let mut observing = loss.begin(step.n_samples)?;
    let mut micros: Vec<Micro> = Vec::new();
    for part in &step.parts {
        micros.push(part.with(|logits, targets| observing.observe(logits, targets))?);
    }
    let mut weighed = observing.weigh()?;
    for (&micro, part) in micros.iter().zip(&step.parts) {
        let (result, grad) = part.with_grad(|z, targets, g| weighed.grad(micro, z, targets, g));
        result?;
        compare_part!(weighed, micro, part, grad, case);
    }
    let (c, w) = (
        weighed.samples(SampleValue::C)?,
        weighed.samples(SampleValue::W)?,
    );
    compare_samples(step, &c, &w, case);
    let report = weighed.end()?;
    Ok((report.loss, report.mean_w))
}

fn one_pass(loss: &mut Loss, step: &Golden, case: &str) -> Result<(f64, f64), Error> {
    let mut pass = loss.begin_one_pass(step.n_samples)?;
    for part in &step.parts {
        let micro = part.with(|logits, targets| pass.observe(logits, targets))?;
        pass.weigh()?;
        let (result, grad) = part.with_grad(|z, targets, g| pass.grad(micro, z, targets, g));
        result?;
        compare_part!(pass, micro, part, grad, case);
    }
    let (c, w) = (pass.samples(SampleValue::C)?, pass.samples(SampleValue::W)?);
    compare_samples(step, &c, &w, case);
    let report = pass.end()?;
    Ok((report.loss, report.mean_w))
}

/// The simple call, where one micro-batch is all.
fn in_one_call(loss: &mut Loss, step: &Golden, case: &str) -> Result<(f64, f64), Error> {
    let part = &step.parts[0];
    let (report, grad) =
        part.with_grad(|z, targets, g| loss.compute(z, targets, step.n_samples, g));
    let report = report?;
    part.expect("grad", &bytes32(&grad), case);
    for (name, what) in ROWS {
        part.expect(name, &bytes64(&loss.computed_rows(what)?), case);
    }
    let (c, w) = (loss.samples(SampleValue::C)?, loss.samples(SampleValue::W)?);
    compare_samples(step, &c, &w, case);
    Ok((report.loss, report.mean_w))
}

fn compare_samples(step: &Golden, c: &[f64], w: &[f64], case: &str) {
    for (name, values) in [("c", c), ("w", w)] {
        if let Some(expected) = step.results.get(name) {
            assert_eq!(&bytes64(values), expected, "{name} of {case}");
        }
    }
}

fn compare_end(step: &Golden, result: Result<(f64, f64), Error>, case: &str) {
    match result {
        Ok((loss, mean_w)) => {
            assert_eq!(step.code, 0, "{case} succeeded, expected {}", step.message);
            for (name, value) in [("loss", loss), ("mean_w", mean_w)] {
                assert_eq!(
                    value.to_le_bytes().as_slice(),
                    step.results[name],
                    "{name} of {case}"
                );
            }
        }
        Err(error) => {
            assert_eq!(error.status().code(), step.code, "{case}: {error}");
            assert_eq!(error.message(), step.message, "{case}");
        }
    }
}

fn new_loss(context: &Context, case: &Case) -> Loss {
    let mut loss = Loss::new(context).unwrap();
    for (name, value) in &case.options {
        loss.set(name, value.as_str()).unwrap();
    }
    loss
}

#[test]
fn same_bits() {
    let path = match std::env::var_os("GOLDEN_TEXT") {
        Some(path) => path,
        None => return eprintln!("skipped: GOLDEN_TEXT names no file"),
    };
    let cases = parse(&std::fs::read_to_string(path).unwrap());
    let context = Context::new().unwrap();
    let (mut errors, mut calls) = (0, 0);
    for case in &cases {
        let mut loss = new_loss(&context, case);
        let is_exact = loss.get("scope").unwrap() == "exact";
        for step in &case.steps {
            let name = case.name.as_str();
            let replay = if is_exact { exact } else { one_pass };
            compare_end(step, replay(&mut loss, step, name), name);
            errors += usize::from(step.code != 0);
        }
        let first = &case.steps[0];
        if is_exact && first.parts.len() == 1 && case.steps.len() == 1 {
            let mut loss = new_loss(&context, case);
            compare_end(first, in_one_call(&mut loss, first, &case.name), &case.name);
            calls += 1;
        }
    }
    println!(
        "{} cases, {errors} with an error, {calls} through compute too",
        cases.len()
    );
    assert!(cases.len() >= 400 && errors >= 40 && calls >= 100);
}
