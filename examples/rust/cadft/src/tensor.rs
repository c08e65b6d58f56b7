// SPDX-License-Identifier: Apache-2.0
//! Views of memory: data, shape and strides, with the lifetime of the data.
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::os::raw::c_void;

use crate::error::{self, length};
use crate::{sys, Error, Result, Status};

/// A tensor's most dimensions.
pub const MAX_DIMS: usize = sys::CADFT_NDIM_MAX as usize;

macro_rules! dtypes {
    ($($name:ident $constant:ident $type:ty)*) => {
        /// Type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Dtype {
            $(#[doc = concat!("[`", stringify!($type), "`]")] $name,)*
        }

        impl Dtype {
            /// DLPack's code, bits and lanes, as `CADFT_DTYPE_...` packs them.
            pub fn code(self) -> i32 {
                match self { $(Self::$name => sys::$constant as i32,)* }
            }

            fn from_code(code: i32) -> Option<Self> {
                [$(Self::$name),*].into_iter().find(|d| d.code() == code)
            }
        }

        $(impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: Dtype = Dtype::$name;
        })*
    };
}

mod sealed {
    pub trait Sealed {}
}

/// What a tensor may consist of.
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// Its name.
    const DTYPE: Dtype;
}

/// A half-precision number by its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(pub u16);

/// The upper half of an `f32`, by its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct BF16(pub u16);

impl BF16 {
    /// The same number.
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

macro_rules! half {
    ($type:ident) => {
        impl $type {
            /// Bits that lie in memory already.
            pub fn slice(bits: &[u16]) -> &[Self] {
                // The same layout: transparent.
                unsafe { std::slice::from_raw_parts(bits.as_ptr().cast(), bits.len()) }
            }

            /// Likewise, to be written.
            pub fn slice_mut(bits: &mut [u16]) -> &mut [Self] {
                unsafe { std::slice::from_raw_parts_mut(bits.as_mut_ptr().cast(), bits.len()) }
            }
        }
    };
}
half!(F16);
half!(BF16);

dtypes! {
    I32 CADFT_DTYPE_I32 i32
    I64 CADFT_DTYPE_I64 i64
    F16 CADFT_DTYPE_F16 F16
    F32 CADFT_DTYPE_F32 f32
    F64 CADFT_DTYPE_F64 f64
    BF16 CADFT_DTYPE_BF16 BF16
}

/// What both kinds of views are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    data: *mut c_void,
    byte_offset: u64,
    device_type: i32,
    device_id: i32,
    dtype: Dtype,
    dims: usize,
    shape: [i64; MAX_DIMS],
    strides: Option<[i64; MAX_DIMS]>,
}

impl View {
    fn new<T: Element>(
        data: *mut T,
        len: usize,
        shape: &[usize],
        strides: Option<&[usize]>,
    ) -> Result<Self> {
        let view = Self {
            data: data.cast(),
            byte_offset: 0,
            device_type: sys::CADFT_DEVICE_CPU as i32,
            device_id: 0,
            dtype: T::DTYPE,
            dims: shape.len(),
            shape: dims("shape", shape)?,
            strides: strides.map(|s| dims("strides", s)).transpose()?,
        };
        let wrong = |message| Err(Error::new(Status::Shape, message));
        match strides {
            Some(strides) if strides.len() != shape.len() => wrong(format!(
                "{} strides of {} dimensions, expected one of each",
                strides.len(),
                shape.len()
            )),
            Some(strides) if span(shape, strides).map_or(true, |n| n > len) => wrong(format!(
                "shape {shape:?} with strides {strides:?} reaches behind the {len} elements"
            )),
            None if product(shape) != Some(len) => wrong(format!(
                "shape {shape:?} of {len} elements, expected as many"
            )),
            _ => Ok(view),
        }
    }

    /// A tensor of the library's memory.
    fn from_raw(raw: &sys::cadft_tensor) -> Result<Self> {
        let wrong = |message| Err(Error::new(Status::Unsupported, message));
        let code = i32::from(raw.dtype_code)
            | i32::from(raw.dtype_bits) << 8
            | i32::from(raw.dtype_lanes) << 16;
        let dtype = match Dtype::from_code(code) {
            Some(dtype) => dtype,
            None => return wrong(format!("a tensor has data type {code:#x}")),
        };
        let dims = match usize::try_from(raw.ndim) {
            Ok(dims @ 1..=MAX_DIMS) => dims,
            _ => {
                return wrong(format!(
                    "a tensor has {} dimensions, expected 1 to {MAX_DIMS}",
                    raw.ndim
                ))
            }
        };
        let copy = |from: *const i64| {
            let mut out = [0; MAX_DIMS];
            out[..dims].copy_from_slice(unsafe { std::slice::from_raw_parts(from, dims) });
            out
        };
        Ok(Self {
            data: raw.data,
            byte_offset: raw.byte_offset,
            device_type: raw.device_type,
            device_id: raw.device_id,
            dtype,
            dims,
            shape: copy(raw.shape),
            strides: (!raw.strides.is_null()).then(|| copy(raw.strides)),
        })
    }

