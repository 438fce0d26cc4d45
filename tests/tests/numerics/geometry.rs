//! Manifold, gradient memory, adapter and metric formulas against their references.

use crate::fixtures::{Bound, Check, Fixture, path, row_major};
use eblora_core::Real;
use eblora_core::adapter::smoothing::smooth;
use eblora_core::adapter::{DepthSchedule, LoraAdapter, Smoothing, SpectralAdapter, init};
use eblora_core::gpm::{Gradient, Subspace, update};
use eblora_core::linalg::{gram, inverse_sqrt, orthonormality_error};
use eblora_core::manifold::{Retraction, StiefelScratch, TangentMap, project_tangent, retract};
use eblora_core::metrics::{AccuracyMatrix, Spectrum};
use eblora_core::random::Random;
use faer::{Mat, MatRef};
use serde_json::Value;

fn values<T: Real>(a: &Mat<T>) -> Vec<T> {
    row_major(a.as_ref())
}

/// `a·aᵀ`.
fn projector<T: Real>(a: MatRef<'_, T>) -> Vec<T> {
    values(&gram(a.transpose()))
}

fn manifold<T: Real>() {
    let (fixture, mut check) = (Fixture::read("manifold"), Check::new::<T>("manifold"));
    for case in fixture.cases("point", "x") {
        let of = |name: &str| format!("{case}.{name}");
        let (x, d) = (fixture.matrix::<T>(&of("x")), fixture.matrix::<T>(&of("d")));
        let (n, r) = x.shape();
        let scratch = &mut StiefelScratch::new(n, r);
        let bound = Bound::reduction::<T>(n + 2 * r);
        for (name, map) in [("tangent_euclidean", TangentMap::Euclidean), ("tangent_canonical", TangentMap::Canonical)]
        {
            let mut delta = d.clone();
            project_tangent(map, x.as_ref(), delta.as_mut(), scratch);
            check.tensor(&of(name), &values(&delta), &fixture.get(&of(name)).values, bound);
        }
        for (name, kind) in [("polar", Retraction::Whitening), ("polar", Retraction::Polar), ("qr", Retraction::Qr)] {
            let mut y = &x + &d;
            let info = retract(kind, y.as_mut(), scratch).expect("full rank");
            // Relative perturbations of Y grow by its condition number.
            let bound = Bound::reduction::<T>(((n + 2 * r) as f64 * info.condition).ceil() as usize);
            let title = format!("{} by {kind:?}", of(name));
            check.tensor(&title, &values(&y), &fixture.get(&of(name)).values, bound);
            let off = orthonormality_error(y.as_ref()).f64();
            assert!(off <= 2.0 * (n + r) as f64 * T::EPS.f64(), "{title}: orthonormality {off:e}");
        }
    }
    for case in fixture.cases("gram", "gram") {
        let of = |name: &str| format!("{case}.{name}");
        let c = fixture.matrix::<T>(&of("gram"));
        // Exactly symmetric, also where the rounding to f32 was of two different numbers.
        let c = Mat::from_fn(c.nrows(), c.nrows(), |i, j| c[(i.max(j), i.min(j))]);
        let root = inverse_sqrt(c.as_ref()).expect("positive definite");
        let length = c.nrows() as f64 * root.condition.f64();
        let bound = Bound::reduction::<T>(length.ceil() as usize);
        check.tensor(&of("inverse_sqrt"), &values(&root.matrix), &fixture.get(&of("inverse_sqrt")).values, bound);
    }
}

#[test]
fn the_manifold_equals_its_reference() {
    manifold::<f64>();
    manifold::<f32>();
}

/// The bound of a projector: the singular vectors at a cut have a relative gap of 5 % to the next, so that rounding is
/// enlarged 20-fold, and M's earlier columns carry theirs along.
fn projector_bound<T: Real>(dim: usize) -> Bound {
    Bound::reduction::<T>(20 * dim)
}

