//! A Rust source, as far as the rules need it: its words, and the paths that it names. A simple scan, no parser; comments,
//! strings and characters are skipped, so that only code counts.

/// A word or a sign of the source, with its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path such as `crate::linalg::gram`, one for each leaf of a `use` tree.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
    /// The inline modules (`mod tests { … }`) around it.
    pub inside: Vec<String>,
}

/// A source file: its path from the repository's root, and its tokens.
pub struct Source {
    pub path: String,
    pub tokens: Vec<Token>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_string(), tokens: tokens(text) }
    }

    /// Whether the token at `at` reads `text`.
    pub fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == text)
    }

    /// The module of a file in `…/src/`: `core/src/backend/cpu/mod.rs` is `[backend, cpu]`.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.split_once("src/").map_or(&*self.path, |(_, inner)| inner);
        let parts = inner.trim_end_matches(".rs").split('/').map(String::from);
        let mut module: Vec<String> = parts.collect();
        if module.last().is_some_and(|last| last == "mod" || (last == "lib" && module.len() == 1)) {
            module.pop();
        }
        module
    }

    /// All paths that begin with one of `roots`.
    pub fn named(&self, roots: &[&str]) -> Vec<Named> {
        let mut found = Vec::new();
        let mut braces: Vec<Option<String>> = Vec::new();
        for at in 0..self.tokens.len() {
            match self.tokens[at].text.as_str() {
                "{" if at >= 2 && self.is(at - 2, "mod") => braces.push(Some(self.tokens[at - 1].text.clone())),
                "{" => braces.push(None),
                "}" => drop(braces.pop()),
                word if roots.contains(&word) && self.is(at + 1, "::") && !self.continues(at) => {
                    let mut leaves = Vec::new();
                    self.leaves(at, Vec::new(), &mut leaves);
                    let inside: Vec<String> = braces.iter().flatten().cloned().collect();
                    let line = self.tokens[at].line;
                    found.extend(leaves.into_iter().map(|segments| Named { segments, line, inside: inside.clone() }));
                }
                _ => {}
            }
        }
        found
    }

    /// Whether the word at `at` is a later part of a longer path, or a method.
    fn continues(&self, at: usize) -> bool {
        at > 0 && (self.is(at - 1, "::") || self.is(at - 1, "."))
    }

    /// What `pub use` brings to this file: the name and the module it comes from.
    pub fn exports(&self) -> Vec<(String, String)> {
        let mut leaves = Vec::new();
        for at in 0..self.tokens.len() {
            if self.is(at, "pub") && self.is(at + 1, "use") {
                self.leaves(at + 2, Vec::new(), &mut leaves);
            }
        }
        let pair = |path: Vec<String>| Some((path.last()?.clone(), path.iter().find(|part| *part != "crate")?.clone()));
        leaves.into_iter().filter_map(pair).collect()
    }

    /// Reads the `use` tree (or plain path) at `at`, behind `prefix`; returns the position after it.
    fn leaves(&self, mut at: usize, mut prefix: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
        loop {
            let Some(token) = self.tokens.get(at) else { return at };
            if token.text == "{" {
                at += 1;
                while at < self.tokens.len() && !self.is(at, "}") {
                    at = self.leaves(at, prefix.clone(), found);
                    // `as other_name`, then the comma
                    while at < self.tokens.len() && !self.is(at, ",") && !self.is(at, "}") {
                        at += 1;
                    }
                    at += usize::from(self.is(at, ","));
                }
                return at + 1;
            }
            let word = token.text.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !word && token.text != "*" {
                found.push(prefix);
                return at; // a turbofish or the like
            }
            prefix.push(token.text.clone());
            at += 1;
            if !self.is(at, "::") {
                found.push(prefix);
                return at;
            }
            at += 1;
        }
    }
}

