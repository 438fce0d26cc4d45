//! `eblora init`, `check`, `train`, `eval` and `predict` by the real binary, on small models of each family: what a run
//! leaves, that it can be asked again, and every fault told with its place.

mod faults;
mod files;
mod folder;
mod hub;
mod interrupted;
mod runs;
