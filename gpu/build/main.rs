//! Composes and validates every shader under `shaders/` and generates its Rust side, so that the two cannot drift apart.

mod bindings;
mod compose;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    if let Err(message) = generate() {
        eprintln!("{message}");
        process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?);
    let shaders = root.join("../shaders");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?);
    println!("cargo::rerun-if-changed={}", shaders.display());
    println!("cargo::rerun-if-changed=build");

    let mut code = String::new();
    let mut kernels = 0;
    let mut modules = String::new();
    for path in files(&shaders)? {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_string();
        let failed = |e: String| format!("{}: {e}", path.display());
        let shader = compose::Shader::read(&path, &shaders).map_err(failed)?;
        let mut sources = Vec::new();
        for variant in shader.variants() {
            let source = shader.source(&variant).map_err(failed)?;
            let label = variant.name(&name);
            let bound = bindings::reflect(&source).map_err(|e| format!("{} as {label}: {e}", path.display()))?;
            let file = out.join(format!("{label}.wgsl"));
            fs::write(&file, &source).map_err(|e| format!("{}: {e}", file.display()))?;
            let subgroups = source.contains("@builtin(subgroup_id)");
            sources.push(bindings::Source { label, bound, subgroups });
        }
        bindings::module(&mut code, &name, &shader, &sources, kernels).map_err(failed)?;
        kernels += sources.len();
        let _ = write!(modules, "&{name}::KERNELS[..], ");
    }
    let _ = writeln!(code, "/// Kernels over all shaders and variants.\npub const KERNELS: usize = {kernels};");
    let _ = writeln!(
        code,
        "/// Every kernel.\npub fn all() -> impl Iterator<Item = &'static crate::device::Kernel> {{ [{modules}].into_iter().flatten() }}"
    );
    fs::write(out.join("shaders.rs"), code).map_err(|e| e.to_string())
}

/// The shaders, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "wgsl"));
    files.sort();
    Ok(files)
}
