//! Tiny Llamas on a GPU (a software one where there is no other) against stock ones in double precision.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eblora::core::adapter::{Adapters, HostFactors};
use eblora::core::backend::Backend;
use eblora::core::faer::Mat;
use eblora::core::model::llama::{Llama, TokenSet};
use eblora::core::model::{HostValues, Model, Wanted};
use eblora::device;
use eblora::model::llama::LlamaFolder;
use eblora_gpu::Wanted as Adapter;
use pollster::block_on;
use safetensors::{Dtype, SafeTensors};

/// Sums of up to 48 products through two blocks, back and forth, each rounded to f32 in an order of the device's own; as in
/// the test of the vision transformer.
const BOUND: f64 = 2e-4;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// Shape and values of every tensor of a file of references.
fn fixture(name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    let bytes = std::fs::read(path(&format!("{name}.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, tensor)| {
        let words = tensor.data().as_chunks::<8>().0.iter();
        let values = match tensor.dtype() {
            Dtype::F64 => words.map(|b| f64::from_le_bytes(*b)).collect(),
            _ => words.map(|b| i64::from_le_bytes(*b) as f64).collect(),
        };
        (name.to_owned(), (tensor.shape().to_vec(), values))
    });
    tensors.collect()
}

#[track_caller]
fn near(name: &str, got: &[f32], want: &[f64]) {
    let largest = want.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    assert_eq!(got.len(), want.len(), "{name}");
    for (g, w) in got.iter().zip(want) {
        assert!((f64::from(*g) - w).abs() <= BOUND * largest, "{name}: {g}, not {w}, of at most {largest}");
    }
}

#[test]
fn logits_every_gradient_and_the_greedy_tokens_are_those_of_the_reference() {
    let (gpu, _) = device::open(&Adapter::Best).unwrap();
    for name in ["llama_tied", "llama_untied", "llama3"] {
        let reference = fixture(name);
        let values = |name: &str| &reference[name].1;
        let tokens = |name: &str| values(name).iter().map(|&x| x as u32).collect::<Vec<_>>();
        let (all, mask) = (tokens("tokens"), tokens("answer"));
        let longest = reference["tokens"].0[1];
        let mut samples = TokenSet::new();
        for (row, &length) in tokens("lengths").iter().enumerate() {
            let own = row * longest..row * longest + length as usize;
            let answer: Vec<bool> = mask[own.clone()].iter().map(|&a| a == 1).collect();
            samples.push(&all[own], &answer).unwrap();
        }
        let folder = LlamaFolder::read(&path(name)).unwrap();
        let model = Llama::new(&gpu, &folder.config, samples.window(), folder.weights).unwrap();
        let factors: Vec<_> = (model.sites().iter().enumerate())
            .map(|(site, s)| {
                let matrix = |part: &str, rows: usize| {
                    let values = values(&format!("adapter.{}.{part}", s.name));
                    let cols = values.len() / rows;
                    Mat::from_fn(rows, cols, |i, j| values[i * cols + j] as f32)
                };
                let factor = values(&format!("adapter.{}.s", s.name))[0] as f32;
                HostFactors { site, u: matrix("u", s.out), v: matrix("v", s.inp), s: factor }
            })
            .collect();
        let adapters = Adapters::upload(&gpu, &factors, factors.len(), None).unwrap();
        let mut grads = adapters.grads(&gpu).unwrap();
        let mut work = model.workspace(&gpu, 4).unwrap();
        model.attach(&gpu, &mut work, &adapters).unwrap();
        let mut loss = gpu.zeros([1, 1, 1]).unwrap();
        model.load(&gpu, &mut work, &samples, &[0, 1, 2, 3]).unwrap();
        model.forward(&gpu, &mut work, Some(&adapters));
        model.loss(&gpu, &mut work, &mut loss, 0);
        model.backward(&gpu, &mut work, &mut Wanted::Adapters(&adapters, &mut grads));
        let read = |tensor| block_on(gpu.read(tensor)).unwrap();
        let rows = model.labelled(&work) * model.classes();
        near("logits", &read(model.logits(&work))[..rows], values("adapted.logits"));
        near("loss", &read(&loss), values("adapted.loss"));
        for (site, s) in model.sites().iter().enumerate() {
            let slot = adapters.slot(site).unwrap();
            let stack = &grads.stacks[slot.stack_index];
            for (part, tensor) in [("du", &stack.u), ("dv", &stack.v), ("ds", stack.s.as_ref().unwrap())] {
                let all = read(tensor);
                let each = all.len() / slot.stack.sites.len();
                let name = format!("adapter_gradient.{}.{part}", s.name);
                near(&name, &all[slot.item * each..][..each], values(&name));
            }
        }
        let mut decoder = model.decoder(&gpu, 4, 20).unwrap();
        let (prompt, said) = (tokens("adapted.greedy.prompt"), tokens("adapted.greedy.said"));
        let got = model.generate(&gpu, &mut decoder, Some(&adapters), &prompt, (said.len(), &[]));
        assert_eq!(block_on(got).unwrap(), said, "{name}");
    }
}

/// Weights that stay in bf16, with a task merged beside them, against the same weights in full, merged in place.
#[test]
fn merges_beside_stored_bits_do_what_merges_in_place_do() {
    let (gpu, _) = device::open(&Adapter::Best).unwrap();
    let folder = LlamaFolder::read(&path("llama_tied")).unwrap();
    let mut samples = TokenSet::new();
    samples.push_pair(&[1, 2, 3, 4, 5], &[6, 7]).unwrap();
    let run = |stored: bool| {
        let mut weights = folder.weights.clone();
        for block in &mut weights.blocks {
            for linear in [&mut block.query, &mut block.value, &mut block.down] {
                let plain = linear.weight.to_f32();
                let bits: Vec<u16> = plain.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
                let full = bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect();
                linear.weight = if stored { HostValues::Bf16(bits) } else { HostValues::F32(full) };
            }
        }
        let mut model = Llama::new(&gpu, &folder.config, samples.window(), weights).unwrap();
        let factors: Vec<_> = [0, 2, 6, 7]
            .map(|site| {
                let s = &model.sites()[site];
                let entry = |i: usize, j: usize| ((i * 7 + j * 3 + site) % 11) as f32 / 20.0 - 0.25;
                HostFactors { site, u: Mat::from_fn(s.out, 2, entry), v: Mat::from_fn(s.inp, 2, entry), s: 0.5 }
            })
            .into();
        let adapters = Adapters::upload(&gpu, &factors, model.sites().len(), None).unwrap();
        model.merge(&gpu, &adapters).unwrap();
        model.merge(&gpu, &adapters).unwrap();
        let mut work = model.workspace(&gpu, 1).unwrap();
        model.attach(&gpu, &mut work, &adapters).unwrap();
        model.load(&gpu, &mut work, &samples, &[0]).unwrap();
        let (mut grads, mut loss) = (adapters.grads(&gpu).unwrap(), gpu.zeros([1, 1, 1]).unwrap());
        model.forward(&gpu, &mut work, Some(&adapters));
        model.loss(&gpu, &mut work, &mut loss, 0);
        model.backward(&gpu, &mut work, &mut Wanted::Adapters(&adapters, &mut grads));
        let tensors = [model.logits(&work), &grads.stacks[0].u, &grads.stacks[0].v];
        tensors.map(|tensor| block_on(gpu.read(tensor)).unwrap())
    };
    for (stored, full) in run(true).iter().zip(&run(false)) {
        near("as stored", stored, &full.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    }
}
