//! What a step costs and what happens when the device fails: counted on the method's step, which owns the geometry.

use eblora_core::backend::{Backend, BackendError};
use eblora_core::gpm::Gradient;
use eblora_core::linalg::{orthonormality_error, random_orthonormal};
use eblora_core::method::{Eblora, EbloraConfig, Method, TaskStart};
use eblora_core::model::Site;
use eblora_core::random::Random;
use eblora_gpu::{Counters, Gpu, GpuError, Restrict, Wanted};

const OUT: usize = 40;
const INP: usize = 30;

fn open() -> Gpu {
    let gpu = pollster::block_on(Gpu::open(&Wanted::Best));
    gpu.unwrap_or_else(|e| panic!("these tests need an adapter, if only a software one: {e}"))
}

fn sites(layers: usize) -> Vec<Site> {
    (0..layers).map(|i| Site { name: format!("layers.{i}"), out: OUT, inp: INP, depth: i }).collect()
}

fn gradients(sites: &[Site], seed: u64) -> Vec<Gradient<f32>> {
    let mut rng = Random::new(seed, "resident");
    let mut gradient = |site: &Site| Gradient::Factored {
        u: random_orthonormal(site.out, 6, &mut rng).unwrap(),
        s: vec![1.0; 6],
        v: random_orthonormal(site.inp, 6, &mut rng).unwrap(),
        total_energy: 6.0,
    };
    sites.iter().map(&mut gradient).collect()
}

/// What `steps` steps cost after a warm-up of two, in the second task of a model of so many layers.
fn cost(gpu: &Gpu, layers: usize, steps: usize) -> (Counters, Counters) {
    pollster::block_on(async {
        let sites = sites(layers);
        let mut method = Eblora::<Gpu>::new(EbloraConfig { rank: 4, ..EbloraConfig::default() });
        let mut adapters = None;
        for task in 0..2 {
            let gradients = gradients(&sites, task as u64);
            let start = TaskStart { blocks: layers, gradients, ..TaskStart::new([task, 2], &sites, 1) };
            adapters = Some(method.begin_task(gpu, start).unwrap());
            if task == 0 {
                method.end_task(gpu, &[]).unwrap();
            }
        }
        let mut adapters = adapters.unwrap();
        assert_eq!(adapters.stacks.len(), 1, "layers of one shape are one stack");
        let mut grads = adapters.grads(gpu).unwrap();
        let values = Random::new(9, "g").normals::<f32>(layers * OUT * 4);
        let mut before = gpu.counters();
        for step in 0..2 + steps {
            if step == 2 {
                before = gpu.counters();
            }
            let stack = &mut grads.stacks[0];
            gpu.write(&mut stack.u, &values).unwrap();
            gpu.write(&mut stack.v, &values[..layers * INP * 4]).unwrap();
            gpu.fill(stack.s.as_mut().unwrap(), 0.5);
            method.step(gpu, &mut adapters, &mut grads, 1.0).unwrap();
        }
        let after = gpu.counters();
        // The steps did what they should.
        let factors = adapters.read(gpu).await.unwrap();
        let violation = method.violation(&factors).unwrap();
        assert!(violation.orthonormality < 5e-6 && violation.overlap < 1e-5, "{violation:?}");
        assert!(factors.iter().all(|f| orthonormality_error(f.v.as_ref()) < 5e-6));
        (before, after)
    })
}

#[test]
fn a_step_makes_nothing_and_is_one_submission() {
    let gpu = open();
    let (before, after) = cost(&gpu, 6, 10);
    let made = |c: Counters| (c.buffers, c.bind_groups, c.pipelines, c.bytes);
    assert_eq!(made(after), made(before), "nothing is made after warm-up");
    assert_eq!(after.submissions - before.submissions, 10);
}

#[test]
fn the_step_of_24_layers_is_as_many_dispatches_as_that_of_6() {
    let gpu = open();
    let dispatches = |layers| {
        let (before, after) = cost(&gpu, layers, 4);
        (after.dispatches - before.dispatches) / 4
    };
    let (six, many) = (dispatches(6), dispatches(24));
    assert_eq!(six, many);
    assert!(six <= 40, "{six} dispatches a step");
}

#[test]
fn memory_does_not_grow_from_task_to_task() {
    let gpu = open();
    cost(&gpu, 6, 1);
    let first = gpu.counters();
    for _ in 0..10 {
        cost(&gpu, 6, 1);
    }
    let last = gpu.counters();
    assert_eq!((last.bytes, last.buffers), (first.bytes, first.buffers));
    gpu.trim();
    assert!(gpu.counters().bytes < first.bytes / 2, "{:?}", gpu.counters());
    // And it still works.
    cost(&gpu, 6, 1);
}

