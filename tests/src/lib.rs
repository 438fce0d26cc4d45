//! Nothing to link: this package's tests live in `tests/tests`, its command in `src/bin/xtask.rs`.
