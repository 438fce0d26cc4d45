//! A BERT encoder with both heads against the stock one: embeddings, logits, losses, every weight's and every adapter's
//! gradient, on the CPU in f64 and f32 and on the GPU; its targets, its padding, and what it refuses.

use crate::fixtures::{Bound, Check, Fixture, path, round_to_bf16, row_major};
use eblora::device::{self, Device};
use eblora::model::bert_folder::BertFolder;
use eblora_core::Real;
use eblora_core::adapter::{AdapterGrads, Adapters, HostFactors};
use eblora_core::backend::{Backend, Cpu};
use eblora_core::gpm::Gradient;
use eblora_core::method::{Eblora, EbloraConfig};
use eblora_core::model::HostValues;
use eblora_core::model::bert::{Bert, BertConfig, BertWorkspace, Encoder, EncoderOptions, Head, Padding, TextSet};
use eblora_core::model::{Model, ModelError, Targets, Wanted};
use eblora_core::train::{GradientKind, GradientPass, Observer, Progress, Task, TrainConfig, Trainer};
use pollster::block_on;

const HEADS: [&str; 2] = ["linear", "labels"];
/// Room for more than the batch in both directions: what lies behind it must not matter.
const MAX_TOKENS: usize = 11;
const SPARE: usize = 2;

/// The texts of a fixture as stored under `<prefix>ids` and `<prefix>lengths`.
fn texts(fixture: &Fixture, prefix: &str, labels: Option<&str>) -> TextSet {
    let (ids, lengths) = (fixture.get(&format!("{prefix}ids")), fixture.labels(&format!("{prefix}lengths")));
    let labels = labels.map_or(vec![0; lengths.len()], |name| fixture.labels(name));
    let mut texts = TextSet::new();
    for ((row, length), label) in ids.values.chunks(ids.shape[1]).zip(lengths).zip(labels) {
        let row: Vec<u32> = row.iter().map(|&id| id as u32).collect();
        texts.push(&row[..length as usize], label);
    }
    texts
}

fn floats(fixture: &Fixture, name: &str) -> Vec<f32> {
    // The fixture's inputs are exact in single precision.
    fixture.get(name).values.iter().map(|&x| x as f32).collect()
}

fn head(fixture: &Fixture, name: &str) -> Head {
    match name {
        "linear" => {
            let bias = Some(floats(fixture, "classifier.bias"));
            Head::Linear { weight: floats(fixture, "classifier.weight"), bias }
        }
        _ => {
            let temperature = fixture.scalar("label.temperature");
            Head::Labels { embeddings: floats(fixture, "label.embeddings"), temperature }
        }
    }
}

fn encoder<B: Backend>(backend: &B, options: &EncoderOptions) -> Encoder<B> {
    let folder = BertFolder::read(&path("bert")).expect("a model");
    Encoder::new(backend, &folder.config, &folder.weights, options).expect("an encoder")
}

/// A model with the fixture's batch loaded.
struct Case<'a, B: Backend> {
    fixture: Fixture,
    backend: &'a B,
    model: Bert<B>,
    work: BertWorkspace<B>,
    batch: usize,
    bound: Bound,
}

impl<'a, B: Backend> Case<'a, B> {
    fn new(backend: &'a B, name: &str, options: &EncoderOptions) -> Self {
        let fixture = Fixture::read("bert");
        let model = Bert::new(backend, encoder(backend, options), &head(&fixture, name)).expect("a model");
        let texts = texts(&fixture, "", Some("labels"));
        let mut work = model.workspace(backend, texts.len() + SPARE).expect("memory");
        // A batch of other texts before it must leave nothing behind.
        let other: Vec<usize> = (0..texts.len() + SPARE).map(|i| (i + 3) % texts.len()).collect();
        model.load(backend, &mut work, &texts, &other).expect("a batch");
        model.forward(backend, &mut work, None);
        let all: Vec<usize> = (0..texts.len()).collect();
        model.load(backend, &mut work, &texts, &all).expect("a batch");
        // About 300 rounded operations deep in f32.
        let relative = if B::Scalar::NAME == "f64" { 1e-10 } else { 300.0 * 1.2e-7 };
        Self { fixture, backend, model, work, batch: texts.len(), bound: Bound::relative(relative) }
    }

