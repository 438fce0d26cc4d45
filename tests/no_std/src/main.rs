//! A program for a bare ARM Cortex-M4F: no operating system, no `std`, a heap of its own. It runs the numerical core
//! once around (see [`exercise`]); that it links proves that `eblora-core` needs `core` and `alloc` only.
//!
//! The same exercise runs, with its result checked, on the host: `tests/tests/no_std_exercise.rs`.
#![no_std]
#![no_main]

extern crate alloc;

mod exercise;
mod heap;

/// Where the last result is left for a debugger to read: 1 is success.
static OUTCOME: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

// SAFETY: `_start` is the linker's entry symbol; nothing else in this program defines it.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let good = exercise::run(core::hint::black_box(7)).is_ok();
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
