//! The base model: the bundled one, or a Hugging Face folder of the reader's own.

use eblora::data::bundled;
use eblora::data::images::ImageShape;
use eblora::formats::files::Files;
use eblora::model::vit_folder::VitFolder;
use eblora::model::{vit, vit_checksum};
use eblora_core::adapter::HostAdapters;
use eblora_core::backend::Backend;
use eblora_core::model::vit::{ImageSet, Vit};
use eblora_core::model::{Model, ModelError, Site};
use serde::Serialize;

use crate::error::{Result, WebError};

/// The base model, to whose frozen head classes may have been added.
#[derive(Clone, Debug)]
pub struct Base {
    /// Weights and labels.
    pub folder: VitFolder,
    /// Of the weights before any class was added: what tells one base from another.
    pub checksum: u32,
}

/// A layer that can be adapted.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    name: String,
    rows: usize,
    cols: usize,
    block: usize,
}

/// What a reader should know of the base.
#[derive(Clone, Debug, Serialize)]
pub struct BaseInfo {
    source: String,
    labels: Vec<String>,
    channels: usize,
    height: usize,
    width: usize,
    layers: Vec<Layer>,
}

impl Base {
    /// Reads the files of a folder; `bundled`: those of the bundled base.
    ///
    /// # Errors
    /// When they are no ViT for image classification.
    pub fn read(files: &Files, is_bundled: bool) -> Result<Self> {
        let folder = if is_bundled {
            bundled::read_base(&files.at("base"))?
        } else {
            let config = files.paths().find(|path| path.file_name().is_some_and(|name| name == "config.json"));
            let config = config.ok_or_else(|| {
                WebError::input("no config.json is among the files; a Hugging Face ViT folder is expected")
            })?;
            let folder = config.parent().unwrap_or(config).to_owned();
            let read = VitFolder::read(files.at(&folder))?;
            let named = !read.source.is_empty();
            VitFolder { source: if named { read.source } else { "own".to_owned() }, ..read }
        };
        Ok(Self { checksum: vit_checksum::checksum(&folder), folder })
    }

    /// What a reader should know of it.
    pub fn info(&self) -> BaseInfo {
        let ImageShape { channels, height, width } = self.shape();
        let layers = self.sites().into_iter();
        BaseInfo {
            source: self.folder.source.clone(),
            labels: self.folder.config.labels.clone(),
            channels,
            height,
            width,
            layers: layers.map(|s| Layer { name: s.name, rows: s.out, cols: s.inp, block: s.depth }).collect(),
        }
    }

    /// The images that it takes.
    pub fn shape(&self) -> ImageShape {
        ImageShape::of(&vit::config(&self.folder))
    }

    /// No images yet, of the size that it takes.
    pub fn no_images(&self) -> ImageSet {
        let ImageShape { channels, height, width } = self.shape();
        ImageSet { channels, height, width, ..ImageSet::default() }
    }

    /// The layers that can be adapted, as the model counts them.
    pub fn sites(&self) -> Vec<Site> {
        let site =
            |(layer, site, w): (usize, eblora::model::vit_names::Site, &eblora::model::vit_folder::LinearWeights)| {
                Site { name: site.name(layer), out: w.rows, inp: w.cols, depth: layer }
            };
        self.folder.adapted().map(site).collect()
    }

    /// The number of a class, which is added where it is new.
    pub fn class(&mut self, name: &str) -> u32 {
        let known = self.folder.config.labels.iter().position(|label| label == name);
        let number = known.unwrap_or_else(|| {
            self.folder.add_class(name);
            self.folder.config.labels.len() - 1
        });
        number as u32
    }

    /// The model on a device, with these adapters merged into it.
    ///
    /// # Errors
    /// When something doesn't fit, or the device is out of memory.
    pub fn model<'a, B: Backend<Scalar = f32>>(
        &self,
        backend: &B,
        merged: impl Iterator<Item = &'a HostAdapters<f32>>,
    ) -> core::result::Result<Vit<B>, ModelError> {
        let mut model = Vit::new(backend, &vit::config(&self.folder), &vit::weights(&self.folder))?;
        let sites = model.sites().len();
        for adapters in merged {
            model.merge(backend, &adapters.upload(backend, sites)?)?;
        }
        Ok(model)
    }
}
