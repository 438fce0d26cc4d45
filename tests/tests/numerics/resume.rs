//! A run that is interrupted and resumed ends as one that is not, to the last bit of every number, with one thread and
//! with two; and a state is refused where it is not of the run at hand.

use crate::fixtures::path;
use eblora::model::vit::{config, weights};
use eblora::model::vit_folder::VitFolder;
use eblora_core::backend::Cpu;
use eblora_core::linalg::random_orthonormal;
use eblora_core::method::{
    Continuation, Eblora, EbloraConfig, InfLora, InfLoraConfig, KeepLora, KeepLoraConfig, LoraConfig, LoraFt, LoraGpm,
    LoraGpmConfig, Method, OLora, OLoraConfig, Osf, OsfConfig, Sefe, SefeConfig, Stella, StellaConfig, Value,
};
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::random::Random;
use eblora_core::train::state::SaveError;
use eblora_core::train::{
    Checkpoints, GradientKind, GradientOrigin, Outcome, RunRecord, RunState, Silent, StateError, Task, TrainConfig,
    TrainError, Trainer,
};

pub type B = Cpu<f32>;
pub type State = RunState<f32>;

/// Keeps every state, and stops the run at the n-th time that it is asked.
#[derive(Default)]
pub struct Drawer {
    pub states: Vec<State>,
    stop_after: Option<usize>,
}

impl Checkpoints<f32> for Drawer {
    fn save(&mut self, state: &State) -> Result<(), SaveError> {
        self.states.push(state.clone());
        Ok(())
    }

    fn stop(&mut self) -> bool {
        let Some(left) = &mut self.stop_after else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }
}

/// A setup: a method's settings, and the trainer's.
#[derive(Clone)]
pub struct Setup {
    pub name: &'static str,
    pub method: fn() -> Box<dyn Method<B>>,
    pub train: TrainConfig,
}

pub const STEPS: usize = 5;

pub fn setups() -> Vec<Setup> {
    let train =
        TrainConfig { steps: STEPS, batch: 4, audit_every: 1, snapshots: 2, checkpoint_every: 2, ..Default::default() };
    let setup = |name, method, train: &TrainConfig| Setup { name, method, train: train.clone() };
    let sketch = TrainConfig { gradient_kind: GradientKind::Sketch { rank: 4 }, ..train.clone() };
    let base = TrainConfig { gradient_origin: GradientOrigin::Base, ..train.clone() };
    vec![
        setup("lora-ft, merged", || Box::new(LoraFt::new(lora(Continuation::Merge))), &train),
        setup("lora-ft, trained on", || Box::new(LoraFt::new(lora(Continuation::Continue))), &train),
        setup("ebo", || Box::new(Eblora::new(EbloraConfig { rank: 2, ..EbloraConfig::ebo() })), &train),
        setup("eblora", || Box::new(Eblora::new(eblora())), &train),
        setup("eblora, complements", || Box::new(Eblora::new(EbloraConfig { epsilon: Some(1.0), ..eblora() })), &train),
        setup("eblora, budget", || Box::new(Eblora::new(EbloraConfig { budget: Some(3), ..eblora() })), &train),
        setup("eblora, sketch", || Box::new(Eblora::new(eblora())), &sketch),
        setup("eblora-plus", || Box::new(Eblora::new(plus())), &train),
        setup("eblora-plus, base", || Box::new(Eblora::new(plus())), &base),
        setup("eblora, base", || Box::new(Eblora::new(eblora())), &base),
        setup("lora-gpm", || Box::new(LoraGpm::new(lora_gpm())), &train),
        setup("lora-gpm, budget", || Box::new(LoraGpm::new(LoraGpmConfig { budget: Some(3), ..lora_gpm() })), &sketch),
        setup("keeplora", || Box::new(KeepLora::new(keeplora())), &train),
        setup("inflora", || Box::new(InfLora::new(inflora())), &train),
        setup("inflora, sketch", || Box::new(InfLora::new(inflora())), &sketch),
        setup(
            "o-lora",
            || Box::new(OLora::new(OLoraConfig { rank: 2, norm_penalty: 0.1, ..Default::default() })),
            &train,
        ),
        setup("sefe", || Box::new(Sefe::new(SefeConfig { rank: 2, ..Default::default() })), &train),
        setup("stella", || Box::new(Stella::new(StellaConfig { rank: 2, ..Default::default() })), &train),
        setup("lora-ft, individual", || Box::new(LoraFt::new(lora(Continuation::Individual))), &train),
        setup("osf", || Box::new(Osf::new(OsfConfig::default())), &train),
    ]
}

