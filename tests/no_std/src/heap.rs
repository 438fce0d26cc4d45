//! A heap that only grows: enough for a program that runs once.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

const BYTES: usize = 512 * 1024;

struct Bump {
    arena: UnsafeCell<[u8; BYTES]>,
    used: AtomicUsize,
}

// SAFETY: the arena is only reached through `alloc`, which hands out every byte at most once (`used` grows atomically).
unsafe impl Sync for Bump {}

// SAFETY: a returned block lies in the arena, is aligned as asked, overlaps no other block and is never reused, so it
// stays valid until the end of the program; an exhausted arena gives null, as the trait asks.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.arena.get() as usize;
        let place = |used: usize| {
            let start = (base + used).checked_next_multiple_of(layout.align())? - base;
            let end = start.checked_add(layout.size())?;
            (end <= BYTES).then_some((start, end))
        };
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| place(used).map(|(_, end)| end)) {
            Ok(before) => match place(before) {
                // SAFETY: `start < BYTES` (or `start == BYTES` with no bytes): inside the arena or one past its end.
                Some((start, _)) => unsafe { self.arena.get().cast::<u8>().add(start) },
                None => core::ptr::null_mut(),
            },
            Err(_) => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Bump = Bump { arena: UnsafeCell::new([0; BYTES]), used: AtomicUsize::new(0) };
