//! How computation grows with the length of the history, the step and the number of series: time to learn a sample,
//! to learn the history anew, to decide, and resident memory.
//!
//! `cargo bench --bench growth`
//!
//! Each row is measured in a process of its own. Time is that on the CPU, so that other work on the machine does not
//! count. It fails if time grows faster than the work, or memory with the history. Needs Linux, which counts both.

mod load;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Parser;
use jiff::Timestamp;
use milvus_autoscaler::capacity::Capacity;
use milvus_autoscaler::decide::{Fleet, Memory, Situation, decide};
use milvus_autoscaler::forecast::{Config, Forecaster, Parts};
use milvus_autoscaler::policy::Policy;
use milvus_autoscaler::series::Step;
use milvus_autoscaler::units::{Qps, Replicas};
use serde::{Deserialize, Serialize};

const WEEKS: [usize; 4] = [1, 4, 8, 52];
const STEPS: [u32; 3] = [10, 60, 300];
const SERIES: [usize; 3] = [1, 100, 1000];
/// The history of each of several series.
const WEEKS_OF_SEVERAL: usize = 4;
/// Work is repeated until it has been done for this many samples, so that it takes longer than the clock is fine.
const MEASURED_SAMPLES: usize = 300_000;
const MEASURED_DECISIONS: usize = 10_000;

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
    for excess in &excesses {
        println!("{excess}");
    }
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

fn config(step: Step) -> Config {
    Config { step, lead: 900 / step.seconds() as usize, calendar: Arc::default(), parts: Parts::default() }
}

/// A load that goes on without end, and what has learned it so far.
struct Learned<I> {
    demand: I,
    forecaster: Forecaster,
}

fn learned(case: Case, step: Step, seed: u64) -> Learned<impl Iterator<Item = Qps>> {
    let mut demand = load::samples(step, seed);
    let mut forecaster = Forecaster::new(config(step), load::start());
    demand.by_ref().take(case.samples()).for_each(|demand| forecaster.observe(Some(demand)));
    Learned { demand, forecaster }
}

fn measure(case: Case) -> anyhow::Result<Measured> {
    let step = case.step()?;
    // What is made once for all is not memory of a series. It is kept, or its memory would be used again unseen.
    let first = learned(Case { weeks: 1, ..case }, step, 0);
    black_box(first.forecaster.forecast());
    let before = resident_kibibytes()?;
    let mut all: Vec<_> = (1..).take(case.series).map(|seed| learned(case, step, seed)).collect();
    let memory = (resident_kibibytes()? - before) / case.series as f64;
    drop(first);
    Ok(Measured {
        memory_kibibytes: memory,
        decision_microseconds: 1e6 * decision_seconds(&all)?,
        learn_nanoseconds: 1e9 * learn_seconds(&mut all, 7 * load::steps_a_day(step))?,
        refit_milliseconds: 1e3 * refit_seconds(case, step)?,
    })
}

/// Demand forecast and replicas decided, for one series after another.
fn decision_seconds<I>(all: &[Learned<I>]) -> anyhow::Result<f64> {
    let capacity = Capacity::Linear { per_replica: Qps::clamped(50.0) };
    let now = all.first().map_or(Timestamp::UNIX_EPOCH, |learned| learned.forecaster.next_step());
    let rules = Policy::with_bounds(Replicas(2), Replicas(60)).terms(capacity, now).rules;
    let mut memory = Memory::default();
    let began = cpu_seconds()?;
    let decisions = MEASURED_DECISIONS.next_multiple_of(all.len());
    for Learned { forecaster, .. } in all.iter().cycle().take(decisions) {
        let forecast = forecaster.forecast();
        let situation = Situation {
            now: forecaster.next_step(),
            demand: Some(Qps::clamped(500.0)),
            forecast: forecast.as_ref(),
            fleet: Fleet { desired: Replicas(12), ready: Replicas(12), arrivals: &[] },
            floors: &[],
            guards: &[],
            pressure: None,
        };
        black_box(decide(&rules, &mut memory, &situation));
    }
    Ok((cpu_seconds()? - began) / decisions as f64)
}

/// A sample of the week after the history.
fn learn_seconds<I: Iterator<Item = Qps>>(all: &mut [Learned<I>], week: usize) -> anyhow::Result<f64> {
    let repeats = MEASURED_SAMPLES.div_ceil(week * all.len());
    let mut seconds = 0.0;
    for Learned { demand, forecaster } in all.iter_mut() {
        let samples: Vec<Qps> = demand.by_ref().take(week).collect();
        for _ in 0..repeats {
            let mut forecaster = forecaster.clone();
            let began = cpu_seconds()?;
            for demand in &samples {
                forecaster.observe(Some(*demand));
            }
            seconds += cpu_seconds()? - began;
        }
    }
    Ok(seconds / (repeats * week * all.len()) as f64)
}

/// The whole history of one series, and a forecast.
fn refit_seconds(case: Case, step: Step) -> anyhow::Result<f64> {
    let history = load::days(case.days(), step, 1);
    let repeats = MEASURED_SAMPLES.div_ceil(case.samples());
    let began = cpu_seconds()?;
    for _ in 0..repeats {
        black_box(Forecaster::fit(config(step), &history).forecast());
    }
    Ok((cpu_seconds()? - began) / repeats as f64)
}

/// The time that this process has been on a CPU.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").context("time is read as Linux counts it")?;
    let nanoseconds = text.split_whitespace().next().context("nothing in /proc/self/schedstat")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}

/// Memory of this process that is resident, as Linux counts it, without the program itself.
fn resident_kibibytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read as Linux counts it")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon in /proc")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
