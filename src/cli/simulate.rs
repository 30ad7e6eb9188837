//! `autoscaler simulate`.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::{ArgGroup, Args, ValueEnum};
use jiff::SignedDuration;
use rayon::prelude::*;

use super::progress::Progress;
use super::prometheus::Access;
use super::values::Format;
use super::{Failure, cluster, record, values};
use crate::observe::recording::Recorded;
use crate::observe::{Queries, Recording, Trace, csv};
use crate::policy::{self, ClusterPolicy, DemandUnit, GivenCapacity, Policy};
use crate::series::Step;
use crate::simulate::output::files::Folder;
use crate::simulate::output::summary::Summary;
use crate::simulate::output::{report, table, timeline};
use crate::simulate::scenario::Scenario;
use crate::simulate::strategy::StrategyKind;
use crate::simulate::{Demand, Outcome, Setup, simulate_watched};
use crate::units::{Qps, Replicas};

const EXAMPLES: &str = "\
Examples:
  Score every strategy on a recorded load:
    autoscaler simulate --trace load.csv
  As the policy of a cluster says, with timeline, summary and report in a folder:
    autoscaler simulate --trace load.csv --policy policy.yaml --out results
  Two loads, three strategies, a slow start of replicas, for a program:
    autoscaler simulate --trace a.csv --trace b.csv --strategies hpa,cron,oracle \\
      --lead-time 30m --format json
  The load of the last four weeks, straight from Prometheus:
    autoscaler simulate --prometheus http://localhost:9090 --policy policy.yaml \\
      --query 'sum(rate(milvus_proxy_req_count{function_name=\"Search\",status=\"total\"}[2m]))'
  A described load instead of a recorded one:
    autoscaler simulate --scenario simulations/launch-event.yaml

A trace is CSV: the header timestamp,qps, then a row a step of 1 s to 1 h with the mean
over the step. Timestamps are RFC 3339 or Unix seconds.";

/// Replay a recorded load through the autoscaler and its rivals, and score them
#[derive(Debug, Args)]
#[command(
    after_long_help = EXAMPLES,
    after_help = "With --help: examples and details.",
    group = ArgGroup::new("load").args(["traces", "scenarios", "prometheus"]).required(true).multiple(true)
)]
pub(super) struct Arguments {
    /// CSV file with the load; several are replayed in parallel
    #[arg(long = "trace", value_name = "FILE", conflicts_with = "prometheus")]
    traces: Vec<PathBuf>,

    /// YAML file that describes a load, as in simulations/, and a policy for it
    #[arg(long = "scenario", value_name = "FILE", conflicts_with = "prometheus")]
    scenarios: Vec<PathBuf>,

    /// What counts as demand, in PromQL [default: what --policy says, or every search that Prometheus knows]
    #[arg(long, value_name = "PROMQL", requires = "prometheus")]
    query: Option<String>,

    /// How much of the load to take from Prometheus
    #[arg(long, value_name = "TIME", default_value = "28d", value_parser = values::range)]
    range: SignedDuration,

    /// Policy (a MilvusAutoscaler) with bounds, capacity, lead time, calendar, and with --prometheus the demand
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Strategies to compare, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    strategies: Vec<StrategyKind>,

    /// Folder to write report.html, timeline.csv and summary.json to; one folder in it for each of several traces
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print a table for people or the summary as JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// From asking for a replica until it helps [default: the policy's, or 15m]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    lead_time: Option<SignedDuration>,

