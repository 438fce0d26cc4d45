//! The little there is beyond WGSL itself:
//!
//! - `//! include shared/x.wgsl` takes in another file;
//! - `//! axis tile: large(BM = 128, BN = 128), small(BM = 64, BN = 64)` makes a variant for each choice, setting its
//!   constants, which are declared as `const BM: u32 = 64;`; several axes multiply;
//! - `//@ for I in 0..TM` … `//@ end` repeats lines with `$I` replaced (ends: numbers, constants, `A/B`, `A*B`);
//! - `//@ if NAME` … `//@ else` … `//@ end` keeps lines where `const NAME: bool` is true.

use std::path::Path;
use std::{fs, iter};

/// One file with what it includes.
pub struct Shader {
    /// The lines, includes resolved, directives for variants removed.
    lines: Vec<String>,
    /// What the head of the file says, for the docs.
    pub doc: Vec<String>,
    pub axes: Vec<Axis>,
}

pub struct Axis {
    pub name: String,
    pub choices: Vec<Choice>,
}

#[derive(Clone)]
pub struct Choice {
    pub name: String,
    /// Constants and their values, as text.
    pub constants: Vec<(String, String)>,
}

/// A choice on every axis.
pub struct Variant(Vec<Choice>);

impl Variant {
    /// `shader_choice_choice`.
    pub fn name(&self, shader: &str) -> String {
        iter::once(shader).chain(self.0.iter().map(|c| c.name.as_str())).collect::<Vec<_>>().join("_")
    }
}

impl Shader {
    pub fn read(path: &Path, folder: &Path) -> Result<Self, String> {
        let mut shader = Self { lines: Vec::new(), doc: Vec::new(), axes: Vec::new() };
        shader.take(path, folder, true)?;
        Ok(shader)
    }

    fn take(&mut self, path: &Path, folder: &Path, top: bool) -> Result<(), String> {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        for line in text.lines() {
            if let Some(file) = line.strip_prefix("//! include ") {
                self.take(&folder.join(file.trim()), folder, false)?;
            } else if let Some(axis) = line.strip_prefix("//! axis ") {
                self.axes.push(axis_of(axis)?);
            } else if let Some(doc) = line.strip_prefix("//!") {
                if top {
                    self.doc.push(doc.to_string());
                }
            } else {
                self.lines.push(line.to_string());
            }
        }
        Ok(())
    }

