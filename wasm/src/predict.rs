//! What a learner says of an image, also while it trains: a model of its own follows the learner's saved states.

use eblora::run::{Answer, ranked};
use eblora_core::adapter::HostAdapters;
use eblora_core::backend::Backend;
use eblora_core::method::After;
use eblora_core::model::Model;
use eblora_core::model::vit::{ImageSet, Vit, VitWorkspace};
use eblora_core::train::RunState;

use crate::base::Base;
use crate::error::{Result, WebError};

/// A model that follows a learner.
pub struct Predictor<B: Backend> {
    model: Vit<B>,
    work: VitWorkspace<B>,
    /// Tasks whose adapters are merged, or kept.
    followed: usize,
}

impl<B: Backend<Scalar = f32>> Predictor<B> {
    /// The base with what was imported into it.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new<'a>(backend: &B, base: &Base, imported: impl Iterator<Item = &'a HostAdapters<f32>>) -> Result<Self> {
        let model = base.model(backend, imported)?;
        let work = model.workspace(backend, 1)?;
        Ok(Self { model, work, followed: 0 })
    }

    /// Whether it has as many classes as the base has now.
    pub fn fits(&self, base: &Base) -> bool {
        self.model.classes() == base.folder.config.labels.len()
    }

    /// The answers of the learner in this state to an image, the likeliest first.
    ///
    /// # Errors
    /// When the image has another size, or the device fails.
    pub async fn answers(
        &mut self,
        backend: &B,
        state: Option<&RunState<f32>>,
        image: &ImageSet,
        labels: &[String],
    ) -> Result<Vec<Answer>> {
        let sites = self.model.sites().len();
        let learnt = state.map_or(&[][..], |state| &state.learnt);
        for task in &learnt[self.followed.min(learnt.len())..] {
            if task.after == After::Merge {
                self.model.merge(backend, &task.adapters.upload(backend, sites)?)?;
            }
        }
        self.followed = learnt.len();
        // Those in training, or the last ones where they stay beside the weights.
        let kept = learnt.last().filter(|task| task.after == After::Keep).map(|task| &task.adapters);
        let training = state.and_then(|state| state.current.as_ref()).map(|task| &task.adapters);
        let beside = training.or(kept).map(|adapters| adapters.upload(backend, sites)).transpose()?;
        if let Some(adapters) = &beside {
            self.model.attach(backend, &mut self.work, adapters)?;
        }
        self.model.load(backend, &mut self.work, image, &[0]).map_err(|e| WebError::input(e.to_string()))?;
        self.model.forward(backend, &mut self.work, beside.as_ref());
        let logits = backend.read(self.model.logits(&self.work)).await?;
        let scores: Vec<f64> = logits.iter().take(self.model.classes()).map(|&x| f64::from(x)).collect();
        Ok(ranked(&scores, labels))
    }
}
