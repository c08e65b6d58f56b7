// SPDX-License-Identifier: Apache-2.0
//! An optimizer step of the loss in phases. What is not allowed in a phase is
//! not there.
use std::marker::PhantomData;

use crate::error::{call, fill};
use crate::loss::{report, Micro, RowValue, SampleValue};
use crate::tensor::{pointer, raw_option, View};
use crate::{sys, Loss, LossReport, Result, Targets, TensorMut, TensorRef, Value};

/// Micro-batches are observed.
#[derive(Debug)]
pub enum Observing {}
/// The weights are known; gradients may be written.
#[derive(Debug)]
pub enum Weighed {}
/// Scopes `running` and `local`: both, in turns.
#[derive(Debug)]
pub enum OnePass {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Observing {}
    impl Sealed for super::Weighed {}
    impl Sealed for super::OnePass {}
}

/// A phase in which micro-batches are observed.
pub trait Observes: sealed::Sealed {}
impl Observes for Observing {}
impl Observes for OnePass {}

/// A phase in which gradients are written.
pub trait Grads: sealed::Sealed {}
impl Grads for Weighed {}
impl Grads for OnePass {}

/// A step. Dropping it before its end leaves it as if it had not begun.
///
/// ```
/// # use cadft::*;
/// # fn main() -> Result<()> {
/// # let context = Context::new()?;
/// # let mut loss = Loss::new(&context)?;
/// # let mut z = [[0.5f32, 0.1], [0.3, 0.9]];
/// # let targets = [Targets::new(&[1i32], &[0i32]), Targets::new(&[0i32], &[1i32])];
/// let mut step = loss.begin(2)?;
/// let mut micros = Vec::new();
/// for m in 0..2 {
///     let logits = TensorRef::new(&z[m], &[1, 2])?;
///     micros.push(step.observe(&logits, &targets[m])?);
/// }
/// let mut step = step.weigh()?;
/// for m in 0..2 {
///     let mut logits = TensorMut::new(&mut z[m], &[1, 2])?;
///     step.grad_in_place(micros[m], &mut logits, &targets[m])?;
/// }
/// let report = step.end()?;
/// # assert_eq!(report.n_rows, 2);
/// # Ok(())
/// # }
/// ```
///
/// A gradient before the weights are known is no program:
///
/// ```compile_fail,E0599
/// # fn f(loss: &mut cadft::Loss, z: &mut cadft::TensorMut, t: &cadft::Targets) -> cadft::Result<()> {
/// let mut step = loss.begin(1)?;
/// let micro = step.observe(&*z, t)?;
/// step.grad_in_place(micro, z, t)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Step<'l, P> {
    guard: Guard<'l>,
    phase: PhantomData<P>,
}

#[derive(Debug)]
struct Guard<'l> {
    loss: &'l mut Loss,
    ended: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.loss.cancel();
        }
    }
}

/// What can be exchanged between processes; `cadft/loss.h` says when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// Maximum; vocabulary parallel, first.
    RowMax = sys::CADFT_EXCHANGE_ROW_MAX as isize,
    /// Sum; vocabulary parallel, second.
    RowSum = sys::CADFT_EXCHANGE_ROW_SUM as isize,
    /// Sum, over processes that share samples.
    Samples = sys::CADFT_EXCHANGE_SAMPLES as isize,
    /// Sum of slots; data parallel.
    Moments = sys::CADFT_EXCHANGE_MOMENTS as isize,
    /// Sum of slots; data parallel with renormalise.
    Weights = sys::CADFT_EXCHANGE_WEIGHTS as isize,
    /// Sum of slots; optional, before the end.
    Report = sys::CADFT_EXCHANGE_REPORT as isize,
}

/// In every phase.
impl<'l, P> Step<'l, P> {
    pub(crate) fn begin(loss: &'l mut Loss, n_samples: i64) -> Result<Self> {
        loss.call(|loss, e| unsafe { sys::cadft_loss_begin(loss, n_samples, e) })?;
        Ok(Self {
            guard: Guard { loss, ended: false },
            phase: PhantomData,
        })
    }

    /// This process's part of an array that is added up (or its maximum taken)
    /// over processes. `shard` of `n_shards` is its slot; 0 of 1 for the kinds
    /// without slots.
    pub fn export(&self, kind: Exchange, shard: i64, n_shards: i64) -> Result<Vec<f64>> {
        let loss = self.guard.loss.raw.as_ptr();
        fill(|out, capacity, needed, e| unsafe {
            sys::cadft_loss_export(loss, kind as i32, shard, n_shards, out, capacity, needed, e)
        })
    }

    /// Takes the reduced array back.
    pub fn import(&mut self, kind: Exchange, values: &[f64]) -> Result<()> {
        self.guard.loss.call(|loss, e| unsafe {
            sys::cadft_loss_import(loss, kind as i32, values.as_ptr(), values.len(), e)
        })
    }

