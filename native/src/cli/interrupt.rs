//! Ctrl-C: the first asks the run to save its state and stop, the second ends the process at once.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a command that Ctrl-C has stopped: 128 + SIGINT.
pub const EXIT_CODE: u8 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// Watches for Ctrl-C from now on; the flag is set by the first one.
pub fn watch() -> &'static AtomicBool {
    // Where the system permits no handler, Ctrl-C ends the process as ever; what was saved is safe all the same.
    let _ = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_CODE.into());
        }
        let _ = writeln!(std::io::stderr(), "stopping after this step; Ctrl-C again ends at once, without saving it");
    });
    &STOP
}