fn lora_gpm() -> LoraGpmConfig {
    LoraGpmConfig { rank: 2, epsilon: 0.7, weight_decay: 0.1, ..Default::default() }
}

fn keeplora() -> KeepLoraConfig {
    KeepLoraConfig { rank: 2, epsilon: 0.7, weight_decay: 0.1, ..Default::default() }
}

fn inflora() -> InfLoraConfig {
    InfLoraConfig { rank: 2, lamb: 0.7, lame: 0.9, weight_decay: 0.1, ..Default::default() }
}

fn lora(continuation: Continuation) -> LoraConfig {
    LoraConfig { rank: 2, alpha: 3.0, rate: 0.01, weight_decay: 0.1, continuation, ..LoraConfig::default() }
}

fn eblora() -> EbloraConfig {
    EbloraConfig { rank: 2, epsilon: Some(0.7), weight_decay: 0.1, ..EbloraConfig::default() }
}

fn plus() -> EbloraConfig {
    EbloraConfig { trained_epsilon: Some(0.6), ..eblora() }
}

fn images(seed: u64, count: usize) -> ImageSet {
    let mut rng = Random::new(seed, "images");
    let pixels = (0..count * 81).map(|_| rng.below(256) as u8).collect();
    let labels = (0..count).map(|_| rng.below(7) as u32).collect();
    ImageSet { channels: 1, height: 9, width: 9, pixels, labels }
}

/// Three tasks: samples to train on and to be measured on.
pub fn sets() -> Vec<(ImageSet, ImageSet)> {
    (0..3).map(|i| (images(i, 15), images(10 + i, 9))).collect()
}

pub fn folder() -> VitFolder {
    VitFolder::read(path("vit_mean")).expect("a model")
}

/// One sitting.
fn sit(
    setup: &Setup,
    sets: &[(ImageSet, ImageSet)],
    from: Option<State>,
    drawer: &mut Drawer,
) -> Result<Outcome<f32>, TrainError> {
    let (cpu, folder) = (B::new(), folder());
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let mut trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
    let names = ["first", "second", "third", "fourth"];
    let tasks: Vec<_> = sets.iter().zip(names).map(|((train, test), name)| Task { name, train, test }).collect();
    pollster::block_on(trainer.run_from((setup.method)().as_mut(), &tasks, from, &mut Silent, drawer))
}

/// Every number of the outcome; Rust's shortest decimal tells any two bit patterns apart.
fn text(outcome: &Outcome<f32>) -> String {
    format!("{outcome:?}")
}

fn whole(setup: &Setup) -> (String, Vec<State>) {
    let mut drawer = Drawer::default();
    let outcome = sit(setup, &sets(), None, &mut drawer).expect("a run");
    assert!(matches!(outcome, Outcome::Finished { .. }));
    (text(&outcome), drawer.states)
}

fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(f)
}

#[test]
fn every_saved_state_leads_to_the_same_end() {
    for setup in setups() {
        let (whole_run, states) = with_threads(1, || whole(&setup));
        // In each task: two states in its course, one when it is learnt, one when it is measured.
        assert_eq!(states.len(), 3 * 4, "{}", setup.name);
        assert_eq!(states.iter().filter(|s| s.current.is_some()).count(), 3 * 2, "{}", setup.name);
        assert!(states[11].is_complete() && !states[10].is_complete());
        for (i, state) in states.iter().enumerate() {
            let resume = || sit(&setup, &sets(), Some(state.clone()), &mut Drawer::default()).expect("a run");
            let resumed = with_threads(1 + i % 2, resume);
            assert!(text(&resumed) == whole_run, "{}: state {i} of {:?}", setup.name, state.place());
        }
    }
}

#[test]
fn a_run_stopped_again_and_again_ends_as_one_that_is_not() {
    for setup in setups() {
        let (whole_run, _) = whole(&setup);
        // What is asked in a sitting: before each of the tasks to measure, each batch of the gradient, after each step.
        for asked in [5, 7, 11] {
            let (mut from, mut sittings, mut places) = (None, 0, Vec::new());
            let end = loop {
                let mut drawer = Drawer { stop_after: Some(asked), ..Drawer::default() };
                let outcome = sit(&setup, &sets(), from.take(), &mut drawer).expect("a run");
                sittings += 1;
                assert!(sittings < 100, "{}: no progress", setup.name);
                let Outcome::Stopped { task, step } = outcome else { break outcome };
                let last = drawer.states.pop().expect("a state is saved before a run stops");
                assert_eq!(last.place(), (task, step));
                places.push((task, step));
                from = Some(last);
            };
            assert!(sittings > 2 && places.is_sorted(), "{}: {places:?}", setup.name);
            assert!(text(&end) == whole_run, "{}: stopped at {places:?}", setup.name);
        }
    }
}

