//! From the adapters of a model of ours to a PEFT adapter, and back onto a model's sites.

use eblora_core::adapter::{HostAdapters, HostFactors};
use eblora_core::model::Site;

use super::modules::{Target, assign};
use super::{PeftAdapter, PeftError, PeftLayer, module_of};

impl PeftAdapter {
    /// The adapters of a model with these sites, under the paths of their modules ([`module_of`]): `A = Vᵀ`, `B = U`, and s
    /// (or the constant, where s is not trained) as the scale.
    ///
    /// # Errors
    /// When a site is none of the model's.
    pub fn from_host(adapters: &HostAdapters<f32>, sites: &[Site]) -> Result<Self, PeftError> {
        let layer = |factors: &HostFactors<f32>| {
            let known = sites.get(factors.site);
            let site = known.ok_or(PeftError::Site { site: factors.site, sites: sites.len() })?;
            let mut lora = factors.clone().lora();
            if let Some(constant) = adapters.fixed {
                lora.scale = constant as f32;
            }
            Ok(PeftLayer { module: module_of(&site.name), lora })
        };
        let layers = adapters.factors.iter().map(layer).collect::<Result<_, PeftError>>()?;
        Ok(Self { layers, base_model: None, task_type: None })
    }

    /// The adapters for a model with these sites. Each module must be one of them, by its path in transformers 5 or 4; a
    /// prefix such as `bert.`, `model.` or `vit.` may be missing on one side. The scale is s; it is a constant where all
    /// layers have the same.
    ///
    /// # Errors
    /// When a module is no site, several, of another shape, or there is no layer at all: nothing is ever left out.
    pub fn to_host(&self, sites: &[Site]) -> Result<HostAdapters<f32>, PeftError> {
        if self.layers.is_empty() {
            return Err(PeftError::Empty { what: "cannot be put onto a model".to_owned() });
        }
        let targets: Vec<_> = sites.iter().map(Target::site).collect();
        let assigned = assign(&self.layers, &targets, "the model")?;
        let mut factors: Vec<_> = (self.layers.iter().zip(assigned))
            .map(|(PeftLayer { lora, .. }, site)| HostFactors {
                site,
                u: lora.b.clone(),
                v: lora.a.transpose().to_owned(),
                s: lora.scale,
            })
            .collect();
        factors.sort_by_key(|f| f.site);
        let first = factors[0].s;
        let fixed = factors.iter().all(|f| f.s == first).then_some(f64::from(first));
        Ok(HostAdapters { factors, fixed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eblora_core::random::Random;

    fn sites() -> Vec<Site> {
        let site = |(i, name): (usize, &str)| Site { name: name.to_owned(), out: 3 + i, inp: 4, depth: i };
        ["layers.0.q", "layers.0.fc1", "layers.1.q"].into_iter().enumerate().map(site).collect()
    }

    fn factors(site: usize, rank: usize, s: f32) -> HostFactors<f32> {
        let rng = &mut Random::new(site as u64, "sites");
        HostFactors { site, u: rng.normal_matrix(3 + site, rank), v: rng.normal_matrix(4, rank), s }
    }

    #[test]
    fn adapters_come_back_as_they_went() {
        let trained = HostAdapters { factors: vec![factors(0, 2, 0.5), factors(2, 1, -0.25)], fixed: None };
        let adapter = PeftAdapter::from_host(&trained, &sites()).unwrap();
        let names: Vec<_> = adapter.layers.iter().map(|layer| layer.module.as_str()).collect();
        assert_eq!(names, ["vit.layers.0.attention.q_proj", "vit.layers.1.attention.q_proj"]);
        assert_eq!(adapter.to_host(&sites()).unwrap(), trained);
        assert_eq!(adapter.parameters(), 2 * 7 + 9);
        // The constant counts, not what stands in s.
        let constant = HostAdapters { factors: vec![factors(0, 2, 7.0)], fixed: Some(2.0) };
        let back = PeftAdapter::from_host(&constant, &sites()).unwrap().to_host(&sites()).unwrap();
        assert_eq!((back.fixed, back.factors[0].s), (Some(2.0), 2.0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let adapters = HostAdapters { factors: vec![factors(2, 1, 1.0)], fixed: None };
        let message = PeftAdapter::from_host(&adapters, &sites()[..2]).unwrap_err().to_string();
        assert_eq!(message, "an adapter for site 2 of a model that has 2");
        let mut adapter = PeftAdapter::from_host(&adapters, &sites()).unwrap();
        adapter.layers[0].module = "encoder.layer.1.attention.self.query".to_owned();
        let message = adapter.to_host(&sites()).unwrap_err().to_string();
        assert!(message.contains("`encoder.layer.1.attention.self.query`") && message.contains("`vit.layers."));
        assert!(matches!(PeftAdapter::default().to_host(&sites()), Err(PeftError::Empty { .. })));
    }
}