fn gpm<T: Real>(shape: &str, percent: u32) {
    let (fixture, mut check) = (Fixture::read("gpm"), Check::new::<T>(&format!("GPM, {shape}, {percent} %")));
    let mut m = Subspace::empty(fixture.get(&format!("{shape}.0.gradient")).shape[1]);
    for t in 0..4 {
        let of = |name: &str| format!("{shape}.eps_{percent}.{t}.{name}");
        let gradient = Gradient::Exact(fixture.matrix::<T>(&format!("{shape}.{t}.gradient")));
        let bound = projector_bound::<T>(m.dim());
        if fixture.has(&of("init.sigma")) {
            let sigma = fixture.get(&of("init.sigma"));
            let svd = gradient.projected_off_svd(&m, 3).expect("a gradient");
            check.tensor(&of("init.sigma"), &svd.s, &sigma.values, bound);
            let made = init::from_gradient(&gradient, &m, 3, 0.01, &mut Random::new(0, "init")).expect("an adapter");
            assert_eq!((made.rank, made.random_directions), (3, 0), "{shape} {t}");
            let adapter = made.adapter.expect("room for it");
            for (name, factor) in [("init.left_projector", &adapter.u), ("init.right_projector", &adapter.v)] {
                check.tensor(&of(name), &projector(factor.as_ref()), &fixture.get(&of(name)).values, bound);
            }
            // The start goes down: against the gradient, direction by direction.
            let Gradient::Exact(g) = &gradient else { unreachable!() };
            let along = adapter.u.transpose() * g * &adapter.v;
            for (i, sigma) in sigma.values.iter().enumerate() {
                check.tensor(&of("uᵀGv"), &[along[(i, i)]], &[-sigma], bound);
            }
        }
        let before = m.k();
        let grown = update(&mut m, &gradient, f64::from(percent) / 100.0).expect("a gradient");
        let k = fixture.scalar(&of("k")) as usize;
        assert_eq!((m.k(), grown.k), (k, k), "{shape} {percent} % {t}");
        assert!(t < 3 || m.k() == before, "the fourth gradient adds nothing");
        check.tensor(&of("projector"), &values(&m.projector()), &fixture.get(&of("projector")).values, bound);
    }
}

#[test]
fn the_gradient_memory_equals_its_reference() {
    for shape in ["wide", "narrow"] {
        for percent in [80, 95, 99] {
            gpm::<f64>(shape, percent);
            gpm::<f32>(shape, percent);
        }
    }
}

/// A planted error: another threshold gives another M.
#[test]
fn another_threshold_gives_another_memory() {
    let fixture = Fixture::read("gpm");
    let of = |percent| &fixture.get(&format!("wide.eps_{percent}.2.projector")).values;
    let bound = projector_bound::<f32>(37);
    assert!(crate::fixtures::error(of(95), of(99), bound).is_err());
    assert!(crate::fixtures::error(of(80), of(95), bound).is_err());
}