#[test]
fn saving_changes_nothing_and_neither_do_threads() {
    for setup in setups() {
        let (one, states) = with_threads(1, || whole(&setup));
        let (two, others) = with_threads(2, || whole(&setup));
        assert!(one == two && states == others, "{}", setup.name);
        let (cpu, folder, sets) = (B::new(), folder(), sets());
        let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
        let mut trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
        let names = ["first", "second", "third"];
        let tasks: Vec<_> = sets.iter().zip(names).map(|((train, test), name)| Task { name, train, test }).collect();
        let record: RunRecord =
            pollster::block_on(trainer.run((setup.method)().as_mut(), &tasks, &mut Silent)).expect("a run");
        assert_eq!(format!("{record:?}"), format!("{:?}", states[11].record), "{}", setup.name);
        // Such a trainer can't take a state any more: its weights are no longer the base's.
        let (mut drawer, mut method, mut silent) = (Drawer::default(), (setup.method)(), Silent);
        let again = trainer.run_from(method.as_mut(), &tasks, None, &mut silent, &mut drawer);
        assert!(matches!(pollster::block_on(again), Err(TrainError::State(StateError::Used))));
    }
}

/// Every place of a state where one bit decides the run: factors, moments, counts, memory.
#[test]
fn the_comparison_sees_one_bit_of_a_state() {
    let setup = &setups()[3];
    let (whole_run, states) = whole(setup);
    let middle = states.iter().rposition(|s| s.current.is_some()).expect("a state in mid-task");
    let differs = |what: &str, change: &dyn Fn(&mut State)| {
        let mut state = states[middle].clone();
        change(&mut state);
        assert!(state != states[middle], "{what}: nothing was changed");
        let end = sit(setup, &sets(), Some(state), &mut Drawer::default()).expect("a run");
        assert!(text(&end) != whole_run, "{what}");
    };
    let flip = |x: &mut f32| *x = f32::from_bits(x.to_bits() ^ (1 << 12));
    differs("a factor", &|s| flip(&mut s.current.as_mut().unwrap().adapters.factors[0].v[(0, 0)]));
    differs("a merged factor", &|s| flip(&mut s.learnt[0].adapters.factors[1].u[(0, 0)]));
    for part in ["stack0.u.adamw.m", "stack0.v.adamw.v", "stack0.s.adamw.m"] {
        differs(part, &|s| match s.current.as_mut().unwrap().parts.get_mut(part) {
            Some(Value::Tensor { values, .. }) => flip(&mut values[0]),
            other => panic!("{part}: {other:?}"),
        });
    }
    differs("a count", &|s| match s.current.as_mut().unwrap().parts.get_mut("stack0.u.adamw.step") {
        Some(Value::Count(count)) => *count += 1,
        other => panic!("{other:?}"),
    });
    // Another M of the same size: a flipped bit would not be orthonormal.
    differs("M", &|s| {
        let (name, k) = (s.remembered.iter())
            .find_map(|(name, value)| match value {
                Value::Tensor { shape: [1, rows, cols], .. } if *cols > 0 => Some((name.clone(), (*rows, *cols))),
                _ => None,
            })
            .expect("a memory");
        let other = random_orthonormal(k.0, k.1, &mut Random::new(4, "other")).expect("orthonormal");
        s.remembered.insert(name, Value::matrix(other.as_ref()));
    });
}

#[test]
fn a_state_of_another_run_is_refused_and_the_difference_named() {
    let setup = &setups()[3];
    let (_, states) = whole(setup);
    let refused = |setup: &Setup, sets: &[(ImageSet, ImageSet)]| {
        let mut drawer = Drawer::default();
        let error = sit(setup, sets, Some(states[5].clone()), &mut drawer).expect_err("another run");
        assert!(matches!(error, TrainError::State(StateError::Differs { .. })), "{error}");
        assert!(drawer.states.is_empty());
        error.to_string()
    };
    let train = |change: fn(&mut TrainConfig)| {
        let mut other = setup.clone();
        change(&mut other.train);
        refused(&other, &sets())
    };
    assert!(train(|c| c.seed = 7).ends_with("seed was 0 and is 7"));
    assert!(train(|c| c.steps = 6).ends_with("steps was 5 and is 6"));
    assert!(train(|c| c.batch = 3).ends_with("batch was 4 and is 3"));
    assert!(train(|c| c.gradient_origin = GradientOrigin::Base).contains("gradient at was Merged and is Base"));
    let method = |method| refused(&Setup { method, ..setup.clone() }, &sets());
    let message = method(|| Box::new(Eblora::new(EbloraConfig { rank: 1, ..eblora() })));
    assert!(message.ends_with("rank was 2 and is 1"), "{message}");
    let message = method(|| Box::new(Eblora::new(EbloraConfig { magnitude_rate: 1.0, ..eblora() })));
    assert!(message.ends_with("s rate was 0.009 and is 1"), "{message}");
    assert!(method(|| Box::new(LoraFt::new(lora(Continuation::Merge)))).contains("method was eblora and is lora-ft"));
    let mut other = sets();
    other.truncate(2);
    assert!(refused(setup, &other).contains("number of tasks was 3 and is 2"));
    let mut other = sets();
    other[1].0.labels[3] = (other[1].0.labels[3] + 1) % 7;
    assert!(refused(setup, &other).contains("task 2 was second, 15 samples"));
    let mut other = sets();
    other[2].1 = images(3, 8);
    assert!(refused(setup, &other).contains("what task 3 is measured on was 9 samples"));
}