    fn factors(&self, site: usize) -> HostFactors<B::Scalar> {
        let of = |part: &str| format!("adapter.{}.{part}", self.model.sites()[site].name);
        let (u, v) = (self.fixture.matrix(&of("u")), self.fixture.matrix(&of("v")));
        HostFactors { site, u, v, s: B::Scalar::of(self.fixture.scalar(&of("s"))) }
    }

    fn adapters(&mut self, sites: impl Iterator<Item = usize>, fixed: Option<f64>) -> Adapters<B> {
        let factors: Vec<_> = sites.map(|site| self.factors(site)).collect();
        let all = self.model.sites().len();
        let adapters = Adapters::upload(self.backend, &factors, all, fixed).expect("memory");
        self.model.attach(self.backend, &mut self.work, &adapters).expect("memory");
        adapters
    }

    fn read(&self, tensor: &B::Tensor) -> Vec<B::Scalar> {
        block_on(self.backend.read(tensor)).expect("the device works")
    }

    /// Logits and loss.
    fn forward(&mut self, adapters: Option<&Adapters<B>>) -> [Vec<B::Scalar>; 2] {
        let mut loss = self.backend.zeros([1, 1, 1]).expect("memory");
        self.model.forward(self.backend, &mut self.work, adapters);
        self.model.loss(self.backend, &mut self.work, &mut loss, 0);
        let logits = self.read(self.model.logits(&self.work))[..self.batch * self.model.classes()].to_vec();
        [logits, self.read(&loss)]
    }

