//! What a shader binds, and the Rust module that launches it.

use std::fmt::Write as _;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner};

use crate::compose::{Choice, Shader};

/// Most storage buffers of one stage within WebGPU's default limits.
const STORAGE_BUFFERS: usize = 8;
/// Bytes of workgroup memory within WebGPU's default limits.
const WORKGROUP_MEMORY: u32 = 16_384;
/// Invocations of a workgroup within WebGPU's default limits.
const INVOCATIONS: u32 = 256;

/// A variant: its label, what it binds, and whether it needs subgroups.
pub struct Source {
    pub label: String,
    pub bound: Bound,
    pub subgroups: bool,
}

/// What one variant binds.
#[derive(Clone, PartialEq)]
pub struct Bound {
    /// Fields of `Params` with their Rust types.
    params: Vec<(String, &'static str)>,
    /// Storage buffers by binding number, and whether they are written.
    buffers: Vec<(String, bool)>,
}

/// Parses and validates a shader; checks WebGPU's default limits and the conventions of the launcher.
pub fn reflect(source: &str) -> Result<Bound, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    // unpack2x16float is in every WebGPU device, but naga counts it as an extra. The variants for subgroups are launched
    // on devices that have them.
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SUBGROUP;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
    validator.validate(&module).map_err(|e| e.emit_to_string(source))?;

    let [entry] = module.entry_points.as_slice() else { return Err("one entry point is expected".into()) };
    if entry.name != "main" {
        return Err(format!("the entry point is called {}, not main", entry.name));
    }
    if entry.workgroup_size.iter().product::<u32>() > INVOCATIONS {
        return Err(format!("a workgroup of {:?}: more than {INVOCATIONS}", entry.workgroup_size));
    }
    let mut memory = 0;
    let mut params = None;
    let mut bound: Vec<(u32, String, bool)> = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let name = variable.name.clone().unwrap_or_default();
        let size = || module.types[variable.ty].inner.size(module.to_ctx());
        match (variable.space, &variable.binding) {
            (AddressSpace::WorkGroup, _) => memory += size().next_multiple_of(16),
            (AddressSpace::Uniform, Some(b)) if b.binding == 0 => params = Some(fields(&module, variable.ty)?),
            (AddressSpace::Storage { access }, Some(b)) => {
                bound.push((b.binding, name, access.contains(StorageAccess::STORE)));
            }
            _ => {}
        }
    }
    bound.sort();
    if memory > WORKGROUP_MEMORY {
        return Err(format!("{memory} bytes of workgroup memory: more than {WORKGROUP_MEMORY}"));
    }
    if bound.len() > STORAGE_BUFFERS || bound.iter().enumerate().any(|(i, b)| b.0 as usize != i + 1) {
        return Err(format!("storage buffers are bound from 1 on, {STORAGE_BUFFERS} at most"));
    }
    let params = params.ok_or("@binding(0) var<uniform> params: Params is missing")?;
    Ok(Bound { params, buffers: bound.into_iter().map(|(_, name, written)| (name, written)).collect() })
}

fn fields(module: &naga::Module, ty: naga::Handle<naga::Type>) -> Result<Vec<(String, &'static str)>, String> {
    let TypeInner::Struct { members, .. } = &module.types[ty].inner else { return Err("Params is no struct".into()) };
    let field = |m: &naga::StructMember| {
        let TypeInner::Scalar(scalar) = module.types[m.ty].inner else { return Err("Params holds scalars only") };
        let kind = match scalar.kind {
            ScalarKind::Uint => "u32",
            ScalarKind::Float => "f32",
            _ => return Err("Params holds u32 and f32 only"),
        };
        Ok((m.name.clone().unwrap_or_default(), kind))
    };
    Ok(members.iter().map(field).collect::<Result<_, _>>()?)
}

fn camel(name: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
    };
    name.split('_').map(capital).collect()
}

/// Appends the module of a shader; its kernels are numbered from `first`.
pub fn module(code: &mut String, name: &str, shader: &Shader, variants: &[Source], first: usize) -> Result<(), String> {
    let bound = &variants[0].bound;
    if variants.iter().any(|v| v.bound != *bound) {
        return Err("variants bind different things".into());
    }
    write_module(code, name, shader, variants, bound, first).map_err(|e| e.to_string())
}