/// The words and signs of `text`, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while at < chars.len() {
        let begun = at;
        let c = chars[at];
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                let step = if starts(at, "/*") {
                    depth += 1;
                    2
                } else if starts(at, "*/") {
                    depth -= 1;
                    2
                } else {
                    1
                };
                at += step;
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            at = string_end(&chars, at);
        } else if c == '\'' {
            at = quote_end(&chars, at);
        } else if c.is_alphanumeric() || c == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            let word: String = chars[begun..at].iter().collect();
            if let Some(end) = raw_string_end(&chars, at).filter(|_| ["r", "br", "cr"].contains(&&*word)) {
                at = end;
            } else if !(["b", "c"].contains(&&*word) && chars.get(at) == Some(&'"')) {
                found.push(Token { text: word, line });
            }
        } else {
            at += if starts(at, "::") { 2 } else { 1 };
            if !c.is_whitespace() {
                found.push(Token { text: chars[begun..at].iter().collect(), line });
            }
        }
        at = at.min(chars.len());
        line += chars[begun..at].iter().filter(|&&c| c == '\n').count();
    }
    found
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of `##"…"##` at `at`, or nothing where no raw string begins.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closes = |end: &usize| chars[*end] == '"' && (1..=hashes).all(|i| chars.get(end + i) == Some(&'#'));
    Some((at + hashes + 1..chars.len()).find(closes).map_or(chars.len(), |end| end + hashes + 1))
}

/// The end of a character (`'x'`, `'\n'`) or a lifetime (`'a`).
fn quote_end(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let close = (at + 3..chars.len()).find(|&end| chars[end] == '\'');
        return close.map_or(chars.len(), |end| end + 1);
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    fn paths(text: &str) -> Vec<String> {
        let source = Source::new("core/src/a/b.rs", text);
        source.named(&["crate", "super", "std"]).into_iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn only_code_counts() {
        let text = r####"a /* unsafe /* std::fs */ */ "unsafe \" x" b // unsafe
            r#"uns"afe"# 'x' '\'' '\u{41}' c<'life> b"unsafe" br"\" d 'e' "####;
        assert_eq!(words(text), ["a", "b", "c", "<", "life", ">", "d"]);
        assert_eq!(tokens("a\n/*\n*/ b \"\n\" c").iter().map(|token| token.line).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn use_trees_are_read_to_their_leaves() {
        let text =
            "use crate::{gpm::{self, update as u}, linalg::*}; pub(crate) fn f() { std::iter::once::<u8>(super::x()) }";
        let expected = ["crate::gpm::self", "crate::gpm::update", "crate::linalg::*", "std::iter::once", "super::x"];
        assert_eq!(paths(text), expected);
        assert_eq!(paths("use faer::{self}; let x = a.std::<T>; deeper::crate::x"), [""; 0]);
    }

    #[test]
    fn inline_modules_are_known() {
        let source =
            Source::new("core/src/a/b.rs", "fn f() { } mod tests { fn g() { super::f() } } fn h() { super::x() }");
        let inside: Vec<_> = source.named(&["super"]).into_iter().map(|named| named.inside).collect();
        assert_eq!(inside, [vec!["tests".to_string()], vec![]]);
    }

    #[test]
    fn a_file_knows_its_module() {
        let module = |path| Source::new(path, "").module().join("::");
        assert_eq!(module("core/src/backend/cpu/mod.rs"), "backend::cpu");
        assert_eq!(module("core/src/backend/cpu/gelu.rs"), "backend::cpu::gelu");
        assert_eq!(module("core/src/scalar.rs"), "scalar");
        assert_eq!(module("core/src/lib.rs"), "");
    }

    #[test]
    fn exports_are_read() {
        let source = Source::new("core/src/lib.rs", "pub use scalar::Real; pub use crate::gpm::{Memory, update};");
        let expected = [("Real", "scalar"), ("Memory", "gpm"), ("update", "gpm")];
        assert_eq!(source.exports(), expected.map(|(name, from)| (name.to_string(), from.to_string())));
    }
}
