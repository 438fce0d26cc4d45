//! How much memory the process needed at most.
//!
//! On Linux this is the resident set's high-water mark, `VmHWM` of `/proc/self/status`, which [`reset_peak`] sets back
//! where the system permits it, so that each method is measured alone; what an earlier method left allocated still
//! counts. Elsewhere there is no such mark to read: [`peak_bytes`] is then the use at the moment of the call, a lower
//! bound of the peak.

/// Starts a new measurement. False where that cannot be done: [`peak_bytes`] then goes on counting from the start of
/// the process.
pub fn reset_peak() -> bool {
    cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The most resident memory since the last successful [`reset_peak`], in bytes; `None` where nothing can be measured.
pub fn peak_bytes() -> Option<u64> {
    let status = if cfg!(target_os = "linux") { std::fs::read_to_string("/proc/self/status").ok() } else { None };
    status.as_deref().and_then(high_water).or_else(|| Some(memory_stats::memory_stats()?.physical_mem as u64))
}

/// `VmHWM:     1234 kB` → 1,263,616.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_parsed_in_bytes() {
        assert_eq!(high_water("VmPeak:\t  9 kB\nVmHWM:\t    1234 kB\n"), Some(1_263_616));
        assert_eq!(high_water("VmHWM: lots\n"), None);
        assert_eq!(high_water(""), None);
    }

    #[test]
    fn this_process_uses_some_memory() {
        reset_peak();
        let block = vec![1u8; 32 << 20];
        let peak = peak_bytes().unwrap();
        assert!(std::hint::black_box(&block)[12345] == 1 && peak > 32 << 20, "{peak}");
    }
}
