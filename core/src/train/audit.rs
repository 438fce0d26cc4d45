//! Looking at the factors in the course of training: the method's constraints, and spectra.

use super::TrainError;
use super::record::{RunRecord, SpectrumPoint};
use crate::Real;
use crate::adapter::{Adapters, Magnitude};
use crate::backend::Backend;
use crate::method::Method;

use alloc::vec::Vec;

/// Whether one of `snapshots` evenly spaced moments, the last at the end, is after step `done`.
pub(super) fn is_snapshot(done: usize, steps: usize, snapshots: usize) -> bool {
    snapshots > 0 && done * snapshots / steps != (done - 1) * snapshots / steps
}

/// Reads the adapters back, checks the method's constraints and, at a snapshot `(task, step)`, keeps their spectra.
pub(super) async fn audit<B: Backend>(
    backend: &B,
    method: &dyn Method<B>,
    adapters: &Adapters<B>,
    record: &mut RunRecord,
    snapshot: Option<(usize, usize)>,
) -> Result<(), TrainError> {
    let factors = adapters.read(backend).await?;
    let violation = method.violation(&factors);
    if let Some(v) = violation {
        record.orthonormality = record.orthonormality.max(v.orthonormality);
        record.overlap = record.overlap.max(v.overlap);
    }
    let Some((task, step)) = snapshot else { return Ok(()) };
    for f in factors {
        let site = f.site;
        // With a trained magnitude the factors are orthonormal and all singular values |s|.
        let sigma: Vec<B::Scalar> = if adapters.stacks.iter().all(|stack| matches!(stack.s, Magnitude::Trained(_))) {
            f.spectral().singular_values()
        } else {
            f.lora().singular_values()?
        };
        record.spectra.push(SpectrumPoint { task, step, site, sigma: sigma.iter().map(|s| s.f64()).collect() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_as_many_as_asked_and_end_with_the_task() {
        for (steps, snapshots) in [(150, 8), (7, 3), (5, 5), (100, 1)] {
            let at: Vec<usize> = (1..=steps).filter(|&s| is_snapshot(s, steps, snapshots)).collect();
            assert_eq!((at.len(), at.last()), (snapshots, Some(&steps)), "{at:?}");
        }
        assert_eq!((1..=3).filter(|&s| is_snapshot(s, 3, 8)).count(), 3);
    }
}
