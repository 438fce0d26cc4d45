//! Where the worker computes: WebGPU, or the CPU, and why.

use eblora_core::backend::Cpu;
use eblora_gpu::{Gpu, Wanted};
use js_sys::{Function, Promise, Reflect};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::error::{Code, Result, WebError};

/// A device; there is one in a worker, for as long as the worker lives.
#[derive(Clone, Copy)]
pub enum Device {
    /// The CPU, by SIMD.
    Cpu(&'static Cpu<f32>),
    /// WebGPU.
    Gpu(&'static Gpu),
}

/// What a reader should know of it.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// `webgpu` or `cpu`.
    pub kind: &'static str,
    /// The adapter's name.
    pub name: String,
    /// Whether it is a WebGPU adapter that computes on the CPU.
    pub software: bool,
    /// Why the CPU is used and what to do, or the warning of a software adapter.
    pub note: Option<String>,
}

const WHAT_TO_DO: &str = "To train on the graphics card, open this page in a current Chrome, Edge, Firefox or Safari with WebGPU \
    and hardware acceleration switched on.";

/// Opens the device that is wanted: `auto`, `webgpu` or `cpu`.
///
/// # Errors
/// When WebGPU is wanted and there is none.
pub async fn open(wanted: &str) -> Result<(Device, DeviceInfo)> {
    match wanted {
        "cpu" => Ok(cpu(None)),
        "webgpu" => webgpu().await.map_err(|why| WebError::input(format!("{why} {WHAT_TO_DO}"))),
        "auto" => Ok(match webgpu().await {
            Ok((_, DeviceInfo { software: true, name, .. })) => {
                let note = format!(
                    "The only WebGPU adapter here ({name}) is a software one, slower than computing on the CPU directly, \
                     which is what is done. {WHAT_TO_DO}"
                );
                cpu(Some(note))
            }
            Ok(found) => found,
            Err(why) => cpu(Some(format!("{why} The CPU is used. {WHAT_TO_DO}"))),
        }),
        other => Err(WebError::new(Code::Input, format!("device {other:?}: auto, webgpu or cpu is expected"))),
    }
}

fn cpu(note: Option<String>) -> (Device, DeviceInfo) {
    let info = DeviceInfo { kind: "cpu", name: "CPU, one thread with SIMD".to_owned(), software: false, note };
    (Device::Cpu(Box::leak(Box::new(Cpu::new()))), info)
}

/// What the browser says of its adapter beside a name, which most don't tell: maker and architecture.
async fn described(navigator: &JsValue) -> String {
    let get = |of: &JsValue, key: &str| Reflect::get(of, &key.into()).unwrap_or_default();
    let gpu = get(navigator, "gpu");
    let request = get(&gpu, "requestAdapter").dyn_into::<Function>().and_then(|request| request.call0(&gpu));
    let adapter = match request.and_then(|promise| promise.dyn_into::<Promise>()) {
        Ok(promise) => JsFuture::from(promise).await.unwrap_or_default(),
        Err(_) => JsValue::UNDEFINED,
    };
    let info = get(&adapter, "info");
    let words = ["vendor", "architecture"].map(|key| get(&info, key).as_string().unwrap_or_default());
    match words.join(" ").trim() {
        "" => "WebGPU".to_owned(),
        words => words.to_owned(),
    }
}

/// WebGPU's device, or why there is none, in a sentence.
async fn webgpu() -> core::result::Result<(Device, DeviceInfo), String> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).unwrap_or_default();
    let there = Reflect::get(&navigator, &"gpu".into()).is_ok_and(|gpu| !gpu.is_undefined() && !gpu.is_null());
    if !there {
        return Err("This browser has no WebGPU, or has it switched off.".to_owned());
    }
    let gpu = Gpu::open(&Wanted::Best).await.map_err(|error| match error {
        eblora_gpu::GpuError::NoAdapter => "This browser has WebGPU, but found no adapter for it.".to_owned(),
        other => format!("WebGPU can't be used here: {other}."),
    })?;
    let name = match &gpu.info().name {
        empty if empty.is_empty() => described(&navigator).await,
        name => name.clone(),
    };
    let software = gpu.is_software() || name.to_lowercase().contains("swiftshader");
    let note = software.then(|| {
        format!(
            "{name} is a software adapter: it computes on the CPU, and more slowly than the CPU path of this page does. \
             {WHAT_TO_DO}"
        )
    });
    Ok((Device::Gpu(Box::leak(Box::new(gpu))), DeviceInfo { kind: "webgpu", name, software, note }))
}