    /// How long a replica that stops serving is still paid
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = values::duration)]
    drain: SignedDuration,

    /// How often a strategy decides
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = values::step)]
    step: Step,

    /// The part at the start that is not scored [default: 21d, or half the trace if that is less]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    warmup: Option<SignedDuration>,

    /// Weight of the share of time in violation in the SLO-adjusted cost
    #[arg(long, value_name = "NUMBER", default_value_t = 30.0, value_parser = weight, allow_negative_numbers = true)]
    slo_weight: f64,

    /// The fewest replicas [default: the policy's, or 2]
    #[arg(long, value_name = "NUMBER", value_parser = values::replicas())]
    min_replicas: Option<u32>,

    /// The most replicas [default: the policy's, or 60]
    #[arg(long, value_name = "NUMBER", value_parser = values::replicas())]
    max_replicas: Option<u32>,

    /// What a replica carries within the SLO [default: the policy's, or a twentieth of the load's 99.9th percentile]
    #[arg(long, value_name = "QPS", value_parser = positive)]
    qps_per_replica: Option<Qps>,

    /// Whether to use colour; `auto` does on a terminal unless `NO_COLOR` is set
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,

    /// Write the trace of the scenario to this file and do nothing else
    #[arg(long, value_name = "FILE", hide = true, requires = "scenarios", conflicts_with = "traces")]
    write_trace: Option<PathBuf>,

    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    fn is_wanted(self) -> bool {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => !refused && io::stdout().is_terminal(),
        }
    }
}

/// A load to replay, and a policy that came with it.
struct Load {
    trace: Trace,
    policy: Option<Policy>,
}

/// A replayed load.
struct Done {
    trace: Trace,
    setup: Setup,
    outcome: Outcome,
    /// What neither an option nor a policy said.
    assumed: Vec<&'static str>,
    elapsed: Duration,
}

/// Reads the loads, replays them, and prints and writes what came out.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if let (Some(to), [scenario, ..]) = (&arguments.write_trace, arguments.scenarios.as_slice()) {
        return write_trace(scenario, to);
    }
    let policy = arguments.policy.as_deref().map(Policy::read).transpose().map_err(Failure::input)?;
    let folders = prepare_folders(arguments)?;
    let loads = read(arguments, policy.as_ref())?;
    let done = replay_all(arguments, policy.as_ref(), loads)?;
    for (done, folder) in done.iter().zip(&folders) {
        write(done, folder).map_err(Failure::input)?;
    }
    print(arguments, &done, &folders)
}

fn read(arguments: &Arguments, policy: Option<&Policy>) -> Result<Vec<Load>, Failure> {
    if let Some(url) = &arguments.access.prometheus {
        let recorded = super::runtime()?.block_on(from_prometheus(arguments, url, policy))?;
        return Ok(vec![Load { trace: recorded.trace, policy: None }]);
    }
    let traces = arguments.traces.par_iter().map(|path| {
        let trace = csv::read_file(path).map_err(Failure::input)?;
        Ok(Load { trace, policy: None })
    });
    let scenarios = arguments.scenarios.par_iter().map(|path| {
        let scenario = Scenario::read(path).map_err(Failure::input)?;
        let policy = scenario.policy(path).map_err(Failure::input)?;
        Ok(Load { trace: described(&scenario, path)?, policy })
    });
    traces.chain(scenarios).collect()
}

/// The load that the Prometheus at `url` knows.
async fn from_prometheus(
    arguments: &Arguments,
    url: &str,
    policy: Option<&Policy>,
) -> Result<Recorded, Failure> {
    let demand = policy.map(|policy| policy.demand.clone()).unwrap_or_default();
    // A policy for simulations alone says nothing of Prometheus.
    let whole = arguments.policy.as_deref().and_then(|path| ClusterPolicy::read(path).ok());
    let client = match &whole {
        Some(whole) => {
            let cluster = cluster::find(None).await;
            arguments.access.of_policy(whole, cluster.as_ref().map_err(String::as_str)).await?
        }
        None => arguments.access.server(url)?,
    };
    let recording = match &arguments.query {
        Some(query) => Recording::of_query(query, demand.unit, Step::MINUTE),
        None => searches(whole.as_ref(), &demand),
    };
    record::recorded(&client, &recording, arguments.range, Step::MINUTE).await
}

/// What a policy counts as demand, and no column that nobody looks at.
fn searches(policy: Option<&ClusterPolicy>, demand: &policy::Demand) -> Recording {
    let queries = policy.map_or_else(|| Queries::of_all(demand), |policy| Queries::new(policy, None));
    let recording = Recording::of_policy(&queries, Step::MINUTE);
    let nq_per_second = recording.nq_per_second.filter(|_| demand.unit == DemandUnit::Nq);
    Recording { p99_ms: None, nq_per_second, ..recording }
}

