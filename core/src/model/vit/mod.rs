//! Vision Transformer (Dosovitskiy et al. 2021) as Hugging Face's `ViTForImageClassification`: pre-norm blocks, exact
//! GELU, class-token or mean pooling, linear or frozen-prototype head. Six adaptable linear layers a block.

mod classes;
mod config;
mod images;
mod pass;
mod workspace;

pub use classes::class_row;
pub use config::{BlockWeights, Head, LinearWeights, NormWeights, Pooling, Preprocess, VitConfig, VitWeights};
pub use images::{ImageSet, patchify, patchify_normalized};
pub use workspace::VitWorkspace;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use faer::Mat;

use super::places::Places;
use super::upload::tensor as upload;
use super::{Frozen, Linear, Model, ModelError, Samples, Site, Targets, Wanted, weight_at};
use crate::Real;
use crate::adapter::Adapters;
use crate::backend::Backend;

struct Norm<B: Backend> {
    gamma: B::Tensor,
    beta: B::Tensor,
}

struct Block<B: Backend> {
    norm1: Norm<B>,
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    output: Linear<B>,
    norm2: Norm<B>,
    fc1: Linear<B>,
    fc2: Linear<B>,
}

impl<B: Backend> Block<B> {
    /// Its linear layers in the order of the forward pass.
    fn linears(&self) -> [&Linear<B>; 6] {
        [&self.query, &self.key, &self.value, &self.output, &self.fc1, &self.fc2]
    }

    fn linears_mut(&mut self) -> [&mut Linear<B>; 6] {
        [&mut self.query, &mut self.key, &mut self.value, &mut self.output, &mut self.fc1, &mut self.fc2]
    }
}

/// A ViT in device memory. Its weights change only by [`Model::merge`].
pub struct Vit<B: Backend> {
    config: VitConfig,
    sites: Vec<Site>,
    /// Of each site: block·[`SITES`](pass::SITES) + the linear's number in the order of the forward pass.
    places: Vec<usize>,
    /// The patch projection without its bias, d×(channels·patch²).
    patch: B::Tensor,
    /// tokens×d: positions plus the projection's bias, or plus the class token in its row (whose patch is zero).
    offsets: B::Tensor,
    blocks: Vec<Block<B>>,
    norm: Norm<B>,
    classifier: B::Tensor,
    classifier_bias: Option<B::Tensor>,
}

impl<B: Backend> Vit<B> {
    /// Moves the weights to the device; every linear layer can carry an adapter.
    ///
    /// # Errors
    /// When extents and weights don't fit together, or the device is out of memory.
    pub fn new(backend: &B, config: &VitConfig, weights: &VitWeights) -> Result<Self, ModelError> {
        Self::with_targets(backend, config, weights, &Targets::default())
    }

