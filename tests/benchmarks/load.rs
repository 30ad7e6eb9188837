//! A load for benchmarks: a day and a week with noise, the same at every run.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::f64::consts::TAU;

use jiff::Timestamp;
use milvus_autoscaler::series::{Series, Step};
use milvus_autoscaler::units::Qps;

/// When every load starts: a Monday.
pub(crate) fn start() -> Timestamp {
    "2026-01-05T00:00:00Z".parse().expect("a time")
}

/// This many days of demand at `step`; different for each `seed`.
pub(crate) fn days(days: usize, step: Step, seed: u64) -> Series {
    let mut series = Series::new(start(), step);
    samples(step, seed).take(days * steps_a_day(step)).for_each(|demand| series.push(Some(demand)));
    series
}

/// Demand at `step` without end.
pub(crate) fn samples(step: Step, seed: u64) -> impl Iterator<Item = Qps> {
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
    let mut drift = 0.0;
    (0_u32..).map(move |index| {
        let day = f64::from(index) / steps_a_day(step) as f64;
        let weekend = if day % 7.0 < 5.0 { 1.0 } else { 0.4 };
        let hump = (1.0 + (TAU * (day - 0.3)).sin()).powi(2) / 4.0;
        drift = 0.99 * drift + 0.01 * random.centered();
        let noise = (drift + 0.02 * random.centered()).exp();
        Qps::clamped((100.0 + 900.0 * weekend * hump) * noise)
    })
}

pub(crate) fn steps_a_day(step: Step) -> usize {
    86_400 / step.seconds() as usize
}

/// A linear congruential generator (Knuth's MMIX constants): reproducible on any machine.
struct Random(u64);

impl Random {
    /// Between −1 and 1.
    fn centered(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}
