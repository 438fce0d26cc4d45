//! The eigendecompositions of a stack of symmetric matrices.

use eblora_core::backend::{BackendError, Shaped};

use super::geometry::MOST_RANK;
use super::rows::{MOST_GROUPS, Rows, for_parts};
use crate::device::Device;
use crate::shaders::symmetric_eigen::{Buffers, Params, Place, launch};
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
    let place = if r > MOST_RANK { Place::Device } else { Place::Workgroup };
    let size = r * r;
    let rows = |t, width| Rows::packed(t, width);
    let [_, work_rows, _] = work_shape(a.shape());
    let operands = [rows(a, size), rows(values, r), rows(vectors, size), rows(work, work_rows * r)];
    for_parts(count, operands, &mut |first, items, [a, values, vectors, work]| {
        for start in (0..items).step_by(MOST_GROUPS) {
            let params = Params {
                r: r as u32,
                first: (first + start) as u32,
                a_offset: a.1 + (start * size) as u32,
                values_offset: values.1 + (start * r) as u32,
                vectors_offset: vectors.1 + (start * size) as u32,
                work_offset: work.1 + (start * work_rows * r) as u32,
            };
            let buffers = Buffers { a: a.0, values: values.0, vectors: vectors.0, work: work.0, fault: &device.fault };
            launch(device, place, buffers, params, [(items - start).min(MOST_GROUPS) as u32, 1, 1]);
        }
    });
    Ok(())
}
