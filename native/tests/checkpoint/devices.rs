//! A run that changes its device: from the CPU to a GPU (a software one where there is no other), back, and away from one
//! that is lost. The results agree to the bounds of `native/tests/gpu.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use eblora::checkpoint::{Sittings, Store};
use eblora::core::backend::{Backend, BackendError, Cpu};
use eblora::core::method::{Eblora, EbloraConfig};
use eblora::core::model::vit::{ImageSet, Vit};
use eblora::core::train::state::SaveError;
use eblora::core::train::{
    Checkpoints, Outcome as Ended, RunRecord, RunState, Silent, Task, TrainConfig, TrainError, Trainer,
};
use eblora::data::{bundled, mix};
use eblora::demo::{self, DemoConfig, Outcome};
use eblora::device::{self, Device};
use eblora::model::vit;
use eblora::progress::{Event, ProgressSink};
use eblora::report::result::RunResult;
use eblora::run::{MethodName, Saving, Start};
use eblora_gpu::{Gpu, Wanted};

const STEPS: usize = 3;

/// Two tasks of the mix with few images.
fn small() -> Vec<mix::Task> {
    let mut tasks = mix::tasks().unwrap();
    tasks.truncate(2);
    for task in &mut tasks {
        task.test = task.test.slice(0..30);
        task.train = task.train.slice(0..64);
    }
    tasks
}

/// Keeps what is said, and asks the run to stop when the second task begins.
#[derive(Default)]
struct Listener<'a> {
    said: Vec<String>,
    stop: Option<&'a AtomicBool>,
}

impl ProgressSink for Listener<'_> {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::Note(text) => self.said.push(text.to_owned()),
            Event::Task { number: 2, .. } => self.stop.iter().for_each(|stop| stop.store(true, Ordering::Relaxed)),
            _ => {}
        }
    }
}

fn sit(folder: &Path, device: &Device, start: Start, stop: bool) -> (Outcome, Vec<String>) {
    let config =
        DemoConfig { steps: STEPS, methods: vec![MethodName::Eblora], device: device.clone(), ..DemoConfig::default() };
    let flag = AtomicBool::new(false);
    let saving = Saving { folder, every: 1, start, stop: &flag };
    let mut listener = Listener { said: Vec::new(), stop: stop.then_some(&flag) };
    let base = bundled::base().unwrap();
    let outcome = demo::run_saved(&config, &small(), &base, &saving, &mut listener).unwrap();
    let said = listener.said;
    (outcome, said)
}

fn result(outcome: Outcome) -> RunResult {
    match outcome {
        Outcome::Finished(result) => *result,
        stopped => panic!("{stopped:?}"),
    }
}

/// As in `native/tests/gpu.rs`: one image may change sides, here one of 30, and losses differ by less than 1e-3.
fn close(a: &[Vec<f64>], b: &[Vec<f64>], losses: [f64; 2]) {
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((a - b).abs() <= 100.0 / 30.0 + 1e-9, "accuracies {a} and {b}");
    }
    assert!((losses[0] - losses[1]).abs() < 1e-3, "losses {losses:?}");
}

#[test]
fn a_run_goes_on_where_another_device_left_it() {
    let (cpu, gpu) = (Device::Cpu, Device::Gpu(Wanted::Best));
    let root = tempfile::tempdir().unwrap();
    let whole = result(sit(&root.path().join("whole"), &cpu, Start::Anew, false).0);
    let whole = &whole.methods[0];
    for (name, first, second) in [("to the GPU", &cpu, &gpu), ("to the CPU", &gpu, &cpu)] {
        let folder = root.path().join(name);
        let (stopped, _) = sit(&folder, first, Start::Anew, true);
        assert!(matches!(&stopped, Outcome::Stopped { task, step: 0, .. } if task == "mnist-rot90"), "{stopped:?}");
        let (outcome, said) = sit(&folder, second, Start::Resume, false);
        assert!(said.iter().any(|note| note.contains("the same to rounding only")), "{name}: {said:?}");
        let done = &result(outcome).methods[0];
        let loss = |m: &eblora::report::result::MethodResult| m.loss.last().unwrap().loss;
        close(&done.accuracy, &whole.accuracy, [loss(done), loss(whole)]);
        assert!(done.orthonormality_error.unwrap() < 5e-6 && done.subspace_leak.unwrap() < 1e-5, "{name}");
    }
}