#[test]
fn a_state_of_another_model_is_refused_by_the_names_of_its_layers() {
    let setup = &setups()[3];
    let (_, states) = whole(setup);
    let mut state = states[5].clone();
    let layer = state.facts.iter_mut().find(|fact| fact.name.starts_with("layer ")).expect("a layer");
    let name = layer.name.clone();
    layer.value = "4×4, block 0 of 9".to_owned();
    let error = sit(setup, &sets(), Some(state), &mut Drawer::default()).expect_err("another model").to_string();
    assert!(error.contains(&name) && error.contains("was 4×4, block 0 of 9 and is "), "{error}");
}

#[test]
fn a_state_that_is_broken_is_refused() {
    let setup = &setups()[5];
    let (_, states) = whole(setup);
    let middle = states.iter().rposition(|s| s.current.is_some()).expect("a state in mid-task");
    let refused = |change: &dyn Fn(&mut State)| {
        let mut state = states[middle].clone();
        change(&mut state);
        match sit(setup, &sets(), Some(state), &mut Drawer::default()) {
            Err(TrainError::State(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    fn task(s: &mut State) -> &mut eblora_core::train::TaskState<f32> {
        s.current.as_mut().expect("a task")
    }
    assert!(matches!(refused(&|s| task(s).step = 1), StateError::Content { .. }));
    assert!(matches!(refused(&|s| drop(s.learnt.pop())), StateError::Content { .. }));
    assert!(matches!(refused(&|s| s.learnt[0].adapters.factors[0].site = 900), StateError::Content { .. }));
    assert!(matches!(refused(&|s| drop(task(s).adapters.factors.pop())), StateError::Adapters(_)));
    assert!(matches!(refused(&|s| drop(task(s).parts.remove("stack0.u.steps"))), StateError::Parts(_)));
    assert!(matches!(refused(&|s| drop(task(s).parts.insert("x".into(), Value::Count(1)))), StateError::Parts(_)));
    assert!(matches!(refused(&|s| drop(s.remembered.remove("memory0.energies"))), StateError::Method(_)));
    assert!(matches!(refused(&|s| drop(s.remembered.insert("y".into(), Value::Count(1)))), StateError::Method(_)));
    let doubled = |s: &mut State| match s.remembered.values_mut().find(|v| matches!(v, Value::Tensor { .. })) {
        Some(Value::Tensor { values, .. }) => values.iter_mut().for_each(|x| *x *= 2.0),
        _ => panic!("no memory"),
    };
    let error = refused(&doubled);
    assert!(matches!(error, StateError::Method(_)) && error.to_string().contains("not orthonormal"), "{error}");
}

#[test]
fn a_state_that_cannot_be_kept_ends_the_run_with_a_typed_error() {
    struct Full;
    impl Checkpoints<f32> for Full {
        fn save(&mut self, _: &State) -> Result<(), SaveError> {
            Err("no room".into())
        }
    }
    let (cpu, folder, sets) = (B::new(), folder(), sets());
    let setup = &setups()[0];
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let mut trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
    let tasks = [Task { name: "only", train: &sets[0].0, test: &sets[0].1 }];
    let (mut method, mut silent, mut full) = ((setup.method)(), Silent, Full);
    let run = trainer.run_from(method.as_mut(), &tasks, None, &mut silent, &mut full);
    match pollster::block_on(run) {
        Err(error @ TrainError::Save { task: 0, step: 2, .. }) => assert!(error.to_string().ends_with("no room")),
        other => panic!("{other:?}"),
    }
}
