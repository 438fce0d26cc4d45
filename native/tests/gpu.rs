//! The same run on the CPU and on a GPU (a software one where there is no other), through the library and the binary.

use std::process::{Command, Output};

use eblora::core::backend::{Backend, Cpu};
use eblora::core::model::vit::{Vit, VitConfig, VitWeights};
use eblora::core::model::{Model, Wanted};
use eblora::data::{bundled, mix};
use eblora::demo::{self, DemoConfig};
use eblora::device::{self, Device};
use eblora::model::vit;
use eblora::run::MethodName;
use eblora_gpu::Wanted as Adapter;

fn eblora(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_eblora")).args(args).current_dir(folder.path()).output().unwrap()
}

/// Two tasks of the mix with few images to measure.
fn small() -> Vec<mix::Task> {
    let mut tasks = mix::tasks().unwrap();
    tasks.truncate(2);
    for task in &mut tasks {
        task.test = task.test.slice(0..100);
        task.train = task.train.slice(0..400);
    }
    tasks
}

#[test]
fn a_whole_run_ends_with_the_accuracies_of_the_cpu() {
    let folder = bundled::base().unwrap();
    let tasks = small();
    let run = |device| {
        let methods = vec![MethodName::LoraFt, MethodName::Eblora];
        let config = DemoConfig { steps: 12, methods, device, ..DemoConfig::default() };
        demo::run(&config, &tasks, &folder, &mut eblora::progress::Silent).unwrap()
    };
    let (cpu, gpu) = (run(Device::Cpu), run(Device::Gpu(Adapter::Best)));
    assert_eq!(cpu.device, "cpu");
    assert_ne!(gpu.device, "cpu");
    for (c, g) in cpu.methods.iter().zip(&gpu.methods) {
        for (c_row, g_row) in c.accuracy.iter().zip(&g.accuracy) {
            for (a, b) in c_row.iter().zip(g_row) {
                assert!((a - b).abs() <= 1.0, "{}: {:?} on the CPU, {:?} on the GPU", c.name, c.accuracy, g.accuracy);
            }
        }
        for (a, b) in c.loss.iter().zip(&g.loss) {
            assert!((a.loss - b.loss).abs() < 1e-3, "{}: losses {} and {}", c.name, a.loss, b.loss);
        }
        assert!(g.orthonormality_error.is_none_or(|e| e < 5e-6), "{}: {:?}", g.name, g.orthonormality_error);
        assert!(g.subspace_leak.is_none_or(|e| e < 1e-5), "{}: {:?}", g.name, g.subspace_leak);
    }
}

/// Logits and the gradient with respect to every adapter, after a forward and backward pass with adapters that do
/// something.
fn pass<B: Backend<Scalar = f32> + 'static>(b: &B, extents: &VitConfig, weights: &VitWeights) -> Vec<Vec<f32>> {
    use eblora::core::adapter::{Adapters, HostFactors};
    use eblora::core::linalg::random_orthonormal;
    use eblora::core::random::Random;
    let tasks = small();
    let model = Vit::<B>::new(b, extents, weights).unwrap();
    let mut rng = Random::new(3, "pass");
    let factors: Vec<_> = (model.sites().iter().enumerate())
        .map(|(site, s)| HostFactors {
            site,
            u: random_orthonormal(s.out, 4, &mut rng).unwrap(),
            v: random_orthonormal(s.inp, 4, &mut rng).unwrap(),
            s: 0.5,
        })
        .collect();
    let adapters = Adapters::upload(b, &factors, model.sites().len(), None).unwrap();
    let mut grads = adapters.grads(b).unwrap();
    let mut work = model.workspace(b, 32).unwrap();
    model.attach(b, &mut work, &adapters).unwrap();
    let mut loss = b.zeros([1, 1, 1]).unwrap();
    let batch: Vec<usize> = (0..32.min(tasks[0].train.len())).collect();
    model.load(b, &mut work, &tasks[0].train, &batch).unwrap();
    model.forward(b, &mut work, Some(&adapters));
    model.loss(b, &mut work, &mut loss, 0);
    model.backward(b, &mut work, &mut Wanted::Adapters(&adapters, &mut grads));
    pollster::block_on(async {
        let mut all = vec![b.read(model.logits(&work)).await.unwrap(), b.read(&loss).await.unwrap()];
        for stack in &grads.stacks {
            all.push(b.read(&stack.u).await.unwrap());
            all.push(b.read(&stack.v).await.unwrap());
            all.push(b.read(stack.s.as_ref().unwrap()).await.unwrap());
        }
        all
    })
}

#[test]
fn logits_and_every_gradient_of_the_whole_model_agree() {
    let folder = bundled::base().unwrap();
    let (extents, weights) = (vit::config(&folder), vit::weights(&folder));
    let (gpu, _) = device::open(&Adapter::Best).unwrap();
    let (got, want) = (pass(&gpu, &extents, &weights), pass(&Cpu::<f32>::new(), &extents, &weights));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let largest = want.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() <= 2e-4 * largest, "tensor {i}: {g} and {w}, of at most {largest}");
        }
    }
}

#[test]
fn devices_are_listed_and_a_software_adapter_is_called_one() {
    let output = eblora(&["devices"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("cpu: ") && text.contains("gpu:0: "), "{text}");
    let checked = eblora(&["devices", "--check"]);
    let verdicts = String::from_utf8(checked.stdout).unwrap().matches("kernels: all are taken").count();
    assert!(checked.status.success() && verdicts == text.matches("gpu:").count(), "{verdicts}");
    let json = eblora(&["devices", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let adapters = all["adapters"].as_array().unwrap();
    assert!(!adapters.is_empty());
    for adapter in adapters {
        assert!(adapter["limits"]["max_buffer_size"].as_u64().unwrap() > 0);
        assert_eq!(adapter["software"] == true, adapter["type"] == "software");
        let name = adapter["name"].as_str().unwrap();
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    if adapters[0]["software"] == true {
        assert!(text.contains("a software adapter"), "{text}");
        let args = ["demo", "--device", "gpu", "--steps", "0"];
        assert_eq!(eblora(&args).status.code(), Some(2), "flags are checked before a device is opened");
        let (_, warning) = device::open(&Adapter::Best).unwrap();
        assert!(warning.unwrap().contains("software adapter"));
    }
}

#[test]
fn an_adapter_that_is_not_there_is_one_message_and_exit_code_2() {
    for (device, what) in [("gpu:7", "number 7"), ("voodoo", "\"voodoo\""), ("gpu:x", "gpu:x")] {
        let output = eblora(&["demo", "--device", device, "--steps", "1"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        // Mesa has something of its own to say about the environment.
        let ours: Vec<_> = stderr.lines().filter(|l| l.starts_with("error: ") && !l.contains("XDG_RUNTIME")).collect();
        assert!(ours.len() == 1 && ours[0].contains(what), "{stderr}");
    }
}
