//! What a learner has measured, as JavaScript gets it.

use serde::Serialize;

use crate::base::Base;
use crate::learner::{Learner, Options};

/// Singular values of a layer's update after a task's last step.
#[derive(Clone, Debug, Serialize)]
struct Spectrum {
    task: usize,
    layer: String,
    values: Vec<f64>,
}

/// Of the tasks learnt so far.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Metrics {
    mft: Option<f64>,
    mfn: Option<f64>,
    maa: Option<f64>,
    bwt: Option<f64>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Results {
    tasks: Vec<String>,
    zero_shot: Vec<Option<f64>>,
    accuracy: Vec<Vec<Option<f64>>>,
    losses: Vec<Vec<f64>>,
    spectra: Vec<Spectrum>,
    seconds: f64,
    method: String,
    options: Options,
    metrics: Option<Metrics>,
}

impl Results {
    /// Of this learner.
    pub fn of(learner: &Learner, base: &Base) -> Self {
        let mut results = Self {
            tasks: Vec::new(),
            zero_shot: Vec::new(),
            accuracy: Vec::new(),
            losses: Vec::new(),
            spectra: Vec::new(),
            seconds: learner.seconds.get(),
            method: learner.options.method.as_str().to_owned(),
            options: learner.options.clone(),
            metrics: None,
        };
        let state = learner.course.state.borrow();
        let Some(state) = state.as_ref() else {
            let measured = learner.measured.borrow();
            results.tasks.clone_from(&measured.tasks);
            results.zero_shot = measured.accuracy.iter().copied().map(Some).collect();
            return results;
        };
        let (record, layers) = (&state.record, base.sites());
        let known = record.accuracy.tasks();
        results.tasks = learner.tasks.borrow().iter().take(known).map(|task| task.task.name.clone()).collect();
        results.zero_shot = record.accuracy.zero_shot().map_or_else(|| vec![None; known], <[_]>::to_vec);
        results.accuracy = record.accuracy.rows().to_vec();
        results.losses.clone_from(&record.losses);
        let last = |task: usize| record.spectra.iter().filter(|point| point.task == task).map(|point| point.step).max();
        results.spectra = (record.spectra.iter())
            .filter(|point| Some(point.step) == last(point.task))
            .map(|point| Spectrum {
                task: point.task,
                layer: layers.get(point.site).map_or_else(String::new, |layer| layer.name.clone()),
                values: point.sigma.clone(),
            })
            .collect();
        let accuracy = &record.accuracy;
        results.metrics = accuracy.mft().map(|mft| Metrics {
            mft: Some(mft),
            mfn: accuracy.mfn(),
            maa: accuracy.maa(),
            bwt: accuracy.bwt(),
        });
        results
    }
}
