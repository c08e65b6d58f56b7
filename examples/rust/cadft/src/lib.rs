// SPDX-License-Identifier: Apache-2.0
//! libcadft from Rust: the loss of Compatibility-Aware Dynamic Fine-Tuning, and
//! around it transformers, optimizers, rewriting of targets and checkpoints.
//!
//! ```
//! use cadft::{Context, Loss, Targets, TensorMut};
//!
//! # fn main() -> cadft::Result<()> {
//! let context = Context::new()?;
//! let mut loss = Loss::new(&context)?; // the defaults: CADFT
//! loss.set("beta", 0.5)?;
//!
//! let mut z = vec![0.1f32, 0.2, 0.7, 0.9, 0.3, 0.1]; // 2 rows, 3 columns
//! let (labels, sample_ids) = ([2i32, 0], [0i32, 1]);
//! let mut logits = TensorMut::new(&mut z, &[2, 3])?;
//! let targets = Targets::new(&labels, &sample_ids);
//! let report = loss.compute_in_place(&mut logits, &targets, 2)?;
//! println!("loss {}", report.loss); // z is the gradient now
//! # Ok(())
//! # }
//! ```
//!
//! With micro-batches the same goes in phases: [`Loss::begin`].
//!
//! # Ownership and threads
//!
//! Handles free themselves, in any order; what a handle needs of its context
//! it keeps alive. Tensors are views of slices ([`TensorRef`], [`TensorMut`])
//! and the library keeps none after a call, so lifetimes say all there is to
//! say. [`Context`] is `Send` and `Sync`; the other handles are `Send`, and one
//! thread at a time uses them.
//!
//! Where a library call writes memory that a view may show, it borrows the
//! owner: [`Forward`] holds its model, and [`Optimizer::step`] takes the models
//! whose weights it changes.
//!
//! # Knobs
//!
//! Every handle has `set`, `get`, `get_i64`, `get_f64` and `bounds` with a
//! knob's name, the lower-case end of the C constant: `CADFT_LOSS_Z_LOSS` is
//! `"z_loss"`; `knobs` has all names. The C headers list them with bounds and
//! defaults.
//!
//! # Errors and panics
//!
//! [`Error`] has a [`Status`] and the library's sentence. A closure that panics
//! fails the call that ran it with [`Status::Callback`]; the panic goes no
//! further.
#![warn(missing_docs)]
#![deny(unsafe_op_in_unsafe_fn)]

mod callback;
mod checkpoint;
mod context;
mod error;
mod generate;
mod knobs;
mod loss;
mod model;
mod optimizer;
mod rewrite;
pub mod sample_ids;
mod step;
mod tensor;

pub use cadft_sys as sys;
pub use callback::{BoxError, Outcome};
pub use checkpoint::Checkpoint;
pub use context::{Context, ContextBuilder, Level, Parallel};
pub use error::{Error, Result, Status};
pub use generate::{Drawn, Sampling};
pub use knobs::{Bounds, Value};
pub use loss::{Loss, LossReport, Micro, RowValue, Rows, SampleValue, Targets};
pub use model::{Forward, Limits, Model, ModelFact, Parameter, ParameterMut, Tokens};
pub use optimizer::{Models, Optimizer, OptimizerFact, OptimizerReport};
pub use rewrite::{Answer, RewriteFact, Rewriter, SampleInfo, Verdict};
pub use step::{Exchange, Grads, Observes, Observing, OnePass, Step, Weighed};
pub use tensor::{Dtype, Element, TensorMut, TensorRef, BF16, F16, MAX_DIMS};

/// Version of the library that is loaded: major, minor, patch.
pub fn version() -> (u32, u32, u32) {
    let v = unsafe { sys::cadft_version() };
    (v / 1_000_000, v / 1000 % 1000, v % 1000)
}

/// The README's programs are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
