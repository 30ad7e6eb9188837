//! How computation grows with the length of the history, the step and the number of series: time to learn a sample,
//! to learn the history anew, to decide, and resident memory.
//!
//! `cargo bench --bench growth`
//!
//! Each row is measured in a process of its own; a time is the fastest of several, as other work on the machine only
//! adds to it. It fails if time grows faster than the work, or memory with the history. Needs Linux, for memory.

mod load;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use milvus_autoscaler::capacity::Capacity;
use milvus_autoscaler::decide::{Fleet, Memory, Rules, Situation, decide};
use milvus_autoscaler::forecast::{Config, Forecaster, Parts};
use milvus_autoscaler::policy::Policy;
use milvus_autoscaler::series::Step;
use milvus_autoscaler::units::{Qps, Replicas};
use serde::{Deserialize, Serialize};

const WEEKS: [usize; 4] = [1, 4, 8, 52];
const STEPS: [u32; 3] = [10, 60, 300];
const SERIES: [usize; 3] = [1, 100, 1000];
/// The history of each of several series: with it, memory is as full as it gets.
const WEEKS_OF_SEVERAL: usize = 5;

/// Measure how time and memory grow with history, step and number of series
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure one case and print it as JSON: weeks, seconds of a step, series
    #[arg(long, hide = true, num_args = 3)]
    measure: Option<Vec<u32>>,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    step_seconds: u32,
    weeks: usize,
    series: usize,
}

