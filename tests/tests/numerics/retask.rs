//! A run that goes on with tasks that it did not begin with gives the numbers of one that knew them all from the start,
//! to the last bit, also when it is saved and resumed on the way; what nobody measured is absent.

use crate::resume::{B, Drawer, STEPS, Setup, State, folder, sets, setups};
use eblora::model::vit::{config, weights};
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::train::{
    Checkpoints, Moment, Observer, Outcome, Pause, Progress, RunRecord, RunState, Silent, StateError, Task, Trainer,
};

const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

fn named(sets: &[(ImageSet, ImageSet)]) -> Vec<Task<'_, ImageSet>> {
    sets.iter().zip(NAMES).map(|((train, test), name)| Task { name, train, test }).collect()
}

/// One sitting on these tasks; a state is moved to them first. The outcome, and the states on the way.
fn sit(
    setup: &Setup,
    sets: &[(ImageSet, ImageSet)],
    from: Option<State>,
    mut drawer: Drawer,
) -> (Outcome<f32>, Vec<State>) {
    let (cpu, folder) = (B::new(), folder());
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let mut trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
    let (mut method, tasks) = ((setup.method)(), named(sets));
    let from = from.map(|state| trainer.retask(method.as_ref(), &tasks, state).expect("a run of these tasks"));
    let mut silent = Silent;
    let outcome = trainer.run_from(method.as_mut(), &tasks, from, &mut silent, &mut drawer);
    (pollster::block_on(outcome).expect("a run"), drawer.states)
}

fn record(outcome: &Outcome<f32>) -> &RunRecord {
    match outcome {
        Outcome::Finished { record, .. } => record,
        Outcome::Stopped { .. } => panic!("it was not asked to stop"),
    }
}

/// All but the accuracies, to the bit; and of those, what `part` has. `absent` counts what it doesn't have.
fn agree(part: &Outcome<f32>, whole: &Outcome<f32>, absent: usize, what: &str) {
    let (Outcome::Finished { record: p, learnt: pl }, Outcome::Finished { record: w, learnt: wl }) = (part, whole)
    else {
        panic!("{what}: not finished");
    };
    assert_eq!((&p.losses, &p.spectra, &p.memory), (&w.losses, &w.spectra, &w.memory), "{what}");
    assert!(pl == wl && p.accuracy.zero_shot() == w.accuracy.zero_shot(), "{what}");
    let mut missing = 0;
    for (p, w) in p.accuracy.rows().iter().flatten().zip(w.accuracy.rows().iter().flatten()) {
        assert!(p.is_none() || p == w, "{what}: {p:?} {w:?}");
        missing += usize::from(p.is_none());
    }
    assert_eq!(missing, absent, "{what}");
}

#[test]
fn tasks_that_come_later_change_no_number() {
    // How many tasks there are is a part of the rules of these two.
    let counts = |name: &str| name.contains("osf") || name.contains("inflora");
    for setup in setups().into_iter().filter(|setup| !counts(setup.name)) {
        let (whole, _) = sit(&setup, &sets(), None, Drawer::default());
        let (one, states) = sit(&setup, &sets()[..1], None, Drawer::default());
        assert_eq!(record(&one).accuracy.tasks(), 1);
        let last = states.last().expect("a state").clone();
        // One by one: after the first task nobody knew the others, after the second the third.
        let (_, states) = sit(&setup, &sets()[..2], Some(last.clone()), Drawer::default());
        let (end, _) = sit(&setup, &sets(), states.last().cloned(), Drawer::default());
        agree(&end, &whole, 3, setup.name);
        assert_eq!(record(&end).accuracy.get(0, 1), None);
        assert_eq!(record(&end).accuracy.bwt(), record(&whole).accuracy.bwt());
        assert_eq!(record(&end).accuracy.fwt_mtil(), None, "it would read what is absent");
        // Both at once, saved at every place of the second sitting and resumed from there.
        let (end, states) = sit(&setup, &sets(), Some(last), Drawer::default());
        agree(&end, &whole, 2, setup.name);
        for state in states {
            let (resumed, _) = sit(&setup, &sets(), Some(state), Drawer::default());
            assert_eq!(format!("{resumed:?}"), format!("{end:?}"), "{}", setup.name);
        }
    }
}

