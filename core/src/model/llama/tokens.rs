//! Token sequences on the host: what a language model learns from, and how its answers are counted.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use super::Window;
use crate::model::{ModelError, Samples};

/// Which number ranks candidate answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ranking {
    /// The log-probability of the whole answer.
    #[default]
    Sum,
    /// That of its mean token, which does not favour short answers.
    Mean,
}

/// Candidate answers; the most likely one is the model's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices {
    /// The tokens of each.
    pub answers: Vec<Vec<u32>>,
    /// How they are ranked.
    pub ranking: Ranking,
}

/// Sequences, each with the tokens that are its answer: the loss counts these alone.
///
/// A sequence counts as right if the model, asked greedily, would say exactly its answer; with [`Choices`], if its answer is
/// the most likely one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    tokens: Vec<u32>,
    /// Whether a token belongs to an answer, beside `tokens`.
    answer: Vec<bool>,
    /// Where each sequence ends.
    ends: Vec<usize>,
    choices: Option<Choices>,
    /// Number of each sequence's answer among the choices.
    labels: Vec<u32>,
}

impl TokenSet {
    /// No sequence yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sequence; `answer[i]` says whether token `i` belongs to the answer.
    ///
    /// # Errors
    /// When no token does: there would be nothing to learn. Nor can the first token be one: nothing comes before it. With
    /// choices, the answer must be one of them and end the sequence.
    pub fn push(&mut self, tokens: &[u32], answer: &[bool]) -> Result<(), ModelError> {
        let sample = self.ends.len();
        let refuse = |what: String| Err(ModelError::Sequence { sample, what });
        if answer.len() != tokens.len() {
            return refuse(format!("a mask of {} for {} tokens", answer.len(), tokens.len()));
        }
        let Some(first) = answer.iter().position(|&a| a) else {
            return refuse(format!("none of its {} tokens belongs to the answer", tokens.len()));
        };
        if first == 0 {
            return refuse("its first token belongs to the answer, but no token comes before it".into());
        }
        if let Some(choices) = &self.choices {
            let label = choices.answers.iter().position(|choice| *choice == tokens[first..]);
            match label.filter(|_| answer[first..].iter().all(|&a| a)) {
                Some(label) => self.labels.push(label as u32),
                None => return refuse("its end is not one of the choices".into()),
            }
        }
        self.tokens.extend_from_slice(tokens);
        self.answer.extend_from_slice(answer);
        self.ends.push(self.tokens.len());
        Ok(())
    }

    /// Adds a prompt and the answer to it.
    ///
    /// # Errors
    /// As [`TokenSet::push`].
    pub fn push_pair(&mut self, prompt: &[u32], answer: &[u32]) -> Result<(), ModelError> {
        let tokens = [prompt, answer].concat();
        let mask: Vec<bool> = (0..tokens.len()).map(|i| i >= prompt.len()).collect();
        self.push(&tokens, &mask)
    }

    /// An empty set whose sequences are counted by choosing among these answers.
    ///
    /// # Errors
    /// When one of them is empty, or there is none.
    pub fn with_choices(choices: Choices) -> Result<Self, ModelError> {
        match choices.answers.iter().position(Vec::is_empty) {
            Some(i) => Err(ModelError::Config { what: format!("choice {i} has no tokens") }),
            None if choices.answers.is_empty() => Err(ModelError::Config { what: "no choices".into() }),
            None => Ok(Self { choices: Some(choices), ..Self::default() }),
        }
    }

    /// The choices, if there are.
    pub fn choices(&self) -> Option<&Choices> {
        self.choices.as_ref()
    }

    fn range(&self, i: usize) -> Range<usize> {
        i.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[i]
    }

    /// The tokens of sequence `i`.
    pub fn tokens(&self, i: usize) -> &[u32] {
        &self.tokens[self.range(i)]
    }

    /// Which of them belong to the answer.
    pub fn answer(&self, i: usize) -> &[bool] {
        &self.answer[self.range(i)]
    }

