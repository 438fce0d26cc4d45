//! What the bare-metal program runs (`tests/no_std`), run here, where its result can be looked at.

#[path = "../no_std/src/exercise.rs"]
mod exercise;

use eblora_core::Real;
use eblora_core::manifold::{Retraction, TangentMap};
use exercise::run;

#[test]
fn the_second_task_is_learnt_off_the_memory_of_the_first() {
    for retraction in [Retraction::Whitening, Retraction::Polar, Retraction::Qr] {
        for map in [TangentMap::Euclidean, TangentMap::Canonical] {
            check::<f32>(retraction, map);
            check::<f64>(retraction, map);
        }
    }
}

fn check<T: Real>(retraction: Retraction, map: TangentMap) {
    for seed in 0..5 {
        let outcome = run::<T>(seed, retraction, map).expect("no error");
        assert!(outcome.is_good::<T>(), "{}, seed {seed}, {retraction:?}, {map:?}: {outcome:?}", T::NAME);
    }
}

#[test]
fn a_planted_error_is_no_good_outcome() {
    let good = || run::<f64>(1, Retraction::Whitening, TangentMap::Euclidean).expect("no error");
    assert!(good().is_good::<f64>());
    let spoil = |change: fn(&mut exercise::Outcome)| {
        let mut outcome = good();
        change(&mut outcome);
        assert!(!outcome.is_good::<f64>(), "{outcome:?}");
    };
    spoil(|outcome| outcome.loss[1] = outcome.loss[0]);
    spoil(|outcome| outcome.loss[1] = f64::NAN);
    spoil(|outcome| outcome.orthonormality = 1e-12);
    spoil(|outcome| outcome.overlap = f64::NAN);
    spoil(|outcome| outcome.directions = [0, 4]);
    spoil(|outcome| outcome.directions = [4, 3]);
}
