// SPDX-License-Identifier: Apache-2.0
//! Closures that C calls: no panic passes through the library.
use std::any::Any;
use std::os::raw::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Why a closure could not do its work.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a closure may return: nothing, or that it failed.
pub trait Outcome {
    /// How it went.
    fn outcome(self) -> Result<(), BoxError>;
}

impl Outcome for () {
    fn outcome(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Outcome for Result<(), E> {
    fn outcome(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

/// What a closure of `what` returned, or how it failed, as a sentence.
pub(crate) fn guard<R>(what: &str, f: impl FnOnce() -> Result<R, BoxError>) -> Result<R, String> {
    // The error's Display and Drop are the host's code too.
    let run = || f().map_err(|error| format!("{what} failed: {error}"));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(payload) => {
            let message = format!("{what} panicked: {}", panic_text(&*payload));
            forget_payload(payload);
            Err(message)
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text")
}

/// A payload whose drop panics would unwind through C.
fn forget_payload(payload: Box<dyn Any + Send>) {
    if payload.is::<&str>() || payload.is::<String>() {
        drop(payload);
    } else {
        std::mem::forget(payload);
    }
}

/// Runs what must not fail. The panic's own message is on stderr already.
pub(crate) fn quietly(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        forget_payload(payload);
    }
}

/// A bundle's `destroy`: frees the box that `user` is.
///
/// # Safety
/// `user` is from `Box::<T>::into_raw`, and nobody uses it any more.
pub(crate) unsafe extern "C" fn destroy<T>(user: *mut c_void) {
    quietly(|| drop(unsafe { Box::from_raw(user.cast::<T>()) }));
}

/// C's array of `n`, which may be NULL where it is empty.
///
/// # Safety
/// As `std::slice::from_raw_parts`, but for the empty one.
pub(crate) unsafe fn slice<'a, T>(data: *const T, n: i64) -> &'a [T] {
    if n <= 0 {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(data, n as usize) }
}
