//! Softmax cross-entropy, forward and backward in one pass.

use super::simd::{sum, vectorized};
use super::tensor::{CpuTensor, same};
use crate::Real;
use crate::backend::{IGNORED, View, ViewMut};

/// `loss[index] = mean over counted rows of log Σ exp(z) − z[label]`; `d_logits = (softmax(z) − onehot)/counted`, 0 in a row
/// whose label is [`IGNORED`].
pub fn cross_entropy<T: Real>(
    loss: &mut CpuTensor<T>,
    index: usize,
    d_logits: ViewMut<'_, CpuTensor<T>>,
    logits: View<'_, CpuTensor<T>>,
    labels: &[u32],
) {
    same("cross_entropy", (d_logits.rows, d_logits.cols), (logits.rows, logits.cols));
    let (n, cols) = (logits.rows, logits.cols);
    assert!(labels.len() >= n, "cross_entropy: {} labels for {n} rows", labels.len());
    let counted = labels[..n].iter().filter(|&&label| label != IGNORED).count();
    let inverse = T::of(1.0 / counted.max(1) as f64);
    let (rows, stride) = d_logits.into_rows();
    let mut total = T::zero();
    vectorized(
        #[inline(always)]
        || {
            for (i, d) in rows.chunks_mut(stride).enumerate() {
                if labels[i] == IGNORED {
                    d[..cols].fill(T::zero());
                    continue;
                }
                let (z, d, label) = (logits.row(i), &mut d[..cols], labels[i] as usize);
                let max = z.iter().fold(z[0], |m, &x| if x > m { x } else { m });
                d.iter_mut().zip(z).for_each(|(d, &z)| *d = (z - max).exp_kernel());
                let norm = sum(d, |x| x);
                total += norm.ln() - (z[label] - max);
                let scale = inverse / norm;
                d.iter_mut().for_each(|d| *d *= scale);
                d[label] -= inverse;
            }
        },
    );
    loss.data[index] = total * inverse;
}
