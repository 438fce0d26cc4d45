//! What a run leaves behind.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::measure::Scores;
use crate::metrics::{AccuracyMatrix, MetricError};

/// Singular values of one layer's update at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SpectrumPoint {
    /// 0-based task.
    pub task: usize,
    /// Steps taken in it.
    pub step: usize,
    /// The layer's site.
    pub site: usize,
    /// Singular values of `ΔW`, descending.
    pub sigma: Vec<f64>,
}

/// Size of one layer's gradient memory after a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPoint {
    /// 0-based task.
    pub task: usize,
    /// The layer's site.
    pub site: usize,
    /// Directions in M.
    pub k: usize,
    /// Input dimension.
    pub dim: usize,
    /// Numbers stored.
    pub stored: usize,
}

/// All that was measured while one method went through the tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    /// The method's name.
    pub method: String,
    /// Accuracies in per cent: the zero-shot row, then a row after each task.
    pub accuracy: AccuracyMatrix,
    /// The same where the model is told each sample's task and chooses among its classes. States saved before this was
    /// measured lack their part of it.
    pub masked: AccuracyMatrix,
    /// Training loss of every step, task by task.
    pub losses: Vec<Vec<f64>>,
    /// Spectra over training.
    pub spectra: Vec<SpectrumPoint>,
    /// Growth of M.
    pub memory: Vec<MemoryPoint>,
    /// Largest |XᵀX − I| of a factor at any audit; 0 for methods off the manifold.
    pub orthonormality: f64,
    /// Largest |MᵀV| at any audit.
    pub overlap: f64,
    /// Numbers trained in a task.
    pub trainable_parameters: usize,
    /// Warnings, in order.
    pub warnings: Vec<String>,
}

impl RunRecord {
    /// Nothing measured yet of this method on so many tasks.
    pub fn new(method: &str, tasks: usize) -> Self {
        Self {
            method: method.to_string(),
            accuracy: AccuracyMatrix::new(tasks),
            masked: AccuracyMatrix::new(tasks),
            losses: Vec::new(),
            spectra: Vec::new(),
            memory: Vec::new(),
            orthonormality: 0.0,
            overlap: 0.0,
            trainable_parameters: 0,
            warnings: Vec::new(),
        }
    }

    /// Adds what was measured before any training.
    pub(super) fn complete_zero_shot(&mut self, scores: &Scores) -> Result<(), MetricError> {
        // Unless the state is from before these were measured: what is missing of both alone has scores.
        if self.masked.missing_zero_shot() == self.accuracy.missing_zero_shot() {
            self.masked.complete_zero_shot(&scores.masked)?;
        }
        self.accuracy.complete_zero_shot(&scores.free)
    }

    /// Adds what was measured after a task.
    pub(super) fn push(&mut self, scores: &Scores) -> Result<(), MetricError> {
        self.masked.push(&scores.masked)?;
        self.accuracy.push(&scores.free)
    }
}