    /// For a call. It points into `self`, which must outlive it.
    pub(crate) fn raw(&self) -> sys::cadft_tensor {
        let code = self.dtype.code();
        sys::cadft_tensor {
            struct_size: error::size_of::<sys::cadft_tensor>(),
            data: self.data,
            device_type: self.device_type,
            device_id: self.device_id,
            ndim: self.dims as i32,
            dtype_code: code as u8,
            dtype_bits: (code >> 8) as u8,
            dtype_lanes: (code >> 16) as u16,
            // C reads them alone.
            shape: self.shape.as_ptr() as *mut i64,
            strides: self
                .strides
                .as_ref()
                .map_or(std::ptr::null_mut(), |s| s.as_ptr() as *mut i64),
            byte_offset: self.byte_offset,
            ..Default::default()
        }
    }

    pub(crate) fn shape(&self) -> &[i64] {
        &self.shape[..self.dims]
    }

    pub(crate) fn count(&self) -> i64 {
        count(self.shape())
    }

    fn is_dense(&self) -> bool {
        let mut expected = 1;
        self.strides.map_or(true, |strides| {
            (0..self.dims).rev().all(|d| {
                let fits = self.shape[d] == 1 || strides[d] == expected;
                expected = i64::saturating_mul(expected, self.shape[d]);
                fits
            })
        })
    }

    /// First element and their number, of dense, aligned host memory of this type.
    fn elements<T: Element>(&self) -> Option<(*mut T, usize)> {
        let host = self.device_type == sys::CADFT_DEVICE_CPU as i32;
        if !host || self.dtype != T::DTYPE || !self.is_dense() {
            return None;
        }
        match self.count() {
            0 => Some((std::ptr::NonNull::dangling().as_ptr(), 0)),
            _ if self.data.is_null() => None,
            n => {
                let first = self
                    .data
                    .cast::<u8>()
                    .wrapping_add(self.byte_offset as usize);
                let aligned = first as usize % align_of::<T>() == 0;
                aligned.then(|| (first.cast(), n as usize))
            }
        }
    }
}

fn dims(name: &str, values: &[usize]) -> Result<[i64; MAX_DIMS]> {
    let mut out = [0; MAX_DIMS];
    if values.is_empty() || values.len() > MAX_DIMS {
        let message = format!(
            "{name} has {} dimensions, expected 1 to {MAX_DIMS}",
            values.len()
        );
        return Err(Error::new(Status::Shape, message));
    }
    for (out, &value) in out.iter_mut().zip(values) {
        *out = length(value);
    }
    Ok(out)
}

/// Elements of a shape that may be another's.
pub(crate) fn count(shape: &[i64]) -> i64 {
    shape.iter().fold(1, |n, &size| n.saturating_mul(size))
}

fn product(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size))
}

/// Elements from the first to behind the last.
fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape
        .iter()
        .zip(strides)
        .try_fold(1usize, |n, (&size, &stride)| {
            n.checked_add((size - 1).checked_mul(stride)?)
        })
}

/// A tensor to be read, on memory borrowed for `'a`.
///
/// ```compile_fail,E0505
/// let z = vec![0f32; 6];
/// let logits = cadft::TensorRef::new(&z, &[2, 3]).unwrap();
/// drop(z); // the view still looks at it
/// println!("{:?}", logits.shape());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    pub(crate) view: View,
    memory: PhantomData<&'a [u8]>,
}

/// A tensor that calls write, on memory borrowed for `'a`.
///
/// ```compile_fail,E0502
/// let mut z = vec![0f32; 6];
/// let mut grad = cadft::TensorMut::new(&mut z, &[2, 3]).unwrap();
/// println!("{}", z[0]); // the view may write it
/// println!("{:?}", grad.as_mut_slice::<f32>());
/// ```
#[derive(Debug)]
pub struct TensorMut<'a> {
    pub(crate) view: View,
    memory: PhantomData<&'a mut [u8]>,
}

// Borrows of plain numbers.
unsafe impl Send for TensorRef<'_> {}
unsafe impl Sync for TensorRef<'_> {}
unsafe impl Send for TensorMut<'_> {}
unsafe impl Sync for TensorMut<'_> {}

impl<'a> TensorRef<'a> {
    fn of(view: View) -> Self {
        Self {
            view,
            memory: PhantomData,
        }
    }

