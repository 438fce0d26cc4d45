//! A vision transformer and its images.

use eblora_core::backend::Backend;
use eblora_core::model::vit::{ImageSet, Vit, VitConfig, VitWeights};
use eblora_core::model::{ModelError, Targets};
use eblora_core::train::{Fact, Task};

use super::{Named, Subject};
use crate::model::Family;
use crate::model::vit_folder::VitFolder;
use crate::model::{vit, vit_checksum};

/// A vision transformer and its images.
#[derive(Clone, Debug)]
pub struct VitSubject<'a> {
    base: String,
    extents: VitConfig,
    weights: VitWeights,
    checksum: u32,
    targets: Targets,
    tasks: Vec<Named<'a, ImageSet>>,
}

impl<'a> VitSubject<'a> {
    /// The model in a folder, and its tasks; images and labels must suit it.
    pub fn new(folder: &VitFolder, targets: Targets, tasks: Vec<Named<'a, ImageSet>>) -> Self {
        Self {
            base: folder.source.clone(),
            extents: vit::config(folder),
            weights: vit::weights(folder),
            checksum: vit_checksum::checksum(folder),
            targets,
            tasks,
        }
    }
}

impl Subject for VitSubject<'_> {
    type Samples = ImageSet;
    type Model<B: Backend<Scalar = f32>> = Vit<B>;

    fn family(&self) -> Family {
        Family::Vit
    }

    fn base(&self) -> &str {
        &self.base
    }

    fn model<B: Backend<Scalar = f32>>(&self, backend: &B) -> Result<Vit<B>, ModelError> {
        Vit::with_targets(backend, &self.extents, &self.weights, &self.targets)
    }

    fn tasks(&self) -> Vec<Task<'_, ImageSet>> {
        self.tasks.iter().map(Named::task).collect()
    }

    fn facts(&self) -> Vec<Fact> {
        facts(self.checksum, self.tasks.iter().map(Named::task))
    }
}

/// What tells a run on images from another: the checksum of the base ([`vit_checksum`]), and those of the images.
pub fn facts<'a>(base: u32, tasks: impl Iterator<Item = Task<'a, ImageSet>>) -> Vec<Fact> {
    let mut facts = vec![Fact::new("base model", format!("one of checksum {base:08x}"))];
    for task in tasks {
        let pixels = |set: &ImageSet| crc32fast::hash(&set.pixels);
        let value = format!("{:08x}, {:08x}", pixels(task.train), pixels(task.test));
        facts.push(Fact::new(format!("images of {}", task.name), value));
    }
    facts
}
