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

/// Keeps Milvus QueryNodes ahead of their load: forecasts demand and sets replicas or HPA bounds before it arrives.
#[derive(Debug, Parser)]
#[command(name = "autoscaler", version, propagate_version = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Crd(crd::Arguments),
    Doctor(doctor::Arguments),
    Recommend(recommend::Arguments),
    Record(record::Arguments),
    Run(run::Arguments),
    Simulate(Box<simulate::Arguments>),
}

/// Why a command failed, by whose fault.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A fault outside: network, cluster. Exit code 1.
    #[error("{0:#}")]
    Outside(anyhow::Error),
    /// Bad usage or bad input. Exit code 2.
    #[error("{0:#}")]
    Input(anyhow::Error),
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
        Command::Crd(arguments) => crd::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Recommend(arguments) => recommend::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
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
