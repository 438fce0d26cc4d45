//! Twenty steps of AdamW and of the projected Riemannian optimiser, and the schedule, against `optim.safetensors`.

use crate::fixtures::{Bound, Check, Fixture};
use eblora_core::Real;
use eblora_core::backend::{AdamWStep, Backend, Cpu, cpu::CpuTensor};
use eblora_core::gpm::Subspace;
use eblora_core::linalg::orthonormality_error;
use eblora_core::manifold::{Retraction, TangentMap};
use eblora_core::optim::{AdamW, AdamWConfig, Ambient, Riemannian, RiemannianConfig, Schedule, descend};
use faer::MatRef;

const STEPS: usize = 20;
/// The fixture's decoupled weight decay.
const DECAY: f64 = 0.1;

/// f32: about ten roundings a step, added up over the steps; more where each error turns the next step too.
fn bound<T: Real>(growth: f64) -> Bound {
    let relative = if T::NAME == "f64" { 1e-10 } else { STEPS as f64 * 10.0 * 1.2e-7 * growth };
    Bound::relative(relative)
}

/// Step `t` of a stack `[steps, n, r]`.
fn step_of<'a>(fixture: &'a Fixture, name: &str, t: usize) -> &'a [f64] {
    let values = &fixture.get(name).values;
    let each = values.len() / STEPS;
    &values[t * each..][..each]
}

fn scalars<T: Real>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&x| T::of(x)).collect()
}

fn write<T: Real>(dst: &mut CpuTensor<T>, values: &[f64]) {
    Cpu::new().write(dst, &scalars::<T>(values)).expect("it fits");
}

fn adamw<T: Real>() {
    let (fixture, cpu, mut check) = (Fixture::read("optim"), Cpu::<T>::new(), Check::new::<T>("AdamW"));
    let shape = [1, 7, 3];
    let mut optimiser = AdamW::new(&cpu, AdamWConfig::default(), shape).expect("memory");
    let (mut x, mut grad) = (fixture.upload::<T>("adamw.start"), cpu.zeros(shape).expect("memory"));
    let (mut first, mut second) = (cpu.zeros(shape).expect("memory"), cpu.zeros(shape).expect("memory"));
    for t in 0..STEPS {
        let rate = fixture.get("adamw.rates").values[t];
        write(&mut grad, step_of(&fixture, "adamw.gradients", t));
        // The kernel alone, for its moments.
        let mut increment = grad.clone();
        let step = AdamWStep { rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: t as u32 + 1 };
        cpu.adamw(&mut increment, &mut first, &mut second, step);
        optimiser.increment(&cpu, &mut grad, rate);
        assert_eq!(grad, increment);
        descend(&cpu, &mut x, &grad, rate * DECAY);
        for (name, got) in [("adamw.x", &x), ("adamw.first", &first), ("adamw.second", &second)] {
            check.tensor(&format!("{name} step {t}"), got.values(), step_of(&fixture, name, t), bound::<T>(1.0));
        }
    }
}

#[test]
fn adamw_equals_its_reference() {
    adamw::<f64>();
    adamw::<f32>();
}

/// The stack holds the fixture's point three times: every matrix of it must go the same way.
fn riemannian<T: Real>(retraction: Retraction) {
    const COPIES: usize = 3;
    let (fixture, cpu) = (Fixture::read("optim"), Cpu::<T>::new());
    let mut check = Check::new::<T>(&format!("Riemannian, {retraction:?}"));
    let shape = [COPIES, 9, 3];
    let m = Subspace::from_basis(fixture.matrix::<T>("riemannian.m")).expect("orthonormal");
    for (name, tangent, restricted) in [
        ("euclidean", TangentMap::Euclidean, false),
        ("canonical", TangentMap::Canonical, false),
        ("restricted_euclidean", TangentMap::Euclidean, true),
        ("restricted_canonical", TangentMap::Canonical, true),
    ] {
        let name = format!("riemannian.{name}");
        let subspaces = restricted.then(|| cpu.upload_subspaces(&[&m; COPIES]).expect("memory"));
        let config = RiemannianConfig { tangent, retraction, drift_period: 1 };
        let inner = AdamW::new(&cpu, AdamWConfig::default(), shape).expect("memory");
        let mut optimiser = Riemannian::new(&cpu, config, inner, shape).expect("memory");
        let start = fixture.get("riemannian.start").values.repeat(COPIES);
        let mut x = cpu.upload(shape, &scalars::<T>(&start)).expect("memory");
        let mut grad = cpu.zeros(shape).expect("memory");
        for t in 0..STEPS {
            write(&mut grad, &step_of(&fixture, "riemannian.gradients", t).repeat(COPIES));
            let rate = fixture.get("riemannian.rates").values[t];
            optimiser.step(&cpu, &mut x, &mut grad, subspaces.as_ref(), rate).expect("a step");
            let want = step_of(&fixture, &name, t);
            for (i, got) in x.values().chunks(27).enumerate() {
                check.tensor(&format!("{name} step {t} copy {i}"), got, want, bound::<T>(4.0));
                let got = MatRef::from_row_major_slice(got, 9, 3);
                let off = orthonormality_error(got).f64();
                assert!(off <= 2.0 * (9.0 + 3.0) * T::EPS.f64(), "{name} step {t}: orthonormality {off:e}");
                if restricted {
                    let overlap = m.overlap(got).f64();
                    assert!(overlap <= 20.0 * T::EPS.f64(), "{name} step {t}: overlap with M {overlap:e}");
                }
            }
        }
    }
}

#[test]
fn the_riemannian_steps_equal_their_reference() {
    for retraction in [Retraction::Whitening, Retraction::Polar] {
        riemannian::<f64>(retraction);
        riemannian::<f32>(retraction);
    }
}

/// A planted error: the other tangent map, or no M, is another path.
#[test]
fn the_four_paths_differ() {
    let fixture = Fixture::read("optim");
    let last = |name: &str| step_of(&fixture, &format!("riemannian.{name}"), STEPS - 1);
    let names = ["euclidean", "canonical", "restricted_euclidean", "restricted_canonical"];
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            assert!(crate::fixtures::error(last(a), last(b), Bound::relative(1e-3)).is_err(), "{a} and {b}");
        }
    }
}

/// The reference begins its warm-up at peak/w, the trainer at peak/(w + 1), so that the peak is reached once only; from
/// the end of the warm-up on they are the same.
#[test]
fn the_schedule_equals_its_reference_after_the_warm_up() {
    let (fixture, mut check) = (Fixture::read("optim"), Check::new::<f64>("schedule"));
    for steps in [1, 7, 20, 150] {
        let want = &fixture.get(&format!("schedule.{steps}")).values;
        let rates: Vec<f64> = (0..steps).map(|t| 0.01 * Schedule::default().factor(t, steps)).collect();
        let warm = (0.03 * steps as f64).ceil() as usize;
        let bound = Bound { relative: 1e-12, floor: 0.01 };
        check.tensor(&format!("{steps} steps"), &rates[warm..], &want[warm..], bound);
        for t in 0..warm {
            let want = want[t] * warm as f64 / (warm + 1) as f64;
            check.tensor(&format!("{steps} steps, warm-up"), &[rates[t]], &[want], bound);
        }
    }
}
