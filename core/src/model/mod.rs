//! Models, written once and generic over the [`Backend`]: explicit forward and backward
//! passes that compute only what training needs, namely gradients through frozen weights and of the adapters, or, in the
//! gradient pass before a task, what each adapted layer's weight gradient is made of.

pub mod bert;
mod frozen;
mod linear;
pub mod llama;
mod places;
mod targets;
mod upload;
pub(crate) mod views;
pub mod vit;

pub use frozen::{Correction, Frozen, HostValues};
pub use linear::Linear;
pub use targets::{Targets, matches};

use alloc::string::String;
use core::future::Future;
use faer::Mat;

use crate::Real;
use crate::adapter::{AdapterGrads, Adapters};
use crate::backend::{Backend, BackendError, View};

/// A linear layer that can carry an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The tensor name of its weight in the model's own file, without `.weight`.
    pub name: String,
    /// Output features.
    pub out: usize,
    /// Input features.
    pub inp: usize,
    /// Index ℓ of its block, for the depth schedule.
    pub depth: usize,
}

/// Why a model could not be built or used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Extents that don't fit together.
    #[error("{what}")]
    Config {
        /// What does not fit.
        what: String,
    },
    /// A weight of another shape than the configuration says.
    #[error("{name}: {got} values where the configuration needs {expected}")]
    Weight {
        /// Name of the tensor.
        name: String,
        /// Values needed.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// A label outside the head.
    #[error("label {label} of sample {sample}: the model's head knows labels 0 to {last}")]
    Label {
        /// The label.
        label: u32,
        /// Index of the sample.
        sample: usize,
        /// The largest label.
        last: usize,
    },
    /// More samples than the workspace holds.
    #[error("a batch of {got} samples in a workspace for {capacity}")]
    Batch {
        /// Samples given.
        got: usize,
        /// Samples that fit.
        capacity: usize,
    },
    /// A token that is not in the vocabulary.
    #[error("token {id} of sample {sample}: the model's vocabulary ends with {last}; is it another model's tokenizer?")]
    Token {
        /// The token.
        id: u32,
        /// Index of the sample.
        sample: usize,
        /// The largest token.
        last: usize,
    },
    /// A sample of more tokens than there is room for.
    #[error("sample {sample} has {tokens} tokens, more than the {most} of this run; truncate it or raise the limit")]
    TooLong {
        /// Index of the sample.
        sample: usize,
        /// Its tokens.
        tokens: usize,
        /// The most.
        most: usize,
    },
    /// A sample without a token.
    #[error("sample {sample} has no token at all")]
    Empty {
        /// Index of the sample.
        sample: usize,
    },
    /// Adapters for layers that the model doesn't have.
    #[error("targets: {what}")]
    Targets {
        /// What is not there.
        what: String,
    },
    /// A sequence of tokens that can't be learnt from or continued.
    #[error("sequence {sample}: {what}")]
    Sequence {
        /// Index of the sample.
        sample: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Takes the two factors of each adapted layer's weight gradient, `∂L/∂W = dyᵀ·x`, one batch at a time.
pub trait WeightGradients<B: Backend> {
    /// `dy` is n×out, `x` is n×in.
    fn collect(&mut self, backend: &B, site: usize, dy: View<'_, B::Tensor>, x: View<'_, B::Tensor>);
}

/// What a backward pass is for.
pub enum Wanted<'a, B: Backend> {
    /// Gradients of the adapters.
    Adapters(&'a Adapters<B>, &'a mut AdapterGrads<B>),
    /// The factors of the full weight gradients, at every site.
    Weights(&'a mut dyn WeightGradients<B>),
}

impl<B: Backend> Wanted<'_, B> {
    /// Whether a site's gradient is wanted.
    pub(crate) fn has(&self, site: usize) -> bool {
        match self {
            Self::Adapters(adapters, _) => adapters.slot(site).is_some(),
            Self::Weights(_) => true,
        }
    }

    /// The adapters of the forward pass before it.
    pub(crate) fn adapters(&self) -> Option<&Adapters<B>> {
        match self {
            Self::Adapters(adapters, _) => Some(adapters),
            Self::Weights(_) => None,
        }
    }
}

/// A classifier, or a language model, with adaptable linear layers, over samples of type [`Model::Samples`].
///
/// The order of a training step: [`Model::load`], [`Model::forward`], [`Model::loss`], [`Model::backward`].
pub trait Model<B: Backend> {
    /// A set of labelled samples on the host.
    type Samples: Samples;
    /// Activations and their gradients for batches up to a fixed size.
    type Workspace;

    /// The linear layers that can carry an adapter, in the order of the forward pass.
    fn sites(&self) -> &[Site];
    /// Largest depth + 1.
    fn blocks(&self) -> usize;
    /// Rows of a layer's activations for a batch of so many samples.
    fn rows(&self, batch: usize) -> usize;
    /// Room for batches of up to `capacity` samples.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn workspace(&self, backend: &B, capacity: usize) -> Result<Self::Workspace, ModelError>;
    /// Makes room for the adapters' inner activations; call it whenever the adapters are new.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn attach(&self, backend: &B, work: &mut Self::Workspace, adapters: &Adapters<B>) -> Result<(), ModelError>;
    /// Moves a batch to the device.
    ///
    /// # Errors
    /// When it doesn't fit the model or the workspace.
    fn load(
        &self,
        backend: &B,
        work: &mut Self::Workspace,
        samples: &Self::Samples,
        batch: &[usize],
    ) -> Result<(), ModelError>;
    /// Computes the logits of the loaded batch.
    fn forward(&self, backend: &B, work: &mut Self::Workspace, adapters: Option<&Adapters<B>>);
    /// Mean loss of the batch into `loss[index]`, and its gradient for [`Model::backward`].
    fn loss(&self, backend: &B, work: &mut Self::Workspace, loss: &mut B::Tensor, index: usize);
    /// Gradients of what is wanted. Needs a [`Model::forward`] with the same adapters and a [`Model::loss`] before it.
    fn backward(&self, backend: &B, work: &mut Self::Workspace, wanted: &mut Wanted<'_, B>);
    /// The logits of the loaded batch, batch × [`Model::classes`] and perhaps stale rows behind them.
    fn logits<'w>(&self, work: &'w Self::Workspace) -> &'w B::Tensor;
    /// Width of the logits.
    fn classes(&self) -> usize;
    /// Adds `s·U·Vᵀ` of every adapter to its weight, or to the correction beside weights that keep their stored bits.
    ///
    /// # Errors
    /// When the device is out of memory.
    fn merge(&mut self, backend: &B, adapters: &Adapters<B>) -> Result<(), ModelError>;
    /// The weight of a site with everything merged so far, out×in, read back.
    ///
    /// # Errors
    /// When there is no such site, or the device fails.
    fn weight(&self, backend: &B, site: usize) -> impl Future<Output = Result<Mat<B::Scalar>, ModelError>>;
    /// How many of these samples, no more than a batch, the model gets right; `classes` are those of their task, rising. By
    /// default those whose largest logit is that of their label.
    ///
    /// # Errors
    /// When the samples don't fit the model, or the device fails.
    fn count_right(
        &self,
        backend: &B,
        work: &mut Self::Workspace,
        adapters: Option<&Adapters<B>>,
        samples: &Self::Samples,
        batch: &[usize],
        classes: &[u32],
    ) -> impl Future<Output = Result<Right, ModelError>> {
        async move {
            self.load(backend, work, samples, batch)?;
            self.forward(backend, work, adapters);
            let logits = backend.read(self.logits(work)).await?;
            let mut right = Right::default();
            for (row, &sample) in logits.chunks(self.classes()).zip(batch) {
                let label = Some(samples.label(sample) as usize);
                right.free += usize::from(argmax(row) == label);
                right.masked += usize::from(argmax_among(row, classes.iter().map(|&class| class as usize)) == label);
            }
            Ok(right)
        }
    }
}

/// Of some samples of one task, how many a model gets right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Right {
    /// Where it may choose any class.
    pub free: usize,
    /// Where it is told the task: it chooses among the task's classes, and the other logits are masked.
    pub masked: usize,
}

