//! A load for benchmarks: a day and a week with noise, the same at every run.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::f64::consts::TAU;

use jiff::Timestamp;
use milvus_autoscaler::series::{Series, Step};
use milvus_autoscaler::units::Qps;

/// This many days of demand at `step`, from a Monday on; different for each `seed`.
pub(crate) fn days(days: usize, step: Step, seed: u64) -> Series {
    let start: Timestamp = "2026-01-05T00:00:00Z".parse().expect("a time");
    let mut series = Series::new(start, step);
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
    let mut drift = 0.0;
    let steps_a_day = 86_400 / step.seconds() as usize;
    for index in 0..days * steps_a_day {
        let day = index as f64 / steps_a_day as f64;
        let weekend = if day % 7.0 < 5.0 { 1.0 } else { 0.4 };
        let hump = (1.0 + (TAU * (day - 0.3)).sin()).powi(2) / 4.0;
        drift = 0.99 * drift + 0.01 * random.centered();
        let noise = (drift + 0.02 * random.centered()).exp();
        series.push(Some(Qps::clamped((100.0 + 900.0 * weekend * hump) * noise)));
    }
    series
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
