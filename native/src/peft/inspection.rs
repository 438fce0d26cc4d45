//! How an adapter's energy is spread: norms, spectra and orthonormality, layer by layer.

use std::path::Path;

use eblora_core::adapter::{AdapterError, LoraAdapter};
use eblora_core::faer::Mat;
use eblora_core::linalg::orthonormality_error;
use eblora_core::metrics::Spectrum;
use serde::Serialize;

use super::set::after;
use super::{AdapterSet, PeftAdapter, PeftError, PeftLayer};

/// Columns whose norms differ by no more than this share have one common norm: 1e-3, far above rounding and far below what
/// training without energy balance leaves.
const EQUAL_NORMS: f64 = 1e-3;

/// What is known of a folder of adapters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// `eblora.inspection`.
    pub schema: &'static str,
    /// Version of the format.
    pub version: u32,
    /// The folder.
    pub folder: String,
    /// Its one adapter, or that of each task.
    pub adapters: Vec<AdapterFacts>,
}

/// One adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterFacts {
    /// The task, in a set.
    pub task: Option<String>,
    /// `merge` or `keep`, in a set.
    pub after: Option<&'static str>,
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// Its layers.
    pub layers: Vec<LayerFacts>,
    /// All layers together.
    pub total: Totals,
}

/// One layer's `ΔW = scale·B·A`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerFacts {
    /// The module.
    pub module: String,
    /// Outputs.
    pub out: usize,
    /// Inputs.
    #[serde(rename = "in")]
    pub inp: usize,
    /// Rows of `A`.
    pub rank: usize,
    /// The singular values that can be other than 0, descending.
    pub sigma: Vec<f64>,
    /// `‖ΔW‖_F`.
    pub norm: f64,
    /// `‖ΔW‖_F²`.
    pub energy: f64,
    /// Energy share of the largest singular value.
    pub top_share: f64,
    /// Exponential of the entropy of the energy shares.
    pub effective_rank: f64,
    /// Variance of the singular values.
    pub variance: f64,
    /// Of the output side `B`.
    pub b: FactorFacts,
    /// Of the input side `Aᵀ`.
    pub a: FactorFacts,
}

/// The columns of one factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FactorFacts {
    /// Whether all have the same norm, to 0.1 %: then they were divided by it; else each by its own.
    pub equal_norms: bool,
    /// The largest entry of `|XᵀX − I|` of the factor so normalised.
    pub orthonormality_error: f64,
}

/// All layers together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Layers.
    pub layers: usize,
    /// Numbers in the factors.
    pub parameters: usize,
    /// Ranks, added up.
    pub rank: usize,
    /// Energies, added up.
    pub energy: f64,
    /// The root of `energy`.
    pub norm: f64,
    /// The mean of the layers'.
    pub top_share: f64,
    /// The mean of the layers'.
    pub effective_rank: f64,
    /// The largest of all factors.
    pub orthonormality_error: f64,
}

impl Inspection {
    /// Looks into a PEFT folder, or a set of them.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(folder: &Path) -> Result<Self, PeftError> {
        let adapters = if AdapterSet::is_in(folder) {
            let set = AdapterSet::read(folder)?;
            let facts = |task: &super::SetTask| {
                let facts = AdapterFacts::of(&set.adapter(task)?)?;
                Ok(AdapterFacts { task: Some(task.name.clone()), after: Some(after::name(task.after)), ..facts })
            };
            set.tasks().iter().map(facts).collect::<Result<_, PeftError>>()?
        } else {
            vec![AdapterFacts::of(&PeftAdapter::read(folder)?)?]
        };
        Ok(Self { schema: "eblora.inspection", version: 1, folder: folder.display().to_string(), adapters })
    }
}

impl AdapterFacts {
    /// Of one adapter.
    ///
    /// # Errors
    /// When a decomposition fails; the layer is named.
    pub fn of(adapter: &PeftAdapter) -> Result<Self, PeftError> {
        let layers: Vec<_> = adapter.layers.iter().map(layer).collect::<Result<_, _>>()?;
        let mean = |of: fn(&LayerFacts) -> f64| layers.iter().map(of).sum::<f64>() / layers.len().max(1) as f64;
        let energy: f64 = layers.iter().map(|l| l.energy).sum();
        let errors = layers.iter().flat_map(|l| [l.a.orthonormality_error, l.b.orthonormality_error]);
        let total = Totals {
            layers: layers.len(),
            parameters: adapter.parameters(),
            rank: layers.iter().map(|l| l.rank).sum(),
            energy,
            norm: energy.sqrt(),
            top_share: mean(|l| l.top_share),
            effective_rank: mean(|l| l.effective_rank),
            orthonormality_error: errors.fold(0.0, f64::max),
        };
        Ok(Self { task: None, after: None, base_model: adapter.base_model.clone(), layers, total })
    }
}