    fn check_forward(&mut self, check: &mut Check, prefix: &str, adapters: Option<&Adapters<B>>) {
        let found = self.forward(adapters);
        for (part, values) in ["logits", "loss"].into_iter().zip(found) {
            let name = format!("{prefix}.{part}");
            check.tensor(&name, &values, &self.fixture.get(&name).values, self.bound);
        }
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

    /// Compares the gradients of one site's adapter with the fixture's.
    fn check_site(&self, check: &mut Check, head: &str, adapters: &Adapters<B>, grads: &AdapterGrads<B>, site: usize) {
        let slot = adapters.slot(site).expect("an adapter");
        let stack = &grads.stacks[slot.stack_index];
        for (part, tensor) in [("du", Some(&stack.u)), ("dv", Some(&stack.v)), ("ds", stack.s.as_ref())] {
            let Some(tensor) = tensor else { continue };
            let values = self.read(tensor);
            let each = values.len() / slot.stack.sites.len();
            let values = &values[slot.item * each..][..each];
            let name = format!("{head}.adapter_gradient.{}.{part}", self.model.sites()[site].name);
            let bound = if part == "ds" { self.bound_of_sum(head, site) } else { self.bound };
            check.tensor(&name, values, &self.fixture.get(&name).values, bound);
        }
    }

    /// ds = Σ U∘dU/s may be far smaller than its terms, whose sizes its rounding has.
    fn bound_of_sum(&self, head: &str, site: usize) -> Bound {
        let site = &self.model.sites()[site].name;
        let u = self.fixture.get(&format!("adapter.{site}.u"));
        let du = self.fixture.get(&format!("{head}.adapter_gradient.{site}.du"));
        let s = self.fixture.scalar(&format!("adapter.{site}.s"));
        let terms = u.values.iter().zip(&du.values).map(|(u, du)| (u * du / s).abs());
        Bound { floor: terms.sum(), ..self.bound }
    }

    fn weight_gradients(&mut self, kind: GradientKind) -> Vec<Vec<B::Scalar>> {
        let rows = self.model.rows(self.batch);
        let mut pass = GradientPass::new(self.backend, self.model.sites(), kind, rows, 5).expect("memory");
        self.model.backward(self.backend, &mut self.work, &mut Wanted::Weights(&mut pass));
        let gradients = block_on(pass.finish(self.backend)).expect("gradients");
        let exact = |gradient| match gradient {
            Gradient::Exact(g) => row_major(g.as_ref()),
            Gradient::Factored { .. } => panic!("a sketch was not asked for"),
        };
        gradients.into_iter().map(exact).collect()
    }
}

fn whole_model<B: Backend>(backend: &B) {
    for name in HEADS {
        for padding in [Padding::Longest, Padding::Fixed] {
            let options = EncoderOptions { padding, ..EncoderOptions::new(MAX_TOKENS) };
            let mut case = Case::new(backend, name, &options);
            let mut check = Check::new::<B::Scalar>(&format!("bert, {name}, {padding:?}, {}", backend.name()));
            let (bound, sites) = (case.bound, case.model.sites().len());
            assert_eq!(sites, 12);
            case.check_forward(&mut check, name, None);
            for (site, gradient) in case.weight_gradients(GradientKind::Exact).into_iter().enumerate() {
                let tensor = format!("{name}.weight_gradient.{}", case.model.sites()[site].name);
                check.tensor(&tensor, &gradient, &case.fixture.get(&tensor).values, bound);
            }
            let adapters = case.adapters(0..sites, None);
            case.check_forward(&mut check, &format!("{name}.adapted"), Some(&adapters));
            let grads = case.backward(&adapters);
            (0..sites).for_each(|site| case.check_site(&mut check, name, &adapters, &grads, site));
            // Merged, the adapters say the same.
            case.model.merge(backend, &adapters).expect("the tests' tensors are small");
            case.check_forward(&mut check, &format!("{name}.adapted"), None);
        }
    }
}

fn embeddings<B: Backend>(backend: &B) {
    let fixture = Fixture::read("bert");
    let encoder = encoder(backend, &EncoderOptions::new(MAX_TOKENS));
    let mut check = Check::new::<B::Scalar>(&format!("bert embeddings, {}", backend.name()));
    let relative = if B::Scalar::NAME == "f64" { 1e-10 } else { 300.0 * 1.2e-7 };
    for (prefix, want, bound) in [
        ("", "pooled", Bound::relative(relative)),
        // These were rounded to single precision to be an input.
        ("label.", "label.embeddings", Bound::relative(relative.max(1.2e-7))),
    ] {
        let texts = texts(&fixture, prefix, None);
        for batch in [1, 2, 100] {
            let got = block_on(encoder.embed(backend, &texts, batch, None)).expect("embeddings");
            check.tensor(want, &got, &fixture.get(want).values, bound);
        }
    }
    let none = block_on(encoder.embed(backend, &TextSet::new(), 4, None)).expect("no embeddings");
    assert!(none.is_empty());
}

#[test]
fn bert_equals_its_reference_in_f64() {
    whole_model(&Cpu::<f64>::new());
    embeddings(&Cpu::<f64>::new());
}

#[test]
fn bert_equals_its_reference_in_f32() {
    whole_model(&Cpu::<f32>::new());
    embeddings(&Cpu::<f32>::new());
}

#[test]
fn bert_equals_its_reference_on_the_gpu() {
    let Ok(Device::Gpu(wanted)) = "gpu".parse() else { panic!("\"gpu\" names one") };
    let (gpu, _) = device::open(&wanted).expect("these tests need an adapter, if only a software one");
    whole_model(&gpu);
    embeddings(&gpu);
}

/// Batches of other lengths too: with [`Padding::Fixed`] they are the same work for the device.
#[test]
fn a_step_on_the_gpu_makes_nothing_and_is_one_submission() {
    let Ok(Device::Gpu(wanted)) = "gpu".parse() else { panic!("\"gpu\" names one") };
    let (gpu, _) = device::open(&wanted).expect("these tests need an adapter, if only a software one");
    let options = EncoderOptions { padding: Padding::Fixed, ..EncoderOptions::new(MAX_TOKENS) };
    let mut case = Case::new(&gpu, "labels", &options);
    let adapters = case.adapters(0..12, None);
    let mut grads = adapters.grads(&gpu).expect("memory");
    let mut loss = gpu.zeros([1, 1, 1]).expect("memory");
    let texts = texts(&case.fixture, "", Some("labels"));
    let mut step = |batch: &[usize]| {
        case.model.load(&gpu, &mut case.work, &texts, batch).expect("a batch");
        case.model.forward(&gpu, &mut case.work, Some(&adapters));
        case.model.loss(&gpu, &mut case.work, &mut loss, 0);
        case.model.backward(&gpu, &mut case.work, &mut Wanted::Adapters(&adapters, &mut grads));
        block_on(gpu.read(&loss)).expect("the device works")[0]
    };
    let first = step(&[0, 1, 3]);
    step(&[3, 2, 4]);
    let counted = || {
        let c = gpu.counters();
        ((c.buffers, c.bind_groups, c.pipelines, c.bytes), c.submissions)
    };
    let (made, submitted) = counted();
    for batch in [[1, 4, 1], [2, 0, 3], [4, 2, 1]] {
        assert_ne!(step(&batch), first);
    }
    assert_eq!(step(&[0, 1, 3]), first, "the same step again");
    assert_eq!(counted(), (made, submitted + 4));
}

#[test]
fn the_names_of_a_file_with_a_prefix_and_shards_change_nothing_else() {
    let (plain, prefixed) = (BertFolder::read(&path("bert")), BertFolder::read(&path("bert_prefixed")));
    let (plain, mut prefixed) = (plain.expect("a model"), prefixed.expect("a model in shards"));
    assert_eq!(prefixed.config, plain.config);
    for (layer, with) in plain.weights.layers.iter().zip(&mut prefixed.weights.layers) {
        let with = [&mut with.query, &mut with.key, &mut with.value, &mut with.output, &mut with.fc1, &mut with.fc2];
        let names = [&layer.query, &layer.key, &layer.value, &layer.output, &layer.fc1, &layer.fc2].map(|l| &l.name);
        for (linear, name) in with.into_iter().zip(names) {
            assert_eq!(linear.name, format!("bert.{name}"));
            linear.name.clone_from(name);
        }
    }
    assert_eq!(prefixed.weights, plain.weights);
}

/// A model with fewer sites has the same gradients at those that remain when the others' adapters are in its weights.
/// Only what these need is computed.
#[test]
fn chosen_targets_have_the_gradients_of_the_full_run() {
    let choices = [
        (Targets::named(["attention.self.query", "attention.self.value"]), 4),
        (Targets::named(["output.dense"]).in_blocks([1]), 2),
        (Targets::named(["encoder.layer.1.output.dense"]), 1),
        (Targets::named(["intermediate.dense"]).in_blocks([1]), 1),
        (Targets::named(["attention.output.dense", "key"]).in_blocks([1]), 2),
        (Targets::default().in_blocks([0]), 6),
    ];
    let cpu = Cpu::<f64>::new();
    let folder = BertFolder::read(&path("bert")).expect("a model");
    for (targets, count) in choices {
        for name in HEADS {
            let options = EncoderOptions { targets: targets.clone(), ..EncoderOptions::new(MAX_TOKENS) };
            let mut case = Case::new(&cpu, name, &options);
            let mut check = Check::new::<f64>(&format!("{name}, {targets:?}"));
            assert_eq!(case.model.sites().len(), count, "{targets:?}");
            // The plain model's weight gradients, of which fewer are collected.
            case.check_forward(&mut check, name, None);
            for (site, gradient) in case.weight_gradients(GradientKind::Exact).into_iter().enumerate() {
                let tensor = format!("{name}.weight_gradient.{}", case.model.sites()[site].name);
                check.tensor(&tensor, &gradient, &case.fixture.get(&tensor).values, case.bound);
            }
            // The other sites' adapters are in the weights.
            let mut full = Case::new(&cpu, name, &EncoderOptions::new(MAX_TOKENS));
            let others: Vec<usize> = (full.model.sites().iter().enumerate())
                .filter(|(_, site)| !targets.has(&site.name, site.depth))
                .map(|(i, _)| i)
                .collect();
            let mut weights = folder.weights.clone();
            for site in others {
                let f = full.factors(site);
                let delta = &f.u * f.v.transpose();
                let layer = &mut weights.layers[full.model.sites()[site].depth];
                let linear = [
                    &mut layer.query,
                    &mut layer.key,
                    &mut layer.value,
                    &mut layer.output,
                    &mut layer.fc1,
                    &mut layer.fc2,
                ];
                let linear = linear.into_iter().nth(site % 6).expect("six linear layers");
                let delta = row_major(delta.as_ref());
                let mut weight = linear.weight.to_f32();
                weight.iter_mut().zip(delta).for_each(|(w, d)| *w = (f64::from(*w) + f.s * d) as f32);
                linear.weight = HostValues::F32(weight);
            }
            let encoder = Encoder::new(&cpu, &folder.config, &weights, &options).expect("an encoder");
            case.model = Bert::new(&cpu, encoder, &head(&case.fixture, name)).expect("a model");
            // The merged weights were rounded to f32.
            case.bound = Bound::relative(300.0 * 1.2e-7);
            let adapters = case.adapters(0..count, None);
            case.check_forward(&mut check, &format!("{name}.adapted"), Some(&adapters));
            let grads = case.backward(&adapters);
            (0..count).for_each(|site| case.check_site(&mut check, name, &adapters, &grads, site));
            full.check_forward(&mut check, name, None);
        }
    }
}

#[test]
fn a_fixed_magnitude_gives_the_gradients_of_the_trained_one() {
    let (cpu, options) = (Cpu::<f64>::new(), EncoderOptions::new(MAX_TOKENS));
    let mut case = Case::new(&cpu, "labels", &options);
    let mut check = Check::new::<f64>("fixed magnitude");
    let mut run = |fixed: Option<f64>| {
        let factors: Vec<_> = (0..12).map(|site| HostFactors { s: 0.7, ..case.factors(site) }).collect();
        let adapters = Adapters::upload(&cpu, &factors, 12, fixed).expect("memory");
        case.model.attach(&cpu, &mut case.work, &adapters).expect("memory");
        case.forward(Some(&adapters));
        let grads = case.backward(&adapters);
        let values = |stack: &eblora_core::adapter::stack::StackGrads<_>| [case.read(&stack.u), case.read(&stack.v)];
        assert_eq!(grads.stacks.iter().all(|stack| stack.s.is_none()), fixed.is_some());
        grads.stacks.iter().flat_map(values).collect::<Vec<_>>()
    };
    let (trained, fixed) = (run(None), run(Some(0.7)));
    assert_eq!((trained.len(), fixed.len()), (6, 6), "three shapes");
    for (got, want) in fixed.iter().zip(&trained) {
        check.tensor("gradients of B and A", got, want, Bound::relative(1e-14));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (cpu, options) = (Cpu::<f32>::new(), EncoderOptions::new(4));
    let (fixture, mut texts) = (Fixture::read("bert"), TextSet::new());
    let samples: [(&[u32], u32); 7] =
        [(&[1, 2, 3], 0), (&[49], 5), (&[50], 0), (&[1; 5], 0), (&[], 0), (&[7], 6), (&[1, 2, 3, 4], 1)];
    samples.iter().for_each(|(ids, label)| texts.push(ids, *label));
    let model = Bert::new(&cpu, encoder(&cpu, &options), &head(&fixture, "labels")).expect("a model");
    let mut work = model.workspace(&cpu, 3).expect("memory");
    let mut logits = |batch: &[usize]| {
        let loaded = model.load(&cpu, &mut work, &texts, batch);
        model.forward(&cpu, &mut work, None);
        (loaded, model.logits(&work).values()[..2 * 6].to_vec())
    };
    let (loaded, first) = logits(&[0, 1]);
    assert_eq!(loaded, Ok(()));
    for (batch, refused) in [
        (&[0, 2][..], ModelError::Token { id: 50, sample: 2, last: 49 }),
        (&[3], ModelError::TooLong { sample: 3, tokens: 5, most: 4 }),
        (&[6, 4], ModelError::Empty { sample: 4 }),
        (&[5], ModelError::Label { label: 6, sample: 5, last: 5 }),
        (&[0; 4], ModelError::Batch { got: 4, capacity: 3 }),
    ] {
        let (loaded, after) = logits(batch);
        assert_eq!(loaded, Err(refused));
        assert_eq!(after, first, "the batch before is still there");
    }
    assert_ne!(logits(&[6, 0]).1, first, "and another one would be seen");
    for (tokens, position) in [(0, "0 tokens"), (13, "13 tokens for a model of 1 to 12")] {
        let folder = BertFolder::read(&path("bert")).expect("a model");
        let make = |config: &BertConfig, options: &EncoderOptions| {
            Encoder::new(&cpu, config, &folder.weights, options).err().expect("an error").to_string()
        };
        let message = make(&folder.config, &EncoderOptions::new(tokens));
        assert!(message.contains(position), "{message}");
        let targets = Targets::named(["fc1"]);
        let message = make(&folder.config, &EncoderOptions { targets, ..EncoderOptions::new(4) });
        assert!(message.contains("`fc1`"), "{message}");
        let message = make(&BertConfig { mlp: 47, ..folder.config.clone() }, &EncoderOptions::new(4));
        assert!(message.contains("intermediate.dense.weight: 1536 values where the configuration needs 1504"));
    }
}

/// Keeps the losses of a run.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn progress(&mut self, progress: Progress<'_>) {
        if let Progress::Step { loss, .. } = progress {
            self.0.push(loss);
        }
    }
}

