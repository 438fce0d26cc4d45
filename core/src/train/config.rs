//! What is the same for every method.

use alloc::format;
use alloc::vec::Vec;

use super::{Fact, GradientKind};
use crate::optim::Schedule;

/// At which weights a task's gradient G is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GradientOrigin {
    /// The current model, with all earlier tasks merged.
    #[default]
    Merged,
    /// The base model, as the authors' released code does.
    Base,
}

/// What is the same for every method: the budget, the data order, and what is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// Steps of each task.
    pub steps: usize,
    /// Samples of each step.
    pub batch: usize,
    /// Learning-rate schedule of each task.
    pub schedule: Schedule,
    /// Seed of data order, samples and inits.
    pub seed: u64,
    /// Where G is taken.
    pub gradient_origin: GradientOrigin,
    /// Share of a task's training samples that G is averaged over.
    pub gradient_share: f64,
    /// How G is kept.
    pub gradient_kind: GradientKind,
    /// Spectra recorded in each task, the last after its last step.
    pub snapshots: usize,
    /// Check the manifold's constraints after every so many steps; 0: only at the snapshots.
    pub audit_every: usize,
    /// Report the loss every so many steps, once it has come back: nothing waits for it. The last is always reported.
    pub report_every: usize,
    /// Save the state after every so many steps of a task, beside those at its end; 0: only there. Read by
    /// [`Trainer::run_from`](super::Trainer::run_from).
    pub checkpoint_every: usize,
    /// What else a saved state must share with a run that goes on from it, such as the checksum of the base weights.
    pub facts: Vec<Fact>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 150,
            batch: 32,
            schedule: Schedule::default(),
            seed: 0,
            gradient_origin: GradientOrigin::default(),
            gradient_share: 0.2,
            gradient_kind: GradientKind::Exact,
            snapshots: 8,
            audit_every: 0,
            report_every: 10,
            checkpoint_every: 0,
            facts: Vec::new(),
        }
    }
}

impl TrainConfig {
    /// The settings that decide a run's numbers, by name. How often it is looked at, reported and saved does not.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::from([
            Fact::new("seed", self.seed),
            Fact::new("steps", self.steps),
            Fact::new("batch", self.batch),
            Fact::new("schedule", format!("{:?}", self.schedule)),
            Fact::new("gradient at", format!("{:?}", self.gradient_origin)),
            Fact::new("share of the gradient's samples", self.gradient_share),
            Fact::new("kind of gradient", format!("{:?}", self.gradient_kind)),
            Fact::new("spectra of a task", self.snapshots),
        ]);
        facts.extend(self.facts.iter().cloned());
        facts
    }
}
