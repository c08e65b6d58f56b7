// SPDX-License-Identifier: Apache-2.0
//! Errors, threads, and the death of handles.
mod support;

use std::sync::{Arc, Mutex};

use cadft::{
    sample_ids, BoxError, Checkpoint, Context, Level, Loss, Model, Optimizer, Parallel, Rewriter,
    Status, Targets, TensorMut, TensorRef, Tokens, BF16, F16,
};
use support::{assert_all_back, small_model, targets, Counting, Seen, Z};

fn context() -> Context {
    Context::builder().threads(1).build().unwrap()
}

#[test]
fn versions_agree() {
    let (major, minor, _) = cadft::version();
    assert_eq!(major, cadft::sys::CADFT_VERSION_MAJOR);
    assert_eq!(minor, cadft::sys::CADFT_VERSION_MINOR);
}

// -------------------------------------------------------------------- errors

#[test]
fn an_error_of_the_library_is_ours() {
    let context = context();
    let mut loss = Loss::new(&context).unwrap();
    let error = loss.set("beta", -1.0).unwrap_err();
    assert_eq!(error.status(), Status::Arg);
    assert_eq!(error.status().name(), "CADFT_E_ARG");
    assert!(error.message().contains("-1"), "{error}");
    assert_eq!(context.last_error().unwrap(), error.message());
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.clone().into();
    assert_eq!(boxed.to_string(), error.message());

    let logits = TensorRef::new(&Z, &[4, 4]).unwrap();
    let wrong = Targets::new(&[1, 0, 9, 2], &[0, 0, 1, 1]);
    let error = loss.evaluate(logits, &wrong, 2).unwrap_err();
    assert_eq!(error.status(), Status::Label);
    assert!(error.message().contains('9'), "{error}");
    assert!(loss.evaluate(logits, &targets(), 2).is_ok());
}

/// All that the declarations have.
#[test]
fn statuses_are_known() {
    let declarations = include_str!("../../cadft-sys/src/bindings.rs");
    let mut found = 0;
    for line in declarations.lines() {
        let words: Vec<_> = line.split([' ', ':', ';']).collect();
        if words.len() < 3 || !words[2].starts_with("CADFT_E_") {
            continue;
        }
        let code = words[words.len() - 2].parse().unwrap();
        let status = Status::from_code(code);
        assert_eq!(status.name(), words[2]);
        assert_eq!(status.code(), code);
        assert!(!matches!(status, Status::Other(_)), "{line}");
        found += 1;
    }
    assert!(found >= 23, "{found}");
    assert_eq!(Status::from_code(-99), Status::Other(-99));
    assert_eq!(Status::Other(-99).name(), "unknown status");
}

#[test]
fn shapes_are_checked_before_c_sees_them() {
    let mut data = [0f32; 6];
    let status = |result: cadft::Result<TensorRef<'_>>| result.unwrap_err().status();
    assert_eq!(status(TensorRef::new(&data, &[2, 4])), Status::Shape);
    assert_eq!(
        status(TensorRef::new(&data, &[2, usize::MAX])),
        Status::Shape
    );
    assert_eq!(status(TensorRef::new(&data, &[])), Status::Shape);
    assert_eq!(
        status(TensorRef::new(&data, &[1; cadft::MAX_DIMS + 1])),
        Status::Shape
    );
    assert_eq!(
        status(TensorRef::strided(&data, &[2, 3], &[4, 1])),
        Status::Shape
    );
    assert_eq!(
        status(TensorRef::strided(&data, &[2, 3], &[3])),
        Status::Shape
    );
    assert_eq!(
        status(TensorRef::strided(&data, &[2, 3], &[usize::MAX, 1])),
        Status::Shape
    );
    let columns = TensorRef::strided(&data, &[2, 2], &[3, 1]).unwrap();
    assert!(columns.as_slice::<f32>().is_none());
    assert!(TensorRef::strided(&data, &[2, 3], &[3, 1])
        .unwrap()
        .as_slice::<f32>()
        .is_some());
    let mut dense = TensorMut::new(&mut data, &[2, 3]).unwrap();
    assert!(dense.as_slice::<i32>().is_none());
    dense.as_mut_slice::<f32>().unwrap()[5] = 1.0;
    assert_eq!(data[5], 1.0);
}