fn write_module(
    code: &mut String,
    name: &str,
    shader: &Shader,
    variants: &[Source],
    bound: &Bound,
    first: usize,
) -> std::fmt::Result {
    for line in &shader.doc {
        writeln!(code, "///{line}")?;
    }
    writeln!(
        code,
        "pub mod {name} {{\n    use crate::device::{{Access, Device, Kernel}};\n    use crate::buffer::Buffer;"
    )?;
    for axis in &shader.axes {
        let (ty, count) = (camel(&axis.name), axis.choices.len());
        writeln!(
            code,
            "    /// Variants by {}.\n    #[derive(Clone, Copy, Debug, PartialEq, Eq)]\n    pub enum {ty} {{",
            axis.name
        )?;
        for choice in &axis.choices {
            writeln!(code, "        /// `{}`: {:?}.\n        {},", choice.name, choice.constants, camel(&choice.name))?;
        }
        let all: Vec<String> = axis.choices.iter().map(|c| format!("Self::{}", camel(&c.name))).collect();
        writeln!(
            code,
            "    }}\n    impl {ty} {{\n        /// All of them.\n        pub const ALL: [Self; {count}] = [{}];",
            all.join(", ")
        )?;
        for (constant, _) in &axis.choices[0].constants {
            // Only what every choice sets, and sets to a number.
            let of = |c: &Choice| c.constants.iter().find(|(n, _)| n == constant).map(|(_, v)| v.clone());
            let values: Option<Vec<String>> = axis.choices.iter().map(of).collect();
            let Some(values) = values.filter(|v| v.iter().all(|v| v.parse::<u32>().is_ok())) else { continue };
            let arms = axis.choices.iter().zip(values).map(|(c, v)| format!("Self::{} => {v}", camel(&c.name)));
            let arms: Vec<String> = arms.collect();
            let method = constant.to_lowercase();
            writeln!(
                code,
                "        /// Constant `{constant}`.\n        pub const fn {method}(self) -> u32 {{ match self {{ {} }} }}",
                arms.join(", ")
            )?;
        }
        writeln!(code, "    }}")?;
    }
    writeln!(
        code,
        "    /// The uniforms.\n    #[derive(Clone, Copy, Debug, Default, PartialEq)]\n    pub struct Params {{"
    )?;
    for (field, ty) in &bound.params {
        writeln!(code, "        /// `{field}`.\n        pub {field}: {ty},")?;
    }
    writeln!(code, "    }}\n    /// The buffers.\n    #[derive(Clone, Copy, Debug)]\n    pub struct Buffers<'a> {{")?;
    for (buffer, written) in &bound.buffers {
        let how = if *written { "written" } else { "read" };
        writeln!(code, "        /// `{buffer}`, {how}.\n        pub {buffer}: &'a Buffer,")?;
    }
    writeln!(code, "    }}")?;
    let accesses: Vec<_> = bound.buffers.iter().map(|b| if b.1 { "Access::Write" } else { "Access::Read" }).collect();
    writeln!(code, "    /// The variants.\n    pub const KERNELS: [Kernel; {}] = [", variants.len())?;
    for (i, Source { label, subgroups, .. }) in variants.iter().enumerate() {
        writeln!(
            code,
            "        Kernel {{ id: {}, name: {label:?}, source: include_str!(concat!(env!(\"OUT_DIR\"), \"/{label}.wgsl\")), access: &[{}], uniform: {}, subgroups: {subgroups} }},",
            first + i,
            accesses.join(", "),
            (bound.params.len() * 4).next_multiple_of(16),
        )?;
    }
    writeln!(code, "    ];")?;
    let (mut choose, mut arguments) = ("0".to_string(), String::new());
    for axis in &shader.axes {
        choose = format!("({choose}) * {} + {} as usize", axis.choices.len(), axis.name);
        write!(arguments, "{}: {}, ", axis.name, camel(&axis.name))?;
    }
    writeln!(
        code,
        "    /// Queues the kernel over `groups` workgroups.\n    pub fn launch(on: &Device, {arguments}buffers: Buffers<'_>, params: Params, groups: [u32; 3]) {{"
    )?;
    writeln!(code, "        let mut uniform = [0_u8; {}];", (bound.params.len() * 4).next_multiple_of(16))?;
    for (i, (field, _)) in bound.params.iter().enumerate() {
        writeln!(code, "        uniform[{}..{}].copy_from_slice(&params.{field}.to_le_bytes());", 4 * i, 4 * i + 4)?;
    }
    let list: Vec<_> = bound.buffers.iter().map(|b| format!("buffers.{}", b.0)).collect();
    writeln!(code, "        on.launch(&KERNELS[{choose}], &[{}], &uniform, groups);\n    }}\n}}", list.join(", "))
}
