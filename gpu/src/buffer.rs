//! Device memory: buffers that go back to a pool when they are dropped, so that a run that makes and drops tensors of
//! the same sizes again and again allocates nothing and keeps its bind groups.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Smallest buffer, bytes.
const LEAST: u64 = 256;

/// A piece of device memory.
#[derive(Debug)]
pub struct Buffer {
    raw: wgpu::Buffer,
    id: u32,
    pool: Rc<Pool>,
}

impl Buffer {
    /// Identifies the memory: a buffer out of the pool has the number that it had before.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What wgpu knows it as.
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.pool.free.borrow_mut();
        free.entry(self.raw.size()).or_default().push((self.raw.clone(), self.id));
    }
}

/// Buffers of one usage, by size.
#[derive(Debug)]
pub struct Pool {
    usage: wgpu::BufferUsages,
    free: RefCell<BTreeMap<u64, Vec<(wgpu::Buffer, u32)>>>,
    next: Cell<u32>,
    live: Cell<u32>,
    bytes: Cell<u64>,
}

impl Pool {
    pub fn new(usage: wgpu::BufferUsages) -> Rc<Self> {
        Rc::new(Self { usage, free: RefCell::default(), next: Cell::new(0), live: Cell::new(0), bytes: Cell::new(0) })
    }

    /// Room for `bytes` bytes; what is in it is not defined.
    pub fn take(self: &Rc<Self>, device: &wgpu::Device, bytes: u64) -> Buffer {
        let size = size_class(bytes);
        let free = self.free.borrow_mut().get_mut(&size).and_then(Vec::pop);
        let (raw, id) = free.unwrap_or_else(|| {
            let id = self.next.replace(self.next.get() + 1);
            self.live.set(self.live.get() + 1);
            self.bytes.set(self.bytes.get() + size);
            let desc = wgpu::BufferDescriptor { label: None, size, usage: self.usage, mapped_at_creation: false };
            (device.create_buffer(&desc), id)
        });
        Buffer { raw, id, pool: Rc::clone(self) }
    }

    /// Bytes of all buffers once another of `bytes` bytes has been taken.
    pub fn would_hold(&self, bytes: u64) -> u64 {
        let size = size_class(bytes);
        let free = self.free.borrow().get(&size).is_some_and(|f| !f.is_empty());
        self.bytes.get() + if free { 0 } else { size }
    }

    /// Bytes of all buffers, in use and free.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Buffers that there are, in use and free.
    pub fn live(&self) -> u32 {
        self.live.get()
    }

    /// Buffers ever made.
    pub fn made(&self) -> u32 {
        self.next.get()
    }

    /// Gives the free buffers back to the device; the numbers of those that are gone.
    pub fn trim(&self) -> Vec<u32> {
        let mut gone = Vec::new();
        for (size, buffers) in core::mem::take(&mut *self.free.borrow_mut()) {
            for (raw, id) in buffers {
                // On the web dropping a buffer frees nothing.
                raw.destroy();
                self.live.set(self.live.get() - 1);
                self.bytes.set(self.bytes.get() - size);
                gone.push(id);
            }
        }
        gone
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.trim();
    }
}

/// Four sizes per power of two: at most a quarter is lost, and a few classes serve a whole model.
fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(LEAST);
    let step = (bytes.next_power_of_two() / 8).max(LEAST / 4);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_they_are_asked_and_waste_little() {
        for bytes in (1..5000).chain([1 << 20, (1 << 27) - 4, 1 << 27]) {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(4) && size_class(class) == class, "{bytes}: {class}");
            assert!(bytes < LEAST || class as f64 <= 1.26 * bytes as f64, "{bytes}: {class}");
        }
        assert_eq!(size_class(1 << 27), 1 << 27);
    }
}
