//! Learning-rate schedules: a linear warm-up, then a decay.

/// The decay after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Decay {
    /// Half a cosine down to 0.
    #[default]
    Cosine,
    /// A straight line down to 0.
    Linear,
    /// None.
    Constant,
}

/// A factor in [0, 1] for each step of a task.
///
/// ```
/// use eblora_core::optim::{Decay, Schedule};
/// let schedule = Schedule { warmup: 0.1, decay: Decay::Cosine };
/// assert!(schedule.factor(0, 100) < 0.2);
/// assert_eq!(schedule.factor(10, 100), 1.0);
/// assert!(schedule.factor(99, 100) < 0.01);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Share of the steps over which the factor rises.
    pub warmup: f64,
    /// What follows.
    pub decay: Decay,
}

impl Default for Schedule {
    /// 3 % warm-up, then a cosine.
    fn default() -> Self {
        Self { warmup: 0.03, decay: Decay::Cosine }
    }
}

impl Schedule {
    /// The factor of 0-based `step` of `steps`. The warm-up takes ⌈warmup·steps⌉ steps and already moves at step 0.
    pub fn factor(&self, step: usize, steps: usize) -> f64 {
        let warmup = libm::ceil(self.warmup * steps as f64) as usize;
        if step < warmup {
            return (step + 1) as f64 / (warmup + 1) as f64;
        }
        let done = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
        match self.decay {
            Decay::Cosine => 0.5 * (1.0 + libm::cos(core::f64::consts::PI * done)),
            Decay::Linear => 1.0 - done,
            Decay::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn rises_then_falls() {
        for decay in [Decay::Cosine, Decay::Linear, Decay::Constant] {
            let factors: Vec<f64> = (0..50).map(|i| Schedule { warmup: 0.1, decay }.factor(i, 50)).collect();
            assert!(factors[..6].windows(2).all(|w| w[0] < w[1]), "{factors:?}");
            assert_eq!(factors[5], 1.0);
            assert!(factors[5..].windows(2).all(|w| w[0] >= w[1]), "{factors:?}");
            assert!(factors.iter().all(|f| (0.0..=1.0).contains(f)));
        }
    }

    #[test]
    fn one_step_and_no_step_are_defined() {
        assert!(Schedule::default().factor(0, 1) > 0.0);
        assert_eq!(Schedule { warmup: 0.0, decay: Decay::Linear }.factor(0, 1), 1.0);
        assert!(Schedule::default().factor(0, 0).is_finite());
    }
}
