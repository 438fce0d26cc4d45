//! The rules. Each takes sources as text and returns what breaks it, so that the tests below can plant violations.

use crate::source::{Named, Source};

/// What breaks a rule: one line each, with file and line.
pub type Verdict = Vec<String>;

/// The floors of `eblora-core`, from the ground up. An import points to a lower floor, or stays in its own module.
const FLOORS: [&[&str]; 9] = [
    &["scalar"],
    &["random"],
    &["linalg", "metrics"],
    &["manifold", "gpm"],
    &["backend"],
    &["adapter"],
    &["optim", "model"],
    &["method"],
    &["train"],
];

/// Imports between neighbours on one floor that are meant; none of them may be answered by one the other way.
const SIDEWAYS: [(&str, &str); 2] = [("metrics", "linalg"), ("manifold", "gpm")];

/// What a crate may use of ours.
pub const CRATES: [(&str, &[&str]); 4] = [
    ("core", &[]),
    ("gpu", &["eblora-core"]),
    ("native", &["eblora-core", "eblora-gpu"]),
    ("wasm", &["eblora", "eblora-core", "eblora-gpu"]),
];

/// The parts of `std` that would be input, output, a clock or the surroundings of the process.
const IMPURE: [&str; 8] = ["fs", "io", "time", "net", "env", "process", "os", "path"];
const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

/// Names that say how, or nothing, instead of what.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "common", "misc", "helpers", "helper", "manager", "stuff"];

const MOST_LINES: usize = 500;
const MOST_EXAMPLE_LINES: usize = 30;

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// Imports of a file of `core/src` that don't point down. `root` is `core/src/lib.rs`, for what it re-exports. A module
/// called `tests` may look up: it is compiled for itself and draws its comparisons from where they are.
pub fn floors(file: &Source, root: &Source) -> Verdict {
    let module = file.module();
    let Some(own) = module.first() else { return Vec::new() };
    let Some(own_floor) = floor(own) else {
        return vec![format!("{}: the module `{own}` has no floor; give it one in this test", file.path)];
    };
    let exports = root.exports();
    let verdict = |named: Named| {
        let place = format!("{}:{}: {}", file.path, named.line, named.segments.join("::"));
        let target = match resolve(&named, &module) {
            Some(target) => exports.iter().find(|(name, _)| *name == target).map_or(target, |(_, from)| from.clone()),
            None => return Some(format!("{place} leads out of the crate")),
        };
        match floor(&target) {
            _ if target == *own || SIDEWAYS.contains(&(own, &target)) => None,
            Some(floor) if floor < own_floor => None,
            Some(_) => Some(format!("{place} points from `{own}` up or sideways to `{target}`")),
            None => Some(format!("{place} is no module with a floor")),
        }
    };
    let code =
        file.named(&["crate", "super", "self"]).into_iter().filter(|named| !named.inside.contains(&"tests".into()));
    code.filter_map(verdict).collect()
}

/// The top-level module (or item) that a path of a file in `module` leads to.
fn resolve(named: &Named, module: &[String]) -> Option<String> {
    let mut place: Vec<&String> = module.iter().chain(&named.inside).collect();
    for segment in &named.segments {
        match segment.as_str() {
            "crate" => place.clear(),
            "self" => {}
            "super" => drop(place.pop()?),
            _ => place.push(segment),
        }
    }
    place.first().map(|target| target.to_string())
}

/// What the GPU backend uses of the core beside the backend's trait.
pub fn gpu(file: &Source) -> Verdict {
    let allowed = |path: &[String]| match path.get(1).map(String::as_str) {
        Some("backend") => path.get(2).is_none_or(|part| part != "cpu"),
        // What the trait's own signatures speak of.
        Some("scalar" | "Real" | "gpm" | "manifold") => true,
        _ => false,
    };
    let strange = file.named(&["eblora_core"]).into_iter().filter(|named| !allowed(&named.segments));
    strange.map(|named| format!("{}:{}: {}", file.path, named.line, named.segments.join("::"))).collect()
}

/// Input, output, clocks and printing.
pub fn pure(file: &Source) -> Verdict {
    let impure = |named: &Named| IMPURE.contains(&named.segments[1].as_str());
    let mut broken: Verdict =
        (file.named(&["std"]).into_iter().filter(|named| named.segments.len() > 1 && impure(named)))
            .map(|named| format!("{}:{}: {}", file.path, named.line, named.segments.join("::")))
            .collect();
    for (at, token) in file.tokens.iter().enumerate() {
        if PRINTING.contains(&token.text.as_str()) && file.is(at + 1, "!") {
            broken.push(format!("{}:{}: {}!", file.path, token.line, token.text));
        }
    }
    broken
}