/// The whole trainer: gradient pass, EBLoRA's steps, merge, evaluation in one label space of texts.
#[test]
fn the_trainer_teaches_it_two_tasks() {
    let (cpu, fixture) = (Cpu::<f32>::new(), Fixture::read("bert"));
    let texts = |first: u32| {
        let mut texts = TextSet::new();
        // The label is told by the first token, the rest is noise.
        for i in 0..48_u32 {
            let (class, noise) = (first + i % 3, (i * 7 + i / 5) % 20);
            texts.push(&[40 + class, 10 + noise, 11 + noise / 2][..2 + (i % 2) as usize], class);
        }
        texts
    };
    let (one, two) = (texts(0), texts(3));
    let tasks = [Task { name: "one", train: &one, test: &one }, Task { name: "two", train: &two, test: &two }];
    let settings = TrainConfig { steps: 40, batch: 8, report_every: 1, ..TrainConfig::default() };
    let make = || Bert::new(&cpu, encoder(&cpu, &EncoderOptions::new(8)), &head(&fixture, "labels"));
    let mut trainer = Trainer::new(&cpu, settings, make).expect("a trainer");
    let mut method = Eblora::new(EbloraConfig { rank: 4, ..EbloraConfig::default() });
    let mut losses = Losses::default();
    let record = block_on(trainer.run(&mut method, &tasks, &mut losses)).expect("a run");
    assert_eq!(losses.0.len(), 80);
    for task in losses.0.chunks(40) {
        assert!(task[39] < 0.7 * task[0], "the loss went from {} to {}", task[0], task[39]);
    }
    assert!(record.orthonormality < 5e-6 && record.overlap < 1e-5);
}

