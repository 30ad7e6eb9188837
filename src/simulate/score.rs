//! What a replay cost and what it lost.

use jiff::Timestamp;
use serde::Serialize;

use super::demand::Demand;
use super::plant::Plant;
use super::replay::{Replay, is_violation};
use super::window::highest_ahead;

/// A strategy's scores over the scored steps. Ratios are fractions of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The strategy.
    pub name: &'static str,
    /// The time integral of what was paid.
    pub replica_hours: f64,
    /// Replica-hours over the oracle's.
    pub cost_vs_oracle: f64,
    /// The share of `static`'s replica-hours that was saved; negative where it cost more.
    pub saving_vs_static: f64,
    /// The share of steps with demand above capacity.
    pub violation_ratio: f64,
    /// The share of demand above capacity.
    pub lost_ratio: f64,
    /// Steps a day at which the number of replicas asked for changed.
    pub scale_events_per_day: f64,
    /// Replicas added a day.
    pub replicas_added_per_day: f64,
    /// The most replicas asked for.
    pub peak_replicas: u32,
    /// `cost_vs_oracle` plus a weight times `violation_ratio`.
    pub slo_adjusted_cost: f64,
}

/// How good the product's forecast was: the highest demand from each step until a replica added then is ready.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForecastScore {
    /// How far ahead.
    pub horizon_seconds: i64,
    /// Sum of absolute errors of the median over the sum of what came.
    pub wape: f64,
    /// Pinball loss over the mean demand.
    pub pinball: Pinball,
    /// The share of steps that stayed at or below the quantile.
    pub coverage: Coverage,
}

/// Pinball losses by quantile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pinball {
    /// Of the median.
    #[serde(rename = "0.5")]
    pub p50: f64,
    /// Of the 95 % quantile.
    #[serde(rename = "0.95")]
    pub p95: f64,
    /// Of the 99 % quantile.
    #[serde(rename = "0.99")]
    pub p99: f64,
}

/// Coverages by quantile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Of the 95 % quantile.
    #[serde(rename = "0.95")]
    pub p95: f64,
    /// Of the 99 % quantile.
    #[serde(rename = "0.99")]
    pub p99: f64,
}

/// The steps that count: known ones after the warm-up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) demand: &'a Demand,
    pub(super) plant: &'a Plant,
    /// The first scored step.
    pub(super) from: usize,
}

impl Scope<'_> {
    pub(super) fn steps(&self) -> impl Iterator<Item = usize> + '_ {
        (self.from..self.demand.len()).filter(|t| self.demand.is_known(*t))
    }

    /// When scoring starts.
    pub(super) fn start(&self) -> Timestamp {
        self.demand.seen().time(self.from)
    }
}

/// Sums over the scored steps, before any comparison with others.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    steps: f64,
    paid_seconds: f64,
    violations: f64,
    lost: f64,
    demand: f64,
    changes: f64,
    added: f64,
    peak: u32,
}

impl Totals {
    fn of(replay: &Replay, scope: Scope<'_>) -> Self {
        let mut totals = Self::default();
        // Demand is summed relative to its peak, so that no trace makes the sums overflow.
        let peak = scope.steps().map(|t| scope.demand.at(t).get()).fold(0.0, f64::max);
        let scale = if peak > 0.0 { 1.0 / peak } else { 0.0 };
        for t in scope.steps() {
            let (demand, ready) = (scope.demand.at(t), replay.ready.get(t).copied().unwrap_or_default());
            totals.steps += 1.0;
            totals.paid_seconds += replay.paid.get(t).copied().unwrap_or(0.0);
            totals.demand += demand.get() * scale;
            if is_violation(scope.plant, demand, ready) {
                totals.violations += 1.0;
                totals.lost += (demand.get() - scope.plant.capacity.of(ready).get()) * scale;
            }
            totals.changes += f64::from(u8::from(replay.changed(t)));
            totals.added += replay.added(t).as_f64();
            totals.peak = totals.peak.max(replay.desired.get(t).map_or(0, |r| r.0));
        }
        totals
    }
}