    /// All of `data`, row-major. Fails with [`Status::Shape`] where shape and
    /// length differ.
    pub fn new<T: Element>(data: &'a [T], shape: &[usize]) -> Result<Self> {
        View::new(data.as_ptr() as *mut T, data.len(), shape, None).map(Self::of)
    }

    /// Element (i, j) is `data[i * strides[0] + j * strides[1]]`.
    pub fn strided<T: Element>(data: &'a [T], shape: &[usize], strides: &[usize]) -> Result<Self> {
        View::new(data.as_ptr() as *mut T, data.len(), shape, Some(strides)).map(Self::of)
    }

    /// Any tensor, of a device say.
    ///
    /// # Safety
    /// The memory must be as `raw` says, and nobody may write it during `'a`.
    pub unsafe fn from_raw(raw: &sys::cadft_tensor) -> Result<Self> {
        View::from_raw(raw).map(Self::of)
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[i64] {
        self.view.shape()
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.view.dtype
    }

    /// The elements; None where they are of another type, not dense, not aligned,
    /// or not in host memory ([`Context::read`](crate::Context::read) copies those).
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        let (data, n) = self.view.elements::<T>()?;
        Some(unsafe { std::slice::from_raw_parts(data, n) })
    }
}

impl<'a> TensorMut<'a> {
    fn of(view: View) -> Self {
        Self {
            view,
            memory: PhantomData,
        }
    }

    /// As [`TensorRef::new`].
    pub fn new<T: Element>(data: &'a mut [T], shape: &[usize]) -> Result<Self> {
        View::new(data.as_mut_ptr(), data.len(), shape, None).map(Self::of)
    }

    /// As [`TensorRef::strided`].
    pub fn strided<T: Element>(
        data: &'a mut [T],
        shape: &[usize],
        strides: &[usize],
    ) -> Result<Self> {
        View::new(data.as_mut_ptr(), data.len(), shape, Some(strides)).map(Self::of)
    }

    /// Any tensor, of a device say.
    ///
    /// # Safety
    /// The memory must be as `raw` says, and nobody else may touch it during
    /// `'a`.
    pub unsafe fn from_raw(raw: &sys::cadft_tensor) -> Result<Self> {
        View::from_raw(raw).map(Self::of)
    }

    /// The same to be read.
    pub fn as_ref(&self) -> TensorRef<'_> {
        TensorRef::of(self.view)
    }

    /// The same for a shorter time.
    pub fn reborrow(&mut self) -> TensorMut<'_> {
        Self::of(self.view)
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[i64] {
        self.view.shape()
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.view.dtype
    }

    /// As [`TensorRef::as_slice`].
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        self.as_ref().as_slice()
    }

    /// Likewise, to be written.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        let (data, n) = self.view.elements::<T>()?;
        Some(unsafe { std::slice::from_raw_parts_mut(data, n) })
    }
}

impl<'a, T: Element> From<&'a [T]> for TensorRef<'a> {
    /// A vector.
    fn from(data: &'a [T]) -> Self {
        let mut shape = [0; MAX_DIMS];
        shape[0] = length(data.len());
        Self::of(View {
            data: data.as_ptr() as *mut c_void,
            byte_offset: 0,
            device_type: sys::CADFT_DEVICE_CPU as i32,
            device_id: 0,
            dtype: T::DTYPE,
            dims: 1,
            shape,
            strides: None,
        })
    }
}

impl<'a, T: Element> From<&'a Vec<T>> for TensorRef<'a> {
    fn from(data: &'a Vec<T>) -> Self {
        data.as_slice().into()
    }
}

impl<'a, T: Element, const N: usize> From<&'a [T; N]> for TensorRef<'a> {
    fn from(data: &'a [T; N]) -> Self {
        data.as_slice().into()
    }
}

impl<'a> From<&TensorRef<'a>> for TensorRef<'a> {
    fn from(tensor: &TensorRef<'a>) -> Self {
        *tensor
    }
}

impl<'a> From<&'a TensorMut<'_>> for TensorRef<'a> {
    fn from(tensor: &'a TensorMut<'_>) -> Self {
        tensor.as_ref()
    }
}

/// A view for a pointer argument that may be NULL.
pub(crate) fn raw_option(view: Option<&View>) -> Option<sys::cadft_tensor> {
    view.map(View::raw)
}

pub(crate) fn pointer(raw: &Option<sys::cadft_tensor>) -> *const sys::cadft_tensor {
    raw.as_ref().map_or(std::ptr::null(), |raw| raw)
}

/// Bytes of an element.
pub(crate) fn element_size(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F16 | Dtype::BF16 => size_of::<u16>(),
        Dtype::F32 | Dtype::I32 => size_of::<u32>(),
        Dtype::F64 | Dtype::I64 => size_of::<u64>(),
    }
}
