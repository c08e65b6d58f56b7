// SPDX-License-Identifier: Apache-2.0
//! What the tests share.
#![allow(dead_code)]
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::Arc;

use cadft::{Context, Loss, Model, Result, Targets};

pub const CONFIG: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "rms_norm_eps": 1e-5
}"#;

pub fn small_model(context: &Context) -> Result<Model> {
    let mut model = Model::new(context)?;
    model.init(CONFIG, 7)?;
    Ok(model)
}

/// Two samples of two rows, four columns.
pub const Z: [f32; 16] = [
    0.1, 0.9, 0.3, 0.2, 2.0, 0.1, 0.1, 0.3, 0.5, 0.4, 0.3, 0.2, 1.0, 1.1, 1.2, 0.0,
];
pub const LABELS: [i32; 4] = [1, 0, 3, 2];
pub const IDS: [i32; 4] = [0, 0, 1, 1];

pub fn targets() -> Targets<'static> {
    Targets::new(&LABELS, &IDS)
}

pub fn host_loss(context: &Context) -> Result<Loss> {
    let mut loss = Loss::new(context)?;
    loss.set("objective", "host")?;
    Ok(loss)
}

/// What an allocator has seen.
#[derive(Default)]
pub struct Seen {
    pub bytes: AtomicI64,
    pub calls: AtomicUsize,
    pub destroyed: AtomicUsize,
}

/// The system's memory, counted.
pub struct Counting(pub Arc<Seen>);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        self.0
            .bytes
            .fetch_add(layout.size() as i64, Ordering::Relaxed);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.0
            .bytes
            .fetch_sub(layout.size() as i64, Ordering::Relaxed);
        System.dealloc(memory, layout)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.destroyed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fails when the memory is not all back, or was given back twice.
pub fn assert_all_back(seen: &Seen) {
    assert!(seen.calls.load(Ordering::Relaxed) > 0);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 0);
    assert_eq!(seen.destroyed.load(Ordering::Relaxed), 1);
}

/// A folder that is gone with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("cadft-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
