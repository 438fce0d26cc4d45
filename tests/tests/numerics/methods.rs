//! Every method through two tasks of 20 steps on two weights, against `methods.safetensors`.

use std::collections::BTreeMap;

use crate::fixtures::{Bound, Check, Fixture, row_major};
use eblora::device::{self, Device};
use eblora_core::Real;
use eblora_core::adapter::{Adapters, DepthSchedule};
use eblora_core::backend::{Backend, Cpu};
use eblora_core::gpm::Gradient;
use eblora_core::method::{
    Eblora, EbloraConfig, InfLora, InfLoraConfig, KeepLora, KeepLoraConfig, LoraConfig, LoraFt, LoraGpm, LoraGpmConfig,
    Method, OLora, OLoraConfig, Osf, OsfConfig, Sefe, SefeConfig, Stella, StellaConfig, TaskStart,
};
use eblora_core::model::Site;
use eblora_core::optim::Part;
use faer::Mat;

const SITES: usize = 2;
const OUT: usize = 8;
const INP: usize = 10;
const RANK: usize = 3;
const TASKS: usize = 2;
const STEPS: usize = 20;
/// Steps after which the fixture shows the products.
const SHOWN: [usize; 3] = [1, 5, 20];
const RATE: f64 = 0.02;
const DECAY: f64 = 0.1;
const ALPHA: f64 = 6.0;

/// Twenty times what was measured (5e-13 and 5e-6): rounding, which AdamW amplifies where gradients are small.
fn bound<T: Real>() -> Bound {
    Bound { relative: if T::NAME == "f64" { 1e-11 } else { 1e-4 }, floor: 0.0 }
}

/// A method by its name in the fixture, and whether it is to start from the V there.
fn make<B: Backend + 'static>(name: &str) -> (Box<dyn Method<B>>, bool) {
    let (rank, alpha, rate, weight_decay) = (RANK, ALPHA, RATE, DECAY);
    match name {
        "lora" => {
            let config = LoraConfig { rank, alpha, rate, weight_decay, ..LoraConfig::default() };
            (Box::new(LoraFt::new(config)), true)
        }
        "lora-gpm" => {
            let default = LoraGpmConfig::default();
            (Box::new(LoraGpm::new(LoraGpmConfig { rank, alpha, rate, weight_decay, epsilon: 0.9, ..default })), true)
        }
        "keeplora" => {
            let default = KeepLoraConfig { weight_epsilon: 0.6, epsilon: 0.9, ..KeepLoraConfig::default() };
            (Box::new(KeepLora::new(KeepLoraConfig { rank, alpha, rate, weight_decay, ..default })), false)
        }
        "inflora" => {
            let default = InfLoraConfig { lamb: 0.9, lame: 1.0, ..InfLoraConfig::default() };
            (Box::new(InfLora::new(InfLoraConfig { rank, rate, weight_decay, ..default })), false)
        }
        "o-lora" => {
            let default = OLoraConfig { overlap_penalty: 0.05, norm_penalty: 0.02, ..OLoraConfig::default() };
            (Box::new(OLora::new(OLoraConfig { rank, alpha, rate, weight_decay, ..default })), true)
        }
        "sefe" => {
            let default = SefeConfig { penalty: 0.4, share: 0.1, ..SefeConfig::default() };
            (Box::new(Sefe::new(SefeConfig { rank, alpha, rate, weight_decay, ..default })), true)
        }
        "stella" => {
            let config = StellaConfig { rank, alpha, step: 0.1, rate, weight_decay, ..StellaConfig::default() };
            (Box::new(Stella::new(config)), true)
        }
        "osf" => (Box::new(Osf::new(OsfConfig { share: 0.5, rate, ..OsfConfig::default() })), false),
        "ebo" | "eblora" | "eblora-plus" => {
            let config = EbloraConfig {
                rank,
                epsilon: (name != "ebo").then_some(0.9),
                trained_epsilon: (name == "eblora-plus").then_some(0.97),
                step: 0.1,
                magnitude_rate: 0.03,
                weight_decay,
                depth: DepthSchedule::new(0.3, 0.3).expect("a schedule"),
                ..EbloraConfig::default()
            };
            (Box::new(Eblora::new(config)), true)
        }
        _ => panic!("no method {name}"),
    }
}

const NAMES: [&str; 11] =
    ["lora", "lora-gpm", "keeplora", "inflora", "o-lora", "sefe", "stella", "osf", "ebo", "eblora", "eblora-plus"];

/// Two weights, and the method's adapters beside them.
struct Run<B: Backend> {
    backend: B,
    fixture: Fixture,
    name: String,
    sites: Vec<Site>,
    weights: Vec<Mat<B::Scalar>>,
    method: Box<dyn Method<B>>,
    given_start: bool,
}

