// SPDX-License-Identifier: Apache-2.0
//! Status codes and sentences, and how a C call's are taken.
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::raw::c_char;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys;

/// What a call returns.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! statuses {
    ($($name:ident $constant:ident $what:literal)*) => {
        /// Why a call failed. New codes of later libraries are [`Other`](Self::Other).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Status {
            $(#[doc = $what] $name,)*
            /// A code that this crate does not know.
            Other(i32),
        }

        impl Status {
            /// Of the number that a C function returned.
            pub fn from_code(code: i32) -> Self {
                match code {
                    $(sys::$constant => Self::$name,)*
                    other => Self::Other(other),
                }
            }

            /// The number, `CADFT_E_...`.
            pub fn code(self) -> i32 {
                match self {
                    $(Self::$name => sys::$constant,)*
                    Self::Other(code) => code,
                }
            }
        }
    };
}

statuses! {
    Null CADFT_E_NULL "A required pointer is NULL."
    Arg CADFT_E_ARG "A value is outside what is allowed."
    Shape CADFT_E_SHAPE "Shape, stride or length does not fit."
    Dtype CADFT_E_DTYPE "The data type is not accepted here."
    Align CADFT_E_ALIGN "An address is not aligned to its element."
    Alias CADFT_E_ALIAS "Buffers overlap in a way not allowed."
    Device CADFT_E_DEVICE "Memory that the backend cannot reach."
    TooNew CADFT_E_TOO_NEW "A struct asks for what the library does not know."
    Key CADFT_E_KEY "Unknown key, or the wrong type for it."
    Space CADFT_E_SPACE "A buffer is too small."
    Phase CADFT_E_PHASE "The call is not allowed in this phase."
    Busy CADFT_E_BUSY "The handle is inside another call."
    Unsupported CADFT_E_UNSUPPORTED "The combination is refused."
    Label CADFT_E_LABEL "A label is outside the vocabulary."
    Sample CADFT_E_SAMPLE "A sample id is outside the batch or data set."
    Nonfinite CADFT_E_NONFINITE "NaN, +inf or an empty row of logits; a gradient that is not finite."
    State CADFT_E_STATE "A saved state is damaged or not ours."
    Format CADFT_E_FORMAT "A file's content is damaged or refused."
    NoMemory CADFT_E_NOMEM "The allocator has no memory."
    Threads CADFT_E_THREADS "Threads failed."
    Backend CADFT_E_BACKEND "The backend failed or was refused."
    Callback CADFT_E_CALLBACK "A closure failed or panicked."
    Io CADFT_E_IO "The system could not read or write a file."
}

impl Status {
    /// The C constant's name, `"CADFT_E_LABEL"`.
    pub fn name(self) -> &'static str {
        let text = unsafe { CStr::from_ptr(sys::cadft_status_string(self.code())) };
        text.to_str().unwrap_or("unknown status")
    }
}

/// A failed call: a status and a sentence that names argument, value and what
/// was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: Status,
    message: String,
}

impl Error {
    pub(crate) fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// Why the call failed.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Runs a C call with an error to fill.
pub(crate) fn call(f: impl FnOnce(*mut sys::cadft_error) -> i32) -> Result<()> {
    let mut error = sys::cadft_error {
        struct_size: size_of::<sys::cadft_error>(),
        code: 0,
        message: [0; 256],
    };
    match f(&mut error) {
        sys::CADFT_OK => Ok(()),
        code => {
            let text = unsafe { CStr::from_ptr(error.message.as_ptr()) };
            Err(Error::new(Status::from_code(code), text.to_string_lossy()))
        }
    }
}

/// A C struct's own size, for its first field.
pub(crate) const fn size_of<T>() -> u32 {
    std::mem::size_of::<T>() as u32
}

/// `n` zeros; None is more than there can be. `vec![0; n]` would end the process
/// where there is no memory.
#[allow(clippy::slow_vector_initialization)]
pub(crate) fn zeros<T: Copy + Default>(what: &str, n: Option<usize>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    match n.map(|n| (n, out.try_reserve_exact(n))) {
        Some((n, Ok(()))) => {
            out.resize(n, T::default());
            Ok(out)
        }
        _ => Err(Error::new(
            Status::NoMemory,
            format!("no memory for {what} of {n:?} elements"),
        )),
    }
}

/// An output of `needed` elements: the call is asked for the length first.
pub(crate) fn fill<T: Copy + Default>(
    f: impl Fn(*mut T, usize, *mut usize, *mut sys::cadft_error) -> i32,
) -> Result<Vec<T>> {
    let mut needed = 0;
    call(|e| f(std::ptr::null_mut(), 0, &mut needed, e))?;
    let mut out = zeros("an output", Some(needed))?;
    call(|e| f(out.as_mut_ptr(), out.len(), &mut needed, e))?;
    out.truncate(needed);
    Ok(out)
}

/// The same for a terminated text.
pub(crate) fn text(
    f: impl Fn(*mut c_char, usize, *mut usize, *mut sys::cadft_error) -> i32,
) -> Result<String> {
    let mut bytes = fill(|out: *mut u8, capacity, needed, e| f(out.cast(), capacity, needed, e))?;
    bytes.pop();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A terminated copy of an argument.
pub(crate) fn c_text(name: &str, text: impl AsRef<[u8]>) -> Result<CString> {
    CString::new(text.as_ref()).map_err(|e| {
        let message = format!(
            "{name} has a NUL at byte {}, expected none",
            e.nul_position()
        );
        Error::new(Status::Arg, message)
    })
}

pub(crate) fn c_path(name: &str, path: &Path) -> Result<CString> {
    c_text(name, path.as_os_str().as_bytes())
}

/// A length as C counts. No allocation has more than `isize::MAX` bytes.
pub(crate) fn length(n: usize) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}