    /// As [`Vit::new`]; only these linear layers can carry adapters.
    ///
    /// # Errors
    /// As [`Vit::new`], and when the targets are not there.
    pub fn with_targets(
        backend: &B,
        config: &VitConfig,
        weights: &VitWeights,
        targets: &Targets,
    ) -> Result<Self, ModelError> {
        config.check()?;
        if weights.blocks.len() != config.layers {
            let what = format!("{} blocks of weights for {} layers", weights.blocks.len(), config.layers);
            return Err(ModelError::Config { what });
        }
        if config.class_token != weights.class_token.is_some() {
            return Err(ModelError::Config { what: "class token: configuration and weights disagree".into() });
        }
        let (d, mlp) = (config.hidden, config.mlp);
        let named = weights.blocks.iter().enumerate();
        targets.check(named.flat_map(|(l, block)| block.linears().map(|w| (&*w.name, l))))?;
        let mut places = Places::new(targets);
        let norm = |w: &NormWeights, name: &str| {
            let gamma = upload(backend, [1, 1, d], &w.weight, &format!("{name}.weight"))?;
            Ok::<_, ModelError>(Norm { gamma, beta: upload(backend, [1, 1, d], &w.bias, &format!("{name}.bias"))? })
        };
        let mut linear = |w: &LinearWeights, out: usize, inp: usize, depth: usize| {
            let weight = Frozen::upload(backend, &w.weight, out, inp, &format!("{}.weight", w.name))?;
            let bias = w.bias.as_ref().map(|b| upload(backend, [1, 1, out], b, &format!("{}.bias", w.name)));
            let site = places.add(w.name.clone(), out, inp, depth);
            Ok::<_, ModelError>(Linear { weight, bias: bias.transpose()?, site })
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for (depth, w) in weights.blocks.iter().enumerate() {
            blocks.push(Block {
                norm1: norm(&w.norm1, &format!("block {depth}: norm before the attention"))?,
                query: linear(&w.query, d, d, depth)?,
                key: linear(&w.key, d, d, depth)?,
                value: linear(&w.value, d, d, depth)?,
                output: linear(&w.output, d, d, depth)?,
                norm2: norm(&w.norm2, &format!("block {depth}: norm before the MLP"))?,
                fc1: linear(&w.fc1, mlp, d, depth)?,
                fc2: linear(&w.fc2, d, mlp, depth)?,
            });
        }
        let (patch, head) = (weights.patch.weight.to_f32(), weights.classifier.weight.to_f32());
        let patch = upload(backend, [1, d, config.patch_values()], &patch, &weights.patch.name)?;
        Ok(Self {
            patch,
            offsets: backend.upload([1, config.tokens(), d], &offsets::<B>(config, weights)?)?,
            blocks,
            norm: norm(&weights.norm, "final norm")?,
            classifier: upload(backend, [1, config.classes, d], &head, "classifier.weight")?,
            classifier_bias: match &weights.classifier.bias {
                Some(bias) => Some(upload(backend, [1, 1, config.classes], bias, "classifier.bias")?),
                None => None,
            },
            sites: places.sites,
            places: places.places,
            config: config.clone(),
        })
    }

    /// Its extents.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// [`Model::load`] for a batch of pixels that are normalised already, images × channels × height × width: what
    /// comes from another preprocessing than the model's own.
    ///
    /// # Errors
    /// When the batch doesn't fit the model or the workspace.
    pub fn load_normalized(
        &self,
        backend: &B,
        work: &mut VitWorkspace<B>,
        pixels: &[B::Scalar],
        labels: &[u32],
    ) -> Result<(), ModelError> {
        let (config, len) = (&self.config, self.config.pixels());
        if pixels.len() != labels.len() * len {
            let (got, images) = (pixels.len(), labels.len());
            return Err(ModelError::Config { what: format!("{got} pixels for {images} images of {len}") });
        }
        let patches = |dst: &mut [B::Scalar], i: usize| patchify_normalized(dst, &pixels[i * len..][..len], config);
        self.stage(backend, work, labels.iter().copied().enumerate(), patches)
    }

    /// Moves samples (their numbers in messages, their labels) to the device; `patches(dst, i)` writes the `i`-th.
    fn stage(
        &self,
        backend: &B,
        work: &mut VitWorkspace<B>,
        samples: impl ExactSizeIterator<Item = (usize, u32)>,
        patches: impl Fn(&mut [B::Scalar], usize),
    ) -> Result<(), ModelError> {
        let (config, batch) = (&self.config, samples.len());
        if batch > work.capacity {
            return Err(ModelError::Batch { got: batch, capacity: work.capacity });
        }
        let per_image = config.tokens() * config.patch_values();
        for (i, (sample, label)) in samples.enumerate() {
            if label as usize >= config.classes {
                return Err(ModelError::Label { label, sample, last: config.classes - 1 });
            }
            work.staged_labels[i] = label;
            patches(&mut work.staging[i * per_image..][..per_image], i);
        }
        work.fit(backend, self, None)?;
        backend.write(&mut work.patches, &work.staging[..batch * per_image])?;
        backend.write_labels(&mut work.labels, &work.staged_labels[..batch])?;
        work.batch = batch;
        Ok(())
    }
}

/// What is added to each token after the projection: its position, and the projection's bias or the class token.
fn offsets<B: Backend>(config: &VitConfig, weights: &VitWeights) -> Result<Vec<B::Scalar>, ModelError> {
    let d = config.hidden;
    let check = |name: &str, got: usize, expected: usize| {
        if got == expected { Ok(()) } else { Err(ModelError::Weight { name: name.to_string(), expected, got }) }
    };
    check("position embeddings", weights.position.len(), config.tokens() * d)?;
    if let Some(bias) = &weights.patch.bias {
        check("patch projection bias", bias.len(), d)?;
    }
    if let Some(token) = &weights.class_token {
        check("class token", token.len(), d)?;
    }
    let scalar = |&x: &f32| B::Scalar::of(f64::from(x));
    let mut offsets: Vec<_> = weights.position.iter().map(scalar).collect();
    for (t, row) in offsets.chunks_mut(d).enumerate() {
        let add = match &weights.class_token {
            Some(token) if t == 0 => Some(token),
            _ => weights.patch.bias.as_ref(),
        };
        row.iter_mut().zip(add.into_iter().flatten()).for_each(|(x, a)| *x += scalar(a));
    }
    Ok(offsets)
}

impl<B: Backend> Model<B> for Vit<B> {
    type Samples = ImageSet;
    type Workspace = VitWorkspace<B>;

    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn blocks(&self) -> usize {
        self.config.layers
    }