fn described(scenario: &Scenario, path: &Path) -> Result<Trace, Failure> {
    let name = path.display().to_string();
    scenario.trace(&name).with_context(|| name.clone()).map_err(Failure::input)
}

fn write_trace(scenario: &Path, to: &Path) -> Result<(), Failure> {
    let trace = described(&Scenario::read(scenario).map_err(Failure::input)?, scenario)?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let folder = Folder::prepare(parent).map_err(Failure::input)?;
    folder.write(&name, |mut output| csv::write(&trace, &mut output)).map_err(Failure::input)?;
    Ok(())
}

/// Replays the loads in parallel, with a bar for those who wait.
fn replay_all(
    arguments: &Arguments,
    policy: Option<&Policy>,
    loads: Vec<Load>,
) -> Result<Vec<Done>, Failure> {
    let steps = loads.iter().map(|load| {
        let span = load.trace.last().duration_since(load.trace.start()) + load.trace.step().duration();
        arguments.step.count_in(span)
    });
    let progress = Progress::new("Replaying", steps.sum());
    // The others take no time beside it.
    let stepped = |kind| {
        if kind == StrategyKind::Predictive {
            progress.advance(1);
        }
    };
    loads.into_par_iter().map(|load| replay(arguments, policy, load, &stepped)).collect()
}

fn replay(
    arguments: &Arguments,
    policy: Option<&Policy>,
    load: Load,
    stepped: &(dyn Fn(StrategyKind) + Sync),
) -> Result<Done, Failure> {
    let started = Instant::now();
    let policy = policy.cloned().or(load.policy);
    let trace = match &policy {
        Some(policy) if policy.demand.unit == DemandUnit::Nq => in_vectors(&load.trace)?,
        _ => load.trace,
    };
    let demand = Demand::from_trace(&trace, arguments.step)
        .with_context(|| trace.name().to_owned())
        .map_err(Failure::input)?;
    let (setup, assumed) = setup(arguments, policy, &demand)?;
    let outcome = simulate_watched(demand, &setup, stepped);
    Ok(Done { trace, setup, outcome, assumed, elapsed: started.elapsed() })
}

fn in_vectors(trace: &Trace) -> Result<Trace, Failure> {
    trace.in_vectors().ok_or_else(|| {
        Failure::Input(anyhow!(
            "{}: the policy counts demand in nq, but not every row has nq_per_second; add the column or set \
             spec.demand.unit to qps",
            trace.name()
        ))
    })
}

/// What to simulate: options first, then the policy, then defaults, which are listed.
fn setup(
    arguments: &Arguments,
    policy: Option<Policy>,
    demand: &Demand,
) -> Result<(Setup, Vec<&'static str>), Failure> {
    let assumed = assumed(arguments, policy.as_ref());
    let mut policy = policy.unwrap_or_else(Setup::assumed_policy);
    policy.min_replicas = arguments.min_replicas.map_or(policy.min_replicas, Replicas);
    policy.max_replicas = arguments.max_replicas.map_or(policy.max_replicas, Replicas);
    policy.capacity = arguments.qps_per_replica.map(GivenCapacity::PerReplica).or(policy.capacity);
    policy.lead_time = arguments.lead_time.or(policy.lead_time);
    let (min, max) = (policy.min_replicas, policy.max_replicas);
    if min > max {
        return Err(Failure::Input(anyhow!(
            "the fewest replicas ({min}) are above the most ({max}); see --min-replicas, --max-replicas and the policy"
        )));
    }
    let mut setup = Setup::new(policy, demand).map_err(Failure::input)?;
    setup.plant.drain_time = arguments.drain;
    setup.warmup = arguments.warmup;
    setup.slo_weight = arguments.slo_weight;
    setup.strategies = strategies(arguments);
    Ok((setup, assumed))
}

/// What neither an option nor the policy says.
fn assumed(arguments: &Arguments, policy: Option<&Policy>) -> Vec<&'static str> {
    let mut assumed = Vec::new();
    if policy.is_none() && (arguments.min_replicas.is_none() || arguments.max_replicas.is_none()) {
        assumed.push("bounds");
    }
    if arguments.qps_per_replica.is_none() && policy.is_none_or(|policy| policy.capacity.is_none()) {
        assumed.push("capacity (99.9th percentile / 20)");
    }
    if arguments.lead_time.is_none() && policy.is_none_or(|policy| policy.lead_time.is_none()) {
        assumed.push("lead time");
    }
    assumed
}

