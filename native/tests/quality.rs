//! The numbers that the method must reach: the demo as a user runs it, at its full length.

use eblora::data::{bundled, mix};
use eblora::demo::{self, DemoConfig, GradientAt};
use eblora::progress;
use eblora::report::result::{MethodResult, RunResult};
use eblora::report::table::{self, Style};
use eblora::run::MethodName;

const MIB: u64 = 1 << 20;

fn run(config: &DemoConfig) -> RunResult {
    let (tasks, base) = (mix::tasks().unwrap(), bundled::base().unwrap());
    let result = demo::run(config, &tasks, &base, progress::standard(true).as_mut()).unwrap();
    println!("{}", table::render(&result, Style::Plain)); // shown where a test fails
    result
}

/// |XᵀX − I| and |MᵀV| after every step of a full run, and memory.
fn holds(method: &MethodResult) {
    let name = &method.name;
    assert!(method.orthonormality_error.is_none_or(|error| error <= 5e-6), "{name}: {:?}", method.orthonormality_error);
    assert!(method.subspace_leak.is_none_or(|leak| leak <= 1e-5), "{name}: {:?}", method.subspace_leak);
    if cfg!(target_os = "linux") {
        let peak = method.peak_memory_bytes.unwrap();
        assert!(peak < 200 * MIB, "{name}: {} MiB", peak / MIB);
    }
    // Fewer classes to choose from, the right one among them.
    let masked = method.masked_accuracy.as_ref().unwrap();
    let cells = method.accuracy.iter().flatten().zip(masked.iter().flatten());
    cells.for_each(|(free, masked)| assert!(free <= masked, "{name}: {free} free, {masked} masked"));
}

#[test]
fn eblora_forgets_least_and_lora_most() {
    let result = run(&DemoConfig::default());
    let [lora, ebo, eblora] = &result.methods[..] else { panic!("three methods") };
    result.methods.iter().for_each(holds);
    let mfn = [lora.mfn, ebo.mfn, eblora.mfn];
    assert!(mfn.is_sorted_by(|a, b| a < b), "MFN of LoRA-FT, EBO, EBLoRA: {mfn:?}");
    assert!(eblora.mfn >= 65.0, "MFN of EBLoRA: {}", eblora.mfn);
    assert!(ebo.mfn >= 38.0, "MFN of EBO: {}", ebo.mfn);
    // Much of what LoRA-FT gets wrong is the choice of a later task's class.
    let masked = lora.masked_mfn().unwrap();
    assert!(masked > lora.mfn + 5.0, "masked MFN of LoRA-FT: {masked}, free {}", lora.mfn);
    assert!(eblora.bwt > lora.bwt && eblora.bwt > ebo.bwt, "BWT: {} {} {}", lora.bwt, ebo.bwt, eblora.bwt);
}

#[test]
fn eblora_holds_with_gradients_at_the_base_too() {
    let methods = vec![MethodName::Eblora];
    let result = run(&DemoConfig { gradient_at: GradientAt::Base, methods, ..DemoConfig::default() });
    let eblora = &result.methods[0];
    holds(eblora);
    assert!(eblora.mfn >= 56.0, "MFN of EBLoRA: {}", eblora.mfn);
}