    fn rows(&self, batch: usize) -> usize {
        batch * self.config.tokens()
    }

    fn workspace(&self, backend: &B, capacity: usize) -> Result<Self::Workspace, ModelError> {
        Ok(VitWorkspace::new(backend, &self.config, capacity)?)
    }

    fn attach(&self, backend: &B, work: &mut Self::Workspace, adapters: &Adapters<B>) -> Result<(), ModelError> {
        Ok(work.fit(backend, self, Some(adapters))?)
    }

    fn load(
        &self,
        backend: &B,
        work: &mut Self::Workspace,
        samples: &ImageSet,
        batch: &[usize],
    ) -> Result<(), ModelError> {
        let (image, config) = ((samples.channels, samples.height, samples.width), &self.config);
        if image != (config.channels, config.image, config.image) {
            let (c, h, w) = image;
            let (mc, ms) = (config.channels, config.image);
            return Err(ModelError::Config {
                what: format!("images of {c}×{h}×{w} for a model of {mc}×{ms}×{ms}")
            });
        }
        let labels = batch.iter().map(|&sample| (sample, samples.label(sample)));
        self.stage(backend, work, labels, |dst, i| patchify(dst, samples.image(batch[i]), config))
    }

    fn forward(&self, backend: &B, work: &mut Self::Workspace, adapters: Option<&Adapters<B>>) {
        self.run_forward(backend, work, adapters);
    }

    fn loss(&self, backend: &B, work: &mut Self::Workspace, loss: &mut B::Tensor, index: usize) {
        self.run_loss(backend, work, loss, index);
    }

    fn backward(&self, backend: &B, work: &mut Self::Workspace, wanted: &mut Wanted<'_, B>) {
        self.run_backward(backend, work, wanted);
    }

    fn logits<'w>(&self, work: &'w Self::Workspace) -> &'w B::Tensor {
        &work.logits
    }

    fn classes(&self) -> usize {
        self.config.classes
    }

    async fn weight(&self, backend: &B, site: usize) -> Result<Mat<B::Scalar>, ModelError> {
        weight_at(backend, self.blocks.iter().flat_map(Block::linears), site).await
    }

    fn merge(&mut self, backend: &B, adapters: &Adapters<B>) -> Result<(), ModelError> {
        for linear in self.blocks.iter_mut().flat_map(Block::linears_mut) {
            linear.merge(backend, adapters)?;
        }
        Ok(())
    }
}
