//! Numbers and data that can't be used: typed errors that name the layer or the task, and nothing changed.

use crate::fixtures::path;
use eblora::model::vit::{config, weights};
use eblora::model::vit_folder::VitFolder;
use eblora_core::adapter::{AdapterGrads, Adapters};
use eblora_core::backend::{Backend, BackendError, Cpu, cpu::CpuTensor};
use eblora_core::gpm::{Gradient, Subspace};
use eblora_core::manifold::{ManifoldError, Retraction};
use eblora_core::method::{Eblora, EbloraConfig, LoraConfig, LoraFt, Method, MethodError, TaskStart};
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::model::{ModelError, Site};
use eblora_core::optim::{Ambient, Part, Riemannian, RiemannianConfig};
use eblora_core::train::{Silent, Task, TrainConfig, TrainError, Trainer};
use faer::Mat;

type B = Cpu<f32>;

/// Three layers in two stacks.
fn sites() -> Vec<Site> {
    let site = |name: &str, out, inp, depth| Site { name: name.into(), out, inp, depth };
    vec![site("first", 6, 5, 0), site("wide", 4, 9, 1), site("last", 6, 5, 2)]
}

/// Numbers without pattern in (−1, 1), the same for the same seed.
fn noise(seed: usize) -> impl FnMut() -> f32 {
    let mut state = (seed as u32).wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

fn gradients(sites: &[Site], task: usize) -> Vec<Gradient<f32>> {
    let mut next = noise(100 + task);
    sites.iter().map(|s| Gradient::Exact(Mat::from_fn(s.out, s.inp, |_, _| next()))).collect()
}

fn begin(method: &mut dyn Method<B>, sites: &[Site], task: usize) -> Adapters<B> {
    let gradients = gradients(sites, task);
    let start = TaskStart { blocks: 3, gradients, ..TaskStart::new([task, 3], sites, 1) };
    method.begin_task(&B::new(), start).expect("adapters")
}

fn fill(grads: &mut AdapterGrads<B>, step: usize) {
    let mut next = noise(step);
    for stack in &mut grads.stacks {
        for tensor in [Some(&mut stack.u), Some(&mut stack.v), stack.s.as_mut()].into_iter().flatten() {
            tensor.values_mut().iter_mut().for_each(|x| *x = next());
        }
    }
}

/// The bits of all factors.
fn bits(adapters: &Adapters<B>) -> Vec<u32> {
    let factors = pollster::block_on(adapters.read(&B::new())).expect("factors");
    let values = factors.iter().flat_map(|f| {
        let matrices = [&f.u, &f.v].into_iter().flat_map(|m| crate::fixtures::row_major(m.as_ref()));
        matrices.chain([f.s]).collect::<Vec<_>>()
    });
    values.map(f32::to_bits).collect()
}

/// What a fault puts where.
#[derive(Clone, Copy, Debug)]
struct Fault {
    layer: &'static str,
    factor: &'static str,
    value: f32,
}

impl Fault {
    fn plant(self, adapters: &Adapters<B>, grads: &mut AdapterGrads<B>) {
        let site = sites().iter().position(|s| s.name == self.layer).expect("a layer");
        let slot = adapters.slot(site).expect("an adapter");
        let stack = &mut grads.stacks[slot.stack_index];
        let tensor = match self.factor {
            "gradient of U" => &mut stack.u,
            "gradient of V" => &mut stack.v,
            _ => stack.s.as_mut().expect("a trained magnitude"),
        };
        let each = tensor.values().len() / slot.stack.sites.len();
        tensor.values_mut()[(slot.item + 1) * each - 1] = self.value;
    }
}

/// Two tasks of six steps; the fault, if any, comes before step 3 of the second. The bits after every step, and of the
/// adapters of a third task, which depend on all that the method remembers.
fn run(method: &mut dyn Method<B>, fault: Option<Fault>) -> Vec<Vec<u32>> {
    let (cpu, sites, mut trace) = (B::new(), sites(), Vec::new());
    for task in 0..2 {
        let mut adapters = begin(method, &sites, task);
        let mut grads = adapters.grads(&cpu).expect("memory");
        for step in 0..6 {
            if let (Some(fault), 1, 3) = (fault, task, step) {
                let (before, memory) = (bits(&adapters), method.memory());
                fill(&mut grads, 1000);
                fault.plant(&adapters, &mut grads);
                match method.step(&cpu, &mut adapters, &mut grads, 1.0) {
                    Err(MethodError::Step { layer, factor, source: BackendError::NonFinite { .. } }) => {
                        assert_eq!((&*layer, factor), (fault.layer, fault.factor));
                    }
                    other => panic!("{fault:?}: {other:?}"),
                }
                assert_eq!(bits(&adapters), before, "{fault:?}: the adapters were changed");
                assert_eq!(method.memory(), memory);
            }
            fill(&mut grads, 10 * task + step);
            method.step(&cpu, &mut adapters, &mut grads, 0.5).expect("a step");
            trace.push(bits(&adapters));
        }
        method.end_task(&cpu, &[]).expect("memory");
    }
    trace.push(bits(&begin(method, &sites, 2)));
    trace
}

fn eblora(rank: usize, epsilon: f64) -> Eblora<B> {
    Eblora::new(EbloraConfig { rank, epsilon: Some(epsilon), ..EbloraConfig::default() })
}

fn lora() -> LoraFt<B> {
    LoraFt::new(LoraConfig { rank: 2, weight_decay: 0.1, ..LoraConfig::default() })
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let clean = [run(&mut eblora(2, 0.5), None), run(&mut lora(), None)];
    // A planted error: one more step is seen by the comparison.
    let mut seen = eblora(2, 0.5);
    let mut other = begin(&mut seen, &sites(), 0);
    let mut grads = other.grads(&B::new()).expect("memory");
    for step in [0, 0] {
        fill(&mut grads, step);
        seen.step(&B::new(), &mut other, &mut grads, 0.5).expect("a step");
    }
    assert_ne!(bits(&other), clean[0][1]);
    for layer in ["first", "wide", "last"] {
        for (factor, value) in [
            ("gradient of U", f32::NAN),
            ("gradient of V", f32::INFINITY),
            ("gradient of V", f32::NAN),
            ("gradient of s", f32::NEG_INFINITY),
        ] {
            let fault = Fault { layer, factor, value };
            assert_eq!(run(&mut eblora(2, 0.5), Some(fault)), clean[0], "{fault:?}");
            if factor != "gradient of s" {
                assert_eq!(run(&mut lora(), Some(fault)), clean[1], "{fault:?}");
            }
        }
    }
}

/// An inner optimiser whose increment for the last matrix of the stack overflows.
struct Overflowing;

impl Ambient<B> for Overflowing {
    fn increment(&mut self, _: &B, grad: &mut CpuTensor<f32>, _: f64) {
        *grad.values_mut().last_mut().expect("a stack") = f32::INFINITY;
    }

    fn parts(&mut self) -> Vec<(&'static str, Part<'_, B>)> {
        Vec::new()
    }
}

#[test]
fn factors_that_cannot_be_retracted_are_left_as_they_were() {
    let (cpu, shape) = (B::new(), [2, 4, 2]);
    let m = Subspace::from_basis(Mat::from_fn(4, 1, |i, _| f32::from(i == 3))).expect("orthonormal");
    let start = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0].repeat(2);
    for retraction in [Retraction::Whitening, Retraction::Polar, Retraction::Qr] {
        for restricted in [false, true] {
            let subspaces = restricted.then(|| cpu.upload_subspaces(&[&m; 2]).expect("memory"));
            let config = RiemannianConfig { retraction, ..RiemannianConfig::default() };
            let mut optimiser = Riemannian::new(&cpu, config, Overflowing, shape).expect("memory");
            let mut x = cpu.upload(shape, &start).expect("memory");
            let mut grad = cpu.upload(shape, &[0.1; 16]).expect("memory");
            let error = optimiser.step(&cpu, &mut x, &mut grad, subspaces.as_ref(), 1.0).expect_err("not finite");
            let (item, source) = (1, ManifoldError::NonFinite);
            assert_eq!(error, BackendError::Manifold { item, source }, "{retraction:?}, M: {restricted}");
            assert_eq!(x.values(), start, "{retraction:?}, M: {restricted}");
        }
    }
}

