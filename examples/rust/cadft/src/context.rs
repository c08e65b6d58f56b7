// SPDX-License-Identifier: Apache-2.0
//! The context: backend, memory, threads and log of everything made from it.
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::CStr;
use std::os::raw::{c_char, c_void};
use std::ptr::{null, null_mut, NonNull};

use crate::callback::{destroy, guard, quietly, BoxError};
use crate::error::{c_text, call, size_of, text};
use crate::tensor::element_size;
use crate::{sys, Element, Error, Result, Status, TensorMut, TensorRef};

/// Backend, memory, threads and log. Handles of one context may be used from
/// several threads at once, each by one.
#[derive(Debug)]
pub struct Context {
    pub(crate) raw: NonNull<sys::cadft_context>,
}

// "Internally safe": its counters are atomic, its text behind a lock.
unsafe impl Send for Context {}
unsafe impl Sync for Context {}

impl Context {
    /// The built-in backend, as many threads as the process may run on, no log.
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Anything else.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }

    /// For calls of [`sys`]. It stays the context's.
    pub fn as_ptr(&self) -> *mut sys::cadft_context {
        self.raw.as_ptr()
    }

    fn number(&self, key: u32) -> Result<i64> {
        let mut out = 0;
        call(|e| unsafe {
            sys::cadft_context_get_i64(self.raw.as_ptr(), key as i32, &mut out, e)
        })?;
        Ok(out)
    }

    fn text(&self, key: u32) -> Result<String> {
        text(|out, capacity, needed, e| unsafe {
            sys::cadft_context_get_str(self.raw.as_ptr(), key as i32, out, capacity, needed, e)
        })
    }

    /// Threads that work, at least 1.
    pub fn workers(&self) -> Result<i64> {
        self.number(sys::CADFT_CONTEXT_WORKERS)
    }

    /// Bytes allocated now.
    pub fn bytes(&self) -> Result<i64> {
        self.number(sys::CADFT_CONTEXT_BYTES)
    }

    /// Most bytes ever allocated.
    pub fn peak_bytes(&self) -> Result<i64> {
        self.number(sys::CADFT_CONTEXT_PEAK_BYTES)
    }

    /// Name of the backend, `"cpu"`.
    pub fn backend(&self) -> Result<String> {
        self.text(sys::CADFT_CONTEXT_BACKEND)
    }

    /// What it runs on, `"avx2"`.
    pub fn device(&self) -> Result<String> {
        self.text(sys::CADFT_CONTEXT_DEVICE)
    }

    /// The sentence of the last call on a child of the context that failed.
    pub fn last_error(&self) -> Result<String> {
        // Asked for its length first, it could be another when it is read.
        let mut text = [0; 256];
        let key = sys::CADFT_CONTEXT_LAST_ERROR as i32;
        call(|e| unsafe {
            let (raw, out, n) = (self.raw.as_ptr(), text.as_mut_ptr(), text.len());
            sys::cadft_context_get_str(raw, key, out, n, null_mut(), e)
        })?;
        Ok(unsafe { CStr::from_ptr(text.as_ptr()) }
            .to_string_lossy()
            .into_owned())
    }

    /// Copies a tensor, also of a device, into host memory, row-major.
    pub fn read<'a, T: Element>(&self, from: impl Into<TensorRef<'a>>, to: &mut [T]) -> Result<()> {
        let from = from.into();
        same_type::<T>(from)?;
        call(|e| unsafe {
            let bytes = std::mem::size_of_val(to);
            let to = to.as_mut_ptr().cast();
            sys::cadft_context_read(self.raw.as_ptr(), &from.view.raw(), to, bytes, e)
        })
    }

    /// The way back.
    pub fn write<T: Element>(&self, to: &mut TensorMut<'_>, from: &[T]) -> Result<()> {
        same_type::<T>(to.as_ref())?;
        call(|e| unsafe {
            let bytes = std::mem::size_of_val(from);
            let from = from.as_ptr().cast();
            sys::cadft_context_write(self.raw.as_ptr(), &to.view.raw(), from, bytes, e)
        })
    }
}

