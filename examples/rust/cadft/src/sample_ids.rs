// SPDX-License-Identifier: Apache-2.0
//! Sample ids of the rows from the layouts that hosts have. Errors:
//! [`Status::Arg`], `Shape`, `Dtype`, `Device`, `Sample`.
use crate::error::{call, length};
use crate::tensor::{pointer, raw_option};
use crate::{sys, Error, Result, Status, TensorRef};

/// `vec![0; rows]` would end the process where there is no memory.
#[allow(clippy::slow_vector_initialization)]
fn buffer(rows: Option<usize>) -> Result<Vec<i32>> {
    let mut ids = Vec::new();
    match rows.map(|rows| (rows, ids.try_reserve_exact(rows))) {
        Some((rows, Ok(()))) => {
            ids.resize(rows, 0);
            Ok(ids)
        }
        _ => Err(Error::new(
            Status::NoMemory,
            format!("no memory for the ids of {rows:?} rows"),
        )),
    }
}

/// Of padded `[B, T]` rows: row `b * T + t` belongs to sample `first_id + b`
/// while `t < lengths[b]` (all, without lengths), to none after.
pub fn padded(
    n_sequences: usize,
    rows_each: usize,
    lengths: Option<TensorRef<'_>>,
    first_id: i32,
) -> Result<Vec<i32>> {
    let mut ids = buffer(n_sequences.checked_mul(rows_each))?;
    let lengths = raw_option(lengths.as_ref().map(|lengths| &lengths.view));
    call(|e| unsafe {
        let (n, t) = (length(n_sequences), length(rows_each));
        sys::cadft_sample_ids_padded(n, t, pointer(&lengths), first_id, ids.as_mut_ptr(), e)
    })?;
    Ok(ids)
}

/// Of packed rows from cumulative lengths `[n + 1]`, i32 or i64.
pub fn cu_seqlens<'t>(
    cu_seqlens: impl Into<TensorRef<'t>>,
    rows: usize,
    first_id: i32,
) -> Result<Vec<i32>> {
    let (mut ids, cu_seqlens) = (buffer(Some(rows))?, cu_seqlens.into());
    call(|e| unsafe {
        let (cu, rows) = (cu_seqlens.view.raw(), length(rows));
        sys::cadft_sample_ids_cu_seqlens(&cu, rows, first_id, ids.as_mut_ptr(), e)
    })?;
    Ok(ids)
}

/// Of packed rows from position ids: a sample starts wherever the position does
/// not rise. Also how many samples there are.
pub fn position_ids<'t>(
    position_ids: impl Into<TensorRef<'t>>,
    first_id: i32,
) -> Result<(Vec<i32>, i64)> {
    let (position_ids, mut found) = (position_ids.into(), 0);
    let mut ids = buffer(position_ids.view.count().try_into().ok())?;
    call(|e| unsafe {
        let (positions, out) = (position_ids.view.raw(), ids.as_mut_ptr());
        sys::cadft_sample_ids_position_ids(&positions, first_id, out, &mut found, e)
    })?;
    Ok((ids, found))
}
