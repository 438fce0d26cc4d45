//! A loss of one's own: two regressions ½‖(W − W*)·X‖², one after the other, on one weight. The second leaves the first
//! as it was.
use eblora::core::faer::Mat;
use eblora::core::method::{EbloraConfig, MatrixTrainer, MethodError};
use eblora::core::random::Random;

fn main() -> Result<(), MethodError> {
    let random = &mut Random::new(7, "example");
    let (weight, target) = (random.normal_matrix::<f32>(24, 16), random.normal_matrix::<f32>(24, 16)); // out×in
    let inputs = [(); 2].map(|()| random.normal_matrix::<f32>(16, 4)); // each task has its own four inputs
    let loss = |w: &Mat<f32>, x: &Mat<f32>| 0.5 * ((w - &target) * x).squared_norm_l2();
    let gradient = |w: &Mat<f32>, x: &Mat<f32>| (w - &target) * x * x.transpose(); // ∂loss/∂W, out×in

    let config = EbloraConfig { rank: 4, epsilon: Some(1.0), magnitude_rate: 0.1, ..EbloraConfig::default() };
    let mut trainer = MatrixTrainer::new(weight, config, 0);
    for (task, x) in inputs.iter().enumerate() {
        let steps = 200;
        trainer.begin_task(gradient(&trainer.weight(), x).as_ref())?;
        for step in 0..steps {
            let factor = 1.0 - step as f64 / steps as f64; // of the learning rates
            trainer.step(gradient(&trainer.weight(), x).as_ref(), factor)?;
        }
        trainer.end_task()?;
        let [first, second] = [&inputs[0], &inputs[1]].map(|x| loss(&trainer.weight(), x));
        println!("after task {}: loss of the first {first:.2}, of the second {second:.2}", task + 1);
    }
    Ok(())
}
