//! A BERT encoder, its texts, and the head that all tasks share.

use eblora_core::backend::{Backend, Stored};
use eblora_core::model::ModelError;
use eblora_core::model::bert::{Bert, Encoder, EncoderOptions, Head, TextSet};
use eblora_core::train::{Fact, Task};

use super::{Named, Subject};
use crate::model::Family;
use crate::model::bert_folder::BertFolder;
use crate::model::weights_checksum::WeightsChecksum;

/// Label texts that are embedded at a time.
const LABELS_AT_ONCE: usize = 16;

/// The frozen head that all tasks share.
#[derive(Clone, Debug)]
pub enum TextHead {
    /// A text's score for a label is the cosine of their embeddings.
    Labels(TextSet),
    /// Orthogonal rows ([`Head::orthogonal`]).
    Linear {
        /// Labels that it tells apart.
        labels: usize,
        /// The rows.
        head: Head,
    },
}

/// A BERT encoder under a frozen head, and its texts.
#[derive(Clone, Debug)]
pub struct BertSubject {
    folder: BertFolder,
    options: EncoderOptions,
    head: TextHead,
    temperature: f64,
    tasks: Vec<Named<'static, TextSet>>,
}

impl BertSubject {
    /// The encoder in a folder; a text's label is a number among those of the head.
    pub fn new(
        folder: BertFolder,
        options: EncoderOptions,
        head: TextHead,
        temperature: f64,
        tasks: Vec<Named<'static, TextSet>>,
    ) -> Self {
        Self { folder, options, head, temperature, tasks }
    }
}

impl Subject for BertSubject {
    type Samples = TextSet;
    type Model<B: Backend<Scalar = f32>> = Bert<B>;

    fn family(&self) -> Family {
        Family::Bert
    }

    fn base(&self) -> &str {
        &self.folder.source
    }

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Bert<B>, ModelError> {
        let encoder = Encoder::new(backend, &self.folder.config, &self.folder.weights, &self.options)?;
        let temperature = self.temperature;
        let head = match &self.head {
            TextHead::Labels(texts) => {
                let embeddings = pollster::block_on(encoder.embed(backend, texts, LABELS_AT_ONCE, None))?;
                Head::Labels { embeddings, temperature }
            }
            TextHead::Linear { head, .. } => head.clone(),
        };
        Bert::new(backend, encoder, &head)
    }

    fn tasks(&self) -> Vec<Task<'_, TextSet>> {
        self.tasks.iter().map(Named::task).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![
            Fact::new("base model", format!("one of checksum {:08x}", checksum(&self.folder))),
            Fact::new("most tokens of a text", self.options.max_tokens),
            Fact::new("temperature", self.temperature),
        ];
        facts.push(match &self.head {
            TextHead::Labels(texts) => Fact::new("texts of the labels", format!("{:08x}", tokens(texts))),
            TextHead::Linear { labels, .. } => Fact::new("labels of the linear head", labels),
        });
        for task in &self.tasks {
            let value = format!("{:08x}, {:08x}", tokens(&task.train), tokens(&task.test));
            facts.push(Fact::new(format!("texts of {}", task.name), value));
        }
        facts
    }
}

/// CRC-32 of all tokens and where texts end.
fn tokens(texts: &TextSet) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for text in 0..texts.len() {
        hasher.update(&(texts.tokens(text).len() as u32).to_le_bytes());
        texts.tokens(text).iter().for_each(|token| hasher.update(&token.to_le_bytes()));
    }
    hasher.finalize()
}

/// CRC-32 of extents and all weights; where the model lies does not count.
fn checksum(folder: &BertFolder) -> u32 {
    let BertFolder { source: _, config, weights } = folder;
    let mut sum = WeightsChecksum::new(&format!("{config:?}"));
    for table in [&weights.words, &weights.positions, &weights.token_types] {
        sum.add(table.stored());
    }
    sum.add(Stored::F32(&weights.norm.weight));
    sum.add(Stored::F32(&weights.norm.bias));
    for layer in &weights.layers {
        for linear in layer.linears() {
            sum.add(linear.weight.stored());
            sum.add(Stored::F32(&linear.bias));
        }
        for norm in [&layer.norm1, &layer.norm2] {
            sum.add(Stored::F32(&norm.weight));
            sum.add(Stored::F32(&norm.bias));
        }
    }
    sum.finish()
}