#[test]
fn tensors_of_c_are_checked() {
    let (mut data, mut shape) = ([0f32; 6], [5]);
    let mut raw = cadft::sys::cadft_tensor {
        data: data.as_mut_ptr().cast(),
        device_type: cadft::sys::CADFT_DEVICE_CPU as i32,
        dtype_code: 2,
        dtype_bits: 32,
        dtype_lanes: 1,
        shape: shape.as_mut_ptr(),
        ..Default::default()
    };
    for (ndim, offset, has_slice) in [(1, 0, true), (1, 4, true), (1, 2, false)] {
        (raw.ndim, raw.byte_offset) = (ndim, offset);
        let view = unsafe { TensorRef::from_raw(&raw) }.unwrap();
        assert_eq!(view.as_slice::<f32>().is_some(), has_slice);
    }
    for ndim in [-1, 0, 17] {
        raw.ndim = ndim;
        let result = unsafe { TensorRef::from_raw(&raw) };
        assert_eq!(result.unwrap_err().status(), Status::Unsupported);
    }
}

#[test]
fn a_row_scale_of_another_length_is_refused() {
    let mut loss = Loss::new(&context()).unwrap();
    let mut z = Z;
    let mut logits = TensorMut::new(&mut z, &[4, 4]).unwrap();
    let result = loss.compute_unit_in_place(&mut logits, &targets(), 2, &mut [0.0; 3]);
    assert_eq!(result.unwrap_err().status(), Status::Shape);
    let mut scale = [0.0; 4];
    loss.compute_unit_in_place(&mut logits, &targets(), 2, &mut scale)
        .unwrap();
    let (mut grad, z) = (Z, z);
    let mut logits = TensorMut::new(&mut grad, &[4, 4]).unwrap();
    loss.compute_in_place(&mut logits, &targets(), 2).unwrap();
    for (i, g) in grad.iter().enumerate() {
        assert!((g - scale[i / 4] * z[i]).abs() < 1e-7);
    }
}

#[test]
fn text_with_nul_is_refused() {
    let mut loss = Loss::new(&context()).unwrap();
    assert_eq!(loss.set("be\0ta", 1.0).unwrap_err().status(), Status::Arg);
    assert_eq!(
        loss.set("scope", "ex\0act").unwrap_err().status(),
        Status::Arg
    );
}

// --------------------------------------------------------------------- knobs

#[test]
fn knobs_take_every_kind() {
    let context = context();
    let mut loss = Loss::new(&context).unwrap();
    loss.set("beta", 2).unwrap(); // an integer for a number
    loss.set("weighting", false).unwrap();
    loss.set("objective", "eaft").unwrap();
    loss.set("z_loss", "0.25").unwrap();
    assert_eq!(loss.get_f64("beta").unwrap(), 2.0);
    assert_eq!(loss.get_i64("weighting").unwrap(), 0);
    assert_eq!(loss.get("objective").unwrap(), "eaft");
    assert_eq!(loss.get_f64("z_loss").unwrap(), 0.25);
    assert_eq!(loss.set("bet", 1.0).unwrap_err().status(), Status::Key);
    let bounds = Loss::bounds("running_decay").unwrap();
    assert!(bounds.is_float && bounds.smallest == 0.0 && bounds.standard == 0.9);

    let mut model = Model::new(&context).unwrap();
    model.set("weight_dtype", "bfloat16").unwrap();
    assert_eq!(model.get("weight_dtype").unwrap(), "bfloat16");
    assert_eq!(model.get_i64("checkpointing").unwrap(), 0);
    // No knob of a model is a number.
    let status = model.set("checkpointing", 0.5).unwrap_err().status();
    assert_eq!(status, Status::Key);
    let status = model.get_f64("checkpointing").unwrap_err().status();
    assert_eq!(status, Status::Key);
    assert_eq!(Optimizer::bounds("lr").unwrap().standard, 5e-5);
    assert_eq!(Rewriter::bounds("interval").unwrap().standard, 1000.0);
}

#[test]
fn handles_go_to_c() {
    let mut loss = Loss::new(&context()).unwrap();
    loss.set("ignore_index", -1).unwrap();
    let mut value = 0;
    let status = unsafe {
        let (key, error) = (
            cadft::sys::CADFT_LOSS_IGNORE_INDEX as i32,
            std::ptr::null_mut(),
        );
        cadft::sys::cadft_loss_get_i64(loss.as_ptr(), key, &mut value, error)
    };
    assert_eq!((status, value), (cadft::sys::CADFT_OK, -1));
}

#[test]
fn knobs_are_listed() {
    let loss = Loss::new(&context()).unwrap();
    assert!(Loss::knobs().contains(&"z_loss"));
    for name in Loss::knobs() {
        loss.get(name).unwrap();
    }
    let lists = [Model::knobs(), Optimizer::knobs(), Rewriter::knobs()];
    assert!(lists.iter().all(|names| names.len() >= 2));
}

