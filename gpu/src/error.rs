//! What can go wrong with a device, and what to do then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eblora_core::backend::BackendError;
use futures_channel::oneshot::{Receiver, Sender, channel};

/// Why no device could be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The machine shows no adapter at all.
    #[error(
        "no GPU adapter found: install a Vulkan, Metal or DX12 driver (on Linux without a GPU: mesa-vulkan-drivers, a \
         software one), or use the CPU"
    )]
    NoAdapter,
    /// None of the adapters is the one asked for.
    #[error("no GPU adapter {wanted}; there are: {found}")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// Numbers and names of what is there.
        found: String,
    },
    /// The adapter is a graphics-only one, or its limits are too small.
    #[error("{adapter}: {what} is {got}, and {need} is needed: use another adapter or the CPU")]
    Limit {
        /// The adapter.
        adapter: String,
        /// The limit.
        what: &'static str,
        /// What it has.
        got: u64,
        /// What is needed.
        need: u64,
    },
    /// The driver gave no device.
    #[error("{adapter}: the driver gives no device: {message}")]
    Request {
        /// The adapter.
        adapter: String,
        /// What it said.
        message: String,
    },
    /// A kernel that the driver refuses.
    #[error(
        "{adapter}: the driver refuses the kernel {kernel}: {message}; use another adapter or the CPU, and report it"
    )]
    Kernel {
        /// The adapter.
        adapter: String,
        /// The kernel.
        kernel: String,
        /// What it said.
        message: String,
    },
}

/// What there is to do when device memory runs out.
pub const OUT_OF_MEMORY: &str = "out of device memory: use a smaller batch or model, --rank or a memory budget, or the \
    CPU; nothing that was saved is gone";

/// The first thing that went wrong with a device, told by callbacks on whatever thread.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    first: Option<String>,
    /// The kernel that the driver is compiling.
    compiling: Option<&'static str>,
    /// Why the device was lost, and who wants to know.
    lost: Option<String>,
    waiting: Vec<Sender<String>>,
}

/// What there is to do when the device is gone.
const GO_ON: &str = if cfg!(target_arch = "wasm32") {
    "reload the page to go on, on this device or another"
} else {
    "run again, with --resume where there is a checkpoint, on this device or another"
};

impl Trouble {
    /// Listens to a device.
    pub fn of(device: &wgpu::Device) -> Self {
        let trouble = Self::default();
        let lost = trouble.clone();
        device.set_device_lost_callback(move |reason, message| {
            let why = if message.is_empty() { format!("{reason:?}") } else { message };
            let message = format!("the device was lost ({why}): nothing that was saved is gone; {GO_ON}");
            lost.report(message.clone());
            let mut state = lost.lock();
            for waiting in state.waiting.drain(..) {
                let _ = waiting.send(message.clone()); // whoever waited may have gone
            }
            state.lost = Some(message);
        });
        let errors = trouble.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            errors.report(match error {
                wgpu::Error::OutOfMemory { .. } => OUT_OF_MEMORY.into(),
                wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                    let said = description.trim();
                    match errors.lock().compiling {
                        None => format!("the driver refused a command: {said}"),
                        Some(kernel) => format!(
                            "the driver refuses the kernel {kernel}: {said}; use another adapter or the CPU, and report it"
                        ),
                    }
                }
            });
        }));
        trouble
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock still holds a whole message.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, message: String) {
        self.lock().first.get_or_insert(message);
    }

    /// Resolves with the message once the device is lost.
    pub fn lost(&self) -> Receiver<String> {
        let (tell, told) = channel();
        let mut state = self.lock();
        match &state.lost {
            Some(message) => drop(tell.send(message.clone())),
            None => state.waiting.push(tell),
        }
        told
    }

    /// Errors until the next call are of this kernel.
    pub fn compiling(&self, kernel: Option<&'static str>) {
        self.lock().compiling = kernel;
    }

    /// The first message so far.
    pub fn message(&self) -> Option<String> {
        self.lock().first.clone()
    }

    /// An error if there was trouble.
    pub fn check(&self, device: &str) -> Result<(), BackendError> {
        self.message().map_or(Ok(()), |message| Err(BackendError::Device { device: device.into(), message }))
    }
}
