// SPDX-License-Identifier: Apache-2.0
//! Decoder-only transformers.
use std::ffi::CStr;
use std::os::raw::c_void;
use std::path::Path;
use std::ptr::{null, null_mut, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::context::created;
use crate::error::{c_path, c_text, call, size_of};
use crate::knobs::{facts, knob_calls, Knobs};
use crate::tensor::{pointer, raw_option};
use crate::{sys, Context, Result, TensorMut, TensorRef};

static KNOBS: Knobs<sys::cadft_model> = Knobs {
    key: sys::cadft_model_key,
    key_at: sys::cadft_model_key_at,
    bounds: sys::cadft_model_bounds,
    set_i64: sys::cadft_model_set_i64,
    set_f64: sys::cadft_model_set_f64,
    set_str: sys::cadft_model_set_str,
    get_i64: sys::cadft_model_get_i64,
    get_f64: sys::cadft_model_get_f64,
    get_str: sys::cadft_model_get_str,
};
knob_calls!(Model, cadft_model);
facts! {
    Model,
    /// What can be asked about a model with weights.
    ModelFact {
        /// Named parameters.
        Parameters CADFT_MODEL_PARAMETERS,
        /// Numbers in them.
        Elements CADFT_MODEL_ELEMENTS,
        /// Columns of the logits.
        Vocab CADFT_MODEL_VOCAB,
        /// Width of the layers.
        Hidden CADFT_MODEL_HIDDEN,
        /// Layers.
        Layers CADFT_MODEL_LAYERS,
        /// Heads of the queries.
        Heads CADFT_MODEL_HEADS,
        /// Heads of keys and values.
        KvHeads CADFT_MODEL_KV_HEADS,
        /// Width of a head.
        HeadDim CADFT_MODEL_HEAD_DIM,
        /// Width of the MLP.
        Intermediate CADFT_MODEL_INTERMEDIATE,
        /// Longest sequence.
        Positions CADFT_MODEL_POSITIONS,
        /// Bytes of the weights.
        WeightBytes CADFT_MODEL_WEIGHT_BYTES,
        /// Bytes of the gradients; 0 until there are any.
        GradBytes CADFT_MODEL_GRAD_BYTES,
        /// Bytes of activations, as reserved now.
        ArenaBytes CADFT_MODEL_ARENA_BYTES,
    }
}

// -------------------------------------------------------------------- batches

/// Sequences and what is wanted of them; i32 or i64.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    pub(crate) tokens: TensorRef<'a>,
    pub(crate) cu_seqlens: Option<TensorRef<'a>>,
    lengths: Option<TensorRef<'a>>,
    pub(crate) logit_rows: Option<TensorRef<'a>>,
    stream: *mut c_void,
}

impl<'a> Tokens<'a> {
    /// One sequence `[rows]`, or `[B, T]` of full length.
    pub fn new(tokens: impl Into<TensorRef<'a>>) -> Self {
        Self {
            tokens: tokens.into(),
            cu_seqlens: None,
            lengths: None,
            logit_rows: None,
            stream: null_mut(),
        }
    }

    /// Packed `[rows]`: sequence `s` is rows `cu_seqlens[s]` to before
    /// `cu_seqlens[s + 1]`.
    pub fn packed(tokens: impl Into<TensorRef<'a>>, cu_seqlens: impl Into<TensorRef<'a>>) -> Self {
        Self {
            cu_seqlens: Some(cu_seqlens.into()),
            ..Self::new(tokens)
        }
    }

    /// Padded `[B, T]` with the sequences' lengths `[B]`.
    pub fn padded(tokens: impl Into<TensorRef<'a>>, lengths: impl Into<TensorRef<'a>>) -> Self {
        Self {
            lengths: Some(lengths.into()),
            ..Self::new(tokens)
        }
    }

    /// The packed rows that need logits, ascending; without them, all.
    pub fn logit_rows(mut self, rows: impl Into<TensorRef<'a>>) -> Self {
        self.logit_rows = Some(rows.into());
        self
    }

    /// The device's stream.
    ///
    /// # Safety
    /// It must be one of the backend's.
    pub unsafe fn stream(mut self, stream: *mut c_void) -> Self {
        self.stream = stream;
        self
    }

    pub(crate) fn with<R>(&self, no_grad: bool, f: impl FnOnce(&sys::cadft_model_batch) -> R) -> R {
        let raw = |tensor: &Option<TensorRef<'_>>| raw_option(tensor.as_ref().map(|t| &t.view));
        let (tokens, rows) = (self.tokens.view.raw(), raw(&self.logit_rows));
        let (cu_seqlens, lengths) = (raw(&self.cu_seqlens), raw(&self.lengths));
        f(&sys::cadft_model_batch {
            struct_size: size_of::<sys::cadft_model_batch>(),
            no_grad: no_grad.into(),
            tokens: &tokens,
            cu_seqlens: pointer(&cu_seqlens),
            lengths: pointer(&lengths),
            logit_rows: pointer(&rows),
            stream: self.stream,
        })
    }
}

