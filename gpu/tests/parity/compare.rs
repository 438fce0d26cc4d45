//! The comparator, and the test of itself.

/// The worst of `|got − want| / (bound·(scale + |want|))` may not exceed 1; both must be finite and of one length.
pub fn compare(what: &str, got: &[f64], want: &[f64], scale: f64, bound: f64) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what}: {} values, not {}", got.len(), want.len()));
    }
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let allowed = bound * (scale + w.abs());
        // A NaN is within no bound.
        let within = (g - w).abs() <= allowed;
        if !within {
            return Err(format!(
                "{what}: value {i} of {} is {g:e}, not {w:e}: off by {:e}, allowed {allowed:e}",
                got.len(),
                (g - w).abs()
            ));
        }
    }
    Ok(())
}

/// [`compare`], or a failed test.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], want: &[f64], scale: f64, bound: f64) {
    if let Err(message) = compare(what, got, want, scale, bound) {
        panic!("{message}");
    }
}

#[test]
fn planted_errors_are_found() {
    let want = [1.0, -2.0, 0.0, 1e-3];
    assert_eq!(compare("same", &want, &want, 1.0, 1e-6), Ok(()));
    for (i, wrong) in [(0, 1.00001), (1, 2.0), (2, 1e-4), (3, f64::NAN), (3, f64::INFINITY)] {
        let mut got = want;
        got[i] = wrong;
        let message = compare("planted", &got, &want, 1.0, 1e-6).unwrap_err();
        assert!(message.contains(&format!("value {i} ")), "{message}");
    }
    assert!(compare("short", &want[..3], &want, 1.0, 1.0).is_err());
}
