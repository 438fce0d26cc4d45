//! The scalar that all numerics are generic over: `f32` for training, `f64` for references and checks.

/// A real floating-point scalar: `f32` or `f64`.
///
/// Arithmetic, comparison and elementary functions (`sqrt`, `exp`, …) come from the supertraits.
///
/// ```
/// use eblora_core::Real;
/// fn half<T: Real>(x: T) -> T { x * T::of(0.5) }
/// assert_eq!(half(3.0_f32), 1.5);
/// ```
pub trait Real: faer::traits::RealField + nalgebra::RealField + Copy + Default + Send + Sync + core::iter::Sum {
    /// Machine epsilon: the distance from 1 to the next larger number.
    const EPS: Self;
    /// The name of the type in messages and reports.
    const NAME: &'static str;
    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// This value, exactly.
    fn f64(self) -> f64;
}

impl Real for f32 {
    const EPS: Self = Self::EPSILON;
    const NAME: &'static str = "f32";
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const EPS: Self = Self::EPSILON;
    const NAME: &'static str = "f64";
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }
}