#[test]
fn sample_ids_of_layouts() {
    let lengths = [3i64, 1];
    let ids = sample_ids::padded(2, 3, Some(TensorRef::from(&lengths)), 5).unwrap();
    assert_eq!(ids, [5, 5, 5, 6, -1, -1]);
    assert_eq!(sample_ids::padded(2, 2, None, 0).unwrap(), [0, 0, 1, 1]);
    assert_eq!(
        sample_ids::cu_seqlens(&[0, 2, 3], 4, 0).unwrap(),
        [0, 0, 1, -1]
    );
    let (ids, found) = sample_ids::position_ids(&[0, 1, 0, 1, 2], 3).unwrap();
    assert_eq!((ids, found), (vec![3, 3, 4, 4, 4], 2));
    assert_eq!(
        sample_ids::cu_seqlens(&[0, 9], 4, 0).unwrap_err().status(),
        Status::Arg
    );
    let huge = sample_ids::padded(usize::MAX, 2, None, 0);
    assert_eq!(huge.unwrap_err().status(), Status::NoMemory);
}

#[test]
fn half_precision_is_read_as_it_is() {
    let context = context();
    let bits: Vec<u16> = Z.iter().map(|z| (z.to_bits() >> 16) as u16).collect();
    let floats: Vec<f32> = BF16::slice(&bits).iter().map(|b| b.to_f32()).collect();
    let mut loss = Loss::new(&context).unwrap();
    let narrow = TensorRef::new(BF16::slice(&bits), &[4, 4]).unwrap();
    let wide = TensorRef::new(&floats, &[4, 4]).unwrap();
    let reports = [narrow, wide].map(|z| loss.evaluate(z, &targets(), 2).unwrap());
    assert_eq!(reports[0], reports[1]);
    let half = [F16(0x3c00); 4]; // 1.0
    let logits = TensorRef::new(&half, &[1, 4]).unwrap();
    let report = loss
        .evaluate(logits, &Targets::new(&[0i64], &[0]), 1)
        .unwrap();
    assert!((report.nll - 4f64.ln()).abs() < 1e-6);
}

#[test]
fn tensors_are_copied_by_the_context() {
    let context = context();
    let (mut memory, mut out) = ([0f32; 8], [9f32; 4]);
    let mut tensor = TensorMut::strided(&mut memory, &[2, 2], &[4, 1]).unwrap();
    context.write(&mut tensor, &[1f32, 2.0, 3.0, 4.0]).unwrap();
    context.read(&tensor, &mut out).unwrap();
    assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        context.read(&tensor, &mut [0f32; 3]).unwrap_err().status(),
        Status::Space
    );
    assert_eq!(
        context.read(&tensor, &mut [0f64; 2]).unwrap_err().status(),
        Status::Dtype
    );
    assert_eq!(memory, [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0]);
}

// ---------------------------------------------------------------------- life

/// One of each, all used.
fn everything(seen: &Arc<Seen>) -> Vec<Box<dyn std::any::Any>> {
    let context = Context::builder()
        .threads(2)
        .allocator(Counting(seen.clone()))
        .build()
        .unwrap();
    let mut model = small_model(&context).unwrap();
    let mut loss = Loss::new(&context).unwrap();
    let mut optimizer = Optimizer::new(&context).unwrap();
    let mut rewriter = Rewriter::new(&context, 10).unwrap();
    model.zero_grad().unwrap();
    let pass = model.forward(&Tokens::new(&[1, 2, 3])).unwrap();
    pass.backward().unwrap();
    loss.set_coefficient(|rows, k| k.copy_from_slice(rows.p))
        .unwrap();
    loss.evaluate(TensorRef::new(&Z, &[4, 4]).unwrap(), &targets(), 2)
        .unwrap();
    optimizer.add_model(&mut model).unwrap();
    optimizer.step(&mut model).unwrap();
    rewriter.observe(&[1], Some(&[0.5]), Some(&[1.0])).unwrap();
    assert!(context.bytes().unwrap() > 0);
    vec![
        Box::new(context),
        Box::new(model),
        Box::new(loss),
        Box::new(optimizer),
        Box::new(rewriter),
    ]
}

#[test]
fn any_order_gives_all_memory_back() {
    for order in 0..120 {
        let seen = Arc::new(Seen::default());
        let mut handles = everything(&seen);
        let mut rest = order;
        for choices in (1..=5).rev() {
            drop(handles.swap_remove(rest % choices));
            rest /= choices;
        }
        assert_all_back(&seen);
    }
}

