//! `eblora devices`: what there is to compute on.

use std::fmt::Write as _;

use eblora_gpu::{AdapterReport, Gpu, GpuError, Wanted, adapters, type_name};
use serde_json::{Value, json};

use super::args::DevicesArgs;
use super::print;
use crate::Error;

/// Lists the CPU and every adapter.
pub fn run(args: &DevicesArgs) -> Result<(), Error> {
    let adapters = pollster::block_on(adapters());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if args.json {
        let list: Vec<Value> = adapters.iter().map(as_json).collect();
        let all = json!({ "cpu": { "threads": threads }, "adapters": list });
        print(&format!("{all:#}\n"));
        return Ok(());
    }
    let mut text = format!("cpu: {threads} threads\n");
    if adapters.is_empty() {
        text += "no GPU adapter: install a Vulkan, Metal or DX12 driver to use one\n";
    }
    let mut refused = None;
    for adapter in &adapters {
        describe(&mut text, adapter);
        if args.check {
            match pollster::block_on(check(adapter)) {
                Ok(()) => text.push_str("    kernels: all are taken\n"),
                Err(error) => {
                    text.push_str("    kernels: refused\n");
                    refused.get_or_insert(error);
                }
            }
        }
    }
    print(&text);
    refused.map_or(Ok(()), |error| Err(error.into()))
}

/// Has the driver compile every kernel.
async fn check(adapter: &AdapterReport) -> Result<(), GpuError> {
    Gpu::open(&Wanted::Index(adapter.index)).await?.check_kernels().await
}

/// The limits that matter here, by name.
fn limits(adapter: &AdapterReport) -> [(&'static str, u64); 4] {
    let limits = &adapter.limits;
    [
        ("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size),
        ("max_buffer_size", limits.max_buffer_size),
        ("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size.into()),
        ("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup.into()),
    ]
}

/// The features that matter here, by name.
fn features(adapter: &AdapterReport) -> Vec<&'static str> {
    let named = [
        (adapter.features.subgroups(), "subgroups"),
        (adapter.features.half(), "shader-f16"),
        (adapter.features.timestamps(), "timestamp-query"),
    ];
    named.into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
}

fn describe(text: &mut String, adapter: &AdapterReport) {
    // Writing to a string can't fail.
    let _ = writeln!(text, "gpu:{adapter}");
    if adapter.is_software() {
        text.push_str("    a software adapter: it computes on the CPU, and more slowly than --device cpu does\n");
    }
    for (name, value) in limits(adapter) {
        let _ = writeln!(text, "    {name}: {value}");
    }
    let _ =
        writeln!(text, "    subgroup size: {} to {}", adapter.info.subgroup_min_size, adapter.info.subgroup_max_size);
    let features = features(adapter);
    let _ = writeln!(text, "    features: {}", if features.is_empty() { "none".into() } else { features.join(", ") });
}

fn as_json(adapter: &AdapterReport) -> Value {
    let info = &adapter.info;
    let limits: serde_json::Map<_, _> =
        limits(adapter).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({
        "index": adapter.index,
        "name": info.name,
        "type": type_name(info.device_type),
        "software": adapter.is_software(),
        "api": format!("{:?}", info.backend).to_lowercase(),
        "driver": info.driver,
        "driver_info": info.driver_info,
        "subgroup_size": [info.subgroup_min_size, info.subgroup_max_size],
        "limits": limits,
        "features": features(adapter),
    })
}
