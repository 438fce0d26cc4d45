//! The numerics alone: keep the first task's gradient directions, start the second task's adapter off them, take a step.
use eblora_core::adapter::init;
use eblora_core::gpm::{self, Gradient, Subspace};
use eblora_core::manifold::{RestrictedStiefel, Retraction, TangentMap};
use eblora_core::random::Random;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let random = &mut Random::new(7, "example");
    let mut weight = random.normal_matrix::<f32>(24, 16); // out×in; replace the gradients (∂loss/∂weight) by your own
    let [first, second] = [(); 2].map(|()| random.normal_matrix::<f32>(24, 16));

    let mut memory = Subspace::empty(16);
    let kept = gpm::update(&mut memory, &Gradient::Exact(first), 0.6)?;
    println!(
        "the first task takes {} of 16 input directions, {:.0} % of its energy",
        kept.k,
        100.0 * kept.energy_after
    );

    let start = init::from_gradient(&Gradient::Exact(second.clone()), &memory, 4, 0.01, random)?;
    let mut adapter = start.adapter.ok_or("no direction is left")?;
    let manifold = RestrictedStiefel::new(&memory, adapter.rank())?;
    let mut scratch = manifold.scratch();

    let mut gradient_v = second.transpose() * &adapter.u * faer::Scale(adapter.s); // of the loss, by V
    manifold.project(TangentMap::Euclidean, adapter.v.as_ref(), gradient_v.as_mut(), &mut scratch);
    adapter.v -= gradient_v * faer::Scale(0.1);
    manifold.retract(Retraction::Whitening, adapter.v.as_mut(), &mut scratch)?;
    let (orthonormality, overlap) = manifold.violation(adapter.v.as_ref());
    println!("after a step: |VᵀV − I| = {orthonormality:.1e}, |MᵀV| = {overlap:.1e}");
    adapter.merge_into(weight.as_mut())?;
    Ok(())
}
