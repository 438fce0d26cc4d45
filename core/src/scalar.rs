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
    /// eˣ for kernels: branch-free so that loops over it vectorise; relative error ≤ 2·10⁻⁷ (`f32`), libm's (`f64`).
    fn exp_kernel(self) -> Self;
    /// The normal distribution for GELU: (Φ(x), φ(x)); absolute error ≤ 3·10⁻⁷ (`f32`), libm's (`f64`).
    fn normal_kernel(self) -> (Self, Self);
    /// Fills `dst` with what `fill` writes in single precision; without a detour where that is the type.
    fn fill_from_f32(dst: &mut [Self], fill: impl FnOnce(&mut [f32]));
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
    #[inline(always)]
    fn exp_kernel(self) -> Self {
        // x = n·ln 2 + r, |r| ≤ ln 2 / 2; eʳ by its series to r⁷, 2ⁿ by the exponent bits. Adding 1.5·2²³ rounds to
        // the nearest integer and leaves it in the low bits, which keeps the loop free of conversions.
        const MAGIC: f32 = 12_582_912.0;
        let x = if self < -87.0 { -87.0 } else { self };
        let x = if x > 88.0 { 88.0 } else { x };
        let shifted = x * core::f32::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
        let p = 1.984_127e-4;
        let p = p * r + 1.388_888_9e-3;
        let p = p * r + 8.333_334e-3;
        let p = p * r + 4.166_666_6e-2;
        let p = p * r + 0.166_666_67;
        let p = p * r + 0.5;
        let p = p * (r * r) + r + 1.0;
        let power = Self::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
        // Comparisons with a NaN are false, so it passed the clamps and goes through the product.
        p * power
    }
    #[inline(always)]
    fn normal_kernel(self) -> (Self, Self) {
        // erfc(z) = e^(−z²)·poly(t), t = 1/(1 + p·z), z = |x|/√2 (Hastings; Abramowitz & Stegun 7.1.26).
        let z = Self::from_bits(self.to_bits() & 0x7fff_ffff) * core::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let poly = 1.061_405_4;
        let poly = poly * t - 1.453_152;
        let poly = poly * t + 1.421_413_7;
        let poly = poly * t - 0.284_496_74;
        let poly = poly * t + 0.254_829_6;
        let e = (-(z * z)).exp_kernel();
        let tail = 0.5 * poly * t * e;
        (if self < 0.0 { tail } else { 1.0 - tail }, e * 0.398_942_3)
    }
    #[inline(always)]
    fn fill_from_f32(dst: &mut [Self], fill: impl FnOnce(&mut [f32])) {
        fill(dst);
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
    #[inline(always)]
    fn exp_kernel(self) -> Self {
        libm::exp(self)
    }
    #[inline(always)]
    fn normal_kernel(self) -> (Self, Self) {
        let cdf = 0.5 * libm::erfc(-self * core::f64::consts::FRAC_1_SQRT_2);
        (cdf, libm::exp(-0.5 * self * self) * 0.398_942_280_401_432_7)
    }
    fn fill_from_f32(dst: &mut [Self], fill: impl FnOnce(&mut [f32])) {
        let mut narrow = alloc::vec![0.0_f32; dst.len()];
        fill(&mut narrow);
        dst.iter_mut().zip(narrow).for_each(|(wide, x)| *wide = f64::from(x));
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn exp_kernel_is_accurate_and_saturates() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (got, want) = (x.exp_kernel().f64(), libm::exp(x.f64()));
            assert!((got - want).abs() <= 2e-7 * want, "exp({x}) = {got}, not {want}");
        }
        assert!((-200.0_f32).exp_kernel() < 1e-37);
        assert!(200.0_f32.exp_kernel() > 1e38);
        assert!(f32::NAN.exp_kernel().is_nan());
    }

    #[test]
    fn normal_kernel_is_accurate_in_both_tails() {
        for i in -1200..1200 {
            let x = i as f32 / 100.0;
            let ((cdf, pdf), (want_cdf, want_pdf)) = (x.normal_kernel(), x.f64().normal_kernel());
            assert!((cdf.f64() - want_cdf).abs() <= 3e-7, "cdf({x}) = {cdf}, not {want_cdf}");
            assert!((pdf.f64() - want_pdf).abs() <= 3e-7, "pdf({x}) = {pdf}, not {want_pdf}");
        }
        assert!(f32::NAN.normal_kernel().0.is_nan());
    }
}
