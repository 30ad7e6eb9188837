//! `autoscaler doctor`.

mod gather;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::json;

use super::Failure;
use super::prometheus::Access;
use super::values::Format;
use crate::doctor::{Check, examine, failed, render};
use crate::policy::ClusterPolicy;
use crate::telemetry::{self, LogFormat};

const EXAMPLES: &str = "\
Examples:
  Before the first policy is applied, and whenever something looks wrong:
    autoscaler doctor --policy policy.yaml
  With the permissions of the controller rather than your own:
    autoscaler doctor --policy policy.yaml \\
      --as system:serviceaccount:milvus-autoscaler:milvus-autoscaler
  Without a cluster, Prometheus alone is checked; the rest is said to be skipped:
    autoscaler doctor --policy policy.yaml --prometheus http://localhost:9090
  For a program:
    autoscaler doctor --policy policy.yaml --format json | jq '.checks[] | select(.verdict == \"fail\")'

Nothing is written. The exit code is 1 if any check fails; a warning is no failure.";

/// Check everything that makes autoscaling Milvus fail, before it does
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "With --help: examples.")]
pub(super) struct Arguments {
    /// Policy (a MilvusAutoscaler) to check the surroundings of
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// Print lines for people or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// Look at the cluster through the eyes of this user
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,

    /// Where the controller runs, and keeps its Lease and history
    #[arg(long, value_name = "NAMESPACE", default_value = "milvus-autoscaler")]
    own_namespace: String,

    #[command(flatten)]
    access: Access,
}

/// Gathers, examines and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    telemetry::start_logs(LogFormat::Text);
    let policy = ClusterPolicy::read(&arguments.policy).map_err(Failure::input)?;
    let facts = super::runtime()?.block_on(gather::facts(arguments, policy))?;
    let checks = examine(&facts);
    let text = match arguments.format {
        Format::Table => render(&checks),
        Format::Json => json(&checks)?,
    };
    super::print(&text)?;
    match failed(&checks) {
        0 => Ok(()),
        1 => Err(Failure::Outside(anyhow!("1 check failed"))),
        count => Err(Failure::Outside(anyhow!("{count} checks failed"))),
    }
}

fn json(checks: &[Check]) -> Result<String, Failure> {
    let report = json!({"checks": checks, "failed": failed(checks)});
    let text = serde_json::to_string_pretty(&report).context("the report").map_err(Failure::Outside)?;
    Ok(text + "\n")
}
