// SPDX-License-Identifier: Apache-2.0
//! Delayed rewriting of targets.
use std::ptr::{null, null_mut, NonNull};

use crate::context::created;
use crate::error::{call, fill, length, size_of};
use crate::knobs::{facts, knob_calls, Knobs};
use crate::{sys, Context, Error, Result, Status};

static KNOBS: Knobs<sys::cadft_rewrite> = Knobs {
    key: sys::cadft_rewrite_key,
    key_at: sys::cadft_rewrite_key_at,
    bounds: sys::cadft_rewrite_bounds,
    set_i64: sys::cadft_rewrite_set_i64,
    set_f64: sys::cadft_rewrite_set_f64,
    set_str: sys::cadft_rewrite_set_str,
    get_i64: sys::cadft_rewrite_get_i64,
    get_f64: sys::cadft_rewrite_get_f64,
    get_str: sys::cadft_rewrite_get_str,
};
knob_calls!(Rewriter, cadft_rewrite);
facts! {
    Rewriter,
    /// What can be asked about a rewriter.
    RewriteFact {
        /// Samples of the data set.
        Samples CADFT_REWRITE_SAMPLES,
        /// Observations ever taken.
        Observed CADFT_REWRITE_OBSERVED,
        /// Observations not taken.
        Ignored CADFT_REWRITE_IGNORED,
        /// Picks that are open now.
        Open CADFT_REWRITE_OPEN,
        /// Samples with a replacement now.
        Rewritten CADFT_REWRITE_REWRITTEN,
        /// Picks ever handed out.
        Picked CADFT_REWRITE_PICKED,
        /// Of them accepted.
        Accepted CADFT_REWRITE_ACCEPTED,
        /// Of them rejected.
        Rejected CADFT_REWRITE_REJECTED,
        /// Step of the last picks; -1 before.
        LastStep CADFT_REWRITE_LAST_STEP,
        /// Bytes allocated for this handle.
        Bytes CADFT_REWRITE_BYTES,
    }
}

/// What is known of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SampleInfo {
    /// Picked, neither committed nor rejected.
    pub is_open: bool,
    /// Average of the signal; NaN without observation.
    pub average: f64,
    /// Last observed; NaN if unknown.
    pub c: f64,
    /// Of the present target.
    pub observations: i64,
    /// How often it was rewritten.
    pub rewrites: i64,
    /// A replacement holds.
    pub is_rewritten: bool,
}

/// An answer to a pick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer<'a> {
    /// Copied by the rewriter, so that [`Rewriter::target`] has them.
    pub tokens: &'a [i32],
    /// It ended by itself, with an end token.
    pub ended: bool,
    /// Mean negative log-likelihood of this answer under the present model;
    /// read with knob `require_lower` only.
    pub c_new: f64,
    /// And of the target that it replaces; NaN: the one last observed.
    pub c_old: f64,
}

impl<'a> Answer<'a> {
    /// An answer whose c is not known.
    pub fn new(tokens: &'a [i32], ended: bool) -> Self {
        Self {
            tokens,
            ended,
            c_new: f64::NAN,
            c_old: f64::NAN,
        }
    }
}

/// Whether an answer was taken, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is the sample's target from now on.
    Taken,
    /// Shorter than `min_length`.
    TooShort,
    /// Longer than `max_length`.
    TooLong,
    /// With `require_end`: it was cut off.
    NotEnded,
    /// With `require_lower`: c is not below that of the present target.
    NotLower,
    /// For a reason that this crate does not know.
    Other(i32),
}

impl Verdict {
    fn from_code(code: i32) -> Self {
        match code as u32 {
            sys::CADFT_REJECTED_NOT => Self::Taken,
            sys::CADFT_REJECTED_TOO_SHORT => Self::TooShort,
            sys::CADFT_REJECTED_TOO_LONG => Self::TooLong,
            sys::CADFT_REJECTED_NOT_ENDED => Self::NotEnded,
            sys::CADFT_REJECTED_NOT_LOWER => Self::NotLower,
            _ => Self::Other(code),
        }
    }
}

/// Follows the samples of a data set, picks those that stay incompatible, and
/// keeps the answers that replace their targets.
#[derive(Debug)]
pub struct Rewriter {
    pub(crate) raw: NonNull<sys::cadft_rewrite>,
}

unsafe impl Send for Rewriter {}

impl Rewriter {
    /// For a data set of `n_samples`.
    pub fn new(context: &Context, n_samples: i64) -> Result<Self> {
        let mut raw = null_mut();
        call(|e| unsafe {
            sys::cadft_rewrite_create(context.raw.as_ptr(), n_samples, &mut raw, e)
        })?;
        Ok(Self { raw: created(raw) })
    }

