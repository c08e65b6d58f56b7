// SPDX-License-Identifier: Apache-2.0
//! The loss: logits and labels in, gradients out.
use std::os::raw::c_void;
use std::ptr::{null, null_mut, NonNull};
use std::sync::{Arc, Mutex};

use crate::callback::{destroy, guard, slice, BoxError, Outcome};
use crate::context::created;
use crate::error::{call, fill, size_of};
use crate::knobs::{knob_calls, Knobs};
use crate::step::{Observing, OnePass, Step};
use crate::tensor::{count, pointer, raw_option, View};
use crate::{sys, Context, Error, Result, Status, TensorMut, TensorRef};

static KNOBS: Knobs<sys::cadft_loss> = Knobs {
    key: sys::cadft_loss_key,
    key_at: sys::cadft_loss_key_at,
    bounds: sys::cadft_loss_bounds,
    set_i64: sys::cadft_loss_set_i64,
    set_f64: sys::cadft_loss_set_f64,
    set_str: sys::cadft_loss_set_str,
    get_i64: sys::cadft_loss_get_i64,
    get_f64: sys::cadft_loss_get_f64,
    get_str: sys::cadft_loss_get_str,
};
knob_calls!(Loss, cadft_loss);

// ------------------------------------------------------------------- batches

/// What belongs to the rows of a micro-batch beside their logits.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    labels: TensorRef<'a>,
    sample_ids: TensorRef<'a>,
    k: Option<TensorRef<'a>>,
    valid: i64,
    start: i64,
    total: i64,
    stream: *mut c_void,
}

impl<'a> Targets<'a> {
    /// `labels`: i32 or i64, `[rows]` or `[B, T]`. `sample_ids`: i32, which
    /// demonstration of the global batch a row belongs to, negative for none
    /// ([`sample_ids`](crate::sample_ids) fills them).
    pub fn new(labels: impl Into<TensorRef<'a>>, sample_ids: impl Into<TensorRef<'a>>) -> Self {
        Self {
            labels: labels.into(),
            sample_ids: sample_ids.into(),
            k: None,
            valid: 0,
            start: 0,
            total: 0,
            stream: null_mut(),
        }
    }

    /// Coefficients of objective `host`, f32 or f64 `[rows]`.
    pub fn k(mut self, k: impl Into<TensorRef<'a>>) -> Self {
        self.k = Some(k.into());
        self
    }

    /// Columns that are vocabulary; the rest is padding. 0: all.
    pub fn vocab_valid(mut self, columns: i64) -> Self {
        self.valid = columns;
        self
    }

    /// Vocabulary parallel: the columns are the ids from `start` on, out of
    /// `total`.
    pub fn vocab_shard(mut self, start: i64, total: i64) -> Self {
        (self.start, self.total) = (start, total);
        self
    }

    /// The device's stream.
    ///
    /// # Safety
    /// It must be one of the backend's, and the tensors' memory stay borrowed
    /// until it has passed them.
    pub unsafe fn stream(mut self, stream: *mut c_void) -> Self {
        self.stream = stream;
        self
    }

    pub(crate) fn with<R>(&self, logits: &View, f: impl FnOnce(&sys::cadft_loss_batch) -> R) -> R {
        let (labels, ids) = (self.labels.view.raw(), self.sample_ids.view.raw());
        let (logits, k) = (logits.raw(), raw_option(self.k.as_ref().map(|k| &k.view)));
        f(&sys::cadft_loss_batch {
            struct_size: size_of::<sys::cadft_loss_batch>(),
            logits: &logits,
            labels: &labels,
            sample_ids: &ids,
            k: pointer(&k),
            vocab_valid: self.valid,
            vocab_start: self.start,
            vocab_total: self.total,
            stream: self.stream,
            ..Default::default()
        })
    }
}

// Borrows; a stream is `stream`'s to promise.
unsafe impl Send for Targets<'_> {}
unsafe impl Sync for Targets<'_> {}

/// Number of a micro-batch within its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Micro(pub(crate) i64);

impl Micro {
    /// For `grad`: logits that differ in the last bits from those observed (a
    /// second forward pass with dropout). Their rows are read again.
    pub const AGAIN: Self = Self(-1);
}

// ------------------------------------------------------------------- results