impl<B: Backend + Clone + 'static> Run<B> {
    fn new(backend: B, name: &str) -> Self {
        let fixture = Fixture::read("methods");
        let site = |i| Site { name: format!("site{i}"), out: OUT, inp: INP, depth: 0 };
        let (method, given_start) = make(name);
        let sites = (0..SITES).map(site).collect();
        let weights = (0..SITES).map(|i| matrix(&fixture, "weights", i, OUT, INP)).collect();
        Self { backend, fixture, name: name.to_owned(), sites, weights, method, given_start }
    }

    fn of(&self, name: &str, task: usize, site: usize, rows: usize, cols: usize) -> Mat<B::Scalar> {
        matrix(&self.fixture, name, task * SITES + site, rows, cols)
    }

    /// `(W + ΔW − target)·C` of every site.
    fn gradients(&self, task: usize, deltas: Option<&[Mat<B::Scalar>]>) -> Vec<Mat<B::Scalar>> {
        let gradient = |i: usize| {
            let off = &self.weights[i] - self.of("targets", task, i, OUT, INP);
            let off = deltas.map_or_else(|| off.clone(), |deltas| &off + &deltas[i]);
            off * self.of("covariances", task, i, INP, INP)
        };
        (0..SITES).map(gradient).collect()
    }

    fn begin(&mut self, task: usize) -> Adapters<B> {
        let (b, needs) = (self.backend.clone(), self.method.needs());
        let gradients = self.gradients(task, None).into_iter().map(Gradient::Exact);
        let inputs = (0..SITES).map(|i| Gradient::Exact(self.of("covariances", task, i, INP, INP)));
        let start = TaskStart {
            gradients: if needs.gradients { gradients.collect() } else { Vec::new() },
            inputs: if needs.inputs { inputs.collect() } else { Vec::new() },
            weights: if needs.weights { self.weights.clone() } else { Vec::new() },
            ..TaskStart::new([task, TASKS], &self.sites, 7)
        };
        let mut adapters = self.method.begin_task(&b, start).expect("adapters");
        if self.given_start {
            let own = |name: String, rows| -> Vec<B::Scalar> {
                (0..SITES).flat_map(|i| row_major(self.of(&name, task, i, rows, RANK).as_ref())).collect()
            };
            b.write(&mut adapters.stacks[0].v, &own(format!("{}.starts", self.name), INP)).expect("V");
            let u = own("u".to_owned(), OUT);
            if ["ebo", "eblora", "eblora-plus"].contains(&self.name.as_str()) {
                b.write(&mut adapters.stacks[0].u, &u).expect("U");
            }
            for (part, at) in self.method.parts() {
                if let ("stack0.factors.u", Part::Tensor(tensor)) = (part.as_str(), at) {
                    b.write(tensor, &u).expect("U");
                }
            }
        }
        adapters
    }

    /// The products of a task after the steps shown; the weights have them merged in.
    fn task(&mut self, task: usize) -> Vec<Vec<B::Scalar>> {
        let (b, mut shown) = (self.backend.clone(), Vec::new());
        let mut adapters = self.begin(task);
        let mut grads = adapters.grads(&b).expect("memory");
        assert_eq!(adapters.stacks.len(), 1, "layers of one shape are one stack");
        let mut deltas = deltas(&b, &adapters);
        for step in 1..=STEPS {
            let factors = pollster::block_on(adapters.read(&b)).expect("factors");
            let (mut du, mut dv, mut ds) = (Vec::new(), Vec::new(), Vec::new());
            for (g, f) in self.gradients(task, Some(&deltas)).iter().zip(&factors) {
                let scale = faer::Scale(f.s);
                du.extend(row_major((g * &f.v * scale).as_ref()));
                dv.extend(row_major((g.transpose() * &f.u * scale).as_ref()));
                let (u, gv) = (row_major(f.u.as_ref()), row_major((g * &f.v).as_ref()));
                ds.push(B::Scalar::of(u.iter().zip(&gv).map(|(u, gv)| u.f64() * gv.f64()).sum()));
            }
            let stack = &mut grads.stacks[0];
            b.write(&mut stack.u, &du).expect("it fits");
            if !adapters.stacks[0].v_frozen {
                b.write(&mut stack.v, &dv).expect("it fits");
            }
            if let Some(s) = &mut stack.s {
                b.write(s, &ds).expect("it fits");
            }
            self.method.step(&b, &mut adapters, &mut grads, 1.0).expect("a step");
            deltas = self::deltas(&b, &adapters);
            if SHOWN.contains(&step) {
                shown.push(deltas.iter().flat_map(|d| row_major(d.as_ref())).collect());
            }
        }
        let factors = pollster::block_on(adapters.read(&b)).expect("factors");
        if let Some(violation) = self.method.violation(&factors) {
            let worst = violation.orthonormality.max(violation.overlap);
            assert!(worst <= 50.0 * B::Scalar::EPS.f64(), "{}: off its manifold by {worst:e}", self.name);
        }
        if self.method.needs().trained {
            let gradients = self.gradients(task, Some(&deltas));
            self.method.trained(gradients.into_iter().map(Gradient::Exact).collect());
        }
        self.method.end_task(&b, &factors).expect("an end");
        self.weights.iter_mut().zip(&deltas).for_each(|(w, d)| *w += d);
        shown
    }
}

