//! The `gitsocket` program: `cli` in the library is its beginning.

use std::process::ExitCode;

fn main() -> ExitCode {
    gitsocket::cli::main()
}
