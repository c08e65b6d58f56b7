// SPDX-License-Identifier: Apache-2.0
//! AdamW and SGD.
use std::any::Any;
use std::path::Path;
use std::ptr::{null, null_mut, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::context::created;
use crate::error::{c_path, c_text, call, size_of};
use crate::knobs::{facts, knob_calls, Knobs};
use crate::{sys, Context, Element, Error, Model, Result, Status, TensorMut, TensorRef};

static KNOBS: Knobs<sys::cadft_optimizer> = Knobs {
    key: sys::cadft_optimizer_key,
    key_at: sys::cadft_optimizer_key_at,
    bounds: sys::cadft_optimizer_bounds,
    set_i64: sys::cadft_optimizer_set_i64,
    set_f64: sys::cadft_optimizer_set_f64,
    set_str: sys::cadft_optimizer_set_str,
    get_i64: sys::cadft_optimizer_get_i64,
    get_f64: sys::cadft_optimizer_get_f64,
    get_str: sys::cadft_optimizer_get_str,
};
knob_calls!(Optimizer, cadft_optimizer);
facts! {
    Optimizer,
    /// What can be asked about an optimizer.
    OptimizerFact {
        /// Steps done, without skipped ones.
        Steps CADFT_OPTIMIZER_STEPS,
        /// Steps skipped.
        Skipped CADFT_OPTIMIZER_SKIPPED,
        /// Parameters added.
        Parameters CADFT_OPTIMIZER_PARAMETERS,
        /// Bytes of the backend's memory that the state takes, or will take.
        StateBytes CADFT_OPTIMIZER_STATE_BYTES,
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct OptimizerReport {
    /// The norm was not finite, nothing was done.
    pub skipped: bool,
    /// Steps done, this one included.
    pub step: i64,
    /// Rate of this step, before groups.
    pub lr: f64,
    /// Norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// Factor on the gradient; 1: was not clipped.
    pub clip: f64,
    /// Steps skipped so far.
    pub skipped_total: i64,
}

/// The models of an optimizer, borrowed for a call that reads or writes their
/// weights: `&mut model`, `[&mut a, &mut b]`, or `()` where all its parameters
/// are the host's. A `model: &mut Model` that is needed afterwards goes in as
/// `&mut *model`.
pub trait Models: sealed::Sealed {}

impl Models for () {}
impl Models for &mut Model {}
impl<const N: usize> Models for [&mut Model; N] {}
impl Models for &mut [&mut Model] {}

mod sealed {
    use super::{sys, Model, NonNull};

    pub trait Sealed {
        fn handles(&self) -> Vec<NonNull<sys::cadft_model>>;
    }

    impl Sealed for () {
        fn handles(&self) -> Vec<NonNull<sys::cadft_model>> {
            Vec::new()
        }
    }

    impl Sealed for &mut Model {
        fn handles(&self) -> Vec<NonNull<sys::cadft_model>> {
            vec![self.raw]
        }
    }

    impl<const N: usize> Sealed for [&mut Model; N] {
        fn handles(&self) -> Vec<NonNull<sys::cadft_model>> {
            self.iter().map(|model| model.raw).collect()
        }
    }

    impl Sealed for &mut [&mut Model] {
        fn handles(&self) -> Vec<NonNull<sys::cadft_model>> {
            self.iter().map(|model| model.raw).collect()
        }
    }
}

/// AdamW or SGD over the parameters of models, or over arrays of the host.
///
/// A step changes weights, so nobody may look at them meanwhile:
///
/// ```compile_fail,E0502
/// # use cadft::*;
/// # fn f(optimizer: &mut Optimizer, model: &mut Model) -> Result<()> {
/// let norm = model.parameter(0)?;
/// optimizer.step(&mut *model)?;
/// println!("{:?}", norm.value.as_slice::<f32>());
/// # Ok(())
/// # }
/// ```
pub struct Optimizer {
    pub(crate) raw: NonNull<sys::cadft_optimizer>,
    models: Vec<(NonNull<sys::cadft_model>, Arc<AtomicBool>)>,
    /// The host's: `(Vec<T>, Vec<G>)`.
    arrays: Vec<Box<dyn Any + Send>>,
}

// Its models' handles are for comparing only.
unsafe impl Send for Optimizer {}

impl Optimizer {
    /// An optimizer without parameters.
    pub fn new(context: &Context) -> Result<Self> {
        let mut raw = null_mut();
        call(|e| unsafe { sys::cadft_optimizer_create(context.raw.as_ptr(), &mut raw, e) })?;
        Ok(Self {
            raw: created(raw),
            models: Vec::new(),
            arrays: Vec::new(),
        })
    }

    /// Adds the trainable parameters of a model, and keeps it alive. Returns how
    /// many.
    pub fn add_model(&mut self, model: &mut Model) -> Result<i64> {
        let mut added = 0;
        call(|e| unsafe {
            let (raw, model) = (self.raw.as_ptr(), model.raw.as_ptr());
            sys::cadft_optimizer_add_model(raw, model, &mut added, e)
        })?;
        if !self.models.iter().any(|(raw, _)| *raw == model.raw) {
            self.models.push((model.raw, model.alive.clone()));
        }
        Ok(added)
    }

    /// Adds a parameter of the host's, f32 or [`BF16`](crate::BF16), and keeps
    /// its arrays. Returns its number for [`arrays`](Self::arrays).
    pub fn add<T: Element, G: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        mut value: Vec<T>,
        mut grad: Vec<G>,
    ) -> Result<usize> {
        let mut value_view = TensorMut::new(&mut value, shape)?;
        let grad_view = TensorMut::new(&mut grad, shape)?;
        // They go into `arrays` and out of it when the handle is gone.
        unsafe { self.add_borrowed(name, &mut value_view, grad_view.as_ref())? };
        self.arrays.push(Box::new((value, grad)));
        Ok(self.arrays.len() - 1)
    }

    /// Value and gradient of a parameter that was added: fill the gradient
    /// before each step. None for another number or other types.
    pub fn arrays<T: Element, G: Element>(
        &mut self,
        number: usize,
    ) -> Option<(&mut [T], &mut [G])> {
        let arrays = self.arrays.get_mut(number)?;
        let (value, grad) = arrays.downcast_mut::<(Vec<T>, Vec<G>)>()?;
        Some((value, grad))
    }

    /// Adds a parameter in memory that the host keeps.
    ///
    /// # Safety
    /// Both arrays must outlive the optimizer, and nobody may touch them while
    /// one of its calls runs, in which it reads the gradient and writes the
    /// value.
    pub unsafe fn add_borrowed(
        &mut self,
        name: &str,
        value: &mut TensorMut<'_>,
        grad: TensorRef<'_>,
    ) -> Result<()> {
        let name = c_text("name", name)?;
        call(|e| unsafe {
            let (value, grad) = (value.view.raw(), grad.view.raw());
            sys::cadft_optimizer_add(self.raw.as_ptr(), name.as_ptr(), &value, &grad, e)
        })
    }

    /// Scales rate and weight decay of the parameters whose names match a shell
    /// pattern. Returns how many match.
    pub fn group(&mut self, pattern: &str, lr_scale: f64, decay_scale: f64) -> Result<i64> {
        let (pattern, mut matched) = (c_text("pattern", pattern)?, 0);
        call(|e| unsafe {
            sys::cadft_optimizer_group(
                self.raw.as_ptr(),
                pattern.as_ptr(),
                lr_scale,
                decay_scale,
                &mut matched,
                e,
            )
        })?;
        Ok(matched)
    }

    /// Every model that the host still has must be among `models`: then nobody
    /// else looks at the weights, on any thread.
    pub(crate) fn check(&self, models: &[NonNull<sys::cadft_model>]) -> Result<()> {
        let known = |(raw, alive): &(_, Arc<AtomicBool>)| {
            !alive.load(Ordering::Acquire) || models.contains(raw)
        };
        if self.models.iter().all(known) {
            return Ok(());
        }
        let message = "the optimizer has the parameters of a model that was not given to this \
                       call, expected all models that were added";
        Err(Error::new(Status::Arg, message))
    }

    /// Changes the weights by their gradients.
    pub fn step(&mut self, models: impl Models) -> Result<OptimizerReport> {
        self.run(models, null())
    }

    /// A step whose squared norm is known: [`norm`](Self::norm), added up over
    /// processes.
    pub fn step_with(&mut self, models: impl Models, sum_squares: f64) -> Result<OptimizerReport> {
        self.run(models, &sum_squares)
    }

    fn run(&mut self, models: impl Models, squares: *const f64) -> Result<OptimizerReport> {
        self.check(&models.handles())?;
        let mut r = sys::cadft_optimizer_report {
            struct_size: size_of::<sys::cadft_optimizer_report>(),
            ..Default::default()
        };
        call(|e| unsafe { sys::cadft_optimizer_step(self.raw.as_ptr(), squares, &mut r, e) })?;
        Ok(OptimizerReport {
            skipped: r.skipped != 0,
            step: r.step,
            lr: r.lr,
            grad_norm: r.grad_norm,
            clip: r.clip,
            skipped_total: r.skipped_total,
        })
    }

    /// Sum of the squares of all gradients.
    pub fn norm(&mut self, models: impl Models) -> Result<f64> {
        self.check(&models.handles())?;
        let mut out = 0.0;
        call(|e| unsafe { sys::cadft_optimizer_norm(self.raw.as_ptr(), &mut out, e) })?;
        Ok(out)
    }

    /// Learning rate of a step, the first being 0.
    pub fn lr(&self, step: i64) -> Result<f64> {
        let mut out = 0.0;
        call(|e| unsafe { sys::cadft_optimizer_lr(self.raw.as_ptr(), step, &mut out, e) })?;
        Ok(out)
    }

    /// Writes `folder/optimizer.safetensors`, as a whole or not at all. Before
    /// the first step it reads the weights.
    pub fn save(&mut self, models: impl Models, folder: impl AsRef<Path>) -> Result<()> {
        self.check(&models.handles())?;
        let folder = c_path("folder", folder.as_ref())?;
        call(|e| unsafe { sys::cadft_optimizer_save(self.raw.as_ptr(), folder.as_ptr(), e) })
    }

    /// Takes the state from such a folder, bit for bit.
    pub fn load(&mut self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = c_path("folder", folder.as_ref())?;
        call(|e| unsafe { sys::cadft_optimizer_load(self.raw.as_ptr(), folder.as_ptr(), e) })
    }
}

impl Drop for Optimizer {
    fn drop(&mut self) {
        unsafe { sys::cadft_optimizer_destroy(self.raw.as_ptr()) }
    }
}

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimizer")
            .field("raw", &self.raw)
            .finish_non_exhaustive()
    }
}