    /// The tokens before the answer of sequence `i`.
    pub fn prompt(&self, i: usize) -> &[u32] {
        let first = self.answer(i).iter().position(|&a| a).unwrap_or(0);
        &self.tokens(i)[..first]
    }

    /// The window that holds every sequence, and every choice after every prompt.
    pub fn window(&self) -> Window {
        let most = |count: &dyn Fn(usize) -> usize| (0..self.ends.len()).map(count).max().unwrap_or(0);
        let tokens = most(&|i| self.tokens(i).len());
        let answer = most(&|i| self.answer(i).iter().filter(|&&a| a).count());
        match self.choices.as_ref().and_then(|choices| choices.answers.iter().map(Vec::len).max()) {
            Some(longest) => Window { tokens: most(&|i| self.prompt(i).len()) + longest, answer: longest },
            None => Window { tokens, answer },
        }
    }
}

impl Samples for TokenSet {
    fn len(&self) -> usize {
        self.ends.len()
    }
    fn label(&self, i: usize) -> u32 {
        self.labels.get(i).copied().unwrap_or(0)
    }
    fn length(&self, i: usize) -> usize {
        self.tokens(i).len()
    }
    /// Without choices: what is trained on is the answers themselves.
    fn gather(parts: &[(&Self, &[usize])]) -> Self {
        let mut all = Self::new();
        for (set, indices) in parts {
            for &i in *indices {
                all.tokens.extend_from_slice(set.tokens(i));
                all.answer.extend_from_slice(set.answer(i));
                all.ends.push(all.tokens.len());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn sequences_keep_their_tokens_and_masks() {
        let mut set = TokenSet::new();
        set.push(&[1, 2, 3], &[false, true, false]).unwrap();
        set.push_pair(&[4], &[5, 6]).unwrap();
        assert_eq!((set.len(), set.tokens(0), set.tokens(1)), (2, &[1, 2, 3][..], &[4, 5, 6][..]));
        assert_eq!((set.answer(1), set.prompt(0), set.prompt(1)), (&[false, true, true][..], &[1][..], &[4][..]));
        assert_eq!(set.window(), Window { tokens: 3, answer: 2 });
    }

    #[test]
    fn a_sequence_without_an_answer_is_an_error() {
        let mut set = TokenSet::new();
        let message =
            |set: &mut TokenSet, tokens: &[u32], mask: &[bool]| set.push(tokens, mask).unwrap_err().to_string();
        assert!(message(&mut set, &[1, 2], &[false, false]).contains("none of its 2 tokens"));
        assert!(message(&mut set, &[], &[]).contains("none of its 0 tokens"));
        assert!(message(&mut set, &[1, 2], &[true, false]).contains("no token comes before"));
        assert!(message(&mut set, &[1, 2], &[true]).contains("a mask of 1 for 2"));
        assert!(set.is_empty(), "nothing refused is kept");
    }

    #[test]
    fn with_choices_an_answer_must_be_one_of_them() {
        assert!(TokenSet::with_choices(Choices::default()).is_err());
        let choices = |answers| Choices { answers, ranking: Ranking::Mean };
        assert!(TokenSet::with_choices(choices(vec![vec![1], vec![]])).is_err());
        let mut set = TokenSet::with_choices(choices(vec![vec![7], vec![8, 9]])).unwrap();
        set.push_pair(&[1, 2], &[8, 9]).unwrap();
        assert_eq!(set.label(0), 1);
        set.push_pair(&[1, 2, 3], &[7]).unwrap();
        assert_eq!(set.window(), Window { tokens: 5, answer: 2 }, "the longest choice after the longest prompt");
        assert!(set.push_pair(&[1, 2], &[8]).is_err());
        assert!(set.push(&[1, 8, 9], &[false, true, false]).is_err(), "a part of a choice");
        assert_eq!(set.len(), 2);
    }
}
