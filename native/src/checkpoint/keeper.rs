//! Who keeps a run's states while it runs: into a store, with the time spent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use eblora_core::train::state::SaveError;
use eblora_core::train::{Checkpoints, RunState};

use super::{Sittings, Store};
use crate::memory;

/// Saves the states of a run, and stops it when asked to.
#[derive(Debug)]
pub struct Keeper<'a> {
    store: &'a mut Store,
    stop: &'a AtomicBool,
    before: Sittings,
    device: String,
    since: Instant,
}

impl<'a> Keeper<'a> {
    /// Keeps states in `store` from now on; `before`: of the sittings so far. The run stops once `stop` is set.
    pub fn new(store: &'a mut Store, stop: &'a AtomicBool, before: Sittings, device: String) -> Self {
        Self { store, stop, before, device, since: Instant::now() }
    }

    /// Of all sittings, up to now.
    pub fn sittings(&self) -> Sittings {
        Sittings {
            eblora_version: env!("CARGO_PKG_VERSION").to_owned(),
            device: self.device.clone(),
            seconds: self.before.seconds + self.since.elapsed().as_secs_f64(),
            peak_memory_bytes: self.before.peak_memory_bytes.max(memory::peak_bytes()),
        }
    }
}

impl Checkpoints<f32> for Keeper<'_> {
    fn save(&mut self, state: &RunState<f32>) -> Result<(), SaveError> {
        let sittings = self.sittings();
        Ok(self.store.save(state, &sittings)?)
    }

    fn stop(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