// As `Targets`.
unsafe impl Send for Tokens<'_> {}
unsafe impl Sync for Tokens<'_> {}

/// The largest batch that is coming. 0 means as many as rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Forward passes without backward only.
    pub no_grad: bool,
    /// Tokens of a batch.
    pub rows: i64,
    /// Rows that need logits.
    pub logit_rows: i64,
    /// Sequences.
    pub sequences: i64,
}

impl Limits {
    fn raw(self) -> sys::cadft_model_limits {
        sys::cadft_model_limits {
            struct_size: size_of::<sys::cadft_model_limits>(),
            no_grad: self.no_grad.into(),
            rows: self.rows,
            logit_rows: self.logit_rows,
            sequences: self.sequences,
        }
    }
}

// ----------------------------------------------------------------- parameters

/// A parameter to be read.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'m> {
    /// As in the folder, `"model.norm.weight"`.
    pub name: &'m str,
    /// The weights.
    pub value: TensorRef<'m>,
    /// Their gradient, f32; None for a frozen parameter, and before the first
    /// [`Model::zero_grad`].
    pub grad: Option<TensorRef<'m>>,
    /// It is not frozen.
    pub trainable: bool,
}

/// A parameter to be written.
#[derive(Debug)]
pub struct ParameterMut<'m> {
    /// As in the folder.
    pub name: &'m str,
    /// The weights.
    pub value: TensorMut<'m>,
    /// Their gradient, as [`Parameter::grad`].
    pub grad: Option<TensorMut<'m>>,
    /// It is not frozen.
    pub trainable: bool,
}

struct RawParameter {
    name: *const std::os::raw::c_char,
    value: sys::cadft_tensor,
    grad: sys::cadft_tensor,
    trainable: bool,
}

// ------------------------------------------------------------------ the model

/// A decoder-only transformer, from a folder of Hugging Face's transformers or
/// with random weights.
#[derive(Debug)]
pub struct Model {
    pub(crate) raw: NonNull<sys::cadft_model>,
    /// Optimizers see whether the host still has the model.
    pub(crate) alive: Arc<AtomicBool>,
}

unsafe impl Send for Model {}

impl Model {
    /// A model without weights.
    pub fn new(context: &Context) -> Result<Self> {
        let mut raw = null_mut();
        call(|e| unsafe { sys::cadft_model_create(context.raw.as_ptr(), &mut raw, e) })?;
        Ok(Self {
            raw: created(raw),
            alive: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Weights of a folder: `config.json` and safetensors.
    pub fn load(&mut self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = c_path("folder", folder.as_ref())?;
        call(|e| unsafe { sys::cadft_model_load(self.raw.as_ptr(), folder.as_ptr(), e) })
    }

    /// Random weights for the text of a `config.json`; the same everywhere.
    pub fn init(&mut self, config: &str, seed: u64) -> Result<()> {
        call(|e| unsafe {
            let (text, n) = (config.as_ptr().cast(), config.len());
            sys::cadft_model_init(self.raw.as_ptr(), text, n, seed, e)
        })
    }

    /// Writes a folder that transformers loads, as a whole or not at all.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = c_path("folder", folder.as_ref())?;
        call(|e| unsafe { sys::cadft_model_save(self.raw.as_ptr(), folder.as_ptr(), e) })
    }

    fn raw_parameter(&self, index: i64) -> Result<RawParameter> {
        let empty = sys::cadft_tensor {
            struct_size: size_of::<sys::cadft_tensor>(),
            ..Default::default()
        };
        let mut p = RawParameter {
            name: null(),
            value: empty,
            grad: empty,
            trainable: false,
        };
        let mut trainable = 0;
        call(|e| unsafe {
            sys::cadft_model_parameter(
                self.raw.as_ptr(),
                index,
                &mut p.name,
                &mut p.value,
                &mut p.grad,
                &mut trainable,
                e,
            )
        })?;
        p.trainable = trainable != 0;
        Ok(p)
    }

    /// A parameter, 0 to before [`ModelFact::Parameters`].
    pub fn parameter(&self, index: i64) -> Result<Parameter<'_>> {
        let p = self.raw_parameter(index)?;
        let grad = (!p.grad.data.is_null()).then(|| unsafe { TensorRef::from_raw(&p.grad) });
        Ok(Parameter {
            name: unsafe { name(p.name) },
            value: unsafe { TensorRef::from_raw(&p.value)? },
            grad: grad.transpose()?,
            trainable: p.trainable,
        })
    }

    /// The same, to be written: between backward and forward.
    pub fn parameter_mut(&mut self, index: i64) -> Result<ParameterMut<'_>> {
        let p = self.raw_parameter(index)?;
        let grad = (!p.grad.data.is_null()).then(|| unsafe { TensorMut::from_raw(&p.grad) });
        Ok(ParameterMut {
            name: unsafe { name(p.name) },
            value: unsafe { TensorMut::from_raw(&p.value)? },
            grad: grad.transpose()?,
            trainable: p.trainable,
        })
    }

