//! Which of a model's linear layers carry adapters: PEFT's `target_modules` and `layers_to_transform`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ModelError;

/// The linear layers to adapt, by the names of their weights and by their blocks. The default is all of them.
///
/// A pattern is a whole name, or its last parts: `query` and `attention.self.query` match
/// `encoder.layer.3.attention.self.query`, `uery` doesn't.
///
/// ```
/// use eblora_core::model::Targets;
/// let targets = Targets::named(["query", "value"]).in_blocks([3, 4, 5]);
/// assert!(targets.has("encoder.layer.3.attention.self.query", 3));
/// assert!(!targets.has("encoder.layer.2.attention.self.query", 2));
/// assert!(!targets.has("encoder.layer.3.attention.self.key", 3));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Patterns, of which a name must match one; `None`: every name.
    pub names: Option<Vec<String>>,
    /// Blocks, one of which a layer must lie in; `None`: every block.
    pub blocks: Option<Vec<usize>>,
}

/// Whether a name equals the pattern or ends with it after a dot.
pub fn matches(name: &str, pattern: &str) -> bool {
    name.strip_suffix(pattern).is_some_and(|before| before.is_empty() || before.ends_with('.')) && !pattern.is_empty()
}

impl Targets {
    /// Those whose name matches one of the patterns.
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { names: Some(names.into_iter().map(Into::into).collect()), blocks: None }
    }

    /// Only those in these blocks.
    #[must_use]
    pub fn in_blocks(self, blocks: impl IntoIterator<Item = usize>) -> Self {
        Self { blocks: Some(blocks.into_iter().collect()), ..self }
    }

    /// Whether the layer of this name in block `block` is one of them.
    pub fn has(&self, name: &str, block: usize) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|pattern| matches(name, pattern)))
            && self.blocks.as_ref().is_none_or(|blocks| blocks.contains(&block))
    }

    /// Checks that every pattern and every block is one of the model's, and that they leave a layer to adapt.
    ///
    /// # Errors
    /// [`ModelError::Targets`] names what is not there.
    pub fn check<'a>(&self, layers: impl Iterator<Item = (&'a str, usize)>) -> Result<(), ModelError> {
        let layers: Vec<_> = layers.collect();
        let refuse = |what: String| Err(ModelError::Targets { what });
        for pattern in self.names.iter().flatten() {
            if !layers.iter().any(|(name, _)| matches(name, pattern)) {
                let example = layers.first().map_or("none", |(name, _)| name);
                return refuse(format!("no linear layer is called `{pattern}`; the first one is `{example}`"));
            }
        }
        for block in self.blocks.iter().flatten() {
            if !layers.iter().any(|(_, b)| b == block) {
                let last = layers.iter().map(|(_, b)| *b).max().unwrap_or(0);
                return refuse(format!("there is no block {block}; the last one is {last}"));
            }
        }
        if layers.iter().any(|(name, block)| self.has(name, *block)) {
            return Ok(());
        }
        refuse("names and blocks leave no linear layer to adapt".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const QUERY: &str = "bert.encoder.layer.1.attention.self.query";
    const LAYERS: [(&str, usize); 3] =
        [("encoder.layer.0.attention.output.dense", 0), ("encoder.layer.0.output.dense", 0), (QUERY, 1)];

    #[test]
    fn a_pattern_is_a_whole_name_or_whole_last_parts() {
        for pattern in ["query", "self.query", "1.attention.self.query", QUERY] {
            assert!(matches(QUERY, pattern), "{pattern}");
        }
        for pattern in ["uery", "Query", "self", "", ".query", "x.bert.encoder.layer.1.attention.self.query"] {
            assert!(!matches(QUERY, pattern), "{pattern}");
        }
        // As in PEFT, both outputs of a BERT layer end like this.
        let both = Targets::named(["output.dense"]);
        assert_eq!(LAYERS.map(|(name, block)| both.has(name, block)), [true, true, false]);
    }

    #[test]
    fn the_default_is_everything_and_blocks_narrow_it() {
        assert!(LAYERS.iter().all(|(name, block)| Targets::default().has(name, *block)));
        let second = Targets::default().in_blocks([1]);
        assert_eq!(LAYERS.map(|(name, block)| second.has(name, block)), [false, false, true]);
        assert_eq!(second.check(LAYERS.into_iter()), Ok(()));
    }

    #[test]
    fn targets_that_are_not_there_are_named() {
        let message = |targets: Targets| targets.check(LAYERS.into_iter()).unwrap_err().to_string();
        assert!(message(Targets::named(["query", "keys"])).contains("`keys`"));
        assert!(message(Targets::default().in_blocks([2])).contains("block 2; the last one is 1"));
        assert!(message(Targets::named(["query"]).in_blocks([0])).contains("leave no linear layer"));
        assert!(message(Targets::named([""; 0])).contains("leave no linear layer"));
    }
}
