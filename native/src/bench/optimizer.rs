//! The optimiser step of all layers of a 7B-shaped model: 32 blocks of 7 linears, rank 16, M of 64 directions a layer.

use eblora_core::backend::Shaped;
use eblora_core::method::{Eblora, EbloraConfig, LoraConfig, LoraFt, Method, MethodError, TaskStart};
use eblora_core::model::Site;
use eblora_core::random::Random;

use super::clock::{Clock, measure as time};
use super::{BenchConfig, BenchError, Figure, SEED, figure, gradients};

const BLOCKS: usize = 32;
const RANK: usize = 16;
const MEMORY: usize = 64;
const WIDTH: usize = 4096;
const INNER: usize = 11008;
const NAMES: [&str; 2] = ["optimizer_7b/lora", "optimizer_7b/eblora"];

/// The names of these figures.
pub fn names() -> impl Iterator<Item = String> {
    NAMES.into_iter().map(str::to_owned)
}

/// The adapted linears of a Llama of 7 billion parameters.
fn sites() -> Vec<Site> {
    let linears = [
        ("q_proj", WIDTH, WIDTH),
        ("k_proj", WIDTH, WIDTH),
        ("v_proj", WIDTH, WIDTH),
        ("o_proj", WIDTH, WIDTH),
        ("gate_proj", INNER, WIDTH),
        ("up_proj", INNER, WIDTH),
        ("down_proj", WIDTH, INNER),
    ];
    let site = |depth, (name, out, inp)| Site { name: format!("layers.{depth}.{name}"), out, inp, depth };
    (0..BLOCKS).flat_map(|depth| linears.map(|l| site(depth, l))).collect()
}

/// The figures that are wanted.
pub fn measure<B: Clock + 'static>(b: &B, config: &BenchConfig) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for name in NAMES.into_iter().filter(|name| config.wants(name)) {
        // No threshold: each task's gradient goes into M whole.
        let eblora = EbloraConfig { rank: RANK, epsilon: Some(1.0), ..EbloraConfig::default() };
        let lora = LoraConfig { rank: RANK, ..LoraConfig::default() };
        let method: Box<dyn Method<B>> =
            if name == NAMES[0] { Box::new(LoraFt::new(lora)) } else { Box::new(Eblora::new(eblora)) };
        figures.push(one(b, config, name, method)?);
    }
    Ok(figures)
}

fn one<B: Clock>(
    b: &B,
    config: &BenchConfig,
    name: &str,
    mut method: Box<dyn Method<B>>,
) -> Result<Figure, BenchError> {
    let sites = sites();
    let mut adapters = None;
    for (task, directions) in [MEMORY, RANK].into_iter().enumerate() {
        let gradients = if method.needs().gradients { gradients(&sites, directions, task)? } else { Vec::new() };
        let start = TaskStart { blocks: BLOCKS, gradients, ..TaskStart::new([task, 2], &sites, SEED) };
        adapters = Some(method.begin_task(b, start)?);
        if task == 0 {
            method.end_task(b, &[])?;
        }
    }
    let Some(mut adapters) = adapters else { return Err(MethodError::Order("no task").into()) };
    let mut grads = adapters.grads(b)?;
    for stack in &mut grads.stacks {
        for tensor in [&mut stack.u, &mut stack.v] {
            let values: Vec<f32> = Random::new(SEED, "bench/grads").normals(tensor.shape().iter().product());
            b.write(tensor, &values)?;
        }
    }
    // A step uses its gradients up, and the next takes for one what it finds: the work is the same.
    let times = time(b, config.effort(), &mut || Ok(method.step(b, &mut adapters, &mut grads, 0.01)?))?;
    Ok(figure(b, name, &times, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_that_of_seven_billion_parameters() {
        let sites = sites();
        let parameters: usize = sites.iter().map(|s| s.out * s.inp).sum();
        assert_eq!((sites.len(), parameters), (224, 6_476_005_376), "6.74·10⁹ less the embeddings and the head");
    }
}
