//! Whole transformers against stock ones: logits, losses, every weight's and every adapter's gradient.

use crate::fixtures::{Bound, Check, Fixture, path, round_to_bf16, row_major};
use eblora::device::{self, Device};
use eblora::model::vit::{config, weights};
use eblora::model::vit_folder::VitFolder;
use eblora::model::vit_names::Site;
use eblora_core::Real;
use eblora_core::adapter::{AdapterGrads, Adapters, HostFactors};
use eblora_core::backend::{Backend, Cpu};
use eblora_core::gpm::Gradient;
use eblora_core::method::{Eblora, EbloraConfig, Method, TaskStart};
use eblora_core::model::vit::{Vit, VitWorkspace};
use eblora_core::model::{Model, ModelError, Wanted};
use eblora_core::train::{GradientKind, GradientPass};
use eblora_gpu::{Counters, Gpu};
use faer::Mat;

const MODELS: [(&str, &str); 3] = [("vit_cls", "vit_cls"), ("vit_cls_v5", "vit_cls"), ("vit_mean", "vit_mean")];

/// A model with the fixture's batch loaded.
struct Case<'b, B: Backend> {
    fixture: Fixture,
    backend: &'b B,
    model: Vit<B>,
    work: VitWorkspace<B>,
    batch: usize,
}

/// What a forward pass gives.
struct Forward<T> {
    logits: Vec<T>,
    loss: T,
}

impl<'b, B: Backend + 'static> Case<'b, B> {
    fn new(backend: &'b B, folder: &str, fixture: &str) -> Self {
        Self::of(backend, &VitFolder::read(path(folder)).expect("a model"), fixture)
    }

    fn of(backend: &'b B, folder: &VitFolder, fixture: &str) -> Self {
        let fixture = Fixture::read(fixture);
        let model = Vit::new(backend, &config(folder), &weights(folder)).expect("a model");
        let batch = fixture.labels("labels").len();
        // Room for more than the batch: what lies behind it must not matter.
        let work = model.workspace(backend, batch + 2).expect("memory");
        let mut case = Self { fixture, backend, model, work, batch };
        case.load();
        case
    }

    fn load(&mut self) {
        let labels = self.fixture.labels("labels");
        let pixels: Vec<_> = self.fixture.get("pixels").values.iter().map(|&x| B::Scalar::of(x)).collect();
        self.model.load_normalized(self.backend, &mut self.work, &pixels, &labels).expect("a batch");
    }

    /// The fixture's name of a site.
    fn name(&self, site: usize) -> String {
        Site::ALL[site % 6].transformers4(site / 6)
    }

    fn factors(&self, site: usize) -> HostFactors<B::Scalar> {
        let of = |part: &str| format!("adapter.{}.{part}", self.name(site));
        let (u, v) = (self.fixture.matrix(&of("u")), self.fixture.matrix(&of("v")));
        HostFactors { site, u, v, s: B::Scalar::of(self.fixture.scalar(&of("s"))) }
    }

    fn adapters(&mut self, factors: &[HostFactors<B::Scalar>], fixed: Option<f64>) -> Adapters<B> {
        let sites = self.model.sites().len();
        let adapters = Adapters::upload(self.backend, factors, sites, fixed).expect("memory");
        self.model.attach(self.backend, &mut self.work, &adapters).expect("memory");
        adapters
    }

    fn forward(&mut self, adapters: Option<&Adapters<B>>) -> Forward<B::Scalar> {
        let mut loss = self.backend.zeros([1, 1, 1]).expect("memory");
        self.model.forward(self.backend, &mut self.work, adapters);
        self.model.loss(self.backend, &mut self.work, &mut loss, 0);
        let mut logits = read(self.backend, self.model.logits(&self.work));
        logits.truncate(self.batch * self.model.classes());
        Forward { logits, loss: read(self.backend, &loss)[0] }
    }

    /// Gradients of the adapters after a forward pass with them. Where there was no place for a number, NaN stands.
    fn backward(&mut self, adapters: &Adapters<B>) -> AdapterGrads<B> {
        let mut grads = adapters.grads(self.backend).expect("memory");
        for stack in &mut grads.stacks {
            for tensor in [Some(&mut stack.u), Some(&mut stack.v), stack.s.as_mut()].into_iter().flatten() {
                self.backend.fill(tensor, f64::NAN);
            }
        }
        self.model.backward(self.backend, &mut self.work, &mut Wanted::Adapters(adapters, &mut grads));
        grads
    }

    fn weight_gradients(&mut self, kind: GradientKind) -> Vec<Gradient<B::Scalar>> {
        let rows = self.model.rows(self.batch);
        let mut pass = GradientPass::new(self.backend, self.model.sites(), kind, rows, 5).expect("memory");
        // Two halves make the whole.
        for _ in 0..2 {
            pass.set_weight(0.5);
            self.model.backward(self.backend, &mut self.work, &mut Wanted::Weights(&mut pass));
        }
        pollster::block_on(pass.finish(self.backend)).expect("gradients")
    }

    /// The bound of a tensor that a whole pass makes: about 300 rounded operations deep in f32.
    fn bound(&self) -> Bound {
        Bound::relative(if B::Scalar::NAME == "f64" { 1e-10 } else { 300.0 * 1.2e-7 })
    }
}

