//! `autoscaler crd`.

use clap::Args;

use super::Failure;
use crate::policy::crd_yaml;

/// Print the CustomResourceDefinition
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  autoscaler crd | kubectl apply --server-side -f -")]
pub(super) struct Arguments {}

/// Prints the definition.
pub(super) fn run(_: &Arguments) -> Result<(), Failure> {
    super::print(&crd_yaml())
}
