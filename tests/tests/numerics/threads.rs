//! One thread and two give the same bits, at sizes where the kernels share their work. The pool is fixed when a process
//! first uses it, so the kernels run in two child processes with `RAYON_NUM_THREADS` set.

use eblora_core::Real;
use eblora_core::backend::{
    Activation, AdamWStep, AttentionShape, Backend, Cpu, Epilogue, Scale, View, ViewMut, cpu::CpuTensor,
};
use eblora_core::gpm::Subspace;
use eblora_core::manifold::{Retraction, TangentMap};
use faer::Mat;
use std::process::Command;

/// Set in the children.
const CHILD: &str = "EBLORA_TEST_BITS";

fn noise<T: Real>(shape: [usize; 3], seed: u32) -> CpuTensor<T> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let values: Vec<T> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            T::of(f64::from(state >> 8) / 8_388_608.0 - 1.0)
        })
        .collect();
    Cpu::new().upload(shape, &values).expect("memory")
}

/// A hash of the values' bits (FNV-1a).
fn hash<T: Real>(tensors: &[&CpuTensor<T>]) -> u64 {
    let bytes = tensors.iter().flat_map(|t| t.values().iter().flat_map(|x| x.f64().to_bits().to_le_bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// `name hash` of each kernel.
fn lines<T: Real>() -> Vec<String> {
    const N: usize = 1088; // 64 sequences of 17 tokens
    const D: usize = 64;
    let cpu = Cpu::<T>::new();
    let (x, y, w) = (noise::<T>([1, N, D], 1), noise::<T>([1, N, D], 2), noise::<T>([1, D, D], 3));
    let (row, other) = (noise::<T>([1, 1, D], 4), noise::<T>([1, 1, D], 5));
    let mut found = Vec::new();
    let mut note = |name: &str, tensors: &[&CpuTensor<T>]| {
        let finite = tensors.iter().all(|t| t.values().iter().all(|x| x.f64().is_finite()));
        assert!(finite && tensors[0].values().iter().any(|x| x.f64() != 0.0), "{name}");
        found.push(format!("{} {name} {:016x}", T::NAME, hash(tensors)));
    };
    let epilogue = Epilogue { scale: Scale::Value(0.3), bias: Some(&row), accumulate: true };
    let (mut nn, mut nt, mut tn) = (y.clone(), y.clone(), w.clone());
    cpu.matmul(ViewMut::all(&mut nn), View::all(&x), View::all(&w), epilogue);
    cpu.matmul(ViewMut::all(&mut nt), View::all(&x), View::all(&w).t(), epilogue);
    cpu.matmul(ViewMut::all(&mut tn), View::all(&x).t(), View::all(&y), Epilogue::default());
    note("matmul", &[&nn, &nt, &tn]);
    let (mut out, mut stats, mut dx) = (x.clone(), noise([1, N, 2], 6), y.clone());
    cpu.layer_norm(ViewMut::all(&mut out), &mut stats, View::all(&x), &row, &other, 1e-6);
    cpu.layer_norm_backward(ViewMut::all(&mut dx), View::all(&y), View::all(&x), &stats, &row);
    note("layer_norm", &[&out, &stats, &dx]);
    cpu.activation(Activation::Gelu, ViewMut::all(&mut out), View::all(&x));
    cpu.activation_backward(Activation::Gelu, ViewMut::all(&mut dx), View::all(&x));
    note("gelu", &[&out, &dx]);
    let shape = AttentionShape::full(N / 17, 17, 4);
    let square = [N / 17 * 4, 17, 17];
    let (mut p, mut scratch) = (noise(square, 7), noise(square, 8));
    let (q, k, v) = (View::all(&x), View::all(&nn), View::all(&nt));
    cpu.attention(ViewMut::all(&mut out), &mut p, q, k, v, None, shape);
    let (mut dq, mut dk, mut dv) = (x.clone(), x.clone(), x.clone());
    let grads = [ViewMut::all(&mut dq), ViewMut::all(&mut dk), ViewMut::all(&mut dv)];
    cpu.attention_backward(grads, View::all(&y), &p, &mut scratch, q, k, v, shape);
    note("attention", &[&out, &p, &dq, &dk, &dv]);
    let (mut norms, mut loss, labels) = (noise([1, N, 1], 9), noise([1, 1, 1], 10), vec![3; N]);
    cpu.l2_normalize(ViewMut::all(&mut out), &mut norms, View::all(&x));
    cpu.l2_normalize_backward(ViewMut::all(&mut dx), View::all(&y), View::all(&out), &norms);
    note("l2_normalize", &[&out, &norms, &dx]);
    cpu.cross_entropy(&mut loss, 0, ViewMut::all(&mut dx), View::all(&x), &labels);
    note("cross_entropy", &[&loss, &dx]);
    let (mut g, mut first, mut second) = (x.clone(), y.clone(), y.clone());
    cpu.fill(&mut second, 0.5);
    let step = AdamWStep { rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 3 };
    cpu.adamw(&mut g, &mut first, &mut second, step);
    note("adamw", &[&g, &first, &second]);
    // A stack of 17 points of 64×8, each off an M of 5 directions.
    let stack = [N / D, D, 8];
    let (mut points, mut delta) = (noise::<T>(stack, 11), noise::<T>(stack, 12));
    let m = Subspace::from_basis(Mat::from_fn(D, 5, |i, j| T::of(f64::from(u8::from(i == 7 * j))))).expect("M");
    let (m, mut scratch) = (cpu.upload_subspaces(&[&m; N / D]).expect("memory"), cpu.scratch(stack).expect("memory"));
    cpu.project_off(&mut points, &m, &mut scratch);
    for retraction in [Retraction::Qr, Retraction::Polar, Retraction::Whitening] {
        cpu.retract(retraction, &mut points, &mut scratch).expect("full rank");
        for map in [TangentMap::Canonical, TangentMap::Euclidean] {
            cpu.project_tangent(map, &points, &mut delta, &mut scratch);
        }
        cpu.scale_add(&mut points, 1.0, &delta, 0.5);
    }
    note("geometry", &[&points, &delta]);
    found
}

/// Not a test of its own: what the children run.
#[test]
fn bits_of_the_kernels() {
    if std::env::var_os(CHILD).is_some() {
        for line in lines::<f32>().into_iter().chain(lines::<f64>()) {
            println!("bits {line}");
        }
        // On Linux, how many threads there really are.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().filter(|l| l.starts_with("Threads:")).for_each(|l| println!("{l}"));
    }
}

/// The bits, and the number of threads where it is known.
fn child(threads: usize) -> (Vec<String>, Option<usize>) {
    let test = std::env::current_exe().expect("this test");
    let output = Command::new(test)
        .args(["--exact", "threads::bits_of_the_kernels", "--nocapture", "--test-threads", "1"])
        .env(CHILD, "1")
        .env("RAYON_NUM_THREADS", threads.to_string())
        .output()
        .expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let bits = text.lines().filter_map(|l| Some(l.split_once("bits ")?.1.to_owned())).collect();
    let count = text.lines().find_map(|l| l.strip_prefix("Threads:")?.trim().parse().ok());
    (bits, count)
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let ((one, threads1), (two, threads2)) = (child(1), child(2));
    assert_eq!(one.len(), 16, "{one:?}");
    assert_eq!(one, two);
    if let (Some(a), Some(b)) = (threads1, threads2) {
        assert_eq!(a + 1, b, "the second child has one thread more");
    }
}

#[test]
fn the_hash_sees_one_bit() {
    let x = noise::<f32>([1, 9, 9], 1);
    let mut y = x.clone();
    assert_eq!(hash(&[&x]), hash(&[&y]));
    y.values_mut()[80] = f32::from_bits(y.values()[80].to_bits() ^ 1);
    assert_ne!(hash(&[&x]), hash(&[&y]));
}
