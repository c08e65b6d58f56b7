// SPDX-License-Identifier: Apache-2.0
//! The C interface of libcadft, declared by bindgen (`generate.sh` has the
//! command). The headers `cadft/*.h` say what everything does; the crate
//! `cadft` makes it safe.
#![allow(non_camel_case_types, clippy::all)]

include!("bindings.rs");
