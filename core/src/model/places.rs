//! Which of a model's linear layers are its sites, noted while it is built.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Site, Targets};

/// A model's sites, and where they are among all its linear layers.
pub(super) struct Places<'a> {
    targets: &'a Targets,
    /// The sites so far.
    pub sites: Vec<Site>,
    /// Of each site: its number among all linear layers, in the order of the forward pass.
    pub places: Vec<usize>,
    next: usize,
}

impl<'a> Places<'a> {
    pub fn new(targets: &'a Targets) -> Self {
        Self { targets, sites: Vec::new(), places: Vec::new(), next: 0 }
    }

    /// The next linear layer; its number among the sites if it is one.
    pub fn add(&mut self, name: String, out: usize, inp: usize, depth: usize) -> Option<usize> {
        let place = self.next;
        self.next += 1;
        self.targets.has(&name, depth).then(|| {
            self.places.push(place);
            self.sites.push(Site { name, out, inp, depth });
            self.sites.len() - 1
        })
    }
}