/// Saves states, and takes the device away after some of them.
struct Breaking<'a> {
    store: Store,
    gpu: Option<&'a Gpu>,
    left: usize,
}

impl Checkpoints<f32> for Breaking<'_> {
    fn save(&mut self, state: &RunState<f32>) -> Result<(), SaveError> {
        self.store.save(state, &Sittings::default())?;
        self.left = self.left.saturating_sub(1);
        if let (0, Some(gpu)) = (self.left, self.gpu) {
            gpu.destroy();
        }
        Ok(())
    }
}

fn train<B: Backend<Scalar = f32>>(
    backend: &B,
    from: Option<RunState<f32>>,
    keeper: &mut dyn Checkpoints<f32>,
) -> Result<RunRecord, TrainError> {
    let (folder, tasks) = (bundled::base().unwrap(), small());
    let settings = TrainConfig { steps: STEPS, checkpoint_every: 1, ..TrainConfig::default() };
    let make = || Vit::new(backend, &vit::config(&folder), &vit::weights(&folder));
    let mut trainer = Trainer::new(backend, settings, make).unwrap();
    let tasks: Vec<Task<'_, ImageSet>> =
        tasks.iter().map(|task| Task { name: &task.name, train: &task.train, test: &task.test }).collect();
    let mut method = Eblora::new(EbloraConfig::default());
    match pollster::block_on(trainer.run_from(&mut method, &tasks, from, &mut Silent, keeper))? {
        Ended::Finished { record, .. } => Ok(*record),
        Ended::Stopped { .. } => panic!("nobody asked it to stop"),
    }
}

#[test]
fn a_run_whose_device_was_lost_goes_on_on_the_cpu() {
    let root = tempfile::tempdir().unwrap();
    let (gpu, _) = device::open(&Wanted::Best).unwrap();
    // Two steps of the first task, then that it is learnt and measured, and a step of the second.
    let mut breaking = Breaking { store: Store::new(root.path().join("lost")), gpu: Some(&gpu), left: 5 };
    let error = train(&gpu, None, &mut breaking).unwrap_err();
    // Wherever in the run the loss came to light, it is the typed error that is at its root.
    let mut cause: &(dyn std::error::Error + 'static) = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let typed = match (&error, cause.downcast_ref::<BackendError>()) {
        (TrainError::Backend(error), _) | (_, Some(error)) => Some(error),
        _ => None,
    };
    let Some(BackendError::Device { message, .. }) = typed else { panic!("{error:?}") };
    assert!(message.contains("the device was lost") && message.contains("--resume"), "{message}");
    let saved = Store::new(root.path().join("lost")).load().unwrap().unwrap();
    assert!(saved.notes.is_empty(), "{:?}", saved.notes);
    assert_eq!(saved.state.place(), (1, 1));
    let cpu = Cpu::<f32>::new();
    let mut keeper = Breaking { store: breaking.store, gpu: None, left: 0 };
    let resumed = train(&cpu, Some(saved.state), &mut keeper).unwrap();
    let whole = train(&cpu, None, &mut Breaking { store: Store::new(root.path().join("whole")), gpu: None, left: 0 });
    let whole = whole.unwrap();
    let last = |record: &RunRecord| *record.losses[1].last().unwrap();
    let rows = |record: &RunRecord| record.accuracy.complete_rows().unwrap();
    close(&rows(&resumed), &rows(&whole), [last(&resumed), last(&whole)]);
    assert_eq!(resumed.losses.iter().map(Vec::len).collect::<Vec<_>>(), [STEPS, STEPS]);
}
