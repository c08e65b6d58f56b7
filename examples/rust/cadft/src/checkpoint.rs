// SPDX-License-Identifier: Apache-2.0
//! Checkpoints: all that a run goes on from, in a folder that is there as a
//! whole or not at all.
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use crate::error::{c_path, call, size_of, text, zeros};
use crate::{sys, Context, Loss, Model, Optimizer, Result, Rewriter};

/// A step's checkpoint and the parts that go in or come out. All are of one
/// context; any may be left out.
///
/// ```no_run
/// # use cadft::*;
/// # fn f(context: &Context, model: &mut Model, optimizer: &mut Optimizer) -> Result<()> {
/// Checkpoint::new("run", 100).keep(2).model(model).optimizer(optimizer).save(context)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Checkpoint<'a> {
    folder: PathBuf,
    step: i64,
    keep: i32,
    model: Option<&'a mut Model>,
    optimizer: Option<&'a mut Optimizer>,
    loss: Option<&'a mut Loss>,
    rewriter: Option<&'a mut Rewriter>,
    host: &'a [u8],
}

impl<'a> Checkpoint<'a> {
    /// The checkpoint of `step` in `folder`, without parts.
    pub fn new(folder: impl AsRef<Path>, step: i64) -> Self {
        Self {
            folder: folder.as_ref().into(),
            step,
            keep: 0,
            model: None,
            optimizer: None,
            loss: None,
            rewriter: None,
            host: &[],
        }
    }

    /// How many checkpoints stay when this one is saved, it included; 0: all.
    pub fn keep(mut self, n: i32) -> Self {
        self.keep = n;
        self
    }

    /// Weights and config.
    pub fn model(mut self, model: &'a mut Model) -> Self {
        self.model = Some(model);
        self
    }

    /// Moments, masters, counters. To save it, its models must be parts too: it
    /// may read their weights.
    pub fn optimizer(mut self, optimizer: &'a mut Optimizer) -> Self {
        self.optimizer = Some(optimizer);
        self
    }

    /// Running statistics.
    pub fn loss(mut self, loss: &'a mut Loss) -> Self {
        self.loss = Some(loss);
        self
    }

    /// Averages, picks and new targets.
    pub fn rewriter(mut self, rewriter: &'a mut Rewriter) -> Self {
        self.rewriter = Some(rewriter);
        self
    }

    /// The host's own: data order, random state; no bytes, no such part. For
    /// [`save`](Self::save).
    pub fn host(mut self, bytes: &'a [u8]) -> Self {
        self.host = bytes;
        self
    }

    /// Runs a call, and keeps what it points to alive.
    fn with(
        &self,
        f: impl FnOnce(&sys::cadft_checkpoint, *mut sys::cadft_error) -> i32,
    ) -> Result<()> {
        let folder = c_path("folder", &self.folder)?;
        let raw = sys::cadft_checkpoint {
            struct_size: size_of::<sys::cadft_checkpoint>(),
            keep: self.keep,
            folder: folder.as_ptr(),
            step: self.step,
            model: self
                .model
                .as_ref()
                .map_or(null_mut(), |part| part.raw.as_ptr()),
            optimizer: self
                .optimizer
                .as_ref()
                .map_or(null_mut(), |part| part.raw.as_ptr()),
            loss: self
                .loss
                .as_ref()
                .map_or(null_mut(), |part| part.raw.as_ptr()),
            rewrite: self
                .rewriter
                .as_ref()
                .map_or(null_mut(), |part| part.raw.as_ptr()),
            host: self.host.as_ptr().cast(),
            host_bytes: self.host.len(),
        };
        call(|e| f(&raw, e))
    }

    /// Saves it: it appears in one step when all of it is on the disk.
    pub fn save(self, context: &Context) -> Result<()> {
        if let Some(optimizer) = &self.optimizer {
            let given: Vec<_> = self.model.iter().map(|model| model.raw).collect();
            optimizer.check(&given)?;
        }
        let context = context.raw.as_ptr();
        self.with(|raw, e| unsafe { sys::cadft_checkpoint_save(context, raw, e) })
    }

    /// Loads the parts that are given: the model first, then, with another call,
    /// the optimizer that was made for it.
    pub fn load(self, context: &Context) -> Result<()> {
        let context = context.raw.as_ptr();
        self.with(|raw, e| unsafe {
            sys::cadft_checkpoint_load(context, raw, null_mut(), 0, null_mut(), e)
        })
    }

    /// Loads the parts, and returns the host's bytes, none where none were saved.
    pub fn load_with_host(self, context: &Context) -> Result<Vec<u8>> {
        let (context, mut n) = (context.raw.as_ptr(), 0);
        // Without parts nothing is changed.
        Checkpoint::new(&self.folder, self.step).with(|raw, e| unsafe {
            sys::cadft_checkpoint_load(context, raw, null_mut(), 0, &mut n, e)
        })?;
        let mut host = zeros::<u8>("the host's bytes", Some(n))?;
        self.with(|raw, e| unsafe {
            let data = host.as_mut_ptr().cast();
            sys::cadft_checkpoint_load(context, raw, data, host.len(), &mut n, e)
        })?;
        host.truncate(n);
        Ok(host)
    }

    /// Step of the newest checkpoint in `folder`, with `before` only of steps
    /// below it. A folder that is not there has none. It goes by names:
    /// [`load`](Self::load) refuses a damaged one with
    /// [`Status::Format`](crate::Status::Format), and its step for `before` asks
    /// for an older one.
    pub fn find(
        context: &Context,
        folder: impl AsRef<Path>,
        before: Option<i64>,
    ) -> Result<Option<i64>> {
        let (folder, mut step) = (c_path("folder", folder.as_ref())?, -1);
        call(|e| unsafe {
            let (context, before) = (context.raw.as_ptr(), before.unwrap_or(-1));
            sys::cadft_checkpoint_find(context, folder.as_ptr(), before, &mut step, e)
        })?;
        Ok((step >= 0).then_some(step))
    }

    /// The folder of a step's checkpoint, there or not, for [`Model::load`] and
    /// other programs.
    pub fn path(folder: impl AsRef<Path>, step: i64) -> Result<PathBuf> {
        let folder = c_path("folder", folder.as_ref())?;
        let path = text(|out, capacity, needed, e| unsafe {
            sys::cadft_checkpoint_path(folder.as_ptr(), step, out, capacity, needed, e)
        })?;
        Ok(path.into())
    }
}
