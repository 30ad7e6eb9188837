//! The `autoscaler` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    milvus_autoscaler::cli::main()
}
