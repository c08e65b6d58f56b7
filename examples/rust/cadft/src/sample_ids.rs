// SPDX-License-Identifier: Apache-2.0
//! Sample ids of the rows from the layouts that hosts have. Errors:
//! [`Status::Arg`](crate::Status::Arg), `Shape`, `Dtype`, `Device`, `Sample`,
//! `NoMemory`.
use crate::error::{call, length, zeros};
use crate::tensor::{pointer, raw_option};
use crate::{sys, Result, TensorRef};

/// Of padded `[B, T]` rows: row `b * T + t` belongs to sample `first_id + b`
/// while `t < lengths[b]` (all, without lengths), to none after.
pub fn padded(
    n_sequences: usize,
    rows_each: usize,
    lengths: Option<TensorRef<'_>>,
    first_id: i32,
) -> Result<Vec<i32>> {
    let mut ids = zeros("sample ids", n_sequences.checked_mul(rows_each))?;
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
    let (mut ids, cu_seqlens) = (zeros("sample ids", Some(rows))?, cu_seqlens.into());
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
    let mut ids = zeros("sample ids", position_ids.view.count().try_into().ok())?;
    call(|e| unsafe {
        let (positions, out) = (position_ids.view.raw(), ids.as_mut_ptr());
        sys::cadft_sample_ids_position_ids(&positions, first_id, out, &mut found, e)
    })?;
    Ok((ids, found))
}
