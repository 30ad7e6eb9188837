//! `timeline.csv`: every step of the whole trace, with enough digits to score it again.

use std::io::{self, Write};

use crate::simulate::Outcome;

/// Writes one row a step: `timestamp,demand_qps,forecast_p50_qps,forecast_upper_qps`, then desired and ready replicas
/// of each strategy. The forecast is that of the product, empty where there is none.
///
/// # Errors
/// If `output` cannot be written.
pub fn write(outcome: &Outcome, output: &mut dyn Write) -> io::Result<()> {
    write!(output, "timestamp,demand_qps,forecast_p50_qps,forecast_upper_qps")?;
    for replay in &outcome.replays {
        write!(output, ",{0}_desired,{0}_ready", replay.name)?;
    }
    output.write_all(b"\n")?;
    let forecaster = outcome.replays.iter().find(|replay| !replay.forecast.is_empty());
    for t in 0..outcome.demand.len() {
        write!(output, "{},{},", outcome.demand.seen().time(t), outcome.demand.at(t).get())?;
        match forecaster.and_then(|replay| replay.forecast_at(t)) {
            Some(band) => write!(output, "{},{}", band.p50.get(), band.p99.get())?,
            None => output.write_all(b",")?,
        }
        for replay in &outcome.replays {
            let at = |counts: &[_]| counts.get(t).copied().unwrap_or_default();
            write!(output, ",{},{}", at(&replay.desired), at(&replay.ready))?;
        }
        output.write_all(b"\n")?;
    }
    Ok(())
}