#[test]
fn a_layer_whose_memory_is_full_is_left_out_and_the_run_goes_on() {
    let (cpu, mut method) = (B::new(), eblora(2, 1.0));
    let sites = vec![
        Site { name: "full".into(), out: 6, inp: 3, depth: 0 },
        Site { name: "roomy".into(), out: 4, inp: 9, depth: 1 },
    ];
    begin(&mut method, &sites, 0);
    assert!(method.warnings().is_empty());
    method.end_task(&cpu, &[]).expect("memory");
    let k: Vec<_> = method.memory().iter().map(|m| (m.k, m.dim)).collect();
    assert_eq!(k, [(3, 3), (4, 9)]);
    let mut adapters = begin(&mut method, &sites, 1);
    let warnings = method.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("full") && warnings[0].contains('0'), "{warnings:?}");
    assert!(adapters.slot(0).is_none() && adapters.slot(1).is_some());
    let (before, mut grads) = (bits(&adapters), adapters.grads(&cpu).expect("memory"));
    for step in 0..5 {
        fill(&mut grads, step);
        method.step(&cpu, &mut adapters, &mut grads, 1.0).expect("a step");
    }
    assert_ne!(bits(&adapters), before);
    let violation = method.violation(&pollster::block_on(adapters.read(&cpu)).expect("factors")).expect("a manifold");
    assert!(violation.orthonormality < 5e-6 && violation.overlap < 1e-5, "{violation:?}");
    method.end_task(&cpu, &[]).expect("memory");
}

