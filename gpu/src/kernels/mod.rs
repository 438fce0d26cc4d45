//! The launchers: one file per kernel or family, twins of `core/src/backend/cpu`.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod elementwise;
pub mod entries_gradient;
pub mod gather;
pub mod geometry;
pub mod l2_normalize;
pub mod layer_norm;
pub mod matmul;
pub mod pool;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod stacks;
pub mod swiglu;
pub mod symmetric_eigen;
