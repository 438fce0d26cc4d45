//! How long work takes on a device.

use std::time::{Duration, Instant};

use eblora_core::backend::{Backend, BackendError, Cpu};
use eblora_gpu::Gpu;

use super::BenchError;

/// A sample lasts at least this long: short work is repeated within it.
const SAMPLE: f64 = 2e-3;
/// Repetitions within a sample, at most.
const MOST_INNER: f64 = 500.0;
/// Samples that a figure needs, whatever the patience.
const LEAST: usize = 3;

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds by the host's clock, waiting included.
    pub host: f64,
    /// Seconds by the device's own clock, where it has one.
    pub device: Option<f64>,
}

impl Sample {
    /// By the better clock, and whether that is the device's.
    pub fn best(self) -> (f64, bool) {
        self.device.map_or((self.host, false), |seconds| (seconds, true))
    }
}

/// A device on which work can be timed.
pub trait Clock: Backend<Scalar = f32> {
    /// Whether work goes on after the call that asks for it has returned.
    const QUEUES: bool;
    /// Runs the work to its end.
    ///
    /// # Errors
    /// When the device fails, or the work does.
    fn timed(&self, work: &mut dyn FnMut() -> Result<(), BenchError>) -> Result<Sample, BenchError>;
    /// Waits until everything asked for has run.
    ///
    /// # Errors
    /// When the device fails.
    fn settle(&self) -> Result<(), BackendError>;
    /// Whether this is a GPU in name only.
    fn is_software(&self) -> bool;
}

impl Clock for Cpu<f32> {
    const QUEUES: bool = false;

    fn timed(&self, work: &mut dyn FnMut() -> Result<(), BenchError>) -> Result<Sample, BenchError> {
        let start = Instant::now();
        work()?;
        Ok(Sample { host: start.elapsed().as_secs_f64(), device: None })
    }

    fn settle(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn is_software(&self) -> bool {
        false
    }
}

impl Clock for Gpu {
    const QUEUES: bool = true;

    fn timed(&self, work: &mut dyn FnMut() -> Result<(), BenchError>) -> Result<Sample, BenchError> {
        self.settle()?;
        let start = Instant::now();
        let mut done = Ok(());
        let device = pollster::block_on(self.time(|| done = work()))?;
        done?;
        // Where the device has no clock nothing has waited yet.
        if device.is_none() {
            self.settle()?;
        }
        Ok(Sample { host: start.elapsed().as_secs_f64(), device })
    }

    fn settle(&self) -> Result<(), BackendError> {
        pollster::block_on(self.wait())
    }

    fn is_software(&self) -> bool {
        eblora_gpu::is_software(self.info())
    }
}

/// How thoroughly a figure is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Samples wanted.
    pub repeats: usize,
    /// Time after which fewer will do.
    pub patience: Duration,
}

impl Effort {
    /// Whether `runs` samples since `start` are enough.
    pub fn suffices(&self, runs: usize, start: Instant) -> bool {
        runs >= self.repeats || (runs >= LEAST.min(self.repeats) && start.elapsed() >= self.patience)
    }
}

/// The times of one figure, seconds.
#[derive(Clone, Debug, Default)]
pub struct Times {
    seconds: Vec<f64>,
    /// Whether the device's own clock told them.
    pub by_device: bool,
}

impl Times {
    /// One more.
    pub fn push(&mut self, sample: Sample) {
        let (seconds, by_device) = sample.best();
        self.by_device = by_device;
        self.seconds.push(seconds);
    }

    /// How many there are.
    pub fn runs(&self) -> usize {
        self.seconds.len()
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The shortest.
    pub fn min(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Times `work`: once to warm up, once to see how long it takes, then as often as the effort says.
///
/// # Errors
/// When the device fails, or the work does.
pub fn measure<B: Clock>(
    backend: &B,
    effort: Effort,
    work: &mut dyn FnMut() -> Result<(), BenchError>,
) -> Result<Times, BenchError> {
    let start = Instant::now();
    backend.timed(work)?;
    let (first, _) = backend.timed(work)?.best();
    let inner = (SAMPLE / first.max(1e-9)).ceil().clamp(1.0, MOST_INNER);
    let mut times = Times::default();
    while !effort.suffices(times.runs(), start) {
        let Sample { host, device } = backend.timed(&mut || (0..inner as usize).try_for_each(|_| work()))?;
        times.push(Sample { host: host / inner, device: device.map(|d| d / inner) });
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_minimum_the_shortest() {
        let mut times = Times::default();
        for host in [5.0, 1.0, 3.0] {
            times.push(Sample { host, device: None });
        }
        assert_eq!((times.median(), times.min(), times.runs(), times.by_device), (3.0, 1.0, 3, false));
        times.push(Sample { host: 9.0, device: Some(0.5) });
        assert_eq!((times.min(), times.by_device), (0.5, true));
        assert!(Times::default().median().is_nan());
    }

    #[test]
    fn patience_ends_the_repeats_but_not_before_the_third() {
        let effort = Effort { repeats: 10, patience: Duration::ZERO };
        let start = Instant::now();
        assert!(!effort.suffices(2, start) && effort.suffices(3, start));
        let patient = Effort { patience: Duration::from_secs(3600), ..effort };
        assert!(!patient.suffices(9, start) && patient.suffices(10, start));
        assert!(Effort { repeats: 1, ..effort }.suffices(1, start), "who asks for one gets one");
    }

    #[test]
    fn work_is_run_and_its_failure_told() {
        let cpu = Cpu::<f32>::new();
        let effort = Effort { repeats: 2, patience: Duration::from_secs(60) };
        let mut runs = 0;
        let times = measure(&cpu, effort, &mut || {
            runs += 1;
            std::thread::sleep(Duration::from_millis(3));
            Ok(())
        });
        let times = times.unwrap();
        assert_eq!((runs, times.runs()), (4, 2));
        assert!(times.min() >= 3e-3);
        let broken = || Err(BenchError::Method(eblora_core::method::MethodError::Order("planted")));
        assert!(measure(&cpu, effort, &mut { broken }).unwrap_err().to_string().contains("planted"));
    }
}
