//! The `gitsocket` program. All it does is in the library, beginning with `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gitsocket::cli::main()
}
