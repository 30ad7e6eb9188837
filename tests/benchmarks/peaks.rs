//! Every minute's forecast of the highest demand until a replica added then would be ready, for `forecasters`.
//!
//! `peaks LOAD LEAD_MINUTES HISTORY_MINUTES EVERY_MINUTES`, where LOAD is a trace or a scenario's YAML, prints, as CSV,
//! one line a minute of the load: the demand that forecasters see, and the quantiles forecast just before it. From the
//! scored part's beginning on, a refit on the history so far and a forecast are timed at set intervals.

use std::error::Error;
use std::io::{BufWriter, Write, stdout};
use std::path::Path;
use std::sync::Arc;

use milvus_autoscaler::forecast::{Config, Forecaster, Parts};
use milvus_autoscaler::observe::{Trace, csv};
use milvus_autoscaler::series::{Series, Step};
use milvus_autoscaler::simulate::Demand;
use milvus_autoscaler::simulate::scenario::Scenario;
use milvus_autoscaler::units::Qps;

/// As `simulate` has it: half the trace if that is less.
const WARMUP: usize = 21 * 1440;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, numbers @ ..] = arguments.as_slice() else { return Err("no load".into()) };
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<usize>, _>>()?;
    let [lead, history, every] = numbers[..] else { return Err("three numbers after the load".into()) };

    let demand = Demand::from_trace(&read(Path::new(path))?, Step::MINUTE)?;
    let seen = demand.seen();
    let config = Config { step: Step::MINUTE, lead, calendar: Arc::default(), parts: Parts::default() };
    let warmup = WARMUP.min(seen.len() / 2);
    let is_origin = |minute: usize| minute >= warmup && (minute - warmup).is_multiple_of(every.max(1));

    let mut forecaster = Forecaster::new(config.clone(), seen.start());
    let mut output = BufWriter::new(stdout().lock());
    writeln!(output, "second,qps,p50,p95,p99,update_seconds,refit_seconds")?;
    for minute in 0..seen.len() {
        let began = cpu_seconds()?;
        if let Some(before) = minute.checked_sub(1) {
            forecaster.observe(seen.get(before));
        }
        let forecast = forecaster.forecast();
        let update = cpu_seconds()? - began;
        let qps = seen.get(minute).map_or(f64::NAN, Qps::get);
        let [p50, p95, p99] = forecast.map_or([f64::NAN; 3], |forecast| forecast.peak.map(Qps::get));
        write!(output, "{},{qps},{p50},{p95},{p99},{update}", seen.time(minute).as_second())?;
        if is_origin(minute) {
            write!(output, ",{}", refit_seconds(&config, seen, minute.saturating_sub(history)..minute)?)?;
        } else {
            write!(output, ",")?;
        }
        writeln!(output)?;
    }
    Ok(output.flush()?)
}

fn read(load: &Path) -> Result<Trace, Box<dyn Error>> {
    if load.extension().is_some_and(|extension| extension == "yaml") {
        return Ok(Scenario::read(load)?.trace(&load.display().to_string())?);
    }
    Ok(csv::read_file(load)?)
}

/// How long it takes to learn those minutes anew and to forecast.
fn refit_seconds(
    config: &Config,
    seen: &Series,
    minutes: std::ops::Range<usize>,
) -> Result<f64, Box<dyn Error>> {
    let mut history = Series::new(seen.time(minutes.start), Step::MINUTE);
    minutes.for_each(|minute| history.push(seen.get(minute)));
    let began = cpu_seconds()?;
    std::hint::black_box(Forecaster::fit(config.clone(), &history).forecast());
    Ok(cpu_seconds()? - began)
}

/// What this thread has used of a processor, as Linux counts it: what else the machine does matters little.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = counted.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    Ok(nanoseconds as f64 / 1e9)
}
