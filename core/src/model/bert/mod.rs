//! BERT (Devlin et al. 2019) as Hugging Face's `BertModel`: post-norm layers over token, position and type embeddings,
//! the mean of a text's token states, and a linear or a frozen text-label head. Six adaptable linear layers a layer.
//!
//! The base is frozen, so its dropout is off.

mod config;
mod encoder;
mod head;
mod pass;
mod texts;
mod workspace;

pub use config::{BertConfig, BertWeights, LayerWeights, LinearWeights, NormWeights};
pub use encoder::{Encoder, EncoderOptions, Padding};
pub use head::Head;
pub use texts::TextSet;
pub use workspace::BertWorkspace;

use faer::Mat;

use crate::adapter::Adapters;
use crate::backend::Backend;
use crate::model::views::{rows, rows_mut};
use crate::model::{Model, ModelError, Site, Wanted, weight_at};
use head::DeviceHead;

/// An encoder with a head.
pub struct Bert<B: Backend> {
    encoder: Encoder<B>,
    head: DeviceHead<B>,
}

impl<B: Backend> Bert<B> {
    /// Puts a head on an encoder.
    ///
    /// # Errors
    /// When the head doesn't fit the encoder, or the device is out of memory.
    pub fn new(backend: &B, encoder: Encoder<B>, head: &Head) -> Result<Self, ModelError> {
        let head = DeviceHead::new(backend, head, encoder.config.hidden)?;
        Ok(Self { encoder, head })
    }

    /// The encoder, with everything merged so far.
    pub fn encoder(&self) -> &Encoder<B> {
        &self.encoder
    }
}

impl<B: Backend> Model<B> for Bert<B> {
    type Samples = TextSet;
    type Workspace = BertWorkspace<B>;

    fn sites(&self) -> &[Site] {
        self.encoder.sites()
    }

    fn blocks(&self) -> usize {
        self.encoder.config.layers
    }

    fn rows(&self, batch: usize) -> usize {
        batch * self.encoder.options.max_tokens
    }

    fn workspace(&self, backend: &B, capacity: usize) -> Result<Self::Workspace, ModelError> {
        Ok(BertWorkspace::new(backend, self, capacity)?)
    }

    fn attach(&self, backend: &B, work: &mut Self::Workspace, adapters: &Adapters<B>) -> Result<(), ModelError> {
        Ok(work.fit(backend, &self.encoder, Some(adapters))?)
    }

    fn load(
        &self,
        backend: &B,
        work: &mut Self::Workspace,
        samples: &TextSet,
        batch: &[usize],
    ) -> Result<(), ModelError> {
        let last = self.head.classes - 1;
        let labels = || batch.iter().map(|&sample| (sample, samples.labels()[sample]));
        if let Some((sample, label)) = labels().find(|(_, label)| *label as usize > last) {
            return Err(ModelError::Label { label, sample, last });
        }
        self.encoder.load(backend, &mut work.act, samples, batch)?;
        work.fit(backend, &self.encoder, None)?;
        work.staged_labels.iter_mut().zip(labels()).for_each(|(place, (_, label))| *place = label);
        Ok(backend.write_labels(&mut work.labels, &work.staged_labels[..batch.len()])?)
    }

    fn forward(&self, backend: &B, work: &mut Self::Workspace, adapters: Option<&Adapters<B>>) {
        self.encoder.forward(backend, &mut work.act, adapters);
        self.head.forward(backend, &mut work.head, &work.act.pooled, work.act.batch);
    }

    fn loss(&self, backend: &B, work: &mut Self::Workspace, loss: &mut B::Tensor, index: usize) {
        let batch = work.act.batch;
        let (d_logits, logits) = (rows_mut(&mut work.head.d_logits, batch), rows(&work.head.logits, batch));
        backend.cross_entropy(loss, index, d_logits, logits, &work.labels);
    }

    fn backward(&self, backend: &B, work: &mut Self::Workspace, wanted: &mut Wanted<'_, B>) {
        self.head.backward(backend, &mut work.head, &mut work.grad.d_pooled, work.act.batch);
        self.encoder.backward(backend, &mut work.act, &mut work.grad, wanted);
    }

    fn logits<'w>(&self, work: &'w Self::Workspace) -> &'w B::Tensor {
        &work.head.logits
    }

    fn classes(&self) -> usize {
        self.head.classes
    }

    async fn weight(&self, backend: &B, site: usize) -> Result<Mat<B::Scalar>, ModelError> {
        weight_at(backend, self.encoder.linears(), site).await
    }

    fn merge(&mut self, backend: &B, adapters: &Adapters<B>) -> Result<(), ModelError> {
        self.encoder.merge(backend, adapters)
    }
}