    /// Export, the host's all-reduce, import.
    pub fn exchange(
        &mut self,
        kind: Exchange,
        shard: i64,
        n_shards: i64,
        all_reduce: impl FnOnce(&mut [f64]),
    ) -> Result<()> {
        let mut values = self.export(kind, shard, n_shards)?;
        all_reduce(&mut values);
        self.import(kind, &values)
    }

    /// A knob that may change inside a step: `denominator`, until the first
    /// weigh, and `grad_scale`, for the gradients that follow.
    pub fn set<'v>(&mut self, name: &str, value: impl Into<Value<'v>>) -> Result<()> {
        self.guard.loss.set(name, value)
    }

    /// As [`Loss::rows`].
    pub fn rows(&self, micro: Micro, what: RowValue) -> Result<Vec<f64>> {
        self.guard.loss.rows(micro, what)
    }

    /// As [`Loss::samples`].
    pub fn samples(&self, what: SampleValue) -> Result<Vec<f64>> {
        self.guard.loss.samples(what)
    }

    fn read(&mut self, logits: &View, targets: &Targets<'_>, unit: Option<&View>) -> Result<Micro> {
        let (unit, mut micro) = (raw_option(unit), 0);
        targets.with(logits, |batch| {
            self.guard.loss.call(|loss, e| unsafe {
                sys::cadft_loss_observe(loss, batch, pointer(&unit), &mut micro, e)
            })
        })?;
        Ok(Micro(micro))
    }

    fn write(
        &mut self,
        micro: Micro,
        logits: &View,
        targets: &Targets<'_>,
        grad: &View,
    ) -> Result<()> {
        let grad = grad.raw();
        targets.with(logits, |batch| {
            self.guard
                .loss
                .call(|loss, e| unsafe { sys::cadft_loss_grad(loss, micro.0, batch, &grad, e) })
        })
    }

    fn weights(&mut self) -> Result<()> {
        let loss = self.guard.loss.raw.as_ptr();
        call(|e| unsafe { sys::cadft_loss_weigh(loss, e) })
    }

    fn finish(&mut self) -> Result<LossReport> {
        let loss = self.guard.loss.raw.as_ptr();
        let report = report(|report| call(|e| unsafe { sys::cadft_loss_end(loss, report, e) }))?;
        self.guard.ended = true;
        Ok(report)
    }
}

impl<P: Observes> Step<'_, P> {
    /// Reads a micro-batch's logits.
    pub fn observe<'t>(
        &mut self,
        logits: impl Into<TensorRef<'t>>,
        targets: &Targets<'_>,
    ) -> Result<Micro> {
        self.read(&logits.into().view, targets, None)
    }

    /// Also writes softmax - target in the same sweep. The true gradient of a
    /// row is that times [`RowValue::Scale`] after weigh.
    pub fn observe_unit<'t>(
        &mut self,
        logits: impl Into<TensorRef<'t>>,
        targets: &Targets<'_>,
        unit: &mut TensorMut<'_>,
    ) -> Result<Micro> {
        self.read(&logits.into().view, targets, Some(&unit.view))
    }

    /// The unit gradient takes the logits' place.
    pub fn observe_unit_in_place(
        &mut self,
        logits: &mut TensorMut<'_>,
        targets: &Targets<'_>,
    ) -> Result<Micro> {
        self.read(&logits.view, targets, Some(&logits.view))
    }
}

impl<'l> Step<'l, Observing> {
    /// Turns what was observed into weights. A failure gives the step up.
    pub fn weigh(mut self) -> Result<Step<'l, Weighed>> {
        self.weights()?;
        Ok(Step {
            guard: self.guard,
            phase: PhantomData,
        })
    }
}

impl Step<'_, OnePass> {
    /// Weighs what was observed since the last time.
    pub fn weigh(&mut self) -> Result<()> {
        self.weights()
    }
}

impl<P: Grads> Step<'_, P> {
    /// Writes a micro-batch's gradient. The logits are those observed, or
    /// `micro` is [`Micro::AGAIN`].
    pub fn grad<'t>(
        &mut self,
        micro: Micro,
        logits: impl Into<TensorRef<'t>>,
        targets: &Targets<'_>,
        grad: &mut TensorMut<'_>,
    ) -> Result<()> {
        self.write(micro, &logits.into().view, targets, &grad.view)
    }

    /// The gradient takes the logits' place.
    pub fn grad_in_place(
        &mut self,
        micro: Micro,
        logits: &mut TensorMut<'_>,
        targets: &Targets<'_>,
    ) -> Result<()> {
        self.write(micro, &logits.view, targets, &logits.view)
    }

    /// What [`end`](Self::end) would report now: the loss before the gradient.
    pub fn report(&self) -> Result<LossReport> {
        self.guard.loss.report()
    }

    /// Ends the step. A failure gives it up.
    pub fn end(mut self) -> Result<LossReport> {
        self.finish()
    }
}