fn read<B: Backend>(backend: &B, tensor: &B::Tensor) -> Vec<B::Scalar> {
    pollster::block_on(backend.read(tensor)).expect("the device works")
}

/// `[(name of the gradient in the fixture, values)]` of one site.
fn site_gradients<B: Backend>(
    backend: &B,
    adapters: &Adapters<B>,
    grads: &AdapterGrads<B>,
    site: usize,
) -> Vec<(&'static str, Vec<B::Scalar>)> {
    let slot = adapters.slot(site).expect("an adapter");
    let stack = &grads.stacks[slot.stack_index];
    let of = |x: &B::Tensor| {
        let values = read(backend, x);
        let each = values.len() / slot.stack.sites.len();
        values[slot.item * each..][..each].to_vec()
    };
    let mut found = vec![("du", of(&stack.u)), ("dv", of(&stack.v))];
    found.extend(stack.s.as_ref().map(|s| ("ds", of(s))));
    found
}

fn whole_model<B: Backend + 'static>(backend: &B) {
    for (folder, fixture) in MODELS {
        let (mut case, mut check) = (Case::new(backend, folder, fixture), Check::new::<B::Scalar>(folder));
        let (bound, sites) = (case.bound(), case.model.sites().len());
        let plain = case.forward(None);
        check.tensor("logits", &plain.logits, &case.fixture.get("logits").values, bound);
        check.tensor("loss", &[plain.loss], &case.fixture.get("loss").values, bound);
        for kind in [GradientKind::Exact, GradientKind::Sketch { rank: 20 }] {
            for (site, gradient) in case.weight_gradients(kind).into_iter().enumerate() {
                let name = format!("weight_gradient.{}", case.name(site));
                let g = match gradient {
                    Gradient::Exact(g) => g,
                    Gradient::Factored { u, s, v, .. } => {
                        let scaled = Mat::from_fn(u.nrows(), s.len(), |i, j| u[(i, j)] * s[j]);
                        &scaled * v.transpose()
                    }
                };
                // A sketch as wide as the matrix recovers it, through two least-squares problems.
                let factor = if kind == GradientKind::Exact { 1.0 } else { 20.0 };
                let bound = Bound::relative(bound.relative * factor);
                check.tensor(&name, &row_major(g.as_ref()), &case.fixture.get(&name).values, bound);
            }
        }
        let factors: Vec<_> = (0..sites).map(|site| case.factors(site)).collect();
        let adapters = case.adapters(&factors, None);
        let adapted = case.forward(Some(&adapters));
        check.tensor("adapted.logits", &adapted.logits, &case.fixture.get("adapted.logits").values, bound);
        check.tensor("adapted.loss", &[adapted.loss], &case.fixture.get("adapted.loss").values, bound);
        let grads = case.backward(&adapters);
        for site in 0..sites {
            for (part, values) in site_gradients(case.backend, &adapters, &grads, site) {
                let name = format!("adapter_gradient.{}.{part}", case.name(site));
                check.tensor(&name, &values, &case.fixture.get(&name).values, bound);
            }
        }
        // Merged, the adapters say the same.
        case.model.merge(case.backend, &adapters).expect("memory");
        let merged = case.forward(None);
        check.tensor("merged logits", &merged.logits, &case.fixture.get("adapted.logits").values, bound);
    }
}

#[test]
fn transformers_equal_their_references_in_f64() {
    whole_model(&Cpu::<f64>::new());
}

#[test]
fn transformers_equal_their_references_in_f32() {
    whole_model(&Cpu::<f32>::new());
}

#[test]
fn transformers_equal_their_references_on_the_gpu() {
    let Ok(Device::Gpu(wanted)) = "gpu".parse() else { panic!("\"gpu\" names one") };
    let (gpu, _) = device::open(&wanted).expect("these tests need an adapter, if only a software one");
    whole_model(&gpu);
}