/// What a step did; the C header has the formulas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LossReport {
    /// Sum of scale * w * token loss.
    pub loss: f64,
    /// Mean negative log-likelihood: the plain SFT loss.
    pub nll: f64,
    /// Mean probability of the labels.
    pub mean_p: f64,
    /// Mean w over the samples, before renormalise.
    pub mean_w: f64,
    /// Smallest w.
    pub min_w: f64,
    /// Share of the samples with w < 1.
    pub share_below: f64,
    /// Mean of c that the weights used.
    pub mu: f64,
    /// Standard deviation that they used.
    pub sigma: f64,
    /// The gradient's scale beside that of SFT.
    pub grad_scale: f64,
    /// Samples in the statistics.
    pub n_samples: i64,
    /// Their counting rows.
    pub n_rows: i64,
    /// Samples skipped as non-finite.
    pub n_skipped: i64,
    /// Samples with c = +inf.
    pub n_infinite: i64,
}

pub(crate) fn report(
    f: impl FnOnce(*mut sys::cadft_loss_report) -> Result<()>,
) -> Result<LossReport> {
    let mut r = sys::cadft_loss_report {
        struct_size: size_of::<sys::cadft_loss_report>(),
        ..Default::default()
    };
    f(&mut r)?;
    Ok(LossReport {
        loss: r.loss,
        nll: r.nll,
        mean_p: r.mean_p,
        mean_w: r.mean_w,
        min_w: r.min_w,
        share_below: r.share_below,
        mu: r.mu,
        sigma: r.sigma,
        grad_scale: r.grad_scale,
        n_samples: r.n_samples,
        n_rows: r.n_rows,
        n_skipped: r.n_skipped,
        n_infinite: r.n_infinite,
    })
}

/// Arrays of a micro-batch's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowValue {
    /// l, nats.
    Nll = sys::CADFT_ROWS_NLL as isize,
    /// exp(-l).
    P = sys::CADFT_ROWS_P as isize,
    /// H, nats; 0 without objective eaft or host.
    Entropy = sys::CADFT_ROWS_ENTROPY as isize,
    /// Token coefficient k.
    K = sys::CADFT_ROWS_K as isize,
    /// What a unit gradient is to be multiplied by, after weigh.
    Scale = sys::CADFT_ROWS_SCALE as isize,
    /// Weighted token loss: their sum is the micro-batch's loss. After weigh.
    Loss = sys::CADFT_ROWS_LOSS as isize,
}

/// Arrays of the step's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleValue {
    /// c; NaN without counting row.
    C = sys::CADFT_SAMPLES_C as isize,
    /// Its z-score; NaN outside the statistics.
    Chat = sys::CADFT_SAMPLES_CHAT as isize,
    /// Weight as applied; 0 outside.
    W = sys::CADFT_SAMPLES_W as isize,
    /// Counting rows.
    Rows = sys::CADFT_SAMPLES_ROWS as isize,
}

// ------------------------------------------------------------------ the loss

/// What a coefficient closure sees, a number for each row of a micro-batch; 0
/// at rows that do not count.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// l, nats.
    pub nll: &'a [f64],
    /// exp(-l).
    pub p: &'a [f64],
    /// H, nats.
    pub entropy: &'a [f64],
}