/// What came out, for each series.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measured {
    learn_nanoseconds: f64,
    refit_milliseconds: f64,
    decision_microseconds: f64,
    memory_kibibytes: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some([weeks, step_seconds, series]) = Arguments::parse().measure.as_deref() {
        let case = Case { step_seconds: *step_seconds, weeks: *weeks as usize, series: *series as usize };
        println!("{}", serde_json::to_string(&measure(case)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let by_history =
        STEPS.into_iter().flat_map(|step_seconds| WEEKS.map(|weeks| Case { step_seconds, weeks, series: 1 }));
    let by_series = SERIES.map(|series| Case { step_seconds: 60, weeks: WEEKS_OF_SEVERAL, series });
    println!("| step | history | series | learn a sample | refit | decide | memory per series |");
    println!("|---|---|---|---|---|---|---|");
    let mut rows = BTreeMap::new();
    for case in by_history.chain(by_series) {
        let measured = in_its_own_process(case)?;
        println!("{}", row(case, measured));
        rows.insert(case, measured);
    }
    let excesses = excesses(&rows);
    println!();
    excesses.iter().for_each(|excess| println!("{excess}"));
    Ok(ExitCode::from(u8::from(excesses.iter().any(Excess::is_too_much))))
}

fn in_its_own_process(case: Case) -> anyhow::Result<Measured> {
    let numbers = [case.weeks.to_string(), case.step_seconds.to_string(), case.series.to_string()];
    let output = Command::new(std::env::current_exe()?)
        .arg("--measure")
        .args(numbers)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{case:?} could not be measured");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn row(case: Case, measured: Measured) -> String {
    format!(
        "| {} s | {} weeks | {} | {:.2} µs | {:.0} ms | {:.0} µs | {:.0} KiB |",
        case.step_seconds,
        case.weeks,
        case.series,
        measured.learn_nanoseconds / 1000.0,
        measured.refit_milliseconds,
        measured.decision_microseconds,
        measured.memory_kibibytes,
    )
}

/// How often something is as large in one row as in another, and how often it may be.
struct Excess {
    what: String,
    ratio: f64,
    most: f64,
}

impl Excess {
    fn is_too_much(&self) -> bool {
        self.ratio.is_nan() || self.ratio > self.most
    }
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.is_too_much() { "TOO MUCH" } else { "fine" };
        write!(f, "- {}: {:.2} times (at most {}): {verdict}", self.what, self.ratio, self.most)
    }
}

/// What must not grow.
fn excesses(rows: &BTreeMap<Case, Measured>) -> Vec<Excess> {
    let compare = |what: &str, large: Case, small: Case, of: &dyn Fn(Case, Measured) -> f64, most: f64| {
        let ratio = of(large, rows[&large]) / of(small, rows[&small]);
        Excess { what: what.to_owned(), ratio, most }
    };
    let learn = |_: Case, measured: Measured| measured.learn_nanoseconds;
    let refit = |case: Case, measured: Measured| measured.refit_milliseconds / case.samples() as f64;
    let decision = |_: Case, measured: Measured| measured.decision_microseconds;
    let memory = |_: Case, measured: Measured| measured.memory_kibibytes;
    let mut excesses = Vec::new();
    for step_seconds in STEPS {
        let of = |weeks| Case { step_seconds, weeks, series: 1 };
        let name = |what: &str| format!("step {step_seconds} s, {what}");
        excesses.extend([
            compare(&name("learning a sample, 52 weeks against 4"), of(52), of(4), &learn, 2.0),
            compare(&name("refit per sample, 52 weeks against 4"), of(52), of(4), &refit, 2.0),
            compare(&name("decision, 52 weeks against 4"), of(52), of(4), &decision, 2.0),
            compare(&name("memory, 52 weeks against 8"), of(52), of(8), &memory, 1.3),
        ]);
    }
    let of = |step_seconds| Case { step_seconds, weeks: 8, series: 1 };
    excesses.push(compare("refit per sample, step 10 s against 60 s", of(10), of(60), &refit, 2.0));
    let of = |series| Case { step_seconds: 60, weeks: WEEKS_OF_SEVERAL, series };
    excesses.push(compare("decision per series, 1000 series against 100", of(1000), of(100), &decision, 2.0));
    excesses.push(compare("memory per series, 1000 series against 100", of(1000), of(100), &memory, 1.3));
    excesses
}

impl Case {
    fn step(self) -> anyhow::Result<Step> {
        Step::from_seconds(self.step_seconds).context("a step is 1 s at least")
    }

    fn days(self) -> usize {
        7 * self.weeks
    }

    fn samples(self) -> usize {
        self.days() * 86_400 / self.step_seconds as usize
    }
}

/// A load that goes on without end, and all that is kept for it.
struct Kept<I> {
    demand: I,
    forecaster: Forecaster,
    rules: Rules,
    memory: Memory,
}

fn config(step: Step) -> Config {
    Config { step, lead: 900 / step.seconds() as usize, calendar: Arc::default(), parts: Parts::default() }
}

fn kept(step: Step, seed: u64) -> Kept<impl Iterator<Item = Qps>> {
    let capacity = Capacity::Linear { per_replica: Qps::clamped(50.0) };
    Kept {
        demand: load::samples(step, seed),
        forecaster: Forecaster::new(config(step), load::start()),
        rules: Policy::with_bounds(Replicas(2), Replicas(60)).rules(capacity),
        memory: Memory::default(),
    }
}

impl<I: Iterator<Item = Qps>> Kept<I> {
    /// Learns a day; the time that it took.
    fn learn(&mut self, samples: &mut Vec<Qps>, steps: usize) -> Duration {
        samples.clear();
        samples.extend(self.demand.by_ref().take(steps));
        let began = Instant::now();
        samples.iter().for_each(|demand| self.forecaster.observe(Some(*demand)));
        began.elapsed()
    }

    /// The newest sample taken, demand forecast, replicas decided.
    fn decide(&mut self) {
        let demand = self.demand.next();
        self.forecaster.observe(demand);
        let forecast = self.forecaster.forecast();
        let fleet = Fleet { desired: Replicas(12), ready: Replicas(12), arrivals: &[] };
        let situation = Situation {
            now: self.forecaster.next_step(),
            demand,
            forecast: forecast.as_ref(),
            fleet,
            floors: &[],
            guards: &[],
            pressure: None,
        };
        black_box(decide(&self.rules, &mut self.memory, &situation));
    }
}

fn measure(case: Case) -> anyhow::Result<Measured> {
    let step = case.step()?;
    let steps_a_day = load::steps_a_day(step);
    let mut samples = Vec::with_capacity(steps_a_day);
    // What is made once for all is not memory of a series.
    let mut first = kept(step, 0);
    first.learn(&mut samples, steps_a_day);
    first.decide();
    drop(first);

    let before = resident_kibibytes()?;
    let mut all: Vec<_> = (1..).take(case.series).map(|seed| kept(step, seed)).collect();
    let mut days = Vec::with_capacity(case.days());
    for _ in 0..case.days() {
        days.push(all.iter_mut().map(|kept| kept.learn(&mut samples, steps_a_day)).sum::<Duration>());
    }
    let last_week = days.split_off(case.days() - 7);
    let learn = fastest(last_week) / (case.series * steps_a_day) as f64;

    let rounds = 1 + 200 / case.series;
    let decisions = (0..20).map(|_| {
        let began = Instant::now();
        (0..rounds).for_each(|_| all.iter_mut().for_each(Kept::decide));
        began.elapsed()
    });
    let decision = fastest(decisions) / (rounds * case.series) as f64;
    let memory = (resident_kibibytes()? - before) / case.series as f64;
    drop(all);

    let history = load::days(case.days(), step, 1);
    let refits = (0..3).map(|_| {
        let began = Instant::now();
        black_box(Forecaster::fit(config(step), &history).forecast());
        began.elapsed()
    });
    Ok(Measured {
        learn_nanoseconds: learn * 1e9,
        decision_microseconds: decision * 1e6,
        memory_kibibytes: memory,
        refit_milliseconds: fastest(refits) * 1e3,
    })
}

/// In seconds.
fn fastest(times: impl IntoIterator<Item = Duration>) -> f64 {
    times.into_iter().min().unwrap_or_default().as_secs_f64()
}

/// Memory of this process that is resident, as Linux counts it, without the program itself.
fn resident_kibibytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read as Linux shows it")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon in /proc")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