/// Everything between two batches: forward, loss, backward, and the method's step.
#[test]
fn a_training_step_on_the_gpu_makes_nothing_and_is_one_submission() {
    let Ok(Device::Gpu(wanted)) = "gpu".parse() else { panic!("\"gpu\" names one") };
    let (gpu, _) = device::open(&wanted).expect("these tests need an adapter, if only a software one");
    let mut case = Case::new(&gpu, "vit_mean", "vit_mean");
    let mut method = Eblora::<Gpu>::new(EbloraConfig { rank: 2, ..EbloraConfig::default() });
    let mut adapters = None;
    for task in 0..2 {
        case.forward(None);
        let gradients = case.weight_gradients(GradientKind::Exact);
        let (sites, blocks) = (case.model.sites(), case.model.blocks());
        let start = TaskStart { blocks, gradients, ..TaskStart::new([task, 2], sites, 1) };
        adapters = Some(method.begin_task(&gpu, start).expect("adapters"));
        if task == 0 {
            method.end_task(&gpu, &[]).expect("M");
        }
    }
    let mut adapters = adapters.expect("a task");
    case.model.attach(&gpu, &mut case.work, &adapters).expect("memory");
    let mut grads = adapters.grads(&gpu).expect("memory");
    let mut losses = gpu.zeros([1, 8, 1]).expect("memory");
    let labels = case.fixture.labels("labels");
    let pixels: Vec<f32> = case.fixture.get("pixels").values.iter().map(|&x| x as f32).collect();
    let mut before = gpu.counters();
    for step in 0..8 {
        if step == 3 {
            before = gpu.counters();
        }
        case.model.load_normalized(&gpu, &mut case.work, &pixels, &labels).expect("a batch");
        case.model.forward(&gpu, &mut case.work, Some(&adapters));
        case.model.loss(&gpu, &mut case.work, &mut losses, step);
        case.model.backward(&gpu, &mut case.work, &mut Wanted::Adapters(&adapters, &mut grads));
        method.step(&gpu, &mut adapters, &mut grads, 1.0).expect("a step");
    }
    let after = gpu.counters();
    let made = |c: Counters| (c.buffers, c.bind_groups, c.pipelines, c.bytes);
    assert_eq!(made(after), made(before), "nothing is made after warm-up");
    assert_eq!(after.submissions - before.submissions, 5);
    let losses = read(&gpu, &losses);
    assert!(losses[7] < losses[0] && losses.iter().all(|l| l.is_finite()), "it learns: {losses:?}");
}

/// A model that has the other sites' adapters merged into its weights has the same gradients at those that remain; only
/// what these need is computed.
#[test]
fn adapters_on_some_sites_have_the_gradients_of_the_full_run() {
    let last = Site::ALL.len() * 2 - 1;
    let subsets = [vec![last], vec![8], vec![6, 9], vec![0], vec![5, 10], vec![2, 3, 11], vec![4]];
    let cpu = Cpu::<f64>::new();
    for (folder, fixture) in MODELS {
        for kept in &subsets {
            let (mut case, mut check) = (Case::new(&cpu, folder, fixture), Check::new::<f64>("some sites"));
            let (merged, trained): (Vec<_>, Vec<_>) =
                (0..=last).map(|site| case.factors(site)).partition(|f| !kept.contains(&f.site));
            let merged = case.adapters(&merged, None);
            case.model.merge(case.backend, &merged).expect("memory");
            let adapters = case.adapters(&trained, None);
            let forward = case.forward(Some(&adapters));
            check.tensor("loss", &[forward.loss], &case.fixture.get("adapted.loss").values, case.bound());
            let grads = case.backward(&adapters);
            for &site in kept {
                for (part, values) in site_gradients(case.backend, &adapters, &grads, site) {
                    let name = format!("adapter_gradient.{}.{part}", case.name(site));
                    check.tensor(&name, &values, &case.fixture.get(&name).values, case.bound());
                }
            }
        }
    }
}