/// C counts bytes alone.
fn same_type<T: Element>(tensor: TensorRef<'_>) -> Result<()> {
    debug_assert_eq!(element_size(T::DTYPE), std::mem::size_of::<T>());
    if tensor.dtype() == T::DTYPE {
        return Ok(());
    }
    let message = format!(
        "the tensor is {:?}, expected {:?}",
        tensor.dtype(),
        T::DTYPE
    );
    Err(Error::new(Status::Dtype, message))
}

impl Drop for Context {
    fn drop(&mut self) {
        unsafe { sys::cadft_context_destroy(self.raw.as_ptr()) }
    }
}

/// How much is told to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something the host should know.
    Warning = sys::CADFT_LOG_WARNING as isize,
    /// And what may be interesting.
    Info = sys::CADFT_LOG_INFO as isize,
}

/// The host's threads.
///
/// # Safety
/// The library's memory depends on this contract: `run` calls `task(i, worker)`
/// exactly once for every `i` in `0..n`, with `worker` in
/// `0..max_workers()` and never two at the same time on one worker, and returns
/// when none of them is running any more.
pub unsafe trait Parallel: Send + Sync {
    /// At least 1, always the same.
    fn max_workers(&self) -> i32;

    /// Runs the tasks. Err fails the library's call with [`Status::Threads`]
    /// and the library's sentence, and so does a panic.
    fn run(&self, n: i64, task: &(dyn Fn(i64, i32) + Sync)) -> std::result::Result<(), BoxError>;
}

type Log = dyn Fn(Level, &str) + Send + Sync;
type Allocator = Box<dyn GlobalAlloc + Send + Sync>;

/// What a context is made with.
#[derive(Default)]
pub struct ContextBuilder {
    threads: i32,
    log: Option<(Level, Box<Log>)>,
    allocator: Option<Allocator>,
    parallel: Option<Box<dyn Parallel>>,
    backend: Option<String>,
    options: Option<String>,
}

impl ContextBuilder {
    /// Threads of the context's own, the caller's included; 1: none, 0: as many
    /// as the process may run on.
    pub fn threads(mut self, n: i32) -> Self {
        self.threads = n;
        self
    }

    /// Lines up to this level. Called from threads that are inside a call of the
    /// library, possibly several at once. A panic of the closure ends there.
    pub fn log(mut self, level: Level, sink: impl Fn(Level, &str) + Send + Sync + 'static) -> Self {
        self.log = Some((level, Box::new(sink)));
        self
    }

    /// Where all of the library's memory comes from.
    pub fn allocator(mut self, allocator: impl GlobalAlloc + Send + Sync + 'static) -> Self {
        self.allocator = Some(Box::new(allocator));
        self
    }

    /// The host's threads in place of the context's own.
    pub fn parallel(mut self, parallel: impl Parallel + 'static) -> Self {
        self.parallel = Some(Box::new(parallel));
        self
    }

    /// The built-in backend's instruction set: `"auto"`, `"c"`, `"avx2"`,
    /// `"avx512"` or `"neon"`.
    pub fn instruction_set(mut self, name: &str) -> Self {
        // '=' begins an option, which could load code.
        self.options = Some(name.replace('=', "?"));
        self
    }

    /// A plug-in (a path with a `/`) or `"cpu"`, and what is passed to it.
    ///
    /// # Safety
    /// The shared objects that are named are loaded and run: they must obey the
    /// contract of `cadft/backend.h`, or be a BLAS where one is asked for.
    pub unsafe fn backend(mut self, name: &str, options: Option<&str>) -> Self {
        self.backend = Some(name.into());
        self.options = options.map(String::from);
        self
    }

    /// Makes the context.
    pub fn build(self) -> Result<Context> {
        let backend = self
            .backend
            .map(|text| c_text("backend", text))
            .transpose()?;
        let options = self
            .options
            .map(|text| c_text("options", text))
            .transpose()?;
        // From here on the bundles are C's to destroy, also when it fails. The
        // first one asks the host, who may panic.
        let parallel = self.parallel.map(parallel_bundle);
        let log = self.log.map(log_bundle);
        let allocator = self.allocator.map(allocator_bundle);
        let desc = sys::cadft_context_desc {
            struct_size: size_of::<sys::cadft_context_desc>(),
            n_threads: self.threads,
            allocator: allocator.as_ref().map_or(null(), |a| a),
            log: log.as_ref().map_or(null(), |l| l),
            parallel: parallel.as_ref().map_or(null(), |p| p),
            backend: backend.as_ref().map_or(null(), |text| text.as_ptr()),
            backend_options: options.as_ref().map_or(null(), |text| text.as_ptr()),
        };
        let mut raw = null_mut();
        call(|e| unsafe { sys::cadft_context_create(&desc, &mut raw, e) })?;
        Ok(Context { raw: created(raw) })
    }
}

