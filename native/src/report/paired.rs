//! Differences between two methods that ran with the same seeds.

use eblora_core::random::Random;

use super::summary::mean_and_sd;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 10_000;
/// Share of the resampled means outside of the interval, half at each end.
const OUTSIDE: f64 = 0.05;

/// How much one method is above another, seed by seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paired {
    /// Mean difference.
    pub mean: f64,
    /// The 95 % interval of the mean: percentiles of 10,000 bootstrap resamples of the seeds (Efron), with a seed of its own.
    pub interval: [f64; 2],
    /// Seeds in which it is above.
    pub above: usize,
}

/// The differences `a − b`; `None` for fewer than two, or of lists of different lengths.
///
/// ```
/// use eblora::report::paired::paired;
/// let found = paired(&[3.0, 5.0, 4.0], &[1.0, 2.0, 3.0]).unwrap();
/// assert_eq!((found.mean, found.above), (2.0, 3));
/// assert!((1.0..2.0).contains(&found.interval[0]) && (2.0..=3.0).contains(&found.interval[1]));
/// assert_eq!(paired(&[1.0], &[2.0]), None);
/// ```
pub fn paired(a: &[f64], b: &[f64]) -> Option<Paired> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let n = differences.len();
    if n < 2 || a.len() != b.len() {
        return None;
    }
    let rng = &mut Random::new(0, "bootstrap");
    let mut resampled = || (0..n).map(|_| differences[rng.below(n)]).sum::<f64>() / n as f64;
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled()).collect();
    means.sort_by(f64::total_cmp);
    let cut = (OUTSIDE / 2.0 * RESAMPLES as f64) as usize;
    Some(Paired {
        mean: mean_and_sd(&differences).0,
        interval: [means[cut], means[RESAMPLES - 1 - cut]],
        above: differences.iter().filter(|d| **d > 0.0).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two seeds each resample is one of four: the mean's percentiles are the ends.
    #[test]
    fn the_interval_is_that_of_the_resampled_means() {
        let found = paired(&[1.0, 3.0], &[0.0, 0.0]).unwrap();
        assert_eq!((found.mean, found.interval, found.above), (2.0, [1.0, 3.0], 2));
        let same = paired(&[5.0; 4], &[5.0; 4]).unwrap();
        assert_eq!((same.mean, same.interval, same.above), (0.0, [0.0, 0.0], 0));
        assert_eq!((paired(&[], &[]), paired(&[1.0, 2.0], &[1.0])), (None, None));
    }

    /// For many seeds the interval is that of the normal distribution: ±1.96 standard errors.
    #[test]
    fn of_many_seeds_it_is_the_normal_one() {
        let rng = &mut Random::new(3, "differences");
        let a: Vec<f64> = (0..400).map(|_| 1.0 + 2.0 * rng.normal()).collect();
        let found = paired(&a, &[0.0; 400]).unwrap();
        let (_, sd) = mean_and_sd(&a);
        let half = 1.96 * sd.unwrap() / 20.0;
        for (end, sign) in found.interval.iter().zip([-1.0, 1.0]) {
            assert!((end - (found.mean + sign * half)).abs() < 0.1 * half, "{found:?}, {half}");
        }
    }
}