/// `unsafe` in a file that is not `allowed`.
pub fn unsafety(file: &Source, allowed: &[&str]) -> Verdict {
    let words = file.tokens.iter().filter(|token| token.text == "unsafe" && !allowed.contains(&file.path.as_str()));
    words.map(|token| format!("{}:{}: unsafe", file.path, token.line)).collect()
}

/// A file that is too long.
pub fn size(path: &str, text: &str) -> Verdict {
    let lines = text.lines().count();
    if lines > MOST_LINES { vec![format!("{path} has {lines}")] } else { Vec::new() }
}

/// An example that is too long: lines that are neither empty nor comment.
pub fn example(path: &str, text: &str) -> Verdict {
    let code = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let lines = code.count();
    if lines > MOST_EXAMPLE_LINES { vec![format!("{path} has {lines}")] } else { Vec::new() }
}

/// A file or folder whose name tells nothing.
pub fn names(path: &str) -> Verdict {
    let stem = |part: &str| part.split('.').next().unwrap_or_default().to_lowercase();
    let empty = path.split('/').any(|part| EMPTY_NAMES.contains(&&*stem(part)));
    if empty { vec![path.to_string()] } else { Vec::new() }
}

/// Shaders whose head names no twin in the core, or one that is not there.
pub fn twins(shaders: &[(String, String)], files: &[String]) -> Verdict {
    let verdict = |(path, text): &(String, String)| {
        let head: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//! ")).collect();
        let head = head.join(" ");
        let Some((twin, _)) = head.split_once("Twin: `").and_then(|(_, rest)| rest.split_once('`')) else {
            return Some(format!("{path} names no twin"));
        };
        let there = twin.starts_with("core/src/") && files.iter().any(|file| file == twin);
        (!there).then(|| format!("{path} has no {twin}"))
    };
    shaders.iter().filter_map(verdict).collect()
}