#[test]
fn a_zero_gradient_and_a_rank_of_all_inputs_start_on_the_manifold() {
    let (cpu, sites) = (B::new(), sites());
    for (rank, zero) in [(2, true), (5, false), (1, false), (5, true)] {
        let mut method = eblora(rank, 0.9);
        let mut all = gradients(&sites, 0);
        if zero {
            all = sites.iter().map(|s| Gradient::Exact(Mat::zeros(s.out, s.inp))).collect();
        }
        let start = TaskStart { blocks: 3, gradients: all, ..TaskStart::new([0, 1], &sites, 1) };
        let mut adapters = method.begin_task(&cpu, start).expect("adapters");
        // "wide" has four outputs only.
        let ranks: Vec<_> = (0..3).map(|i| adapters.slot(i).expect("an adapter").rank).collect();
        assert_eq!(ranks, [rank, rank.min(4), rank]);
        assert_eq!(method.warnings().len(), usize::from(rank > 4));
        let mut grads = adapters.grads(&cpu).expect("memory");
        for step in 0..5 {
            fill(&mut grads, step);
            method.step(&cpu, &mut adapters, &mut grads, 1.0).expect("a step");
            let factors = pollster::block_on(adapters.read(&cpu)).expect("factors");
            let violation = method.violation(&factors).expect("a manifold");
            assert!(violation.orthonormality < 5e-6, "rank {rank}, zero {zero}: {violation:?}");
        }
        method.end_task(&cpu, &[]).expect("memory");
        assert!(!zero || method.memory().iter().all(|m| m.k == 0), "nothing to remember");
    }
}

fn images(count: usize, side: usize, label: u32) -> ImageSet {
    let pixels = (0..count * side * side).map(|i| (i * 31 % 251) as u8).collect();
    let labels = (0..count).map(|i| if i == 1 { label } else { 0 }).collect();
    ImageSet { channels: 1, height: side, width: side, pixels, labels }
}

/// A run of one task of our own model, with these samples to train on and to be measured on.
fn train(train: &ImageSet, test: &ImageSet) -> Result<(), Box<TrainError>> {
    let (cpu, folder) = (B::new(), VitFolder::read(path("vit_mean")).expect("a model"));
    let settings = TrainConfig { steps: 2, batch: 2, ..TrainConfig::default() };
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let mut trainer = Trainer::new(&cpu, settings, make).expect("a trainer");
    let tasks = [Task { name: "digits", train, test }];
    pollster::block_on(trainer.run(&mut eblora(2, 0.9), &tasks, &mut Silent)).map(|_| ()).map_err(Box::new)
}

#[test]
fn data_that_do_not_fit_the_model_are_refused_by_the_name_of_their_task() {
    let good = images(4, 9, 6);
    train(&good, &good).expect("a run");
    for (bad_train, bad_test) in [(&images(0, 9, 0), &good), (&good, &images(0, 9, 0))] {
        let refused = train(bad_train, bad_test).map_err(|e| *e);
        assert!(matches!(refused, Err(TrainError::Task { task, .. }) if task == "digits"));
    }
    let size = images(4, 10, 0);
    let label = images(4, 9, 7);
    for (bad_train, bad_test) in [(&size, &good), (&good, &size)] {
        match train(bad_train, bad_test).map_err(|e| *e) {
            Err(TrainError::Model { task, source: ModelError::Config { what } }) => {
                assert!(task == "digits" && what.contains("1×10×10"), "{what}");
            }
            other => panic!("{other:?}"),
        }
    }
    for (bad_train, bad_test) in [(&label, &good), (&good, &label)] {
        match train(bad_train, bad_test).map_err(|e| *e) {
            Err(TrainError::Model { source: ModelError::Label { label: 7, sample: 1, last: 6 }, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}
