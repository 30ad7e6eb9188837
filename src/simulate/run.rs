//! One load through all strategies.

use jiff::{SignedDuration, Timestamp};
use rayon::prelude::*;

use super::demand::Demand;
use super::plant::Plant;
use super::replay::{Replay, replay};
use super::score::{ForecastScore, Scope, Score, paid_seconds, score, score_forecast};
use super::strategy::{Context, Strategy, StrategyKind};
use crate::capacity::{Capacity, CapacityError};
use crate::policy::{GivenCapacity, Policy};
use crate::units::{Qps, Replicas};

/// The warm-up that is used unless half the trace is shorter.
const WARMUP: SignedDuration = SignedDuration::from_hours(21 * 24);
/// The lead time where nobody says one.
const LEAD_TIME: SignedDuration = SignedDuration::from_mins(15);
/// How long a replica that stops serving is paid where nobody says it.
const DRAIN_TIME: SignedDuration = SignedDuration::from_mins(2);
/// What the share of steps in violation weighs against cost where nobody says it.
const SLO_WEIGHT: f64 = 30.0;

/// What is simulated, besides the load.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// The fleet.
    pub plant: Plant,
    /// The part that is not scored; 21 days or half the trace, whichever is less, if not given.
    pub warmup: Option<SignedDuration>,
    /// What the share of steps in violation weighs against cost.
    pub slo_weight: f64,
    /// What the user asks of the autoscaler; bounds, capacity and lead time are the plant's.
    pub policy: Policy,
    /// What is replayed and reported, in this order.
    pub strategies: Vec<StrategyKind>,
}

impl Setup {
    /// The policy where nobody gives one: bounds for a fleet of about twenty at the peak.
    #[must_use]
    pub fn assumed_policy() -> Policy {
        Policy::with_bounds(Replicas(2), Replicas(60))
    }

    /// Every strategy on the fleet that `policy` describes, with defaults for what it leaves open.
    ///
    /// # Errors
    /// If the policy's capacity cannot be used.
    pub fn new(policy: Policy, demand: &Demand) -> Result<Self, CapacityError> {
        let capacity = match &policy.capacity {
            Some(GivenCapacity::PerReplica(per_replica)) => Capacity::linear(*per_replica)?,
            Some(GivenCapacity::Curve(points)) => Capacity::curve(points)?,
            None => derived_capacity(demand),
        };
        let plant = Plant {
            step: demand.seen().step(),
            lead_time: policy.lead_time.unwrap_or(LEAD_TIME),
            drain_time: DRAIN_TIME,
            capacity,
            min: policy.min_replicas,
            max: policy.max_replicas,
        };
        let strategies = StrategyKind::ALL.to_vec();
        Ok(Self { plant, warmup: None, slo_weight: SLO_WEIGHT, policy, strategies })
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The load on the plant's grid.
    pub demand: Demand,
    /// The first scored step.
    pub scored_from: usize,
    /// When that step starts.
    pub scored_from_time: Timestamp,
    /// Scored steps in days.
    pub scored_days: f64,
    /// What each strategy did, in the order asked for.
    pub replays: Vec<Replay>,
    /// Their scores, in the same order.
    pub scores: Vec<Score>,
    /// How good the forecast was, if a strategy made one.
    pub forecast: Option<ForecastScore>,
}

/// What a replica is taken to carry where nobody says: a twentieth of the load that is exceeded 0.1 % of the time;
/// 1 QPS where there is no load at all.
#[must_use]
pub fn derived_capacity(demand: &Demand) -> Capacity {
    let carried = [demand.quantile(0.999), demand.quantile(1.0)].map(|q| q.get() / 20.0);
    let per_replica = carried.into_iter().find(|c| *c > 0.0).unwrap_or(1.0);
    Capacity::Linear { per_replica: Qps::clamped(per_replica) }
}

/// Replays `demand` through every strategy, in parallel; the result does not depend on the number of threads.
#[must_use]
pub fn simulate(demand: Demand, setup: &Setup) -> Outcome {
    simulate_watched(demand, setup, &|_| {})
}

/// As [`simulate`]; `stepped` hears of each strategy's every step.
#[must_use]
pub fn simulate_watched(demand: Demand, setup: &Setup, stepped: &(dyn Fn(StrategyKind) + Sync)) -> Outcome {
    simulate_after(Vec::new(), demand, setup, stepped)
}

/// As [`simulate`], with a strategy of one's own before the others.
#[must_use]
pub fn simulate_own(own: &mut dyn Strategy, demand: Demand, setup: &Setup) -> Outcome {
    let own = replay(own, &demand, &setup.plant, || {});
    simulate_after(vec![own], demand, setup, &|_| {})
}

/// Replays the strategies of `setup`, and scores them after those that were replayed before.
fn simulate_after(
    mut replays: Vec<Replay>,
    demand: Demand,
    setup: &Setup,
    stepped: &(dyn Fn(StrategyKind) + Sync),
) -> Outcome {
    let scored_from = warmup_steps(&demand, setup);
    let context = Context {
        plant: &setup.plant,
        demand: &demand,
        warmup: scored_from,
        policy: &setup.policy,
        slo_weight: setup.slo_weight,
    };
    let run =
        |kind: &StrategyKind| replay(kind.build(context).as_mut(), &demand, &setup.plant, || stepped(*kind));
    let reported = replays.len() + setup.strategies.len();
    replays.par_extend(with_yardsticks(&setup.strategies).par_iter().map(run));
    let scope = Scope { demand: &demand, plant: &setup.plant, from: scored_from };
    let paid = |kind: StrategyKind| {
        replays.iter().find(|r| r.name == kind.name()).map_or(0.0, |replay| paid_seconds(replay, scope))
    };
    let (oracle, fixed) = (paid(StrategyKind::Oracle), paid(StrategyKind::Static));
    replays.truncate(reported);
    let scores = replays.iter().map(|r| score(r, oracle, fixed, scope, setup.slo_weight)).collect();
    let forecast = replays.iter().find_map(|replay| score_forecast(replay, scope));
    let (scored_from_time, steps) = (scope.start(), scope.steps().count());
    let scored_days = steps as f64 * f64::from(setup.plant.step.seconds()) / 86_400.0;
    Outcome { demand, scored_from, scored_from_time, scored_days, replays, scores, forecast }
}

/// What is asked for, and after it what the others are compared with, each once.
fn with_yardsticks(asked: &[StrategyKind]) -> Vec<StrategyKind> {
    let missing =
        [StrategyKind::Oracle, StrategyKind::Static].into_iter().filter(|kind| !asked.contains(kind));
    asked.iter().copied().chain(missing).collect()
}

/// Steps before the first scored one; at least one step is always scored.
fn warmup_steps(demand: &Demand, setup: &Setup) -> usize {
    let half = demand.len() / 2;
    let steps = match setup.warmup {
        Some(warmup) => setup.plant.step.count_in(warmup),
        None => setup.plant.step.count_in(WARMUP).min(half),
    };
    steps.min(demand.len().saturating_sub(1))
}