    /// What an optimizer step has shown of its samples, in their order; `c` or
    /// `chat` may be missing where the knob `signal` is the other.
    pub fn observe(&mut self, ids: &[i64], c: Option<&[f64]>, chat: Option<&[f64]>) -> Result<()> {
        for (name, values) in [("c", c), ("chat", chat)] {
            let n = values.map_or(ids.len(), <[f64]>::len);
            if n != ids.len() {
                let message = format!("{name} has {n} elements, expected {} ids", ids.len());
                return Err(Error::new(Status::Shape, message));
            }
        }
        let pointer = |values: Option<&[f64]>| values.map_or(null(), <[f64]>::as_ptr);
        call(|e| unsafe {
            let (c, chat, n) = (pointer(c), pointer(chat), length(ids.len()));
            sys::cadft_rewrite_observe(self.raw.as_ptr(), ids.as_ptr(), c, chat, n, e)
        })
    }

    /// What is known of a sample.
    pub fn sample(&self, id: i64) -> Result<SampleInfo> {
        let mut info = sys::cadft_rewrite_info {
            struct_size: size_of::<sys::cadft_rewrite_info>(),
            ..Default::default()
        };
        call(|e| unsafe { sys::cadft_rewrite_sample(self.raw.as_ptr(), id, &mut info, e) })?;
        Ok(SampleInfo {
            is_open: info.is_open != 0,
            average: info.average,
            c: info.c,
            observations: info.observations,
            rewrites: info.rewrites,
            is_rewritten: info.is_rewritten != 0,
        })
    }

    /// Has the warm-up passed, and does the interval divide the step?
    pub fn due(&self, step: i64) -> Result<bool> {
        let mut due = 0;
        call(|e| unsafe { sys::cadft_rewrite_due(self.raw.as_ptr(), step, &mut due, e) })?;
        Ok(due != 0)
    }

    /// Picks samples to rewrite, by rising id, if the step is due. They are open
    /// from now on.
    pub fn select(&mut self, step: i64) -> Result<Vec<i64>> {
        fill(|out, capacity, needed, e| unsafe {
            sys::cadft_rewrite_select(self.raw.as_ptr(), step, out, capacity, needed, e)
        })
    }

    /// The picks that are open, by rising id.
    pub fn open(&self) -> Result<Vec<i64>> {
        fill(|out, capacity, needed, e| unsafe {
            sys::cadft_rewrite_open(self.raw.as_ptr(), out, capacity, needed, e)
        })
    }

    /// Closes all open picks.
    pub fn cancel(&mut self) {
        unsafe { sys::cadft_rewrite_cancel(self.raw.as_ptr()) }
    }

    /// Gives an open pick its answer, which closes it.
    pub fn commit(&mut self, id: i64, answer: &Answer<'_>) -> Result<Verdict> {
        self.give(id, answer, answer.tokens.as_ptr())
    }

    /// The same where the host keeps the tokens: they are counted only.
    pub fn commit_kept(&mut self, id: i64, answer: &Answer<'_>) -> Result<Verdict> {
        self.give(id, answer, null())
    }

    fn give(&mut self, id: i64, answer: &Answer<'_>, tokens: *const i32) -> Result<Verdict> {
        let result = sys::cadft_rewrite_result {
            struct_size: size_of::<sys::cadft_rewrite_result>(),
            ended: answer.ended.into(),
            tokens,
            n_tokens: length(answer.tokens.len()),
            c_new: answer.c_new,
            c_old: answer.c_old,
        };
        let mut rejected = 0;
        call(|e| unsafe {
            sys::cadft_rewrite_commit(self.raw.as_ptr(), id, &result, &mut rejected, e)
        })?;
        Ok(Verdict::from_code(rejected))
    }

    /// Closes an open pick without an answer.
    pub fn reject(&mut self, id: i64) -> Result<()> {
        call(|e| unsafe { sys::cadft_rewrite_reject(self.raw.as_ptr(), id, e) })
    }

    /// The replacement that holds for a sample now; None where the original
    /// does, or where the host keeps it.
    pub fn target(&self, id: i64) -> Result<Option<&[i32]>> {
        let (mut tokens, mut n) = (null(), 0);
        call(|e| unsafe {
            sys::cadft_rewrite_target(self.raw.as_ptr(), id, &mut tokens, &mut n, e)
        })?;
        Ok((!tokens.is_null()).then(|| unsafe { crate::callback::slice(tokens, n) }))
    }

    /// Takes a sample back to its original target.
    pub fn restore(&mut self, id: i64) -> Result<()> {
        call(|e| unsafe { sys::cadft_rewrite_restore(self.raw.as_ptr(), id, e) })
    }

    /// Everything but the knobs.
    pub fn state_save(&self) -> Result<Vec<u8>> {
        fill(|out: *mut u8, capacity, needed, e| unsafe {
            sys::cadft_rewrite_state_save(self.raw.as_ptr(), out.cast(), capacity, needed, e)
        })
    }

    /// Takes it back, bit for bit, for as many samples and the same signal.
    pub fn state_load(&mut self, state: &[u8]) -> Result<()> {
        call(|e| unsafe {
            let (data, n) = (state.as_ptr().cast(), state.len());
            sys::cadft_rewrite_state_load(self.raw.as_ptr(), data, n, e)
        })
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        unsafe { sys::cadft_rewrite_destroy(self.raw.as_ptr()) }
    }
}