#[test]
fn a_task_in_its_course_goes_on_and_those_behind_it_may_change() {
    let setup = &setups()[3];
    let (whole, _) = sit(setup, &sets(), None, Drawer::default());
    let (_, states) = sit(setup, &sets()[..2], None, Drawer::default());
    let middle =
        states.into_iter().find(|s| s.current.is_some() && s.learnt.len() == 1).expect("a state in the second");
    let (end, _) = sit(setup, &sets(), Some(middle.clone()), Drawer::default());
    agree(&end, &whole, 1, "the third comes while the second is trained");
    // Another second task is another run.
    let (cpu, folder) = (B::new(), folder());
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
    let refused = |sets: &[(ImageSet, ImageSet)], state: &RunState<f32>| match trainer.retask(
        (setup.method)().as_ref(),
        &named(sets),
        state.clone(),
    ) {
        Err(error @ StateError::Differs { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let mut other = sets();
    other.remove(1);
    assert!(refused(&other, &middle).contains("task 2 was second, 15 samples"), "{}", refused(&other, &middle));
    assert!(refused(&sets()[..1], &middle).contains("task 2 was second"));
    let mut other = setup.clone();
    other.train.seed = 9;
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let seeded = Trainer::new(&cpu, other.train, make).expect("a trainer");
    let told = seeded.retask((setup.method)().as_ref(), &named(&sets()), middle).expect_err("another seed").to_string();
    assert!(told.ends_with("seed was 0 and is 9"), "{told}");
}

#[test]
fn tasks_not_begun_may_be_dropped_with_what_was_measured_on_them() {
    let setup = &setups()[3];
    let (whole, states) = sit(setup, &sets(), None, Drawer::default());
    let first = states.iter().find(|s| s.record.accuracy.rows().len() == 1).expect("a state after the first").clone();
    let mut others = sets();
    others.swap(1, 2);
    let (end, _) = sit(setup, &others[..2], Some(first), Drawer::default());
    let (end, whole) = (record(&end), record(&whole));
    assert_eq!(end.accuracy.rows()[0], [whole.accuracy.get(0, 0), None], "named and filled otherwise, it is another");
    assert_eq!(end.losses[0], whole.losses[0]);
    assert_ne!(end.losses[1], whole.losses[1]);
}

/// Holds a run at every moment, and counts.
#[derive(Default)]
struct Holding {
    steps: usize,
    batches: usize,
    turns: std::rc::Rc<std::cell::Cell<usize>>,
}

impl Observer for Holding {
    fn progress(&mut self, _: Progress<'_>) {}

    fn pause(&mut self, moment: Moment) -> Option<Pause<'_>> {
        match moment {
            Moment::Step => self.steps += 1,
            Moment::Batch => self.batches += 1,
        }
        let (turns, mut waited) = (self.turns.clone(), false);
        Some(Box::pin(std::future::poll_fn(move |context| {
            if std::mem::replace(&mut waited, true) {
                return std::task::Poll::Ready(());
            }
            turns.set(turns.get() + 1);
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })))
    }
}

#[test]
fn an_observer_holds_the_run_after_each_step_and_batch() {
    let setup = &setups()[3];
    let (whole, _) = sit(setup, &sets(), None, Drawer::default());
    let (cpu, folder, sets) = (B::new(), folder(), sets());
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let mut trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
    let mut holding = Holding::default();
    let held = pollster::block_on(trainer.run((setup.method)().as_mut(), &named(&sets), &mut holding)).expect("a run");
    assert_eq!(format!("{held:?}"), format!("{:?}", record(&whole)), "waiting changes nothing");
    // Of 4: 15 samples' fifth is one batch of a gradient, 9 images are three of a measurement, which there are 4·3 of.
    assert_eq!((holding.steps, holding.batches), (3 * STEPS, 3 + 4 * 3 * 3));
    assert_eq!(holding.turns.get(), holding.steps + holding.batches);
}

/// Wants every second state.
struct Wanting(Drawer, usize);

impl Checkpoints<f32> for Wanting {
    fn save(&mut self, state: &State) -> Result<(), eblora_core::train::state::SaveError> {
        self.0.save(state)
    }

    fn wants(&mut self) -> bool {
        self.1 += 1;
        self.1.is_multiple_of(2)
    }
}

#[test]
fn a_state_can_be_had_at_any_step() {
    let mut setup = setups()[3].clone();
    setup.train.checkpoint_every = 0;
    let (whole, _) = sit(&setup, &sets(), None, Drawer::default());
    let (cpu, folder, sets) = (B::new(), folder(), sets());
    let make = || Vit::new(&cpu, &config(&folder), &weights(&folder));
    let mut trainer = Trainer::new(&cpu, setup.train.clone(), make).expect("a trainer");
    let (mut method, tasks, mut wanting) = ((setup.method)(), named(&sets), Wanting(Drawer::default(), 0));
    let mut silent = Silent;
    let end = trainer.run_from(method.as_mut(), &tasks, None, &mut silent, &mut wanting);
    assert!(pollster::block_on(end).expect("a run") == whole);
    // Asked after 4 of the 5 steps of each task, it wants 2.
    let places: Vec<_> = wanting.0.states.iter().filter(|s| s.current.is_some()).map(RunState::place).collect();
    assert_eq!(places, [(0, 2), (0, 4), (1, 2), (1, 4), (2, 2), (2, 4)]);
}