#[test]
fn a_context_that_is_not_made_destroys_its_bundles() {
    let seen = Arc::new(Seen::default());
    let result = Context::builder()
        .threads(-1)
        .allocator(Counting(seen.clone()))
        .log(Level::Info, |_, _| ())
        .build();
    assert_eq!(result.unwrap_err().status(), Status::Arg);
    assert_eq!(seen.destroyed.load(std::sync::atomic::Ordering::Relaxed), 1);
    let result = Context::builder().instruction_set("matmul=evil.so").build();
    assert_eq!(result.unwrap_err().status(), Status::Backend);
}

#[test]
fn an_optimizer_outlives_its_model() {
    let context = context();
    let mut model = small_model(&context).unwrap();
    model.zero_grad().unwrap();
    let mut optimizer = Optimizer::new(&context).unwrap();
    optimizer.add_model(&mut model).unwrap();
    drop(context);
    assert_eq!(optimizer.step(()).unwrap_err().status(), Status::Arg);
    let folder = support::Scratch::new("refused");
    let other = Context::new().unwrap();
    let point = Checkpoint::new(folder.path(), 1).optimizer(&mut optimizer);
    assert_eq!(point.save(&other).unwrap_err().status(), Status::Arg);
    optimizer.step(&mut model).unwrap();
    drop(model);
    assert_eq!(optimizer.step(()).unwrap().step, 2);
}

// ------------------------------------------------------------------- threads

#[test]
fn handles_move_between_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Context>();
    sync::<Context>();
    send::<Loss>();
    send::<Model>();
    send::<Optimizer>();
    send::<Rewriter>();
    sync::<TensorRef<'_>>();
    send::<Targets<'_>>();
    send::<Tokens<'_>>();

    let context = Arc::new(Context::new().unwrap());
    let report = |context: &Context| {
        let mut loss = Loss::new(context).unwrap();
        loss.evaluate(TensorRef::new(&Z, &[4, 4]).unwrap(), &targets(), 2)
            .unwrap()
    };
    let here = report(&context);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let context = context.clone();
            std::thread::spawn(move || report(&context))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), here);
    }
}

struct Scoped;

unsafe impl Parallel for Scoped {
    fn max_workers(&self) -> i32 {
        3
    }

    fn run(&self, n: i64, task: &(dyn Fn(i64, i32) + Sync)) -> Result<(), BoxError> {
        std::thread::scope(|scope| {
            for worker in 0..3 {
                scope.spawn(move || (worker..n).step_by(3).for_each(|i| task(i, worker as i32)));
            }
        });
        Ok(())
    }
}

struct Lazy;

unsafe impl Parallel for Lazy {
    fn max_workers(&self) -> i32 {
        2
    }

    fn run(&self, _: i64, _: &(dyn Fn(i64, i32) + Sync)) -> Result<(), BoxError> {
        panic!("no threads today")
    }
}

#[test]
fn the_hosts_threads_work() {
    let z: Vec<f32> = (0..64 * 512)
        .map(|i| (i * 37 % 101) as f32 / 50.0)
        .collect();
    let labels: Vec<i32> = (0..64).collect();
    let ids: Vec<i32> = (0..64).map(|row| row / 8).collect();
    let run = |context: Context| {
        let mut grad = vec![0f32; z.len()];
        let mut loss = Loss::new(&context)?;
        loss.compute(
            TensorRef::new(&z, &[64, 512])?,
            &Targets::new(&labels, &ids),
            8,
            &mut TensorMut::new(&mut grad, &[64, 512])?,
        )?;
        Ok::<_, cadft::Error>(grad)
    };
    let own = run(context()).unwrap();
    let theirs = run(Context::builder().parallel(Scoped).build().unwrap()).unwrap();
    assert!(own == theirs);
    let error = run(Context::builder().parallel(Lazy).build().unwrap()).unwrap_err();
    assert_eq!(error.status(), Status::Threads);
}

#[test]
fn the_log_gets_lines() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let context = Context::builder()
        .log(Level::Info, move |level, text| {
            sink.lock().unwrap().push((level, text.to_string()))
        })
        .build()
        .unwrap();
    drop(context);
    let lines = lines.lock().unwrap();
    assert!(lines
        .iter()
        .any(|(level, text)| *level == Level::Info && text.contains("cpu")));
    // A panic in the sink ends there.
    assert!(Context::builder()
        .log(Level::Info, |_, _| panic!("no log"))
        .build()
        .is_ok());
}