/// Replica-seconds paid in the scored steps.
pub(super) fn paid_seconds(replay: &Replay, scope: Scope<'_>) -> f64 {
    scope.steps().filter_map(|t| replay.paid.get(t)).sum()
}

/// Scores `replay`; `oracle` and `fixed` are the replica-seconds that it is compared with.
pub(super) fn score(replay: &Replay, oracle: f64, fixed: f64, scope: Scope<'_>, slo_weight: f64) -> Score {
    let totals = Totals::of(replay, scope);
    let days = totals.steps * f64::from(scope.plant.step.seconds()) / 86_400.0;
    let cost_vs_oracle = ratio(totals.paid_seconds, oracle, 1.0);
    let violation_ratio = ratio(totals.violations, totals.steps, 0.0);
    Score {
        name: replay.name,
        replica_hours: totals.paid_seconds / 3600.0,
        cost_vs_oracle,
        saving_vs_static: 1.0 - ratio(totals.paid_seconds, fixed, 1.0),
        violation_ratio,
        lost_ratio: ratio(totals.lost, totals.demand, 0.0),
        scale_events_per_day: ratio(totals.changes, days, 0.0),
        replicas_added_per_day: ratio(totals.added, days, 0.0),
        peak_replicas: totals.peak,
        slo_adjusted_cost: cost_vs_oracle + slo_weight * violation_ratio,
    }
}

fn ratio(part: f64, whole: f64, if_nothing: f64) -> f64 {
    if whole > 0.0 { part / whole } else { if_nothing }
}

/// Scores the forecasts of a replay where the whole horizon is known; `None` if it made none.
pub(super) fn score_forecast(replay: &Replay, scope: Scope<'_>) -> Option<ForecastScore> {
    let lead = scope.plant.lead_steps();
    let served: Vec<f64> = (0..scope.demand.len()).map(|t| scope.demand.at(t).get()).collect();
    let came = highest_ahead(&served, lead);
    let unknown: Vec<f64> =
        (0..served.len()).map(|t| f64::from(u8::from(!scope.demand.is_known(t)))).collect();
    let unknown_ahead = highest_ahead(&unknown, lead);
    let (mut pinball, mut coverage) = (Pinball::default(), Coverage::default());
    let (mut count, mut error, mut sum, mut demand) = (0.0, 0.0, 0.0, 0.0);
    for t in scope.steps().take_while(|t| t + lead < served.len()) {
        let (Some(band), Some(came)) = (replay.forecast_at(t), came.get(t)) else { continue };
        if unknown_ahead.get(t).is_none_or(|unknown| *unknown > 0.0) {
            continue;
        }
        count += 1.0;
        sum += came;
        demand += served.get(t).copied().unwrap_or(0.0);
        error += (band.p50.get() - came).abs();
        pinball.p50 += pinball_loss(0.5, band.p50.get(), *came);
        pinball.p95 += pinball_loss(0.95, band.p95.get(), *came);
        pinball.p99 += pinball_loss(0.99, band.p99.get(), *came);
        coverage.p95 += f64::from(u8::from(*came <= band.p95.get()));
        coverage.p99 += f64::from(u8::from(*came <= band.p99.get()));
    }
    (count > 0.0).then(|| ForecastScore {
        horizon_seconds: scope.plant.lead_time.as_secs(),
        wape: ratio(error, sum, 0.0),
        pinball: Pinball {
            p50: ratio(pinball.p50, demand, 0.0),
            p95: ratio(pinball.p95, demand, 0.0),
            p99: ratio(pinball.p99, demand, 0.0),
        },
        coverage: Coverage { p95: coverage.p95 / count, p99: coverage.p99 / count },
    })
}

fn pinball_loss(quantile: f64, forecast: f64, came: f64) -> f64 {
    let miss = came - forecast;
    if miss > 0.0 { quantile * miss } else { (quantile - 1.0) * miss }
}
