// SPDX-License-Identifier: Apache-2.0
//! Knobs by name, alike for all handles.
use std::ffi::CStr;
use std::os::raw::c_char;
use std::ptr::{null, null_mut};

use crate::error::{c_text, call, text};
use crate::{sys, Result};

/// A knob's new value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// For integer knobs, and number knobs too.
    Int(i64),
    /// For number knobs.
    Float(f64),
    /// For any: the name of a value, or a number.
    Text(&'a str),
}

macro_rules! values {
    ($($type:ty, $variant:ident;)*) => {
        $(impl From<$type> for Value<'_> {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
values! { i32, Int; i64, Int; u32, Int; bool, Int; f32, Float; f64, Float; }

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

/// What a knob may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// It is a number; otherwise an integer.
    pub is_float: bool,
    /// The smallest value.
    pub smallest: f64,
    /// The largest.
    pub largest: f64,
    /// The default.
    pub standard: f64,
}

type Error = *mut sys::cadft_error;

/// A noun's calls.
pub(crate) struct Knobs<H> {
    pub key: unsafe extern "C" fn(*const c_char, *mut i32, Error) -> i32,
    pub key_at: unsafe extern "C" fn(i32, *mut *const c_char, *mut i32, Error) -> i32,
    pub bounds: unsafe extern "C" fn(i32, *mut i32, *mut f64, *mut f64, *mut f64, Error) -> i32,
    pub set_i64: unsafe extern "C" fn(*mut H, i32, i64, Error) -> i32,
    pub set_f64: unsafe extern "C" fn(*mut H, i32, f64, Error) -> i32,
    pub set_str: unsafe extern "C" fn(*mut H, i32, *const c_char, Error) -> i32,
    pub get_i64: unsafe extern "C" fn(*mut H, i32, *mut i64, Error) -> i32,
    pub get_f64: unsafe extern "C" fn(*mut H, i32, *mut f64, Error) -> i32,
    pub get_str: unsafe extern "C" fn(*mut H, i32, *mut c_char, usize, *mut usize, Error) -> i32,
}

/// `handle` is alive wherever it is asked for.
impl<H> Knobs<H> {
    pub fn key(&self, name: &str) -> Result<i32> {
        let (name, mut key) = (c_text("name", name)?, 0);
        call(|e| unsafe { (self.key)(name.as_ptr(), &mut key, e) })?;
        Ok(key)
    }

    /// All names, until there is none.
    pub fn names(&self) -> Vec<&'static str> {
        let name = |index| {
            let mut name = null();
            call(|e| unsafe { (self.key_at)(index, &mut name, null_mut(), e) }).ok()?;
            // It lives as long as the library.
            unsafe { CStr::from_ptr(name) }.to_str().ok()
        };
        (0..).map_while(name).collect()
    }

    pub fn bounds(&self, name: &str) -> Result<Bounds> {
        let (key, mut kind) = (self.key(name)?, 0);
        let (mut smallest, mut largest, mut standard) = (0.0, 0.0, 0.0);
        call(|e| unsafe {
            (self.bounds)(
                key,
                &mut kind,
                &mut smallest,
                &mut largest,
                &mut standard,
                e,
            )
        })?;
        Ok(Bounds {
            is_float: kind == 1,
            smallest,
            largest,
            standard,
        })
    }

    pub fn set(&self, handle: *mut H, name: &str, value: Value<'_>) -> Result<()> {
        let key = self.key(name)?;
        match value {
            Value::Int(value) if self.bounds(name)?.is_float => {
                call(|e| unsafe { (self.set_f64)(handle, key, value as f64, e) })
            }
            Value::Int(value) => call(|e| unsafe { (self.set_i64)(handle, key, value, e) }),
            Value::Float(value) => call(|e| unsafe { (self.set_f64)(handle, key, value, e) }),
            Value::Text(value) => {
                let value = c_text("value", value)?;
                call(|e| unsafe { (self.set_str)(handle, key, value.as_ptr(), e) })
            }
        }
    }

    pub fn get(&self, handle: *mut H, name: &str) -> Result<String> {
        let key = self.key(name)?;
        text(|out, capacity, needed, e| unsafe {
            (self.get_str)(handle, key, out, capacity, needed, e)
        })
    }

    pub fn get_i64(&self, handle: *mut H, name: &str) -> Result<i64> {
        self.fact(handle, self.key(name)?)
    }

    pub fn get_f64(&self, handle: *mut H, name: &str) -> Result<f64> {
        let (key, mut out) = (self.key(name)?, 0.0);
        call(|e| unsafe { (self.get_f64)(handle, key, &mut out, e) })?;
        Ok(out)
    }

    /// An integer by its number.
    pub fn fact(&self, handle: *mut H, key: i32) -> Result<i64> {
        let mut out = 0;
        call(|e| unsafe { (self.get_i64)(handle, key, &mut out, e) })?;
        Ok(out)
    }
}

/// The public calls of a handle with `KNOBS` beside it and a field `raw`.
macro_rules! knob_calls {
    ($noun:ident, $handle:ident) => {
        impl $noun {
            /// For calls of [`sys`](crate::sys). It stays this handle's.
            pub fn as_ptr(&self) -> *mut $crate::sys::$handle {
                self.raw.as_ptr()
            }

            /// Sets a knob: a number, a `bool`, or text (a value's name, or a
            /// number).
            pub fn set<'v>(
                &mut self,
                name: &str,
                value: impl Into<$crate::Value<'v>>,
            ) -> $crate::Result<()> {
                KNOBS.set(self.raw.as_ptr(), name, value.into())
            }

            /// A knob as text.
            pub fn get(&self, name: &str) -> $crate::Result<String> {
                KNOBS.get(self.raw.as_ptr(), name)
            }

            /// An integer knob.
            pub fn get_i64(&self, name: &str) -> $crate::Result<i64> {
                KNOBS.get_i64(self.raw.as_ptr(), name)
            }

            /// A number knob.
            pub fn get_f64(&self, name: &str) -> $crate::Result<f64> {
                KNOBS.get_f64(self.raw.as_ptr(), name)
            }

            /// The names of all knobs.
            pub fn knobs() -> Vec<&'static str> {
                KNOBS.names()
            }

            /// Type, bounds and default of a knob.
            pub fn bounds(name: &str) -> $crate::Result<$crate::Bounds> {
                KNOBS.bounds(name)
            }
        }
    };
}

/// An enum of integers that are read only, `$noun::fact`.
macro_rules! facts {
    ($noun:ident, $(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $fact:ident $constant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$what])* $fact = sys::$constant as isize,)*
        }

        impl $noun {
            /// Reads a fact.
            pub fn fact(&self, fact: $name) -> $crate::Result<i64> {
                KNOBS.fact(self.raw.as_ptr(), fact as i32)
            }
        }
    };
}

pub(crate) use {facts, knob_calls};