    /// Every combination of choices, the last axis fastest.
    pub fn variants(&self) -> Vec<Variant> {
        let mut all = vec![Variant(Vec::new())];
        for axis in &self.axes {
            let extend = |v: &Variant| {
                let head = v.0.clone();
                axis.choices.iter().map(move |c| Variant(head.iter().chain([c]).cloned().collect())).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(extend).collect();
        }
        all
    }

    /// Plain WGSL.
    pub fn source(&self, variant: &Variant) -> Result<String, String> {
        let mut lines = self.lines.clone();
        for (name, value) in variant.0.iter().flat_map(|c| &c.constants) {
            let head = format!("const {name}:");
            let line = lines.iter_mut().find(|l| l.starts_with(&head));
            let line = line.ok_or_else(|| format!("an axis sets {name}, which is not declared"))?;
            let kept = line.split('=').next().unwrap_or_default().to_string();
            *line = format!("{kept}= {value};");
        }
        let constants: Vec<(String, String)> = lines.iter().filter_map(|l| constant(l)).collect();
        let mut out = String::new();
        expand(&lines, &constants, &mut out)?;
        Ok(out)
    }
}

/// `name: choice(A = 1, B = 2), choice(…)`.
fn axis_of(text: &str) -> Result<Axis, String> {
    let bad = || format!("not an axis: {text:?}");
    let (name, rest) = text.split_once(':').ok_or_else(bad)?;
    let mut choices = Vec::new();
    for choice in rest.split(')').map(|c| c.trim_start_matches([',', ' '])).filter(|c| !c.is_empty()) {
        let (name, constants) = choice.split_once('(').ok_or_else(bad)?;
        let pairs = constants.split(',').filter(|c| !c.trim().is_empty());
        let constants = pairs.map(|c| c.split_once('=').map(|(n, v)| (n.trim().to_string(), v.trim().to_string())));
        let constants = constants.collect::<Option<Vec<_>>>().ok_or_else(bad)?;
        choices.push(Choice { name: name.trim().to_string(), constants });
    }
    Ok(Axis { name: name.trim().to_string(), choices })
}

/// `const NAME: type = value;`
fn constant(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.strip_prefix("const ")?.split_once(':')?;
    let value = rest.split_once('=')?.1.split(';').next()?;
    Some((name.trim().to_string(), value.trim().trim_end_matches('u').to_string()))
}

fn number(text: &str, constants: &[(String, String)]) -> Result<i64, String> {
    if let Some((a, b)) = text.rsplit_once('/') {
        return Ok(number(a, constants)? / number(b, constants)?);
    }
    if let Some((a, b)) = text.rsplit_once('*') {
        return Ok(number(a, constants)? * number(b, constants)?);
    }
    let text = text.trim();
    if let Ok(n) = text.parse() {
        return Ok(n);
    }
    let (_, value) = constants.iter().find(|(n, _)| n == text).ok_or_else(|| format!("{text} is no constant"))?;
    number(value, constants)
}

fn expand(lines: &[String], constants: &[(String, String)], out: &mut String) -> Result<(), String> {
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at].trim_start();
        if let Some(head) = line.strip_prefix("//@ for ") {
            let bad = || format!("not a loop: {line:?}");
            let (name, range) = head.split_once(" in ").ok_or_else(bad)?;
            let (from, to) = range.split_once("..").ok_or_else(bad)?;
            let end = block_end(lines, at)?;
            for i in number(from, constants)?..number(to, constants)? {
                let mark = format!("${name}");
                let body: Vec<String> = lines[at + 1..end].iter().map(|l| l.replace(&mark, &i.to_string())).collect();
                expand(&body, constants, out)?;
            }
            at = end;
        } else if let Some(name) = line.strip_prefix("//@ if ") {
            let end = block_end(lines, at)?;
            let middle = block_else(lines, at, end);
            let value = constants.iter().find(|(n, _)| n == name.trim()).map(|(_, v)| v.as_str());
            let kept = match value {
                Some("true") => &lines[at + 1..middle.unwrap_or(end)],
                Some("false") => middle.map_or(&[][..], |m| &lines[m + 1..end]),
                _ => return Err(format!("{name} is no constant of type bool")),
            };
            expand(kept, constants, out)?;
            at = end;
        } else {
            out.push_str(&lines[at]);
            out.push('\n');
        }
        at += 1;
    }
    Ok(())
}

/// The lines of a block's own directives, by depth.
fn directives(lines: &[String], start: usize) -> impl Iterator<Item = (usize, &str, usize)> {
    let mut depth = 0_usize;
    lines.iter().enumerate().skip(start).filter_map(move |(i, l)| {
        let directive = l.trim_start().strip_prefix("//@ ")?;
        if directive.starts_with("for ") || directive.starts_with("if ") {
            depth += 1;
        }
        let at = depth;
        if directive == "end" {
            depth = depth.saturating_sub(1);
        }
        Some((i, directive, at))
    })
}

fn block_end(lines: &[String], start: usize) -> Result<usize, String> {
    directives(lines, start)
        .find(|&(_, d, depth)| d == "end" && depth == 1)
        .map(|(i, ..)| i)
        .ok_or_else(|| format!("{:?} has no end", lines[start]))
}

fn block_else(lines: &[String], start: usize, end: usize) -> Option<usize> {
    directives(lines, start).find(|&(i, d, depth)| d == "else" && depth == 1 && i < end).map(|(i, ..)| i)
}