/// The `members` of a workspace's manifest.
pub fn members(manifest: &str) -> Vec<String> {
    let list =
        manifest.split_once("\nmembers = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',').map(|name| name.trim().trim_matches('"').to_string()).filter(|name| !name.is_empty()).collect()
}

/// Our own crates among the dependencies of a crate's manifest; tests (`dev-dependencies`) may use any.
pub fn own_dependencies(manifest: &str) -> Vec<String> {
    let (mut found, mut section) = (Vec::new(), "");
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        }
        let dependencies = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        if dependencies && (name == "eblora" || name.starts_with("eblora-")) {
            found.push(name.to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floors_of(path: &str, text: &str) -> Verdict {
        floors(
            &Source::new(path, text),
            &Source::new("core/src/lib.rs", "pub use scalar::Real; pub use train::Trainer;"),
        )
    }

    #[test]
    fn an_import_down_or_within_passes() {
        for (path, text) in [
            ("core/src/gpm/update.rs", "use crate::{Real, linalg::svd}; use super::subspace::Basis; use self::x::y;"),
            ("core/src/linalg/gram.rs", "use super::*; mod tests { use super::*; use crate::metrics::spectrum; }"),
            ("core/src/train/mod.rs", "fn f() { crate::method::ebo::g::<u8>() } // crate::native"),
            ("core/src/metrics/spectrum.rs", "use crate::linalg::svd;"),
            ("core/src/lib.rs", "pub use train::Trainer; use crate::anything;"),
        ] {
            assert_eq!(floors_of(path, text), [""; 0], "{path}");
        }
    }

    #[test]
    fn an_import_up_or_sideways_is_found() {
        for (path, text, told) in [
            ("core/src/linalg/gram.rs", "\nuse crate::gpm::Memory;", "gram.rs:2: crate::gpm::Memory"),
            ("core/src/linalg/gram.rs", "use crate::{Real, train::{self, x}};", "`linalg` up or sideways to `train`"),
            ("core/src/linalg/gram.rs", "use super::super::backend::Tensor;", "to `backend`"),
            ("core/src/linalg/gram.rs", "mod inner { use super::super::super::optim::adamw; }", "to `optim`"),
            ("core/src/linalg/mod.rs", "fn f() { crate::method::g() }", "to `method`"),
            ("core/src/linalg/mod.rs", "fn f() -> super::metrics::T {}", "to `metrics`"),
            ("core/src/gpm/mod.rs", "use crate::manifold::x;", "to `manifold`"),
            ("core/src/optim/mod.rs", "use crate::Trainer;", "to `train`"),
            ("core/src/optim/mod.rs", "use crate::unheard::of;", "no module with a floor"),
            ("core/src/optim/mod.rs", "use super::super::x;", "leads out"),
            ("core/src/linalg/mod.rs", "mod tests { use super::*; }\nuse crate::gpm::x;", "mod.rs:2: crate::gpm::x"),
            ("core/src/scalar.rs", "use crate::random::Random;", "to `random`"),
            ("core/src/scalar.rs", "use super::*;", "no module with a floor"),
            ("core/src/unheard.rs", "", "has no floor"),
        ] {
            let verdict = floors_of(path, text).join("\n");
            assert!(verdict.contains(told), "{path}: {text}\n{verdict:?} does not tell {told:?}");
        }
    }

    #[test]
    fn no_neighbours_import_each_other() {
        for (from, to) in SIDEWAYS {
            assert_eq!(floor(from), floor(to));
            assert!(!SIDEWAYS.contains(&(to, from)));
        }
    }

    #[test]
    fn the_gpu_may_not_look_behind_the_trait() {
        let check = |text| gpu(&Source::new("gpu/src/lib.rs", text)).len();
        assert_eq!(check("use eblora_core::backend::{Backend, Tensor}; use eblora_core::Real;"), 0);
        assert_eq!(check("use eblora_core::backend::{Backend, cpu::Cpu}; use eblora_core::linalg;"), 2);
    }

    #[test]
    fn io_clocks_and_printing_are_found() {
        let check = |text| pure(&Source::new("core/src/a.rs", text)).len();
        assert_eq!(
            check("use std::sync::Arc; let s = \"println!\"; // std::fs\n fn println() {} use core::time::X;"),
            0
        );
        assert_eq!(
            check("use std::{fs, io::Read, sync}; fn f() { std::time::Instant::now(); println!(); dbg!(x) }"),
            5
        );
    }

    #[test]
    fn unsafe_is_found() {
        let file = Source::new("core/src/a.rs", "#![allow(unsafe_code)] // unsafe\n fn f() { unsafe { g() } }");
        assert_eq!(unsafety(&file, &["core/src/b.rs"]), ["core/src/a.rs:2: unsafe"]);
        assert_eq!(unsafety(&file, &["core/src/a.rs"]), [""; 0]);
    }

    #[test]
    fn long_files_and_examples_are_found() {
        assert!(size("a.rs", &"\n".repeat(500)).is_empty());
        assert!(!size("a.rs", &"\n".repeat(501)).is_empty());
        assert!(example("a.rs", &("//! a\n\n".repeat(9) + &"f();\n".repeat(30))).is_empty());
        assert!(!example("a.rs", &"f();\n".repeat(31)).is_empty());
    }

    #[test]
    fn empty_names_are_found() {
        assert!(names("core/src/linalg/gram.rs").is_empty());
        for path in ["core/src/utils.rs", "native/src/helpers/mod.rs", "tests/python/common.py", "shaders/misc.wgsl"] {
            assert_eq!(names(path), [path]);
        }
    }

    #[test]
    fn a_shader_without_a_twin_is_found() {
        let files = ["core/src/backend/cpu/gelu.rs".to_string()];
        let check = |text: &str| twins(&[("shaders/x.wgsl".to_string(), text.to_string())], &files);
        assert!(check("//! y = gelu(x). Twin:\n//! `core/src/backend/cpu/gelu.rs`.\nfn main() {}").is_empty());
        assert_eq!(check("//! Twin: `core/src/norm.rs`."), ["shaders/x.wgsl has no core/src/norm.rs"]);
        assert_eq!(check("// Twin: `core/src/backend/cpu/gelu.rs`."), ["shaders/x.wgsl names no twin"]);
    }

    #[test]
    fn manifests_are_read() {
        assert_eq!(members("[workspace]\nmembers = [\n  \"core\", \"gpu\",\n]\nexclude = [\"x\"]"), ["core", "gpu"]);
        let manifest = "[package]\nname = \"eblora-x\"\n[dependencies]\neblora-core.workspace = true\neblora = \"1\"\n\
            [target.'cfg(unix)'.dependencies]\neblora-gpu = { path = \"\" }\n[dev-dependencies]\neblora-tests = \"1\"";
        assert_eq!(own_dependencies(manifest), ["eblora-core", "eblora", "eblora-gpu"]);
    }
}
