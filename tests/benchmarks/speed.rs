//! How fast it is: one decision, one refit, one simulation of a quarter of a year.
//!
//! `cargo bench --bench speed`

mod load;

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use jiff::SignedDuration;
use milvus_autoscaler::capacity::Capacity;
use milvus_autoscaler::decide::{Fleet, Memory, Situation, decide};
use milvus_autoscaler::forecast::{Config, Forecaster, Parts};
use milvus_autoscaler::policy::Policy;
use milvus_autoscaler::series::{Series, Step};
use milvus_autoscaler::units::{Qps, Replicas};

const LEAD: usize = 15;

fn config() -> Config {
    Config { step: Step::MINUTE, lead: LEAD, calendar: Arc::default(), parts: Parts::default() }
}

/// The newest sample taken, demand forecast, replicas decided: what a cycle computes, each in its own state.
fn decision(criterion: &mut Criterion) {
    let series = load::days(29, Step::MINUTE, 1);
    let learned = 28 * 1440;
    let mut forecaster = Forecaster::new(config(), series.start());
    (0..learned).for_each(|step| forecaster.observe(series.get(step)));
    let rules = Policy::with_bounds(Replicas(2), Replicas(60))
        .terms(Capacity::Linear { per_replica: Qps::clamped(50.0) }, series.start())
        .rules;
    let mut memory = Memory::default();
    let mut step = learned;
    criterion.bench_function("decision, with 28 days of minutes in memory", |bencher| {
        bencher.iter(|| {
            // Over the last day again and again: memory stays as it is.
            let demand = series.get(learned + step % 1440);
            step += 1;
            forecaster.observe(demand);
            let forecast = forecaster.forecast();
            let fleet = Fleet { desired: Replicas(12), ready: Replicas(12), arrivals: &[] };
            let situation = Situation {
                now: forecaster.next_step(),
                demand,
                forecast: forecast.as_ref(),
                fleet,
                floors: &[],
                guards: &[],
                pressure: None,
            };
            black_box(decide(&rules, &mut memory, &situation))
        });
    });
}

fn refit(criterion: &mut Criterion) {
    let series = load::days(28, Step::MINUTE, 1);
    let mut group = criterion.benchmark_group("refit");
    group.sample_size(10);
    group.bench_function("28 days of minutes, and a forecast", |bencher| {
        bencher.iter_batched(
            config,
            |config| black_box(Forecaster::fit(config, &series).forecast()),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// The binary, all strategies, 90 days of minutes: time and peak memory.
fn simulation(_: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("load.csv");
    std::fs::write(&trace, csv(&load::days(90, Step::MINUTE, 1))).expect("a trace");
    let began = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_autoscaler"))
        .args(["simulate", "--lead-time", "15m", "--out"])
        .arg(folder.path().join("out"))
        .arg("--trace")
        .arg(&trace)
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary");
    let peak = peak_memory(child);
    let seconds = began.elapsed().as_secs_f64();
    let line = format!("90 days of minutes, all strategies, all outputs: {seconds:.1} s, {peak} MiB at most");
    writeln!(std::io::stdout(), "{line}").expect("a terminal");
}

fn csv(series: &Series) -> String {
    let mut text = String::from("timestamp,qps\n");
    for index in 0..series.len() {
        let at = series.start() + SignedDuration::from_secs(60) * i32::try_from(index).expect("few");
        let qps = series.get(index).map_or(0.0, Qps::get);
        writeln!(text, "{},{qps:.3}", at.as_second()).expect("memory");
    }
    text
}

/// The most memory that the process ever had resident, in MiB, as Linux counts it.
fn peak_memory(mut child: Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a process").is_none() {
        let seen = std::fs::read_to_string(&status).unwrap_or_default();
        let line = seen.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kibibytes.unwrap_or(0) / 1024);
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

criterion_group!(benches, decision, refit, simulation);
criterion_main!(benches);
