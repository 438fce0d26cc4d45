//! The numerical core once around.

use eblora_core::Real;
use eblora_core::random::Random;

/// A gradient drawn from `seed`.
pub fn run(seed: u64) -> Result<f32, ()> {
    let gradient = Random::new(seed, "gradient").normal_matrix::<f32>(12, 10);
    let norm = gradient.norm_l2();
    if norm.f64() > 0.0 { Ok(norm) } else { Err(()) }
}
