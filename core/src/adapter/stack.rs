//! Adapters on the device: layers of equal shape and rank are stacked, so that the optimiser step of a whole model is
//! a handful of batched kernels.

use alloc::vec;
use alloc::vec::Vec;
use faer::{Mat, MatRef};

use super::{LoraAdapter, SpectralAdapter};
use crate::Real;
use crate::backend::{Backend, BackendError, Scale};

/// The factor of `U·Vᵀ`: one trained number per layer (EBLoRA's s), or a constant (LoRA's α/r).
pub enum Magnitude<X> {
    /// One value per matrix of the stack, shape \[count, 1, 1\].
    Trained(X),
    /// The same constant for all.
    Fixed(f64),
}

/// The adapters `ΔW = s·U·Vᵀ` of `sites.len()` layers of one shape.
pub struct AdapterStack<B: Backend> {
    /// The model's site of each matrix, in stack order.
    pub sites: Vec<usize>,
    /// Left factors, \[count, out, r\].
    pub u: B::Tensor,
    /// Right factors, \[count, in, r\].
    pub v: B::Tensor,
    /// Magnitudes.
    pub s: Magnitude<B::Tensor>,
    /// Whether V stays as it is: no gradient of it is computed.
    pub v_frozen: bool,
    /// `(out, in, r)`.
    pub extents: (usize, usize, usize),
}

/// Gradients of one [`AdapterStack`], same shapes.
pub struct StackGrads<B: Backend> {
    /// ∂L/∂U.
    pub u: B::Tensor,
    /// ∂L/∂V; a single 0 where V is frozen.
    pub v: B::Tensor,
    /// ∂L/∂s, where it is trained.
    pub s: Option<B::Tensor>,
}

/// All adapters of a model.
pub struct Adapters<B: Backend> {
    /// One stack per shape and rank.
    pub stacks: Vec<AdapterStack<B>>,
    slots: Vec<Option<(usize, usize)>>,
}

/// Gradients of [`Adapters`], stack by stack.
pub struct AdapterGrads<B: Backend> {
    /// One per stack.
    pub stacks: Vec<StackGrads<B>>,
}

/// One adapter's place: everything that the forward and backward pass of its layer need.
pub struct Slot<'a, B: Backend> {
    /// The stack that holds it.
    pub stack: &'a AdapterStack<B>,
    /// Index of the stack.
    pub stack_index: usize,
    /// Index of the matrix in the stack.
    pub item: usize,
    /// Rank r.
    pub rank: usize,
}

impl<'a, B: Backend> Slot<'a, B> {
    /// The factor s.
    pub fn scale(&self) -> Scale<'a, B::Tensor> {
        match &self.stack.s {
            Magnitude::Trained(s) => Scale::Item(s, self.item),
            Magnitude::Fixed(s) => Scale::Value(*s),
        }
    }
}

/// One layer's factors on the host, as read back or about to be uploaded.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFactors<T> {
    /// The model's site.
    pub site: usize,
    /// U, out×r.
    pub u: Mat<T>,
    /// V, in×r.
    pub v: Mat<T>,
    /// s.
    pub s: T,
}

impl<T: Real> HostFactors<T> {
    /// As `s·U·Vᵀ`; meaningful where the columns are orthonormal.
    pub fn spectral(self) -> SpectralAdapter<T> {
        SpectralAdapter { u: self.u, v: self.v, s: self.s }
    }

    /// As `scale·B·A`.
    pub fn lora(self) -> LoraAdapter<T> {
        LoraAdapter { a: self.v.transpose().to_owned(), b: self.u, scale: self.s }
    }
}

pub(super) fn row_major<T: Real>(dst: &mut Vec<T>, a: MatRef<'_, T>) {
    for i in 0..a.nrows() {
        dst.extend((0..a.ncols()).map(|j| a[(i, j)]));
    }
}

fn matrix<T: Real>(values: &[T], item: usize, rows: usize, cols: usize) -> Mat<T> {
    MatRef::from_row_major_slice(&values[item * rows * cols..][..rows * cols], rows, cols).to_owned()
}