fn matrix<T: Real>(fixture: &Fixture, name: &str, item: usize, rows: usize, cols: usize) -> Mat<T> {
    let values = &fixture.get(name).values[item * rows * cols..][..rows * cols];
    Mat::from_fn(rows, cols, |i, j| T::of(values[i * cols + j]))
}

fn deltas<B: Backend>(backend: &B, adapters: &Adapters<B>) -> Vec<Mat<B::Scalar>> {
    let factors = pollster::block_on(adapters.read(backend)).expect("factors");
    factors.into_iter().map(|f| f.lora().delta()).collect()
}

fn equals_its_reference<B: Backend + Clone + 'static>(backend: &B, name: &str) {
    let title = format!("{name} on {}", backend.name());
    let (mut run, mut check) = (Run::new(backend.clone(), name), Check::new::<B::Scalar>(&title));
    for task in 0..TASKS {
        let shown = run.task(task);
        let all = &run.fixture.get(&format!("{name}.deltas")).values;
        for (i, (got, step)) in shown.iter().zip(SHOWN).enumerate() {
            let want = &all[(task * SHOWN.len() + i) * SITES * OUT * INP..][..SITES * OUT * INP];
            check.tensor(&format!("task {task}, step {step}"), got, want, bound::<B::Scalar>());
        }
        let held = &run.fixture.get(&format!("{name}.k")).values[task * SITES..][..SITES];
        let memory: BTreeMap<usize, usize> = run.method.memory().into_iter().map(|m| (m.site, m.k)).collect();
        for (site, k) in held.iter().enumerate().filter(|_| held.iter().any(|k| *k > 0.0)) {
            assert_eq!(memory.get(&site), Some(&(*k as usize)), "{name}, task {task}, site {site}: directions kept");
        }
    }
    let got: Vec<B::Scalar> = run.weights.iter().flat_map(|w| row_major(w.as_ref())).collect();
    check.tensor("weights", &got, &run.fixture.get(&format!("{name}.weights")).values, bound::<B::Scalar>());
}

#[test]
fn every_method_equals_its_reference() {
    for name in NAMES {
        equals_its_reference(&Cpu::<f64>::new(), name);
        equals_its_reference(&Cpu::<f32>::new(), name);
    }
}

#[test]
fn every_method_equals_its_reference_on_the_gpu() {
    let Ok(Device::Gpu(wanted)) = "gpu".parse() else { panic!("\"gpu\" names one") };
    let (gpu, _) = device::open(&wanted).expect("these tests need an adapter, if only a software one");
    for name in NAMES {
        equals_its_reference(&gpu, name);
    }
}

/// A planted error: each relative of LoRA goes another way than LoRA in the second task, and than each other.
#[test]
fn the_references_differ() {
    let fixture = Fixture::read("methods");
    for (i, a) in NAMES.iter().enumerate() {
        for b in &NAMES[i + 1..] {
            let [a_values, b_values] = [a, b].map(|name| &fixture.get(&format!("{name}.weights")).values);
            assert!(crate::fixtures::error(a_values.as_slice(), b_values, bound::<f32>()).is_err(), "{a} and {b}");
        }
    }
}

#[test]
fn what_a_method_needs_and_does_not_get_is_an_error() {
    let sites = Run::new(Cpu::<f32>::new(), "lora").sites;
    for name in ["lora-gpm", "keeplora", "inflora", "osf", "eblora", "eblora-plus"] {
        let (mut method, _) = make::<Cpu<f32>>(name);
        let begun = method.begin_task(&Cpu::new(), TaskStart::new([0, 2], &sites, 1));
        assert!(begun.err().expect("nothing was given").to_string().contains("needs"), "{name}");
    }
}

/// Each start of a method's own is where its rule wants it, in the first task and in the second.
#[test]
fn own_starts_are_off_the_memory() {
    for name in ["lora-gpm", "stella", "eblora-plus"] {
        let mut run = Run::new(Cpu::<f64>::new(), name);
        run.given_start = false;
        for task in 0..TASKS {
            let adapters = run.begin(task);
            let factors = pollster::block_on(adapters.read(&run.backend)).expect("factors");
            let violation = run.method.violation(&factors).expect("a manifold");
            assert!(violation.overlap < 1e-14 && violation.orthonormality < 1e-14, "{name}: {violation:?}");
            run.task(task);
        }
    }
}