    /// All of them, in their fixed order.
    pub fn parameters(&self) -> Result<Vec<Parameter<'_>>> {
        let n = self.fact(ModelFact::Parameters)?;
        (0..n).map(|index| self.parameter(index)).collect()
    }

    /// Index of a parameter by name.
    pub fn find(&self, name: &str) -> Result<i64> {
        let (name, mut out) = (c_text("name", name)?, 0);
        call(|e| unsafe { sys::cadft_model_find(self.raw.as_ptr(), name.as_ptr(), &mut out, e) })?;
        Ok(out)
    }

    /// Freezes the parameters whose names match a shell pattern, or thaws them.
    /// Frees the gradients. Returns how many match.
    pub fn freeze(&mut self, pattern: &str, trainable: bool) -> Result<i64> {
        let (pattern, mut matched) = (c_text("pattern", pattern)?, 0);
        call(|e| unsafe {
            let (raw, pattern) = (self.raw.as_ptr(), pattern.as_ptr());
            sys::cadft_model_freeze(raw, pattern, trainable.into(), &mut matched, e)
        })?;
        Ok(matched)
    }

    /// Bytes of activations that batches within the limits need.
    pub fn plan(&mut self, limits: Limits) -> Result<i64> {
        let mut bytes = 0;
        call(|e| unsafe {
            sys::cadft_model_plan(self.raw.as_ptr(), &limits.raw(), &mut bytes, e)
        })?;
        Ok(bytes)
    }

    /// Allocates them.
    pub fn reserve(&mut self, limits: Limits) -> Result<()> {
        call(|e| unsafe { sys::cadft_model_reserve(self.raw.as_ptr(), &limits.raw(), e) })
    }

    /// Sets all gradients to zero; the first call allocates them.
    pub fn zero_grad(&mut self) -> Result<()> {
        call(|e| unsafe { sys::cadft_model_zero_grad(self.raw.as_ptr(), e) })
    }

    fn run(&mut self, tokens: &Tokens<'_>, no_grad: bool) -> Result<sys::cadft_tensor> {
        let mut logits = sys::cadft_tensor {
            struct_size: size_of::<sys::cadft_tensor>(),
            ..Default::default()
        };
        tokens.with(no_grad, |batch| {
            call(|e| unsafe { sys::cadft_model_forward(self.raw.as_ptr(), batch, &mut logits, e) })
        })?;
        Ok(logits)
    }

    /// Logits, f32 `[logit rows, vocab]`, of a batch whose gradient is wanted.
    pub fn forward(&mut self, tokens: &Tokens<'_>) -> Result<Forward<'_>> {
        let logits = self.run(tokens, false)?;
        // The model is borrowed with them: no call can take the memory away.
        let logits = unsafe { TensorMut::from_raw(&logits)? };
        Ok(Forward {
            model: self,
            logits,
        })
    }

    /// Logits alone.
    pub fn forward_no_grad(&mut self, tokens: &Tokens<'_>) -> Result<TensorMut<'_>> {
        let logits = self.run(tokens, true)?;
        unsafe { TensorMut::from_raw(&logits) }
    }
}

/// # Safety
/// `name` lives as long as the weights.
unsafe fn name<'m>(name: *const std::os::raw::c_char) -> &'m str {
    // The names are the library's own, ASCII.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("")
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { sys::cadft_model_destroy(self.raw.as_ptr()) }
        // Release: what this thread wrote to the weights is there for a step.
        self.alive.store(false, Ordering::Release);
    }
}

/// A forward pass: its logits, in the model's memory, and the way back.
///
/// ```compile_fail,E0499
/// # use cadft::*;
/// # fn f(model: &mut Model, tokens: &Tokens) -> Result<()> {
/// let pass = model.forward(tokens)?;
/// model.zero_grad()?; // the pass has the model
/// pass.backward()
/// # }
/// ```
#[derive(Debug)]
pub struct Forward<'m> {
    model: &'m mut Model,
    logits: TensorMut<'m>,
}

impl Forward<'_> {
    /// The logits.
    pub fn logits(&self) -> TensorRef<'_> {
        self.logits.as_ref()
    }

    /// The logits, for the loss to put the gradient in their place.
    pub fn logits_mut(&mut self) -> TensorMut<'_> {
        self.logits.reborrow()
    }

    /// Adds the parameters' gradients, of the gradient that stands in the
    /// logits' place.
    pub fn backward(self) -> Result<()> {
        self.run(&self.logits.as_ref())
    }

    /// Likewise of a gradient elsewhere, f32 `[logit rows, vocab]`.
    pub fn backward_from<'t>(self, grad_logits: impl Into<TensorRef<'t>>) -> Result<()> {
        self.run(&grad_logits.into())
    }

    fn run(&self, grad: &TensorRef<'_>) -> Result<()> {
        call(|e| unsafe { sys::cadft_model_backward(self.model.raw.as_ptr(), &grad.view.raw(), e) })
    }
}
