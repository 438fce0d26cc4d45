//! The shape of the repository as a test: which crates there are, which module may import which, where `unsafe` may
//! stand, what the core must not touch, how long a file may be. The sources are read as text; see `source`.

mod rules;
mod source;

use rules::{Verdict, example, floors, gpu, names, pure, size, twins, unsafety};
use source::Source;
use std::path::{Path, PathBuf};

/// The files that may say `unsafe`. Each says at its head why it must.
const UNSAFE: [&str; 3] = ["native/src/formats/mapped.rs", "tests/no_std/src/heap.rs", "tests/no_std/src/main.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository's root").to_path_buf()
}

/// Every file of the repository, by its path from the root, without what is built or hidden.
fn files() -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in folder.read_dir().expect("the repository is readable").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || ["target", "node_modules", "__pycache__", "eblora-demo"].contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let from_root = path.strip_prefix(root).expect("the walk stays below the root");
                found.push(from_root.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    found.sort();
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Rust sources below any of these folders.
fn sources(folders: &[&str]) -> Vec<Source> {
    let below = |path: &String| path.ends_with(".rs") && folders.iter().any(|folder| path.starts_with(folder));
    let found: Vec<_> = files().into_iter().filter(below).map(|path| Source::new(&path, &read(&path))).collect();
    assert!(!found.is_empty(), "no source below {folders:?}");
    found
}

fn holds(rule: &str, verdicts: impl IntoIterator<Item = Verdict>) {
    let broken: Vec<String> = verdicts.into_iter().flatten().collect();
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn the_workspace_has_its_five_members_and_the_shaders() {
    assert_eq!(rules::members(&read("Cargo.toml")), ["core", "gpu", "native", "wasm", "tests"]);
    assert!(root().join("shaders").is_dir());
}

#[test]
fn crates_depend_towards_the_core() {
    for (member, allowed) in rules::CRATES {
        let found = rules::own_dependencies(&read(&format!("{member}/Cargo.toml")));
        let strange: Vec<_> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(strange.is_empty(), "{member} must not depend on {strange:?}");
    }
}

#[test]
fn imports_in_the_core_point_down() {
    let root = Source::new("core/src/lib.rs", &read("core/src/lib.rs"));
    holds("an import points to a lower floor only", sources(&["core/src"]).iter().map(|file| floors(file, &root)));
}

#[test]
fn the_gpu_stands_on_the_backend_trait_alone() {
    holds("the GPU knows the trait, not its CPU twin", sources(&["gpu/src"]).iter().map(gpu));
}

#[test]
fn the_core_does_no_io_and_knows_no_clock() {
    holds("core is pure", sources(&["core/src"]).iter().map(pure));
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    let all = sources(&["core", "gpu", "native", "wasm", "tests"]);
    holds("`unsafe` is for the files of the list in this test", all.iter().map(|file| unsafety(file, &UNSAFE)));
    for allowed in UNSAFE {
        let used = all.iter().any(|file| file.path == allowed && !unsafety(file, &[]).is_empty());
        assert!(used, "{allowed} says no `unsafe` any more: strike it off the list");
    }
}

#[test]
fn files_are_short() {
    let code =
        files().into_iter().filter(|path| [".rs", ".wgsl", ".py", ".js", ".ts"].iter().any(|end| path.ends_with(end)));
    holds("a file has at most 500 lines", code.map(|path| size(&path, &read(&path))));
}

#[test]
fn files_are_named_after_what_they_hold() {
    holds("a name says what is inside", files().iter().map(|path| names(path)));
}

#[test]
fn examples_are_short_enough_to_paste() {
    let examples = files().into_iter().filter(|path| path.contains("/examples/") && path.ends_with(".rs"));
    holds("an example has at most 30 lines of code", examples.map(|path| example(&path, &read(&path))));
}

#[test]
fn every_shader_has_its_twin_on_the_cpu() {
    let files = files();
    let kernel = |path: &&String| {
        path.strip_prefix("shaders/").is_some_and(|name| name.ends_with(".wgsl") && !name.starts_with("shared/"))
    };
    let shaders: Vec<_> = files.iter().filter(kernel).map(|path| (path.clone(), read(path))).collect();
    assert!(!shaders.is_empty());
    holds("a shader names its twin", [twins(&shaders, &files)]);
}
