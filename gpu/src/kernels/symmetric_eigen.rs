//! The eigendecompositions of a stack of symmetric matrices.

use eblora_core::backend::{BackendError, Shaped};

use super::geometry::MOST_RANK;
use super::rows::{MOST_GROUPS, Rows, for_parts};
use crate::device::Device;
use crate::shaders::symmetric_eigen::{Buffers, Params, launch};
use crate::shaders::symmetric_eigen_large as large;
use crate::tensor::GpuTensor;

/// Largest r: what a workgroup can hold of a round's rotations.
const MOST: usize = 1024;

/// Shape of `work`: beyond [`MOST_RANK`] the matrices themselves lie there too.
pub fn work_shape([count, r, _]: [usize; 3]) -> [usize; 3] {
    [count, if r > MOST_RANK { 2 * r } else { r }, r]
}

/// `A = V·Λ·Vᵀ` for every matrix; values descending. `work` has the shape [`work_shape`].
pub fn symmetric_eigen(
    device: &Device,
    values: &GpuTensor,
    [vectors, work]: [&GpuTensor; 2],
    a: &GpuTensor,
) -> Result<(), BackendError> {
    let [count, r, cols] = a.shape();
    let fits = r == cols && vectors.shape() == a.shape() && values.len() == count * r;
    assert!(fits, "symmetric_eigen: {:?} into {:?} and {:?}", a.shape(), values.shape(), vectors.shape());
    if r > MOST {
        let message = format!("matrices of {r}×{r} are beyond the {MOST}×{MOST} of the eigenvalue kernel: use the CPU");
        return Err(BackendError::Device { device: device.name().into(), message });
    }
    if r == 0 {
        return Ok(());
    }
    let size = r * r;
    let rows = |t, width| Rows::packed(t, width);
    let [_, work_rows, _] = work_shape(a.shape());
    let operands = [rows(a, size), rows(values, r), rows(vectors, size), rows(work, work_rows * r)];
    for_parts(count, operands, &mut |first, items, [a, values, vectors, work]| {
        for start in (0..items).step_by(MOST_GROUPS) {
            let (side, first) = (r as u32, (first + start) as u32);
            let a_offset = a.1 + (start * size) as u32;
            let values_offset = values.1 + (start * r) as u32;
            let vectors_offset = vectors.1 + (start * size) as u32;
            let work_offset = work.1 + (start * work_rows * r) as u32;
            let groups = [(items - start).min(MOST_GROUPS) as u32, 1, 1];
            let (a, values, vectors, work, fault) = (a.0, values.0, vectors.0, work.0, &device.fault);
            if r > MOST_RANK {
                let params = large::Params { r: side, first, a_offset, values_offset, vectors_offset, work_offset };
                large::launch(device, large::Buffers { a, values, vectors, work, fault }, params, groups);
            } else {
                let params = Params { r: side, first, a_offset, values_offset, vectors_offset, work_offset };
                launch(device, Buffers { a, values, vectors, work, fault }, params, groups);
            }
        }
    });
    Ok(())
}