fn adapter<T: Real>() {
    let (fixture, mut check) = (Fixture::read("adapter"), Check::new::<T>("adapter"));
    for case in fixture.cases("product", "sigma") {
        let of = |name: &str| format!("{case}.{name}");
        let (b, a) = (fixture.matrix::<T>(&of("b")), fixture.matrix::<T>(&of("a")));
        let (out, inp, r) = (b.nrows(), a.ncols(), a.nrows());
        let lora = LoraAdapter::new(a, b, T::of(1.0)).expect("shapes fit");
        let bound = Bound::reduction::<T>(out + inp + r);
        let sigma = &fixture.get(&of("sigma")).values;
        check.tensor(&of("sigma"), &lora.singular_values().expect("finite"), sigma, bound);
        // Singular vectors turn by the error over the smallest distance of the singular values (and of the last to 0).
        let gap = sigma.windows(2).map(|s| s[0] - s[1]).fold(sigma[r - 1], f64::min);
        let factor = (sigma[0] / gap).ceil() as usize;
        for (name, smoothing) in [("smoothed_mean", Smoothing::Mean), ("smoothed_frobenius", Smoothing::Frobenius)] {
            let smoothed = smooth(&lora, smoothing).expect("finite").expect("not zero");
            let bound = Bound::reduction::<T>((out + inp + r) * factor);
            check.tensor(&of(name), &values(&smoothed.delta()), &fixture.get(&of(name)).values, bound);
        }
    }
    for case in fixture.cases("factored", "delta") {
        let of = |name: &str| format!("{case}.{name}");
        let (u, v) = (fixture.matrix::<T>(&of("u")), fixture.matrix::<T>(&of("v")));
        let (r, s) = (u.ncols(), fixture.scalar(&of("s")));
        let spectral = SpectralAdapter::new(u, v, T::of(s)).expect("shapes fit");
        let (bound, want) = (Bound::reduction::<T>(r + 2), &fixture.get(&of("delta")).values);
        check.tensor(&of("delta"), &values(&spectral.delta()), want, bound);
        check.tensor(&of("delta as B·A"), &values(&spectral.to_lora().delta()), want, bound);
        let mut weight = Mat::from_fn(spectral.outputs(), spectral.inputs(), |i, j| T::of((i + j) as f64));
        let merged: Vec<f64> = values(&weight).iter().zip(want).map(|(w, d)| w.f64() + d).collect();
        spectral.merge_into(weight.as_mut()).expect("shapes fit");
        check.tensor(&of("merged"), &values(&weight), &merged, bound);
        check.tensor(&of("sigma"), &spectral.singular_values(), &vec![s.abs(); r], Bound::reduction::<T>(1));
    }
}

#[test]
fn adapters_equal_their_reference() {
    adapter::<f64>();
    adapter::<f32>();
    let (fixture, mut check) = (Fixture::read("adapter"), Check::new::<f64>("depth"));
    let schedule = DepthSchedule::new(0.002, 0.010).expect("a range");
    for layers in [2, 3, 4, 24] {
        let s: Vec<f64> = (0..layers).map(|l| schedule.at(l, layers).expect("a layer")).collect();
        let name = format!("depth.{layers}");
        check.tensor(&name, &s, &fixture.get(&name).values, Bound::relative(1e-14));
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn metrics_equal_their_reference() {
    let text = std::fs::read_to_string(path("metrics.json")).expect("the file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let (mut check, bound) = (Check::new::<f64>("metrics"), Bound { relative: 1e-13, floor: 1.0 });
    let cases = json["accuracy"].as_array().expect("cases");
    assert!(cases.len() >= 4);
    for (i, case) in cases.iter().enumerate() {
        let rows: Vec<Vec<f64>> = case["a"].as_array().expect("rows").iter().map(numbers).collect();
        let mut matrix = AccuracyMatrix::new(rows.len());
        matrix.set_zero_shot(&numbers(&case["zero_shot"])).expect("a row");
        matrix.set_individual(&numbers(&case["individual"])).expect("a row");
        rows.iter().for_each(|row| matrix.push(row).expect("a row"));
        let nai = matrix.nai_of(&numbers(&case["merged"])).expect("headroom").mean;
        for (name, got) in [
            ("mft", matrix.mft()),
            ("mfn", matrix.mfn()),
            ("maa", matrix.maa()),
            ("bwt", matrix.bwt()),
            ("fwt_mtil", matrix.fwt_mtil()),
            ("fwt_cells", matrix.fwt_cells()),
            ("nai", Some(nai)),
        ] {
            let want = case[name].as_f64();
            assert_eq!(got.is_some(), want.is_some(), "case {i}: {name}");
            if let (Some(got), Some(want)) = (got, want) {
                check.tensor(&format!("case {i}: {name}"), &[got], &[want], bound);
            }
        }
    }
    let spectra = json["spectra"].as_object().expect("spectra");
    assert!(spectra.len() >= 4);
    for (name, case) in spectra {
        let spectrum = Spectrum::new(&numbers(&case["sigma"])).expect("singular values");
        let got = [spectrum.top_share, spectrum.effective_rank, spectrum.variance];
        for (what, got) in ["top_share", "effective_rank", "variance"].iter().zip(got) {
            check.tensor(&format!("{name}: {what}"), &[got], &[case[*what].as_f64().expect("a number")], bound);
        }
    }
}
