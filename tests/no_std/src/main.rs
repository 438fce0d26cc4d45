//! A program for a bare ARM Cortex-M4F: no operating system, no `std`, a heap of its own. It runs the numerical core
//! once around (see [`exercise`]); that it links proves that `eblora-core` needs `core` and `alloc` only.
//!
//! The same exercise runs, with its result checked, on the host: `tests/tests/bare_metal_exercise.rs`.
#![no_std]
#![no_main]

extern crate alloc;

mod exercise;
mod heap;

use eblora_core::manifold::{Retraction, TangentMap};

/// Where the last result is left for a debugger to read: 1 is success.
static OUTCOME: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

// SAFETY: `_start` is the linker's entry symbol; nothing else in this program defines it.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let good = [Retraction::Whitening, Retraction::Polar, Retraction::Qr].into_iter().all(|retraction| {
        let (seed, map) = core::hint::black_box((7, TangentMap::Euclidean));
        let single = exercise::run::<f32>(seed, retraction, map).is_some_and(|outcome| outcome.is_good::<f32>());
        let double = exercise::run::<f64>(seed, retraction, map).is_some_and(|outcome| outcome.is_good::<f64>());
        single && double
    });
    OUTCOME.store(if good { 1 } else { 2 }, core::sync::atomic::Ordering::SeqCst);
    halt()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    halt()
}

fn halt() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
