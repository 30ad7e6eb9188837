//! What the benchmarks that replay loads have in common: their options, the loads, and tables in Markdown.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::SignedDuration;
use milvus_autoscaler::observe::csv;
use milvus_autoscaler::policy::Policy;
use milvus_autoscaler::policy::text::{DurationText, duration_text};
use milvus_autoscaler::series::Step;
use milvus_autoscaler::simulate::scenario::Scenario;
use milvus_autoscaler::simulate::{Demand, Setup};

/// What to replay.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// CSV files with loads, instead of the scenarios in simulations/
    #[arg(long = "trace", value_name = "FILE", num_args = 1..)]
    traces: Vec<PathBuf>,

    /// Lead times, separated by commas [default: the scenario's, or 15m]
    #[arg(long, value_name = "TIMES", value_delimiter = ',', value_parser = duration)]
    lead_time: Vec<SignedDuration>,

    /// Parts at the start that are not scored, separated by commas; `default` is 21d, or half the load if that is
    /// less, and 0 a cold start
    #[arg(long, value_name = "TIMES", value_delimiter = ',', default_value = "default", value_parser = warmup)]
    warmup: Vec<Warmup>,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The part at the start that is not scored.
#[derive(Debug, Clone, Copy)]
struct Warmup(Option<SignedDuration>);

fn duration(text: &str) -> Result<SignedDuration, String> {
    DurationText::from(text).parse()
}

fn warmup(text: &str) -> Result<Warmup, String> {
    match text {
        "default" => Ok(Warmup(None)),
        "0" => Ok(Warmup(Some(SignedDuration::ZERO))),
        text => duration(text).map(|time| Warmup(Some(time))),
    }
}

/// A load, and the policy that came with it.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) demand: Demand,
    policy: Policy,
}

/// What is the same for all loads of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    lead_time: Option<SignedDuration>,
    warmup: Option<SignedDuration>,
}

impl Options {
    /// The loads asked for.
    pub(crate) fn loads(&self) -> anyhow::Result<Vec<Load>> {
        if self.traces.is_empty() {
            return scenarios()?.iter().map(|path| scenario(path)).collect();
        }
        self.traces.iter().map(|path| trace(path)).collect()
    }

    /// Each lead time with each warm-up.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let lead_times: Vec<_> = match self.lead_time.as_slice() {
            [] => vec![None],
            several => several.iter().copied().map(Some).collect(),
        };
        let with =
            |lead_time| self.warmup.iter().map(move |Warmup(warmup)| Case { lead_time, warmup: *warmup });
        lead_times.into_iter().flat_map(with).collect()
    }
}

/// The descriptions of loads that ship.
fn scenarios() -> anyhow::Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    Ok(paths)
}

fn scenario(path: &Path) -> anyhow::Result<Load> {
    let scenario = Scenario::read(path)?;
    let name = stem(path);
    let demand = Demand::from_trace(&scenario.trace(&name)?, Step::MINUTE).context(name.clone())?;
    let policy = scenario.policy(path)?.unwrap_or_else(Setup::assumed_policy);
    Ok(Load { name, demand, policy })
}

fn trace(path: &Path) -> anyhow::Result<Load> {
    let name = stem(path);
    let demand = Demand::from_trace(&csv::read_file(path)?, Step::MINUTE).context(name.clone())?;
    Ok(Load { name, demand, policy: Setup::assumed_policy() })
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Load {
    /// As `autoscaler simulate` replays it.
    pub(crate) fn setup(&self, case: Case) -> anyhow::Result<Setup> {
        let mut policy = self.policy.clone();
        policy.lead_time = case.lead_time.or(policy.lead_time);
        let setup = Setup::new(policy, &self.demand).context(self.name.clone())?;
        Ok(Setup { warmup: case.warmup, ..setup })
    }
}

impl Case {
    /// A heading for its tables.
    pub(crate) fn title(self) -> String {
        let lead_time = self.lead_time.map_or("the load's own, or 15m".to_owned(), duration_text);
        let warmup = match self.warmup {
            None => "after 21 days or half the load".to_owned(),
            Some(warmup) if warmup.is_zero() => "from a cold start".to_owned(),
            Some(warmup) => format!("after {}", duration_text(warmup)),
        };
        format!("Lead time: {lead_time}; scored {warmup}")
    }
}

/// A table in Markdown.
pub(crate) fn table<H: AsRef<str>>(head: &[H], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        cells.fold(String::from("|"), |line, c| line + " " + c + " |")
    };
    let mut text = line(&mut head.iter().map(AsRef::as_ref)) + "\n|" + &"---|".repeat(head.len()) + "\n";
    for row in rows {
        let _ = writeln!(text, "{}", line(&mut row.iter().map(String::as_str)));
    }
    text
}
