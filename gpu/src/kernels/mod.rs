//! The launchers: one file per kernel or family, twins of `core/src/backend/cpu`.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod elementwise;
pub mod geometry;
pub mod l2_normalize;
pub mod layer_norm;
pub mod matmul;
pub mod pool;
pub mod rows;
