//! From what a method left behind to its entry in `result.json`.

use eblora_core::metrics::{MetricError, Spectrum as Shape};

use super::MethodRun;
use crate::report::result::{LossPoint, MethodResult, Spectrum, SubspaceSize};

/// Losses are averaged over so many steps for the report.
const LOSS_POINT: usize = 10;

/// A method's entry in `result.json`.
///
/// # Errors
/// When a spectrum is none.
pub fn method_result(run: &MethodRun) -> Result<MethodResult, MetricError> {
    let MethodRun { method, settings, stored, record, sites, seconds, peak_memory_bytes, learnt: _ } = run;
    let site_name = |site: usize| sites.get(site).map_or_else(String::new, |site| site.name.clone());
    let accuracy = &record.accuracy;
    let mut spectra = Vec::with_capacity(record.spectra.len());
    for point in &record.spectra {
        let shape = Shape::new(&point.sigma)?;
        spectra.push(Spectrum {
            task: point.task,
            step: point.step,
            site: site_name(point.site),
            sigma: point.sigma.clone(),
            top_share: shape.top_share,
            effective_rank: shape.effective_rank,
            variance: shape.variance,
        });
    }
    // One task transfers nothing: its backward and forward transfer are 0.
    let or_zero = |metric: Option<f64>| metric.unwrap_or(0.0);
    Ok(MethodResult {
        name: method.label().to_owned(),
        method: method.name.as_str().to_owned(),
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        learning_rates: method.learning_rates(),
        trainable_parameters: record.trainable_parameters,
        stored: Some(*stored),
        zero_shot: accuracy.zero_shot().unwrap_or_default().iter().copied().collect::<Option<_>>().unwrap_or_default(),
        accuracy: accuracy.complete_rows().unwrap_or_default(),
        masked_accuracy: record.masked.complete_rows(),
        mft: or_zero(accuracy.mft()),
        mfn: or_zero(accuracy.mfn()),
        maa: or_zero(accuracy.maa()),
        bwt: or_zero(accuracy.bwt()),
        fwt_mtil: or_zero(accuracy.fwt_mtil()),
        fwt_cells: or_zero(accuracy.fwt_cells()),
        spectra,
        subspace: (record.memory.iter())
            .filter(|_| method.name.has_memory())
            .map(|m| SubspaceSize { task: m.task, site: site_name(m.site), k: m.k, dim: m.dim })
            .collect(),
        loss: record.losses.iter().enumerate().flat_map(|(task, losses)| thinned(task, losses)).collect(),
        orthonormality_error: method.name.is_balanced().then_some(record.orthonormality),
        subspace_leak: method.name.has_memory().then_some(record.overlap),
        seconds: *seconds,
        peak_memory_bytes: *peak_memory_bytes,
    })
}

fn thinned(task: usize, losses: &[f64]) -> impl Iterator<Item = LossPoint> {
    losses.chunks(LOSS_POINT).enumerate().map(move |(i, part)| LossPoint {
        task,
        step: i * LOSS_POINT + part.len(),
        loss: part.iter().sum::<f64>() / part.len() as f64,
    })
}
