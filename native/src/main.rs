//! The `eblora` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    eblora::cli::main()
}