fn layer(layer: &PeftLayer) -> Result<LayerFacts, PeftError> {
    let PeftLayer { module, lora } = layer;
    let failed = |source: AdapterError| PeftError::Layer { module: module.clone(), source };
    let wide = |x: &Mat<f32>| Mat::from_fn(x.nrows(), x.ncols(), |i, j| f64::from(x[(i, j)]));
    let (a, b) = (wide(&lora.a), wide(&lora.b));
    let (b_facts, a_facts) = (factor(b.clone()), factor(a.transpose().to_owned()));
    let wide = LoraAdapter::new(a, b, f64::from(lora.scale)).map_err(failed)?;
    let sigma = wide.singular_values().map_err(failed)?;
    // A decomposition's values are neither negative nor infinite.
    let Spectrum { top_share, effective_rank, variance, total_energy } =
        Spectrum::new(&sigma).map_err(|_| failed(AdapterError::NonFinite { what: "ΔW" }))?;
    Ok(LayerFacts {
        module: module.clone(),
        out: wide.outputs(),
        inp: wide.inputs(),
        rank: wide.rank(),
        sigma,
        norm: total_energy.sqrt(),
        energy: total_energy,
        top_share,
        effective_rank,
        variance,
        b: b_facts,
        a: a_facts,
    })
}

/// `x`: n×r, its columns about to be normalised.
fn factor(mut x: Mat<f64>) -> FactorFacts {
    let norms: Vec<f64> = (0..x.ncols()).map(|j| x.col(j).norm_l2()).collect();
    let largest = norms.iter().copied().fold(0.0, f64::max);
    let smallest = norms.iter().copied().fold(f64::INFINITY, f64::min);
    let equal_norms = largest == 0.0 || smallest >= largest * (1.0 - EQUAL_NORMS);
    let common = (norms.iter().map(|n| n * n).sum::<f64>() / norms.len().max(1) as f64).sqrt();
    for (j, norm) in norms.into_iter().enumerate() {
        let by = if equal_norms { common } else { norm };
        for i in 0..x.nrows() {
            // A column of zeros stays one, and its error is 1.
            x[(i, j)] /= if by > 0.0 { by } else { 1.0 };
        }
    }
    FactorFacts { equal_norms, orthonormality_error: orthonormality_error(x.as_ref()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::faer::mat;
    use eblora_core::linalg::random_orthonormal;
    use eblora_core::random::Random;

    fn of(lora: LoraAdapter<f32>) -> LayerFacts {
        layer(&PeftLayer { module: "q".to_owned(), lora }).unwrap()
    }

    #[test]
    fn a_balanced_layer_is_seen_to_be_one() {
        let rng = &mut Random::new(1, "inspection");
        let (u, v) = (random_orthonormal::<f32>(9, 4, rng).unwrap(), random_orthonormal::<f32>(7, 4, rng).unwrap());
        let facts = of(LoraAdapter::new(v.transpose().to_owned(), u * eblora_core::faer::Scale(0.25f32), 1.0).unwrap());
        assert_eq!((facts.out, facts.inp, facts.rank, facts.sigma.len()), (9, 7, 4, 4));
        assert!((facts.norm - 0.5).abs() < 1e-6 && (facts.energy - 0.25).abs() < 1e-6 && facts.variance < 1e-12);
        assert!((facts.top_share - 0.25).abs() < 1e-6 && (facts.effective_rank - 4.0).abs() < 1e-6);
        for factor in [facts.a, facts.b] {
            assert!(factor.equal_norms && factor.orthonormality_error < 1e-6, "{factor:?}");
        }
    }

    #[test]
    fn columns_of_different_norms_are_normalised_one_by_one() {
        let facts = of(LoraAdapter::new(mat![[1.0, 0.0], [3.0, 4.0]], mat![[2.0, 0.0], [0.0, 0.0]], 0.5).unwrap());
        assert!(!facts.a.equal_norms && (facts.a.orthonormality_error - 0.6).abs() < 1e-12);
        assert!(!facts.b.equal_norms && facts.b.orthonormality_error == 1.0);
        assert!((facts.sigma[0] - 1.0).abs() < 1e-6 && facts.sigma[1] < 1e-6);
        let zero = of(LoraAdapter::new(Mat::zeros(1, 2), Mat::zeros(2, 1), 1.0).unwrap());
        assert_eq!((zero.norm, zero.top_share, zero.b.orthonormality_error), (0.0, 0.0, 1.0));
    }

    #[test]
    fn totals_add_up() {
        let layer = |size: f32| PeftLayer {
            module: format!("{size}"),
            lora: LoraAdapter::new(mat![[size, 0.0]], mat![[1.0], [0.0], [0.0]], 1.0).unwrap(),
        };
        let adapter = PeftAdapter { layers: vec![layer(3.0), layer(4.0)], ..PeftAdapter::default() };
        let total = AdapterFacts::of(&adapter).unwrap().total;
        assert_eq!((total.layers, total.parameters, total.rank), (2, 10, 2));
        assert!((total.norm - 5.0).abs() < 1e-12 && (total.energy - 25.0).abs() < 1e-12);
        let nothing = AdapterFacts::of(&PeftAdapter::default()).unwrap().total;
        assert_eq!((nothing.layers, nothing.norm, nothing.top_share), (0, 0.0, 0.0));
    }
}
