//! Checkpoints on disk, and runs that go on from them, however they ended.

mod devices;
mod files;
mod interrupted;