/// The encoder's weights rounded to bf16, once as stored and once in full: the same numbers after a merge, in the loss and in
/// a gradient that goes through all layers.
#[test]
fn weights_as_stored_train_like_full_ones() {
    let cpu = Cpu::<f64>::new();
    let options = EncoderOptions::new(MAX_TOKENS);
    let run = |stored: bool| {
        let mut folder = BertFolder::read(&path("bert")).expect("a model");
        round_to_bf16(&mut folder.weights.words, stored);
        for layer in &mut folder.weights.layers {
            let attention = [&mut layer.query, &mut layer.key, &mut layer.value, &mut layer.output];
            attention
                .into_iter()
                .chain([&mut layer.fc1, &mut layer.fc2])
                .for_each(|linear| round_to_bf16(&mut linear.weight, stored));
        }
        let mut case = Case::new(&cpu, "label", &options);
        let encoder = Encoder::new(&cpu, &folder.config, &folder.weights, &options).expect("an encoder");
        case.model = Bert::new(&cpu, encoder, &head(&case.fixture, "label")).expect("a model");
        let sites = case.model.sites().len();
        let adapters = case.adapters(0..sites, None);
        case.model.merge(&cpu, &adapters).expect("memory");
        let texts = texts(&case.fixture, "", Some("labels"));
        case.work = case.model.workspace(&cpu, texts.len()).expect("memory");
        let all: Vec<usize> = (0..texts.len()).collect();
        case.model.load(&cpu, &mut case.work, &texts, &all).expect("a batch");
        let mut numbers = case.forward(None).concat();
        let adapters = case.adapters(0..1, None);
        numbers.extend(case.forward(Some(&adapters)).concat());
        let grads = case.backward(&adapters);
        numbers.extend_from_slice(grads.stacks[0].u.values());
        // Sentence embeddings of the merged model.
        let embedded = case.model.encoder().embed(&cpu, &texts, 2, None);
        numbers.extend(block_on(embedded).expect("embeddings"));
        numbers
    };
    let mut check = Check::new::<f64>("as stored");
    check.tensor("all", &run(true), &run(false), Bound::relative(1e-12));
}