type Coefficient = dyn FnMut(Rows<'_>, &mut [f64]) -> std::result::Result<(), BoxError> + Send;
type Failure = Arc<Mutex<Option<String>>>;

/// The loss. One thread at a time uses it:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<cadft::Loss>();
/// ```
#[derive(Debug)]
pub struct Loss {
    pub(crate) raw: NonNull<sys::cadft_loss>,
    /// What the coefficient closure said last, until a call reports it.
    failure: Failure,
}

unsafe impl Send for Loss {}

impl Loss {
    /// A loss with the defaults: CADFT, that is DFT with sample weights.
    pub fn new(context: &Context) -> Result<Self> {
        let mut raw = null_mut();
        call(|e| unsafe { sys::cadft_loss_create(context.raw.as_ptr(), &mut raw, e) })?;
        Ok(Self {
            raw: created(raw),
            failure: Failure::default(),
        })
    }

    /// Objective `host`: a closure that writes the finite coefficient of each
    /// row, whenever rows are read. Err, or a panic, fails the call that read
    /// them.
    pub fn set_coefficient<F, O>(&mut self, mut f: F) -> Result<()>
    where
        F: FnMut(Rows<'_>, &mut [f64]) -> O + Send + 'static,
        O: Outcome,
    {
        let registered = Registered {
            f: Box::new(move |rows, k| f(rows, k).outcome()),
            failure: self.failure.clone(),
        };
        let bundle = sys::cadft_coefficient {
            struct_size: size_of::<sys::cadft_coefficient>(),
            user: Box::into_raw(Box::new(registered)).cast(),
            fn_: Some(coefficient),
            destroy: Some(destroy::<Registered>),
            ..Default::default()
        };
        call(|e| unsafe { sys::cadft_loss_set_coefficient(self.raw.as_ptr(), &bundle, e) })
    }

    /// Takes the closure out again.
    pub fn clear_coefficient(&mut self) -> Result<()> {
        call(|e| unsafe { sys::cadft_loss_set_coefficient(self.raw.as_ptr(), null(), e) })
    }

    /// A call that may run the closure: its failure is the call's.
    pub(crate) fn call(
        &mut self,
        f: impl FnOnce(*mut sys::cadft_loss, *mut sys::cadft_error) -> i32,
    ) -> Result<()> {
        call(|e| f(self.raw.as_ptr(), e)).map_err(|error| {
            let failure = self
                .failure
                .lock()
                .ok()
                .and_then(|mut failure| failure.take());
            match failure {
                Some(message) if error.status() == Status::Callback => {
                    Error::new(Status::Callback, message)
                }
                _ => error,
            }
        })
    }

    fn run(
        &mut self,
        logits: &View,
        targets: &Targets<'_>,
        n_samples: i64,
        grad: Option<&View>,
        row_scale: Option<&mut [f32]>,
    ) -> Result<LossReport> {
        let grad = raw_option(grad);
        let scale = match row_scale {
            Some(scale) => check_row_scale(logits, scale)?,
            None => null_mut(),
        };
        report(|report| {
            targets.with(logits, |batch| {
                self.call(|loss, e| unsafe {
                    sys::cadft_loss_compute(
                        loss,
                        batch,
                        n_samples,
                        pointer(&grad),
                        scale,
                        report,
                        e,
                    )
                })
            })
        })
    }

    /// This batch is the whole global batch: its gradient with respect to the
    /// logits goes to `grad`, which has as many rows, in the logits' type or f32.
    /// `n_samples` is the number of its demonstrations; sample ids are below it.
    pub fn compute<'t>(
        &mut self,
        logits: impl Into<TensorRef<'t>>,
        targets: &Targets<'_>,
        n_samples: i64,
        grad: &mut TensorMut<'_>,
    ) -> Result<LossReport> {
        self.run(
            &logits.into().view,
            targets,
            n_samples,
            Some(&grad.view),
            None,
        )
    }

    /// The gradient takes the logits' place.
    pub fn compute_in_place(
        &mut self,
        logits: &mut TensorMut<'_>,
        targets: &Targets<'_>,
        n_samples: i64,
    ) -> Result<LossReport> {
        self.run(&logits.view, targets, n_samples, Some(&logits.view), None)
    }

    /// No gradient: the report alone.
    pub fn evaluate<'t>(
        &mut self,
        logits: impl Into<TensorRef<'t>>,
        targets: &Targets<'_>,
        n_samples: i64,
    ) -> Result<LossReport> {
        self.run(&logits.into().view, targets, n_samples, None, None)
    }

    /// The unit gradient, softmax - target; the true one of row `r` is
    /// `row_scale[r]` times it. One sweep over the logits.
    pub fn compute_unit<'t>(
        &mut self,
        logits: impl Into<TensorRef<'t>>,
        targets: &Targets<'_>,
        n_samples: i64,
        unit: &mut TensorMut<'_>,
        row_scale: &mut [f32],
    ) -> Result<LossReport> {
        let logits = logits.into();
        self.run(
            &logits.view,
            targets,
            n_samples,
            Some(&unit.view),
            Some(row_scale),
        )
    }

    /// The unit gradient takes the logits' place.
    pub fn compute_unit_in_place(
        &mut self,
        logits: &mut TensorMut<'_>,
        targets: &Targets<'_>,
        n_samples: i64,
        row_scale: &mut [f32],
    ) -> Result<LossReport> {
        self.run(
            &logits.view,
            targets,
            n_samples,
            Some(&logits.view),
            Some(row_scale),
        )
    }

    /// Starts an optimizer step of scope `exact`: all micro-batches are
    /// observed, weighed once, and then each gets its gradient. `n_samples` counts
    /// the demonstrations of all of them, and their ids are below it.
    pub fn begin(&mut self, n_samples: i64) -> Result<Step<'_, Observing>> {
        Step::begin(self, n_samples)
    }

    /// Starts an optimizer step of scope `running` or `local`: observe, weigh
    /// and grad for each micro-batch in turn. Their order is checked as the step
    /// goes.
    pub fn begin_one_pass(&mut self, n_samples: i64) -> Result<Step<'_, OnePass>> {
        Step::begin(self, n_samples)
    }

    /// Leaves a step whose guard was forgotten; otherwise nothing.
    pub fn cancel(&mut self) {
        unsafe { sys::cadft_loss_cancel(self.raw.as_ptr()) }
    }

    /// An array of a micro-batch of the step, also after its end.
    pub fn rows(&self, micro: Micro, what: RowValue) -> Result<Vec<f64>> {
        fill(|out, capacity, needed, e| unsafe {
            let (raw, what) = (self.raw.as_ptr(), what as i32);
            sys::cadft_loss_get_rows(raw, micro.0, what, out, capacity, needed, e)
        })
    }

    /// Of the only micro-batch of a `compute`.
    pub fn computed_rows(&self, what: RowValue) -> Result<Vec<f64>> {
        self.rows(Micro(0), what)
    }

    /// An array of the step's samples, also after its end.
    pub fn samples(&self, what: SampleValue) -> Result<Vec<f64>> {
        fill(|out, capacity, needed, e| unsafe {
            sys::cadft_loss_get_samples(self.raw.as_ptr(), what as i32, out, capacity, needed, e)
        })
    }

    /// What [`Step::report`] says, or what the last step or `compute` reported.
    pub fn report(&self) -> Result<LossReport> {
        report(|report| {
            call(|e| unsafe { sys::cadft_loss_get_report(self.raw.as_ptr(), report, e) })
        })
    }

    /// The running statistics, without knobs.
    pub fn state_save(&self) -> Result<Vec<u8>> {
        fill(|out: *mut u8, capacity, needed, e| unsafe {
            sys::cadft_loss_state_save(self.raw.as_ptr(), out.cast(), capacity, needed, e)
        })
    }

    /// Takes them back, bit for bit.
    pub fn state_load(&mut self, state: &[u8]) -> Result<()> {
        call(|e| unsafe {
            let (data, n) = (state.as_ptr().cast(), state.len());
            sys::cadft_loss_state_load(self.raw.as_ptr(), data, n, e)
        })
    }
}

