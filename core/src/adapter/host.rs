//! All adapters of a model on the host: what is kept of a task once it has ended, and written back when a run is resumed.

use alloc::vec::Vec;

use super::stack::row_major;
use super::{AdapterError, Adapters, HostFactors, Magnitude};
use crate::Real;
use crate::backend::{Backend, BackendError};

/// The adapters of a model on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostAdapters<T> {
    /// The factors, layer by layer in the order of the sites.
    pub factors: Vec<HostFactors<T>>,
    /// The constant factor where s is not trained (LoRA's α/r).
    pub fixed: Option<f64>,
}

impl<T: Real> HostAdapters<T> {
    /// Reads adapters back.
    ///
    /// # Errors
    /// When the device fails.
    pub async fn read<B: Backend<Scalar = T>>(backend: &B, adapters: &Adapters<B>) -> Result<Self, BackendError> {
        let fixed = adapters.stacks.first().and_then(|stack| match stack.s {
            Magnitude::Fixed(s) => Some(s),
            Magnitude::Trained(_) => None,
        });
        Ok(Self { factors: adapters.read(backend).await?, fixed })
    }

    /// Uploads them for a model of so many sites.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn upload<B: Backend<Scalar = T>>(&self, backend: &B, sites: usize) -> Result<Adapters<B>, BackendError> {
        Adapters::upload(backend, &self.factors, sites, self.fixed)
    }

    /// Overwrites adapters of the same layers and ranks, in whatever order these are stacked.
    ///
    /// ```
    /// use eblora_core::adapter::{Adapters, HostAdapters, HostFactors};
    /// use eblora_core::backend::Cpu;
    /// let cpu = Cpu::<f32>::new();
    /// let factors = |s| HostFactors { site: 0, u: faer::mat![[1.0], [s]], v: faer::mat![[s]], s };
    /// let mut adapters = Adapters::upload(&cpu, &[factors(2.0)], 1, None)?;
    /// let saved = HostAdapters { factors: [factors(0.5)].into(), fixed: None };
    /// saved.overwrite(&cpu, &mut adapters)?;
    /// assert_eq!(pollster::block_on(HostAdapters::read(&cpu, &adapters))?, saved);
    /// # Ok::<(), eblora_core::adapter::AdapterError>(())
    /// ```
    ///
    /// # Errors
    /// [`AdapterError::Site`] or [`AdapterError::Shape`] where they are not the same, and nothing is changed then;
    /// [`AdapterError::Backend`].
    pub fn overwrite<B: Backend<Scalar = T>>(
        &self,
        backend: &B,
        adapters: &mut Adapters<B>,
    ) -> Result<(), AdapterError> {
        let mut values = Vec::with_capacity(adapters.stacks.len());
        let mut found = 0;
        for stack in &adapters.stacks {
            let (out, inp, rank) = stack.extents;
            let (mut u, mut v, mut s) = (Vec::new(), Vec::new(), Vec::new());
            for &site in &stack.sites {
                let factors = self.factors.iter().find(|f| f.site == site).ok_or(AdapterError::Site { site })?;
                super::shape("U", (out, rank), factors.u.as_ref())?;
                super::shape("V", (inp, rank), factors.v.as_ref())?;
                row_major(&mut u, factors.u.as_ref());
                row_major(&mut v, factors.v.as_ref());
                s.push(factors.s);
                found += 1;
            }
            values.push((u, v, s));
        }
        if found != self.factors.len() {
            let known = |site| adapters.slot(site).is_some();
            let site = self.factors.iter().map(|f| f.site).find(|&site| !known(site)).unwrap_or_default();
            return Err(AdapterError::Site { site });
        }
        for (stack, (u, v, s)) in adapters.stacks.iter_mut().zip(values) {
            backend.write(&mut stack.u, &u)?;
            backend.write(&mut stack.v, &v)?;
            if let Magnitude::Trained(magnitude) = &mut stack.s {
                backend.write(magnitude, &s)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::random::Random;
    use alloc::vec;

    fn factors(site: usize, out: usize, inp: usize, rng: &mut Random) -> HostFactors<f32> {
        HostFactors {
            site,
            u: rng.normal_matrix(out, 2),
            v: rng.normal_matrix(inp, 2),
            s: rng.normal_matrix(1, 1)[(0, 0)],
        }
    }

    #[test]
    fn any_order_of_stacks_is_overwritten_and_misfits_change_nothing() {
        let (cpu, rng) = (Cpu::<f32>::new(), &mut Random::new(1, "host"));
        let mut new = || vec![factors(0, 3, 4, rng), factors(1, 5, 4, rng), factors(2, 3, 4, rng)];
        let (saved, mut other) = (HostAdapters { factors: new(), fixed: None }, new());
        other.reverse(); // another order of the stacks and in them
        let mut adapters = Adapters::upload(&cpu, &other, 3, None).unwrap();
        let read = |adapters: &Adapters<Cpu<f32>>| pollster::block_on(HostAdapters::read(&cpu, adapters)).unwrap();
        let before = read(&adapters);
        assert_ne!(before, saved);
        let mut fewer = saved.clone();
        fewer.factors.pop();
        assert_eq!(fewer.overwrite(&cpu, &mut adapters), Err(AdapterError::Site { site: 2 }));
        let mut more = saved.clone();
        more.factors.push(factors(7, 3, 4, &mut Random::new(2, "host")));
        assert_eq!(more.overwrite(&cpu, &mut adapters), Err(AdapterError::Site { site: 7 }));
        let mut taller = saved.clone();
        taller.factors[1] = factors(1, 6, 4, &mut Random::new(2, "host"));
        assert!(matches!(taller.overwrite(&cpu, &mut adapters), Err(AdapterError::Shape { what: "U", .. })));
        assert_eq!(read(&adapters), before);
        saved.overwrite(&cpu, &mut adapters).unwrap();
        assert_eq!(read(&adapters), saved);
        let constant = HostAdapters { fixed: Some(2.0), ..saved };
        assert_eq!(read(&constant.upload(&cpu, 3).unwrap()).fixed, Some(2.0));
    }
}