/// What a successful create has written.
pub(crate) fn created<T>(raw: *mut T) -> NonNull<T> {
    NonNull::new(raw).expect("a handle that was created")
}

// ------------------------------------------------------------------- bundles

fn log_bundle((level, sink): (Level, Box<Log>)) -> sys::cadft_log {
    sys::cadft_log {
        struct_size: size_of::<sys::cadft_log>(),
        max_level: level as i32,
        user: Box::into_raw(Box::new(sink)).cast(),
        write: Some(log_write),
        destroy: Some(destroy::<Box<Log>>),
    }
}

unsafe extern "C" fn log_write(user: *mut c_void, level: i32, text: *const c_char, n: usize) {
    let sink = unsafe { &*user.cast::<Box<Log>>() };
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), n) };
    let level = match level as u32 {
        sys::CADFT_LOG_WARNING => Level::Warning,
        _ => Level::Info,
    };
    quietly(|| sink(level, &String::from_utf8_lossy(text)));
}

fn allocator_bundle(allocator: Allocator) -> sys::cadft_allocator {
    sys::cadft_allocator {
        struct_size: size_of::<sys::cadft_allocator>(),
        user: Box::into_raw(Box::new(allocator)).cast(),
        alloc: Some(allocator_alloc),
        free: Some(allocator_free),
        destroy: Some(destroy::<Allocator>),
        ..Default::default()
    }
}

/// An allocator of Rust's gets no empty layout.
fn layout(size: usize, align: usize) -> Option<Layout> {
    Layout::from_size_align(size.max(1), align).ok()
}

unsafe extern "C" fn allocator_alloc(user: *mut c_void, size: usize, align: usize) -> *mut c_void {
    let allocator = unsafe { &*user.cast::<Allocator>() };
    let mut out = null_mut();
    if let Some(layout) = layout(size, align) {
        quietly(|| out = unsafe { allocator.alloc(layout) });
    }
    out.cast()
}

unsafe extern "C" fn allocator_free(
    user: *mut c_void,
    memory: *mut c_void,
    size: usize,
    align: usize,
) {
    let allocator = unsafe { &*user.cast::<Allocator>() };
    if let Some(layout) = layout(size, align) {
        quietly(|| unsafe { allocator.dealloc(memory.cast(), layout) });
    }
}

fn parallel_bundle(parallel: Box<dyn Parallel>) -> sys::cadft_parallel {
    sys::cadft_parallel {
        struct_size: size_of::<sys::cadft_parallel>(),
        max_workers: parallel.max_workers(),
        user: Box::into_raw(Box::new(parallel)).cast(),
        parallel_for: Some(parallel_for),
        destroy: Some(destroy::<Box<dyn Parallel>>),
    }
}

/// A task of the library's, which may run on any thread.
struct Task {
    run: unsafe extern "C" fn(*mut c_void, i64, i32),
    data: *mut c_void,
}
unsafe impl Sync for Task {}

impl Task {
    fn run(&self, index: i64, worker: i32) {
        unsafe { (self.run)(self.data, index, worker) }
    }
}

unsafe extern "C" fn parallel_for(
    user: *mut c_void,
    n: i64,
    run: sys::cadft_task_fn,
    data: *mut c_void,
) -> i32 {
    let parallel = unsafe { &*user.cast::<Box<dyn Parallel>>() };
    let run = match run {
        Some(run) => run,
        None => return 1,
    };
    let task = Task { run, data };
    let result = guard("parallel", || {
        parallel.run(n, &|index, worker| task.run(index, worker))
    });
    i32::from(result.is_err())
}