/// C gets no length of it.
fn check_row_scale(logits: &View, scale: &mut [f32]) -> Result<*mut f32> {
    let shape = logits.shape();
    let rows = count(&shape[..shape.len() - 1]);
    if scale.len() as i64 == rows {
        return Ok(scale.as_mut_ptr());
    }
    let message = format!(
        "row_scale has {} elements, expected {rows} rows",
        scale.len()
    );
    Err(Error::new(Status::Shape, message))
}

impl Drop for Loss {
    fn drop(&mut self) {
        unsafe { sys::cadft_loss_destroy(self.raw.as_ptr()) }
    }
}

// --------------------------------------------------------------- coefficient

struct Registered {
    f: Box<Coefficient>,
    failure: Failure,
}

unsafe extern "C" fn coefficient(
    user: *mut c_void,
    n: i64,
    nll: *const f64,
    p: *const f64,
    entropy: *const f64,
    k: *mut f64,
) -> i32 {
    let registered = unsafe { &mut *user.cast::<Registered>() };
    let result = guard("the coefficient closure", || {
        let rows = unsafe {
            Rows {
                nll: slice(nll, n),
                p: slice(p, n),
                entropy: slice(entropy, n),
            }
        };
        let k = match n {
            0 => &mut [],
            _ => unsafe {
                // Ours to write, whatever it held.
                std::ptr::write_bytes(k, 0, n as usize);
                std::slice::from_raw_parts_mut(k, n as usize)
            },
        };
        (registered.f)(rows, k)
    });
    match result {
        Ok(()) => 0,
        Err(message) => {
            if let Ok(mut failure) = registered.failure.lock() {
                *failure = Some(message);
            }
            1
        }
    }
}
