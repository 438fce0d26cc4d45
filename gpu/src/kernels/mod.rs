//! The launchers: one file per kernel or family, twins of `core/src/backend/cpu`.

pub mod matmul;
