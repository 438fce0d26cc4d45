//! The `eblora` command.
fn main() {}
