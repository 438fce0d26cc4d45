//! The launchers: one file per kernel or family, twins of `core/src/backend/cpu`.

pub mod activation;
pub mod elementwise;
pub mod l2_normalize;
pub mod layer_norm;
pub mod matmul;
pub mod pool;
pub mod rows;
