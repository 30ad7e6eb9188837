//! `autoscaler crd`.

use std::io::Write;

use clap::Args;

use super::Failure;
use crate::policy::crd_yaml;

/// Print the CustomResourceDefinition
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  autoscaler crd | kubectl apply --server-side -f -")]
pub(super) struct Arguments {}

/// Prints the definition.
pub(super) fn run(_: &Arguments) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(crd_yaml().as_bytes());
    written.map_err(|error| Failure::Outside(anyhow::Error::new(error).context("cannot write to stdout")))
}