/// The weight of the linear layer at `site`, read back.
async fn weight_at<'l, B: Backend + 'l>(
    backend: &B,
    mut linears: impl Iterator<Item = &'l Linear<B>>,
    site: usize,
) -> Result<Mat<B::Scalar>, ModelError> {
    match linears.find(|linear| linear.is_at(site)) {
        Some(linear) => Ok(linear.weight.read(backend).await?),
        None => Err(ModelError::Config { what: alloc::format!("the model has no site {site}") }),
    }
}

/// Index of the largest value, the first of equals; `None` where any is NaN.
pub(crate) fn argmax<T: Real>(row: &[T]) -> Option<usize> {
    argmax_among(row, 0..row.len())
}

/// The same among these classes; `None` also where there is none, or one is beyond the row.
fn argmax_among<T: Real>(row: &[T], classes: impl IntoIterator<Item = usize>) -> Option<usize> {
    let mut classes = classes.into_iter().peekable();
    let mut best = *classes.peek()?;
    for class in classes {
        if row.get(class)?.partial_cmp(row.get(best)?)? == core::cmp::Ordering::Greater {
            best = class;
        }
    }
    Some(best)
}

/// Labelled samples: what the trainer needs to know of any data set.
pub trait Samples {
    /// Number of samples.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Class of sample `i`.
    fn label(&self, i: usize) -> u32;
    /// How long sample `i` is, where samples differ in length and a batch is filled up to its longest: tokens.
    fn length(&self, _: usize) -> usize {
        1
    }
    /// Numbers that sample `i` is kept in: pixels or tokens.
    fn numbers(&self, i: usize) -> usize {
        self.length(i)
    }
    /// The samples at these indices of each set, set after set, to be trained on by the model of all these sets.
    fn gather(parts: &[(&Self, &[usize])]) -> Self
    where
        Self: Sized;
}

#[cfg(test)]
mod tests {
    use super::{argmax, argmax_among};

    #[test]
    fn argmax_takes_the_first_of_equals_and_no_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[1.0, f64::NAN]), None);
        assert_eq!(argmax(&[f64::NAN; 2]), None);
    }

    #[test]
    fn only_the_task_s_classes_are_chosen_from() {
        let row = [5.0, 1.0, 3.0, 3.0, f64::NAN];
        assert_eq!(argmax_among(&row, [1, 2, 3]), Some(2));
        assert_eq!(argmax_among(&row, [0, 1, 2, 3]), Some(0));
        assert_eq!(argmax_among(&row, [1]), Some(1));
        assert_eq!(
            (argmax_among(&row, [1, 4]), argmax_among(&row, [1, 5]), argmax_among(&row, [])),
            (None, None, None)
        );
    }
}
