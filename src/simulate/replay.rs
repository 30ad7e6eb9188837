//! One strategy against one load, step by step.

use crate::decide::Reason;
use crate::series::Series;
use crate::units::{Qps, Replicas};

use super::demand::Demand;
use super::plant::{Fleet, Plant};
use super::strategy::{Band, Strategy, View};

/// What a strategy did, at every step.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The strategy's name.
    pub name: &'static str,
    /// Replicas that serve in each step.
    pub ready: Vec<Replicas>,
    /// Replicas asked for from each step on.
    pub desired: Vec<Replicas>,
    /// Replica-seconds paid in each step.
    pub paid: Vec<f64>,
    /// The forecast at each step; empty if the strategy makes none.
    pub forecast: Vec<Option<Band>>,
    /// Each change of `desired` that came with reasons.
    pub changes: Vec<Change>,
}

/// A change of the number of replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The step.
    pub step: usize,
    /// Replicas asked for before.
    pub from: Replicas,
    /// Replicas asked for from then on.
    pub to: Replicas,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Replays `demand` through `strategy`. In step t: replicas whose time has come become ready; the plant serves; the
/// strategy sees demand up to step t − 1 and says how many it wants from t on. `stepped` is called after each step.
pub fn replay(strategy: &mut dyn Strategy, demand: &Demand, plant: &Plant, stepped: impl Fn()) -> Replay {
    let steps = demand.len();
    let mut replay = Replay {
        name: strategy.name(),
        ready: Vec::with_capacity(steps),
        desired: Vec::with_capacity(steps),
        paid: Vec::with_capacity(steps),
        forecast: Vec::new(),
        changes: Vec::new(),
    };
    let mut fleet = Fleet::new(plant.needed(demand.at(0)));
    let mut past = Series::new(demand.seen().start(), plant.step);
    let (lead, drain) = (plant.lead_steps(), plant.drain_time.as_secs_f64());
    for step in 0..steps {
        fleet.arrive(step);
        replay.ready.push(fleet.ready());
        let from = fleet.desired();
        let view = View {
            step,
            now: past.time(step),
            demand: &past,
            ready: fleet.ready(),
            desired: from,
            arrivals: fleet.arrivals(),
        };
        let proposal = strategy.propose(&view);
        let to = proposal.desired.min(plant.max).max(plant.min);
        fleet.scale_to(to, step + lead, drain);
        replay.desired.push(to);
        replay.paid.push(fleet.pay(f64::from(plant.step.seconds())));
        if proposal.forecast.is_some() {
            replay.forecast.resize(step, None);
            replay.forecast.push(proposal.forecast);
        }
        if to != from && !proposal.reasons.is_empty() {
            replay.changes.push(Change { step, from, to, reasons: proposal.reasons });
        }
        past.push(demand.seen().get(step));
        stepped();
    }
    replay
}

impl Replay {
    /// Replicas added at step `t`.
    #[must_use]
    pub fn added(&self, t: usize) -> Replicas {
        self.desired_at(t).saturating_sub(self.desired_before(t))
    }

    /// Whether `desired` changed at step `t`.
    #[must_use]
    pub fn changed(&self, t: usize) -> bool {
        self.desired_at(t) != self.desired_before(t)
    }

    /// What the forecast made at step `t` says.
    #[must_use]
    pub fn forecast_at(&self, t: usize) -> Option<Band> {
        self.forecast.get(t).copied().flatten()
    }

    fn desired_at(&self, t: usize) -> Replicas {
        self.desired.get(t).copied().unwrap_or_default()
    }

    /// Replicas asked for before step `t`; the fleet starts with those that are ready.
    fn desired_before(&self, t: usize) -> Replicas {
        match t.checked_sub(1) {
            Some(before) => self.desired_at(before),
            None => self.ready.first().copied().unwrap_or_default(),
        }
    }
}

/// Whether `ready` replicas are too few for `demand`.
pub(super) fn is_violation(plant: &Plant, demand: Qps, ready: Replicas) -> bool {
    demand > plant.capacity.of(ready)
}
