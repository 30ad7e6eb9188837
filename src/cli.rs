//! The command line.

mod cluster;
mod crd;
mod doctor;
mod progress;
mod prometheus;
mod recommend;
mod record;
mod run;
mod simulate;
mod values;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  What it would have done on a load of yours, and what that would have saved:
    autoscaler simulate --trace load.csv
  Whether Milvus, Prometheus and the cluster are fit for it:
    autoscaler doctor --policy policy.yaml
  What it would do now, and why:
    autoscaler recommend --policy policy.yaml

Each command has more of them: autoscaler COMMAND --help";

/// Keeps Milvus QueryNodes ahead of their load: forecasts demand and sets replicas or HPA bounds before it arrives.
#[derive(Debug, Parser)]
#[command(name = "autoscaler", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(Box<simulate::Arguments>),
    Record(record::Arguments),
    Doctor(doctor::Arguments),
    Recommend(recommend::Arguments),
    Run(run::Arguments),
    Crd(crd::Arguments),
}

/// Why a command failed, by whose fault.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A fault outside: network, cluster. Exit code 1.
    #[error("{}", told(.0))]
    Outside(anyhow::Error),
    /// Bad usage or bad input. Exit code 2.
    #[error("{}", told(.0))]
    Input(anyhow::Error),
}

/// The error and its causes, each once: many errors name their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    text
}

impl Failure {
    /// Bad usage or bad input.
    pub fn input(error: impl Into<anyhow::Error>) -> Self {
        Self::Input(error.into())
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Outside(_) => ExitCode::from(1),
            Self::Input(_) => ExitCode::from(2),
        }
    }
}

/// Runs the command that the process's arguments name. Exit codes: 0 done; 1 a fault outside (network, cluster);
/// 2 bad usage or bad input.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Recommend(arguments) => recommend::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Crd(arguments) => crd::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

/// A runtime for one command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime").map_err(Failure::Outside)
}

/// Writes to standard output.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("standard output").map_err(Failure::Outside),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::policy::PolicyError;

    #[test]
    fn each_cause_is_told_once() {
        let source = io::Error::other("no such file");
        let error = PolicyError::Read { path: "a.yaml".into(), source };
        assert_eq!(Failure::input(error).to_string(), "a.yaml: cannot be read: no such file");
        let error = anyhow::Error::new(io::Error::other("the disk is full")).context("cannot write b");
        assert_eq!(Failure::Outside(error).to_string(), "cannot write b: the disk is full");
    }
}