#[test]
fn a_lost_device_is_a_typed_error_that_says_what_to_do() {
    pollster::block_on(async {
        let gpu = open();
        let x = gpu.upload([1, 2, 2], &[1.0; 4]).unwrap();
        assert_eq!(gpu.read(&x).await.unwrap(), [1.0; 4]);
        gpu.destroy();
        let error = gpu.read(&x).await.unwrap_err();
        let BackendError::Device { device, message } = &error else { panic!("{error:?}") };
        assert_eq!(device, &gpu.name());
        assert!(message.contains("lost") && message.contains("--resume"), "{message}");
        assert!(matches!(gpu.zeros([1, 1, 1]), Err(BackendError::Device { .. })), "and it stays so");
    });
}

#[test]
fn too_much_memory_is_a_typed_error() {
    let gpu = open();
    // 2⁴⁸ bytes: no device has them, whatever it promises.
    let error = gpu.zeros([1 << 16, 1 << 15, 1 << 15]).unwrap_err();
    assert!(matches!(&error, BackendError::Device { .. }), "{error:?}");
    assert!(error.to_string().contains(&gpu.name()), "{error}");
}

#[test]
fn an_adapter_that_is_not_there_is_named_with_those_that_are() {
    for (wanted, name) in [(Wanted::Index(99), "number 99"), (Wanted::Name("voodoo 2".into()), "\"voodoo 2\"")] {
        let error = pollster::block_on(Gpu::open(&wanted)).unwrap_err();
        assert!(matches!(error, GpuError::NotFound { .. }), "{error:?}");
        let (text, there) = (error.to_string(), open().name());
        assert!(text.contains(name) && text.contains(&there), "{text}");
    }
    let name = open().name().to_uppercase();
    assert_eq!(pollster::block_on(Gpu::open(&Wanted::Name(name))).unwrap().name(), open().name());
}

#[test]
fn reading_sizes_are_checked() {
    let gpu = open();
    assert!(matches!(gpu.upload([1, 2, 2], &[1.0; 3]), Err(BackendError::Size { expected: 4, got: 3, .. })));
    let mut x = gpu.zeros([1, 2, 2]).unwrap();
    assert!(matches!(gpu.write(&mut x, &[1.0; 5]), Err(BackendError::Size { .. })));
    let mut labels = gpu.labels(2).unwrap();
    assert!(matches!(gpu.write_labels(&mut labels, &[1; 3]), Err(BackendError::Size { .. })));
    assert_eq!(pollster::block_on(gpu.read(&gpu.zeros([0, 3, 3]).unwrap())), Ok(vec![]));
}

#[test]
fn memory_beyond_the_limit_is_refused_with_the_adapter_and_the_way_out_and_the_rest_works_on() {
    let restrict = Restrict { memory: Some(1 << 20), ..Restrict::default() };
    let gpu = pollster::block_on(Gpu::open_restricted(&Wanted::Best, restrict)).unwrap();
    let small = gpu.upload([1, 100, 100], &vec![2.0; 10_000]).unwrap();
    let error = gpu.zeros([1, 512, 513]).unwrap_err();
    let BackendError::Device { device, message } = &error else { panic!("{error:?}") };
    assert!(*device == gpu.name() && message.contains("out of device memory"), "{error}");
    assert!(message.contains("smaller batch") && message.contains("CPU"), "{message}");
    // What is pooled but unused makes room for other sizes.
    for rows in [100, 300, 500, 700, 900] {
        drop(gpu.zeros([1, rows, 250]).unwrap());
    }
    assert!(gpu.counters().bytes <= 1 << 20);
    assert_eq!(pollster::block_on(gpu.read(&small)).unwrap(), vec![2.0; 10_000]);
}

#[test]
fn a_device_with_a_clock_tells_the_time_of_its_work_and_another_says_that_it_has_none() {
    pollster::block_on(async {
        let gpu = open();
        let has_clock = eblora_gpu::adapters().await[0].features.timestamps();
        let mut x = gpu.zeros([1, 512, 512]).unwrap();
        assert_eq!(gpu.time(|| ()).await.unwrap(), has_clock.then_some(0.0), "nothing was done");
        let seconds = gpu.time(|| gpu.fill(&mut x, 1.0)).await.unwrap();
        assert_eq!(seconds.is_some_and(|s| s > 0.0), has_clock, "{seconds:?}");
    });
}

#[test]
fn the_driver_takes_every_kernel() {
    pollster::block_on(async {
        for plain in [false, true] {
            let restrict = Restrict { plain, ..Restrict::default() };
            let gpu = Gpu::open_restricted(&Wanted::Best, restrict).await.unwrap();
            gpu.check_kernels().await.unwrap();
        }
    });
}