/// Central differences of the loss: a reference that knows no formula. Step h = 1e-5: h² + ε/h ≈ 1e-10.
#[test]
fn an_adapter_gradient_equals_finite_differences() {
    let (site, h) = (9, 1e-5);
    let cpu = Cpu::<f64>::new();
    let mut case = Case::new(&cpu, "vit_mean", "vit_mean");
    let factors = case.factors(site);
    let mut loss = |change: &dyn Fn(&mut HostFactors<f64>)| {
        let mut changed = factors.clone();
        change(&mut changed);
        let adapters = case.adapters(&[changed], None);
        case.forward(Some(&adapters)).loss
    };
    let mut difference = |move_by: &dyn Fn(&mut HostFactors<f64>, f64)| {
        (loss(&|f| move_by(f, h)) - loss(&|f| move_by(f, -h))) / (2.0 * h)
    };
    let entries = |a: &Mat<f64>| -> Vec<_> {
        let cols = a.ncols();
        (0..a.nrows() * cols).map(|i| (i / cols, i % cols)).collect()
    };
    let du: Vec<f64> = entries(&factors.u).into_iter().map(|at| difference(&|f, by| f.u[at] += by)).collect();
    let dv: Vec<f64> = entries(&factors.v).into_iter().map(|at| difference(&|f, by| f.v[at] += by)).collect();
    let ds = vec![difference(&|f, by| f.s += by)];
    let adapters = case.adapters(&[factors], None);
    case.forward(Some(&adapters));
    let grads = case.backward(&adapters);
    let mut check = Check::new::<f64>("finite differences");
    for ((part, values), want) in site_gradients(case.backend, &adapters, &grads, site).into_iter().zip([du, dv, ds]) {
        check.tensor(part, &values, &want, Bound { relative: 1e-8, floor: 0.01 });
    }
}

/// The weights rounded to bf16, once as stored and once in full: the same numbers after two merges, in the loss and in the
/// gradients of all layers.
#[test]
fn weights_as_stored_train_like_full_ones() {
    let cpu = Cpu::<f64>::new();
    let run = |stored: bool| {
        let mut folder = VitFolder::read(path("vit_cls")).expect("a model");
        for layer in &mut folder.weights.layers {
            for linear in [&mut layer.q, &mut layer.k, &mut layer.v, &mut layer.o, &mut layer.fc1, &mut layer.fc2] {
                round_to_bf16(&mut linear.weight, stored);
            }
        }
        let mut case = Case::of(&cpu, &folder, "vit_cls");
        let mut numbers = Vec::new();
        for _ in 0..3 {
            let factors: Vec<_> = (0..case.model.sites().len()).map(|site| case.factors(site)).collect();
            case.load();
            let adapters = case.adapters(&factors, None);
            let forward = case.forward(Some(&adapters));
            numbers.push(forward.loss);
            numbers.extend(forward.logits);
            let grads = case.backward(&adapters);
            for site in 0..factors.len() {
                numbers.extend(site_gradients(&cpu, &adapters, &grads, site).into_iter().flat_map(|(_, g)| g));
            }
            case.model.merge(&cpu, &adapters).expect("memory");
        }
        case.load();
        numbers.extend(case.forward(None).logits);
        numbers
    };
    let mut check = Check::new::<f64>("as stored");
    check.tensor("all", &run(true), &run(false), Bound::relative(1e-12));
}

#[test]
fn a_fixed_magnitude_gives_the_gradients_of_the_trained_one() {
    let cpu = Cpu::<f64>::new();
    let (mut case, mut check) = (Case::new(&cpu, "vit_cls", "vit_cls"), Check::new::<f64>("fixed magnitude"));
    let factors =
        |case: &Case<'_, Cpu<f64>>| -> Vec<_> { (0..12).map(|i| HostFactors { s: 0.7, ..case.factors(i) }).collect() };
    let mut run = |fixed| {
        let host = factors(&case);
        let adapters = case.adapters(&host, fixed);
        case.forward(Some(&adapters));
        let grads = case.backward(&adapters);
        (0..12).flat_map(|site| site_gradients(case.backend, &adapters, &grads, site)).collect::<Vec<_>>()
    };
    let trained: Vec<_> = run(None).into_iter().filter(|(part, _)| *part != "ds").collect();
    let fixed = run(Some(0.7));
    assert_eq!((trained.len(), fixed.len()), (24, 24));
    for ((part, got), (_, want)) in fixed.iter().zip(&trained) {
        check.tensor(part, got, want, Bound::relative(1e-14));
    }
}

#[test]
fn normalised_batches_that_do_not_fit_are_refused() {
    let cpu = Cpu::<f32>::new();
    let mut case = Case::new(&cpu, "vit_cls", "vit_cls");
    let len = case.model.config().pixels();
    let mut load = |images: usize, labels: &[u32]| {
        case.model.load_normalized(case.backend, &mut case.work, &vec![0.0; images * len], labels)
    };
    assert_eq!(load(2, &[0, 4]), Ok(()));
    assert_eq!(load(2, &[0, 5]), Err(ModelError::Label { label: 5, sample: 1, last: 4 }));
    assert_eq!(load(6, &[0; 6]), Err(ModelError::Batch { got: 6, capacity: 5 }));
    assert!(matches!(load(1, &[0, 1]), Err(ModelError::Config { .. })));
}
