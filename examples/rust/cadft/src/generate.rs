// SPDX-License-Identifier: Apache-2.0
//! Prompts continued.
use std::ops::ControlFlow;
use std::os::raw::c_void;
use std::ptr::{null, null_mut};

use crate::callback::{guard, BoxError};
use crate::error::{call, length, size_of, zeros};
use crate::{sys, Error, Model, ModelFact, Result, Status, Tokens};

/// How tokens are drawn. The default is the most likely one each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampling<'a> {
    /// At least 1.
    pub max_new_tokens: i64,
    /// Logits are divided by it; 0: the largest logit.
    pub temperature: f64,
    /// Draw from the fewest most likely tokens whose mass reaches it; 0 means 1.
    pub top_p: f64,
    /// Tokens that end a prompt; they are kept.
    pub stop_tokens: &'a [i32],
    /// Random numbers are a function of seed, key, step and position.
    pub seed: u64,
    /// A key for each prompt, a sample's id; empty: 0, 1, ...
    pub keys: &'a [i64],
    /// Of the optimizer, say.
    pub step: i64,
}

impl Sampling<'_> {
    /// What it says of a call's description.
    fn raw(&self) -> sys::cadft_generate_desc {
        sys::cadft_generate_desc {
            struct_size: size_of::<sys::cadft_generate_desc>(),
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            stop_tokens: self.stop_tokens.as_ptr(),
            n_stop_tokens: length(self.stop_tokens.len()),
            seed: self.seed,
            keys: match self.keys {
                [] => null(),
                keys => keys.as_ptr(),
            },
            step: self.step,
            ..Default::default()
        }
    }
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Which prompt.
    pub prompt: i64,
    /// 0 for the first new token of the prompt.
    pub position: i64,
    /// The token.
    pub token: i32,
    /// Its log-probability at temperature 1, before top_p.
    pub logprob: f64,
}

type OnToken<'f> = dyn FnMut(Drawn) -> std::result::Result<ControlFlow<()>, BoxError> + 'f;

struct Listener<'f> {
    f: &'f mut OnToken<'f>,
    failure: Option<String>,
}

impl Model {
    /// Continues prompts. The new tokens of each, a stop token included.
    pub fn generate(
        &mut self,
        prompts: &Tokens<'_>,
        sampling: &Sampling<'_>,
    ) -> Result<Vec<Vec<i32>>> {
        self.run_generate(prompts, sampling, None)
    }

    /// With a closure that sees each token as it is drawn. `Break` ends its
    /// prompt there (the token is kept), Err or a panic ends all.
    pub fn generate_with<F>(
        &mut self,
        prompts: &Tokens<'_>,
        sampling: &Sampling<'_>,
        mut on_token: F,
    ) -> Result<Vec<Vec<i32>>>
    where
        F: FnMut(Drawn) -> std::result::Result<ControlFlow<()>, BoxError>,
    {
        let mut listener = Listener {
            f: &mut on_token,
            failure: None,
        };
        let result = self.run_generate(prompts, sampling, Some(&mut listener));
        match (result, listener.failure) {
            (Err(error), Some(message)) if error.status() == Status::Callback => {
                Err(Error::new(Status::Callback, message))
            }
            (result, _) => result,
        }
    }

    fn run_generate(
        &mut self,
        prompts: &Tokens<'_>,
        sampling: &Sampling<'_>,
        listener: Option<&mut Listener<'_>>,
    ) -> Result<Vec<Vec<i32>>> {
        let count = prompts.count();
        check_keys(sampling.keys, count)?;
        if prompts.logit_rows.is_some() {
            let message = "prompts have logit_rows, expected none: each is continued at its end";
            return Err(Error::new(Status::Arg, message));
        }
        // More than the positions is refused before anything is written.
        let most = self.fact(ModelFact::Positions)?;
        let width = sampling.max_new_tokens.clamp(0, most) as usize;
        let mut tokens = zeros("new tokens", count.checked_mul(width))?;
        let mut lengths = zeros::<i64>("lengths", Some(count))?;
        prompts.with(true, |batch| {
            let desc = sys::cadft_generate_desc {
                tokens: batch.tokens,
                cu_seqlens: batch.cu_seqlens,
                lengths: batch.lengths,
                on_token: listener.as_ref().map(|_| on_token as _),
                user: listener.map_or(null_mut(), |l| (l as *mut Listener<'_>).cast()),
                n_prompts: length(count),
                ..sampling.raw()
            };
            call(|e| unsafe {
                let (tokens, lengths) = (tokens.as_mut_ptr(), lengths.as_mut_ptr());
                sys::cadft_model_generate(self.raw.as_ptr(), &desc, tokens, lengths, e)
            })
        })?;
        let answer = |(row, &n): (&[i32], &i64)| row[..n as usize].to_vec();
        Ok(tokens
            .chunks(width.max(1))
            .zip(&lengths)
            .map(answer)
            .collect())
    }
}

impl Tokens<'_> {
    /// Sequences, as the library counts them: what it would refuse may count as
    /// any number.
    fn count(&self) -> usize {
        let tokens = &self.tokens.view;
        let n = match &self.cu_seqlens {
            Some(ends) => ends.view.count() - 1,
            None if tokens.shape().len() == 2 => tokens.shape()[0],
            None => 1,
        };
        n.max(0) as usize
    }
}

fn check_keys(keys: &[i64], count: usize) -> Result<()> {
    if keys.is_empty() || keys.len() == count {
        return Ok(());
    }
    let message = format!("keys has {} elements, expected {count} prompts", keys.len());
    Err(Error::new(Status::Shape, message))
}

unsafe extern "C" fn on_token(
    user: *mut c_void,
    prompt: i64,
    position: i64,
    token: i32,
    logprob: f64,
) -> i32 {
    let listener = unsafe { &mut *user.cast::<Listener<'_>>() };
    let drawn = Drawn {
        prompt,
        position,
        token,
        logprob,
    };
    match guard("the token closure", || (listener.f)(drawn)) {
        Ok(ControlFlow::Continue(())) => 0,
        Ok(ControlFlow::Break(())) => 1,
        Err(message) => {
            listener.failure = Some(message);
            -1
        }
    }
}