/// What is asked for, each once; all if nothing is.
fn strategies(arguments: &Arguments) -> Vec<StrategyKind> {
    let asked = if arguments.strategies.is_empty() { &StrategyKind::ALL[..] } else { &arguments.strategies };
    let mut strategies = Vec::new();
    for kind in asked {
        if !strategies.contains(kind) {
            strategies.push(*kind);
        }
    }
    strategies
}

/// The folder of each load, tried before the long work; none without `--out`.
fn prepare_folders(arguments: &Arguments) -> Result<Vec<Folder>, Failure> {
    let Some(out) = &arguments.out else { return Ok(Vec::new()) };
    if arguments.access.prometheus.is_some() {
        return Ok(vec![Folder::prepare(out).map_err(Failure::input)?]);
    }
    let paths: Vec<_> = arguments.traces.iter().chain(&arguments.scenarios).collect();
    let folders = match paths.as_slice() {
        [_] => vec![out.clone()],
        several => folder_names(several).into_iter().map(|name| out.join(name)).collect(),
    };
    folders.iter().map(|folder| Folder::prepare(folder).map_err(Failure::input)).collect()
}

/// The files' names without their ending, numbered where two would be the same.
fn folder_names(paths: &[&PathBuf]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::new();
    for path in paths {
        let stem = path.file_stem().map_or("trace".into(), |stem| stem.to_string_lossy());
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let name = std::iter::once(stem.to_string()).chain(numbered).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

fn write(done: &Done, folder: &Folder) -> Result<(), anyhow::Error> {
    folder.write("timeline.csv", |mut output| timeline::write(&done.outcome, &mut output))?;
    folder.write("summary.json", |mut output| {
        serde_json::to_writer_pretty(&mut output, &done.summary())?;
        output.write_all(b"\n")
    })?;
    let report = report::render(&done.trace, &done.setup, &done.outcome, &done.assumed);
    folder.write("report.html", |output| output.write_all(report.as_bytes()))?;
    Ok(())
}

impl Done {
    fn summary(&self) -> Summary {
        Summary::new(&self.trace, &self.setup, &self.outcome, self.elapsed)
    }
}

fn print(arguments: &Arguments, done: &[Done], folders: &[Folder]) -> Result<(), Failure> {
    let text = match arguments.format {
        Format::Json => json(done)?,
        Format::Table => tables(arguments, done, folders),
    };
    super::print(&text)
}

/// The summary of one load, or a list of those of several.
fn json(done: &[Done]) -> Result<String, Failure> {
    let summaries: Vec<_> = done.iter().map(Done::summary).collect();
    let text = match summaries.as_slice() {
        [only] => serde_json::to_string_pretty(only),
        several => serde_json::to_string_pretty(several),
    };
    text.map(|text| text + "\n").map_err(Failure::input)
}

fn tables(arguments: &Arguments, done: &[Done], folders: &[Folder]) -> String {
    use std::fmt::Write as _;
    let styled = arguments.color.is_wanted();
    let mut text = String::new();
    for (i, done) in done.iter().enumerate() {
        text += &table::head(&done.trace, &done.setup, &done.outcome, &done.assumed);
        text += "\n";
        text += &table::render(&done.outcome, styled);
        if let Some(folder) = folders.get(i) {
            let _ = writeln!(text, "\nWritten to {folder}: report.html, timeline.csv, summary.json");
        }
        text += "\n";
    }
    if let Some(first) = done.first() {
        text += &table::legend(&first.setup);
    }
    text
}

fn weight(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number is needed".to_owned())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("0 or more is needed".to_owned()) }
}

fn positive(text: &str) -> Result<Qps, String> {
    let number: f64 = text.parse().map_err(|_| "a number is needed".to_owned())?;
    Qps::new(number).ok().filter(|q| *q > Qps::ZERO).ok_or_else(|| "a number above 0 is needed".to_owned())
}
