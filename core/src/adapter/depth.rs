//! The initial magnitude of each layer: `s(ℓ) = min + (max − min)·ℓ/(L − 1)`, ℓ = 0 … L − 1 (after LiNeS).
//!
//! Shallow layers, whose features all tasks share, start smaller than deep ones.

use super::AdapterError;

/// A magnitude that grows linearly with depth.
///
/// ```
/// use eblora_core::adapter::DepthSchedule;
/// let schedule = DepthSchedule::default();
/// assert_eq!((schedule.at(0, 5)?, schedule.at(4, 5)?), (0.002, 0.010));
/// assert!((schedule.at(1, 5)? - 0.004).abs() < 1e-15);
/// assert_eq!(schedule.at(0, 1)?, 0.010); // a single layer takes the maximum
/// # Ok::<(), eblora_core::adapter::AdapterError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthSchedule {
    min: f64,
    max: f64,
}

impl Default for DepthSchedule {
    /// From 0.002 in the first layer to 0.010 in the last.
    fn default() -> Self {
        Self { min: 0.002, max: 0.010 }
    }
}

impl DepthSchedule {
    /// From `min` in the first layer to `max` in the last; equal values give a constant.
    ///
    /// ```
    /// use eblora_core::adapter::DepthSchedule;
    /// let constant = DepthSchedule::new(0.005, 0.005)?;
    /// assert_eq!((constant.min(), constant.max(), constant.at(3, 12)?), (0.005, 0.005, 0.005));
    /// # Ok::<(), eblora_core::adapter::AdapterError>(())
    /// ```
    ///
    /// # Errors
    /// [`AdapterError::Range`] unless `0 ≤ min ≤ max < ∞`.
    pub fn new(min: f64, max: f64) -> Result<Self, AdapterError> {
        if !(min >= 0.0 && min.is_finite()) {
            return Err(AdapterError::Range { what: "smallest magnitude", range: "finite and at least 0", value: min });
        }
        if !(max >= min && max.is_finite()) {
            let range = "finite and at least the smallest";
            return Err(AdapterError::Range { what: "largest magnitude", range, value: max });
        }
        Ok(Self { min, max })
    }

    /// The magnitude of the first layer.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The magnitude of the last layer.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The magnitude of `layer` (from 0) out of `layers`.
    ///
    /// # Errors
    /// [`AdapterError::Layer`] unless `layer < layers`.
    pub fn at(&self, layer: usize, layers: usize) -> Result<f64, AdapterError> {
        if layer >= layers {
            return Err(AdapterError::Layer { layer, layers });
        }
        // Written so that both ends are exact.
        let depth = if layers == 1 { 1.0 } else { layer as f64 / (layers - 1) as f64 };
        Ok(self.min * (1.0 - depth) + self.max * depth)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn misuse_is_typed() {
        assert_eq!(DepthSchedule::default().at(3, 3), Err(AdapterError::Layer { layer: 3, layers: 3 }));
        assert_eq!(DepthSchedule::default().at(0, 0), Err(AdapterError::Layer { layer: 0, layers: 0 }));
        for (min, max) in [(-0.1, 1.0), (0.2, 0.1), (f64::NAN, 1.0), (0.0, f64::NAN), (0.0, f64::INFINITY)] {
            assert!(matches!(DepthSchedule::new(min, max), Err(AdapterError::Range { .. })), "{min} {max}");
        }
    }

    proptest! {
        #[test]
        fn it_grows_from_end_to_end(min in 0.0f64..1.0, more in 0.0f64..1.0, layers in 2usize..100) {
            let schedule = DepthSchedule::new(min, min + more).unwrap();
            let at = |layer| schedule.at(layer, layers).unwrap();
            prop_assert_eq!((at(0), at(layers - 1)), (schedule.min(), schedule.max()));
            for layer in 1..layers {
                prop_assert!(at(layer) >= at(layer - 1) - 1e-15);
                let formula = min + more * layer as f64 / (layers - 1) as f64;
                prop_assert!((at(layer) - formula).abs() < 1e-14);
            }
        }
    }
}
