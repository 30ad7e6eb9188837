//! `summary.json`: the scores, for programs.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::capacity::Capacity;
use crate::observe::Trace;
use crate::simulate::{ForecastScore, Outcome, Score, Setup};
use crate::units::Replicas;

/// Everything about one simulation but the timeline. Ratios are fractions of 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The load.
    pub trace: TraceSummary,
    /// The modelled fleet.
    pub plant: PlantSummary,
    /// When the first scored step starts.
    pub scored_from: Timestamp,
    /// What the share of steps in violation weighs in `slo_adjusted_cost`.
    pub slo_weight: f64,
    /// The scores.
    pub strategies: Vec<Score>,
    /// How good the product's forecast was; absent if it was not asked for.
    pub forecast: Option<ForecastScore>,
    /// How long the replay took.
    pub elapsed_seconds: f64,
}

/// The load as it was recorded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceSummary {
    /// Where it comes from.
    pub path: String,
    /// Rows of data.
    pub rows: usize,
    /// When the first row's bucket starts.
    pub start: Timestamp,
    /// When the last row's bucket starts.
    pub end: Timestamp,
    /// The distance of rows.
    pub step_seconds: u32,
    /// How often rows are missing.
    pub gaps: usize,
    /// How many of the gaps were short enough to be bridged.
    pub gaps_bridged: usize,
    /// Mean of the rows.
    pub mean_qps: f64,
    /// The highest row.
    pub peak_qps: f64,
}

/// The modelled fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlantSummary {
    /// How often strategies decide.
    pub step_seconds: u32,
    /// From asking for a replica until it helps.
    pub lead_time_seconds: i64,
    /// How long a replica that stops serving is still paid.
    pub drain_seconds: i64,
    /// What replicas carry.
    #[serde(flatten)]
    pub capacity: CapacitySummary,
    /// The fewest replicas.
    pub min_replicas: Replicas,
    /// The most replicas.
    pub max_replicas: Replicas,
}

/// What replicas carry: the same each, or a curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacitySummary {
    /// What each replica carries.
    QpsPerReplica(f64),
    /// What the possible numbers of replicas carry.
    Curve(Vec<CurvePoint>),
}

/// What a number of replicas carries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The number of replicas.
    pub replicas: Replicas,
    /// What they carry.
    pub qps: f64,
}

impl Summary {
    /// What is known about a simulation when it is over.
    #[must_use]
    pub fn new(trace: &Trace, setup: &Setup, outcome: &Outcome, elapsed: Duration) -> Self {
        Self {
            trace: TraceSummary::new(trace),
            plant: PlantSummary::new(setup),
            scored_from: outcome.scored_from_time,
            slo_weight: setup.slo_weight,
            strategies: outcome.scores.clone(),
            forecast: outcome.forecast.clone(),
            elapsed_seconds: elapsed.as_secs_f64(),
        }
    }
}

impl TraceSummary {
    fn new(trace: &Trace) -> Self {
        let (mean, peak) = trace.mean_and_peak();
        Self {
            path: trace.name().to_owned(),
            rows: trace.rows(),
            start: trace.start(),
            end: trace.last(),
            step_seconds: trace.step().seconds(),
            gaps: trace.gaps().count(),
            gaps_bridged: trace.gaps().filter(|gap| gap.bridged).count(),
            mean_qps: mean.get(),
            peak_qps: peak.get(),
        }
    }
}

impl PlantSummary {
    fn new(setup: &Setup) -> Self {
        let plant = &setup.plant;
        Self {
            step_seconds: plant.step.seconds(),
            lead_time_seconds: plant.lead_time.as_secs(),
            drain_seconds: plant.drain_time.as_secs(),
            capacity: CapacitySummary::new(&plant.capacity, plant.max),
            min_replicas: plant.min,
            max_replicas: plant.max,
        }
    }
}

impl CapacitySummary {
    fn new(capacity: &Capacity, max: Replicas) -> Self {
        match capacity {
            Capacity::Linear { per_replica } => Self::QpsPerReplica(per_replica.get()),
            Capacity::Curve(_) => {
                let point = |n| CurvePoint { replicas: Replicas(n), qps: capacity.of(Replicas(n)).get() };
                Self::Curve((1..=max.0).map(point).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Step;

    #[test]
    fn capacity_is_a_number_or_a_curve() {
        let points = [
            (Replicas(1), crate::units::Qps::clamped(95.0)),
            (Replicas(4), crate::units::Qps::clamped(340.0)),
        ];
        let mut plant = PlantSummary {
            step_seconds: Step::MINUTE.seconds(),
            lead_time_seconds: 900,
            drain_seconds: 120,
            capacity: CapacitySummary::new(&Capacity::curve(&points).unwrap(), Replicas(2)),
            min_replicas: Replicas(1),
            max_replicas: Replicas(2),
        };
        let json = serde_json::to_value(&plant).unwrap();
        assert_eq!(json["curve"][0], serde_json::json!({"replicas": 1, "qps": 95.0}));
        plant.capacity = CapacitySummary::QpsPerReplica(105.0);
        assert_eq!(serde_json::to_value(&plant).unwrap()["qps_per_replica"], 105.0);
    }
}
