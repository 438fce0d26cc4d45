//! A model with fewer sites computes what the whole one does with adapters at these alone: logits and gradients to the bit.

use crate::fixtures::path;
use eblora::model::llama::LlamaFolder;
use eblora::model::vit::{config, weights};
use eblora::model::vit_folder::VitFolder;
use eblora_core::adapter::{Adapters, HostFactors};
use eblora_core::backend::{Backend, Cpu};
use eblora_core::model::llama::{Llama, TokenSet};
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::model::{Model, ModelError, Samples, Targets, Wanted};
use eblora_core::random::Random;
use eblora_core::train::{GradientKind, GradientPass};

type B = Cpu<f64>;

/// Numbers of a pass: logits, and every gradient at the sites that `names` lists.
fn numbers<M: Model<B>>(cpu: &B, mut model: M, samples: &M::Samples, names: &[String]) -> Vec<f64> {
    let batch: Vec<usize> = (0..samples.len()).collect();
    let place = |name: &String| model.sites().iter().position(|site| site.name == *name).expect("a site");
    let sites: Vec<usize> = names.iter().map(place).collect();
    let factors: Vec<_> = (sites.iter().zip(names))
        .map(|(&site, name)| {
            let (rng, shape) = (&mut Random::new(1, name), &model.sites()[site]);
            HostFactors { site, u: rng.normal_matrix(shape.out, 2), v: rng.normal_matrix(shape.inp, 2), s: 0.1 }
        })
        .collect();
    let mut work = model.workspace(cpu, batch.len()).expect("memory");
    let adapters = Adapters::upload(cpu, &factors, model.sites().len(), None).expect("memory");
    model.attach(cpu, &mut work, &adapters).expect("memory");
    model.load(cpu, &mut work, samples, &batch).expect("a batch");
    let mut loss = cpu.zeros([1, 1, 1]).expect("memory");
    let mut grads = adapters.grads(cpu).expect("memory");
    model.forward(cpu, &mut work, Some(&adapters));
    model.loss(cpu, &mut work, &mut loss, 0);
    model.backward(cpu, &mut work, &mut Wanted::Adapters(&adapters, &mut grads));
    let mut all = model.logits(&work).values().to_vec();
    for &site in &sites {
        let slot = adapters.slot(site).expect("an adapter");
        let grads = &grads.stacks[slot.stack_index];
        for tensor in [Some(&grads.u), Some(&grads.v), grads.s.as_ref()].into_iter().flatten() {
            let each = tensor.values().len() / slot.stack.sites.len();
            all.extend(&tensor.values()[slot.item * each..][..each]);
        }
    }
    // Whole gradients, of these sites alone where the model has no others.
    let mut pass =
        GradientPass::new(cpu, model.sites(), GradientKind::Exact, model.rows(batch.len()), 0).expect("memory");
    pass.set_weight(1.0);
    model.backward(cpu, &mut work, &mut Wanted::Weights(&mut pass));
    let gradients = pollster::block_on(pass.finish(cpu)).expect("gradients");
    for &site in &sites {
        let eblora_core::gpm::Gradient::Exact(g) = &gradients[site] else { panic!("not exact") };
        all.extend((0..g.ncols()).flat_map(|j| g.col(j).iter().copied()));
    }
    model.merge(cpu, &adapters).expect("memory");
    model.forward(cpu, &mut work, None);
    all.extend(model.logits(&work).values());
    assert!(all.iter().all(|x| x.is_finite()) && all.len() > 100);
    all
}

#[test]
fn a_vit_with_targets_is_the_whole_one_with_adapters_there_alone() {
    let folder = VitFolder::read(path("vit_mean")).expect("a model");
    let (config, weights, cpu) = (config(&folder), weights(&folder), Cpu::new());
    let (c, side) = (config.channels, config.image);
    let pixels = (0..3 * c * side * side).map(|i| (i * 37 % 251) as u8).collect();
    let images = ImageSet { channels: c, height: side, width: side, pixels, labels: vec![0, 1, 0] };
    let layers = config.layers;
    for (names, blocks) in [(["q", "v"], None), (["fc1", "o"], Some(vec![layers - 1])), (["fc2", "k"], Some(vec![0]))] {
        let targets = Targets { names: Some(names.map(Into::into).to_vec()), blocks: blocks.clone() };
        let part = Vit::with_targets(&cpu, &config, &weights, &targets).expect("a model");
        let sites: Vec<String> = part.sites().iter().map(|site| site.name.clone()).collect();
        assert_eq!(sites.len(), 2 * blocks.map_or(layers, |blocks| blocks.len()), "{sites:?}");
        let whole = Vit::new(&cpu, &config, &weights).expect("a model");
        assert_eq!(numbers(&cpu, part, &images, &sites), numbers(&cpu, whole, &images, &sites), "{names:?}");
    }
    let missing = Vit::with_targets(&cpu, &config, &weights, &Targets::named(["query"]));
    assert!(matches!(missing.err(), Some(ModelError::Targets { .. })));
}

#[test]
fn a_llama_with_targets_is_the_whole_one_with_adapters_there_alone() {
    let read = || LlamaFolder::read(&path("llama_untied")).expect("a model");
    let (config, cpu) = (read().config, Cpu::new());
    let mut samples = TokenSet::new();
    samples.push_pair(&[1, 2, 3], &[4, 5]).expect("an answer");
    samples.push_pair(&[6, 7], &[8]).expect("an answer");
    let (window, layers) = (samples.window(), config.layers);
    for (names, blocks) in [
        (["q_proj", "v_proj"], None),
        (["gate_proj", "o_proj"], Some(vec![layers - 1])),
        (["down_proj", "k_proj"], Some(vec![0])),
    ] {
        let targets = Targets { names: Some(names.map(Into::into).to_vec()), blocks: blocks.clone() };
        let part = Llama::with_targets(&cpu, &config, window, read().weights, &targets).expect("a model");
        let sites: Vec<String> = part.sites().iter().map(|site| site.name.clone()).collect();
        assert_eq!(sites.len(), 2 * blocks.map_or(layers, |blocks| blocks.len()), "{sites:?}");
        let whole = Llama::new(&cpu, &config, window, read().weights).expect("a model");
        assert_eq!(numbers(&cpu, part, &samples, &sites), numbers(&cpu, whole, &samples, &sites), "{names:?}");
    }
    let missing = Llama::with_targets(&cpu, &config, window, read().weights, &Targets::named(["query"]));
    assert!(matches!(missing.err(), Some(ModelError::Targets { .. })));
}