impl<B: Backend> Adapters<B> {
    /// Uploads factors, stacking layers of equal shape and rank in the order of their first layer.
    ///
    /// `fixed`: the constant factor where s is not trained.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn upload(
        backend: &B,
        factors: &[HostFactors<B::Scalar>],
        sites: usize,
        fixed: Option<f64>,
    ) -> Result<Self, BackendError> {
        let extents = |f: &HostFactors<B::Scalar>| (f.u.nrows(), f.v.nrows(), f.u.ncols());
        let mut shapes: Vec<(usize, usize, usize)> = Vec::new();
        for f in factors {
            if !shapes.contains(&extents(f)) {
                shapes.push(extents(f));
            }
        }
        let mut slots = vec![None; sites];
        let mut stacks = Vec::with_capacity(shapes.len());
        for (index, &(out, inp, rank)) in shapes.iter().enumerate() {
            let members: Vec<_> = factors.iter().filter(|f| extents(f) == (out, inp, rank)).collect();
            let (mut u, mut v, mut s) = (Vec::new(), Vec::new(), Vec::new());
            for (item, f) in members.iter().enumerate() {
                slots[f.site] = Some((index, item));
                row_major(&mut u, f.u.as_ref());
                row_major(&mut v, f.v.as_ref());
                s.push(f.s);
            }
            let count = members.len();
            stacks.push(AdapterStack {
                sites: members.iter().map(|f| f.site).collect(),
                u: backend.upload([count, out, rank], &u)?,
                v: backend.upload([count, inp, rank], &v)?,
                s: match fixed {
                    Some(s) => Magnitude::Fixed(s),
                    None => Magnitude::Trained(backend.upload([count, 1, 1], &s)?),
                },
                v_frozen: false,
                extents: (out, inp, rank),
            });
        }
        Ok(Self { stacks, slots })
    }

    /// The same with every V frozen: only U is trained.
    pub fn freeze_v(mut self) -> Self {
        self.stacks.iter_mut().for_each(|stack| stack.v_frozen = true);
        self
    }

    /// The adapter of a site, if it has one.
    pub fn slot(&self, site: usize) -> Option<Slot<'_, B>> {
        let (stack_index, item) = (*self.slots.get(site)?)?;
        let stack = &self.stacks[stack_index];
        Some(Slot { stack, stack_index, item, rank: stack.extents.2 })
    }

    /// Reads all factors back, in the order of their sites.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read(&self, backend: &B) -> Result<Vec<HostFactors<B::Scalar>>, BackendError> {
        let mut factors = Vec::new();
        for stack in &self.stacks {
            let (out, inp, rank) = stack.extents;
            let (u, v) = (backend.read(&stack.u).await?, backend.read(&stack.v).await?);
            let s = match &stack.s {
                Magnitude::Trained(s) => backend.read(s).await?,
                Magnitude::Fixed(s) => vec![<B::Scalar as Real>::of(*s); stack.sites.len()],
            };
            for (item, &site) in stack.sites.iter().enumerate() {
                let (u, v) = (matrix(&u, item, out, rank), matrix(&v, item, inp, rank));
                factors.push(HostFactors { site, u, v, s: s[item] });
            }
        }
        factors.sort_by_key(|f| f.site);
        Ok(factors)
    }

    /// Room for the gradients.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn grads(&self, backend: &B) -> Result<AdapterGrads<B>, BackendError> {
        let stacks = self.stacks.iter().map(|stack| {
            let ((out, inp, rank), count) = (stack.extents, stack.sites.len());
            Ok(StackGrads {
                u: backend.zeros([count, out, rank])?,
                v: backend.zeros(if stack.v_frozen { [1, 1, 1] } else { [count, inp, rank] })?,
                s: match stack.s {
                    Magnitude::Trained(_) => Some(backend.zeros([count, 1, 1])?),
                    Magnitude::Fixed(_) => None,
                },
            })
        });
        Ok(AdapterGrads { stacks: stacks.collect::<Result<_, BackendError>>()? })
    }

    /// Numbers that training changes: entries of U, and of V unless it is frozen, and trained magnitudes.
    pub fn trainable_parameters(&self) -> usize {
        self.stacks.iter().fold(0, |total, stack| {
            let (out, inp, rank) = stack.extents;
            let s = usize::from(matches!(stack.s, Magnitude::Trained(_)));
            let v = if stack.v_frozen { 0 } else { inp };
            total + stack.sites.len() * ((out + v) * rank + s)
        })
    }
}
