//! The gradient memories of all layers, as several methods keep them: their growth, their size, and their plain data.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::memory::{Value, ValueError, Values, take_matrix, take_reals};
use super::{MemorySize, MethodError, Violation};
use crate::Real;
use crate::adapter::HostFactors;
use crate::backend::{Backend, BackendError};
use crate::gpm::{Form, Gradient, GradientMemory, Subspace};
use crate::model::Site;

/// One memory a site; none before the first task.
pub(super) struct Memories<T> {
    budget: Option<usize>,
    sites: Vec<GradientMemory<T>>,
    /// Of the task in its course, a matrix per site; what [`Self::grow`] takes in.
    pending: Vec<Gradient<T>>,
}

/// How M of a site is called, or the basis of its complement.
fn memory_name(site: usize, form: Form) -> String {
    match form {
        Form::Direct => format!("memory{site}.direct"),
        Form::Complement => format!("memory{site}.complement"),
    }
}

fn energies_name(site: usize) -> String {
    format!("memory{site}.energies")
}

impl<T: Real> Memories<T> {
    /// None yet; of at most `budget` directions a layer.
    pub fn new(budget: Option<usize>) -> Self {
        Self { budget, sites: Vec::new(), pending: Vec::new() }
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    /// An empty memory for every site, before the first task.
    pub fn begin(&mut self, sites: &[Site]) {
        if self.sites.is_empty() {
            self.sites = sites.iter().map(|s| GradientMemory::new(s.inp, self.budget)).collect();
        }
    }

    /// M of a site.
    pub fn get(&self, site: usize) -> Option<&Subspace<T>> {
        self.sites.get(site).map(GradientMemory::subspace)
    }

    /// M of a site that has one.
    pub fn subspace(&self, site: usize) -> &Subspace<T> {
        self.sites[site].subspace()
    }

    /// Keeps what the memories need of a task's matrices until it ends.
    pub fn note(&mut self, matrices: Vec<Gradient<T>>) {
        self.pending = matrices.into_iter().map(Gradient::of_inputs).collect();
    }

    /// The task ends: [`Self::update`] by what was noted.
    pub fn grow(&mut self, epsilon: f64, layers: &[String]) -> Result<(), MethodError> {
        let noted = core::mem::take(&mut self.pending);
        self.update(&noted, epsilon, layers)
    }

    /// GPM's update of every memory by the matrix of its site; the layers' names are for messages.
    pub fn update(&mut self, matrices: &[Gradient<T>], epsilon: f64, layers: &[String]) -> Result<(), MethodError> {
        for ((memory, matrix), layer) in self.sites.iter_mut().zip(matrices).zip(layers) {
            let failed = |source| MethodError::Memory { layer: layer.clone(), source };
            memory.update(matrix, epsilon).map_err(failed)?;
        }
        Ok(())
    }

    /// M of each layer of a stack on the device; `None` where all are empty.
    pub fn upload<B: Backend<Scalar = T>>(
        &self,
        backend: &B,
        sites: &[usize],
    ) -> Result<Option<B::Subspaces>, BackendError> {
        let subspaces: Vec<_> = sites.iter().map(|&site| self.subspace(site)).collect();
        let any = subspaces.iter().any(|m| m.k() > 0);
        if any { backend.upload_subspaces(&subspaces).map(Some) } else { Ok(None) }
    }

    /// As plain data.
    pub fn remembered(&self) -> Values<T> {
        let mut values = Values::new();
        for (site, memory) in self.sites.iter().enumerate() {
            let m = memory.subspace();
            values.insert(memory_name(site, m.form()), Value::matrix(m.basis()));
            if memory.budget().is_some() {
                values.insert(energies_name(site), Value::Reals(memory.energies().to_vec()));
            }
        }
        values
    }

    /// Takes what [`Self::remembered`] gave out of `values`; nothing where there is nothing, as before the first task.
    pub fn recall(&mut self, values: &mut Values<T>, sites: &[Site]) -> Result<(), ValueError> {
        let mut memories = Vec::new();
        if !values.is_empty() {
            for (index, site) in sites.iter().enumerate() {
                let complement = values.contains_key(&memory_name(index, Form::Complement));
                let form = if complement { Form::Complement } else { Form::Direct };
                let name = memory_name(index, form);
                let basis = take_matrix(values, &name, site.inp)?;
                let energies = match self.budget {
                    Some(_) => take_reals(values, &energies_name(index))?,
                    None => Vec::new(),
                };
                let memory = Subspace::from_form(form, basis)
                    .and_then(|subspace| GradientMemory::from_parts(subspace, energies, self.budget));
                memories.push(memory.map_err(|source| ValueError::Memory { name, source })?);
            }
        }
        self.sites = memories;
        Ok(())
    }

    /// Layer by layer.
    pub fn sizes(&self) -> Vec<MemorySize> {
        let size = |(site, memory): (usize, &GradientMemory<T>)| {
            let m = memory.subspace();
            MemorySize { site, k: m.k(), dim: m.dim(), stored: m.memory_scalars() }
        };
        self.sites.iter().enumerate().map(size).collect()
    }

    /// How far the input sides of these factors are from being off M, as a share of their columns' length.
    pub fn violation(&self, factors: &[HostFactors<T>]) -> Violation {
        let mut worst = Violation::default();
        for f in factors {
            let longest = (0..f.v.ncols()).map(|j| f.v.col(j).norm_l2().f64()).fold(0.0, f64::max);
            if let Some(m) = self.get(f.site).filter(|_| longest > 0.0) {
                worst.overlap = worst.overlap.max(m.overlap(f.v.as_ref()).f64() / longest);
            }
        }
        worst
    }
}
