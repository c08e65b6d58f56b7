// SPDX-License-Identifier: Apache-2.0
//! No copy of a logits-sized buffer: what Rust allocates in a call, and what
//! the library does.
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use cadft::{Context, Loss, Targets, TensorMut};

/// The system's memory; counts all that is ever asked for.
struct Asked;

static ASKED: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Asked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Ordering::Relaxed);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        System.dealloc(memory, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Asked = Asked;

const ROWS: usize = 256;
const VOCAB: usize = 16384;

fn steps(loss: &mut Loss, z: &mut [f32]) -> cadft::Result<()> {
    let (labels, ids) = ([3i32; ROWS], [0i32; ROWS]);
    let targets = Targets::new(&labels, &ids);
    let mut logits = TensorMut::new(z, &[ROWS, VOCAB])?;
    loss.compute_in_place(&mut logits, &targets, 1)?;
    let mut step = loss.begin(1)?;
    let micro = step.observe(&logits, &targets)?;
    let mut step = step.weigh()?;
    step.grad_in_place(micro, &mut logits, &targets)?;
    step.end()?;
    Ok(())
}

#[test]
fn logits_are_not_copied() {
    let context = Context::builder().threads(2).build().unwrap();
    let mut loss = Loss::new(&context).unwrap();
    let mut z = vec![0.5f32; ROWS * VOCAB]; // 16 MiB
    let before = ASKED.load(Ordering::Relaxed);
    steps(&mut loss, &mut z).unwrap();
    let ours = ASKED.load(Ordering::Relaxed) - before;
    let theirs = context.peak_bytes().unwrap();
    println!("16 MiB of logits: {ours} bytes by Rust, {theirs} at most by the library");
    assert!(ours < 1 << 18 && theirs < 1 << 20);
}
