//! How many replicas, and why.
//!
//! The same function decides in the controller and in simulations. It is pure: everything it knows is in its
//! arguments, time included.
//!
//! Order: demand → capacity → plan → reaction → floors → guards → stabilisation → rate limits → bounds. Each step that changes the
//! number adds its reason.

pub mod behavior;
pub mod plan;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::capacity::Capacity;
use crate::forecast::Forecast;
use crate::units::{Qps, Replicas};
use behavior::{BehaviorState, HpaBehavior};
pub use plan::Plan;

/// Why a decision is what it is: a stable code for metrics and alerts, and a sentence with numbers for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A stable CamelCase code such as `ForecastRise`, used as the label of metrics.
    pub code: &'static str,
    /// One sentence with its numbers.
    pub message: Cow<'static, str>,
}

impl Reason {
    /// A reason with its sentence.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The fleet as it is.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    /// Replicas asked for: ready ones and those on their way.
    pub desired: Replicas,
    /// Replicas that serve.
    pub ready: Replicas,
    /// In how many steps from now each replica on its way will be ready, soonest first.
    pub arrivals: &'a [usize],
}

/// What scaling costs, in replica-steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// The price of a step in violation, in multiples of the mean fleet.
    pub shortage: f64,
    /// Each replica added, beyond being paid for while it loads: its loading disturbs search.
    pub added: f64,
    /// Each change of the number.
    pub change: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { shortage: 30.0, added: 45.0, change: 16.0 }
    }
}

impl Costs {
    /// Costs under which spending the whole `violation_budget` (a share of time) weighs as much as 3 % of the fleet.
    #[must_use]
    pub fn for_budget(violation_budget: f64) -> Self {
        Self { shortage: 0.03 / violation_budget.clamp(1e-6, 1.0), ..Self::default() }
    }
}

/// What holds for every decision about one target.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What replicas carry within the SLO.
    pub capacity: Capacity,
    /// The fewest replicas.
    pub min: Replicas,
    /// The most replicas.
    pub max: Replicas,
    /// What scaling costs.
    pub costs: Costs,
    /// How fast replicas may change.
    pub behavior: HpaBehavior,
}

/// The least that something other than load needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// Replicas.
    pub replicas: Replicas,
    /// What needs them.
    pub reason: Reason,
}

/// All that is known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The newest measured demand; `None` when it is missing, stale or partial.
    pub demand: Option<Qps>,
    /// Demand ahead; `None` before there was any sample.
    pub forecast: Option<&'a Forecast>,
    /// The fleet.
    pub fleet: Fleet<'a>,
    /// What memory, in-memory replicas and schedules need.
    pub floors: &'a [Floor],
    /// Why nothing may be taken away now.
    pub guards: &'a [Reason],
    /// What signals of overload (latency, queues) ask for.
    pub pressure: Option<&'a Floor>,
}

/// What is remembered from decision to decision. Small, and kept across restarts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// Mean of the replicas asked for, over two weeks at most.
    mean_fleet: f64,
    decisions: f64,
    behavior: BehaviorState,
}

/// Decisions in two weeks at one a minute.
const FLEET_MEMORY: f64 = 20_160.0;

impl Memory {
    fn note_fleet(&mut self, desired: Replicas) -> f64 {
        self.decisions = (self.decisions + 1.0).min(FLEET_MEMORY);
        self.mean_fleet += (desired.as_f64() - self.mean_fleet) / self.decisions;
        self.mean_fleet.max(1.0)
    }

    /// Recent recommendations and changes.
    #[must_use]
    pub fn behavior(&self) -> &BehaviorState {
        &self.behavior
    }

    /// The same with the recommendations and changes that another process, or an earlier run, remembered.
    #[must_use]
    pub fn with_behavior(self, behavior: BehaviorState) -> Self {
        Self { behavior, ..self }
    }

    /// Remembers that replicas were changed, for rate limits. To be called once the change has been made.
    pub fn record_scale(&mut self, rules: &Rules, now: Timestamp, from: Replicas, to: Replicas) {
        self.behavior.record_scale(&rules.behavior, now, from, to);
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Decision {
    /// Leave the number as it is.
    Hold {
        /// Why.
        reason: Reason,
    },
    /// Ask for another number.
    ScaleTo {
        /// How many.
        replicas: Replicas,
        /// Why, in the order in which the number came about.
        reasons: Vec<Reason>,
    },
}

/// A decision and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be done.
    pub decision: Decision,
    /// The replicas that should be asked for from now on.
    pub desired: Replicas,
    /// What each signal asked for, before they were combined.
    pub proposals: Vec<(&'static str, Replicas)>,
    /// The plan, if there was a forecast to plan with.
    pub plan: Option<Plan>,
}

/// Decides on the replicas to ask for now.
pub fn decide(rules: &Rules, memory: &mut Memory, situation: &Situation<'_>) -> Outcome {
    let mean_fleet = memory.note_fleet(situation.fleet.desired);
    let current = situation.fleet.desired;
    let plan = situation.forecast.map(|forecast| make_plan(rules, mean_fleet, forecast, &situation.fleet));
    let mut wish = Wish { replicas: current, reasons: Vec::new() };
    let mut proposals = Vec::new();

    if let (Some(plan), Some(forecast)) = (&plan, situation.forecast) {
        proposals.push(("forecast", plan.now));
        wish.set(plan.now, || forecast_reason(forecast, plan, current));
    }
    if let Some(demand) = situation.demand {
        let needed = rules.capacity.replicas_for(demand, rules.max);
        proposals.push(("demand", needed));
        wish.raise(needed, || demand_reason(demand, needed));
    }
    if let Some(pressure) = situation.pressure {
        proposals.push(("pressure", pressure.replicas));
        wish.raise(pressure.replicas, || pressure.reason.clone());
    }
    for floor in situation.floors {
        proposals.push(("floor", floor.replicas));
        wish.raise(floor.replicas, || floor.reason.clone());
    }
    wish.guard(current, situation);
    wish.limit(current, rules, memory, situation);
    Outcome { decision: wish.decision(current), desired: wish.replicas, proposals, plan }
}

fn make_plan(rules: &Rules, mean_fleet: f64, forecast: &Forecast, fleet: &Fleet<'_>) -> Plan {
    let problem = plan::Problem {
        forecast,
        capacity: &rules.capacity,
        fleet,
        min: rules.min,
        max: rules.max,
        costs: rules.costs,
        shortage_price: rules.costs.shortage * mean_fleet,
    };
    problem.solve()
}

/// The number under way, with the reasons so far.
struct Wish {
    replicas: Replicas,
    reasons: Vec<Reason>,
}

impl Wish {
    fn set(&mut self, replicas: Replicas, reason: impl FnOnce() -> Reason) {
        if replicas != self.replicas {
            self.replicas = replicas;
            self.reasons.push(reason());
        }
    }

    fn raise(&mut self, replicas: Replicas, reason: impl FnOnce() -> Reason) {
        if replicas > self.replicas {
            self.set(replicas, reason);
        }
    }

    /// Without trustworthy data, or while the fleet is busy with a change, nothing is taken away.
    fn guard(&mut self, current: Replicas, situation: &Situation<'_>) {
        if situation.demand.is_none() {
            self.raise(current, || {
                Reason::new("MetricsMissing", format!("No trustworthy demand: held at {current}."))
            });
        }
        for guard in situation.guards {
            self.raise(current, || guard.clone());
        }
    }

    /// Stabilisation, rate limits and bounds. A floor is a bound: no rate limit holds replicas below it.
    fn limit(&mut self, current: Replicas, rules: &Rules, memory: &mut Memory, situation: &Situation<'_>) {
        let floor = situation.floors.iter().map(|floor| floor.replicas).fold(rules.min, Replicas::max);
        let (replicas, limits) = behavior::normalize(
            &mut memory.behavior,
            &rules.behavior,
            situation.now,
            current,
            self.replicas,
            floor.min(rules.max),
            rules.max,
        );
        self.replicas = replicas;
        self.reasons.extend(limits.iter().map(behavior::Limit::reason));
    }

    fn decision(&self, current: Replicas) -> Decision {
        if self.replicas == current {
            let reason = self.reasons.last().cloned();
            return Decision::Hold {
                reason: reason.unwrap_or_else(|| Reason::new("Steady", format!("{current} replicas fit."))),
            };
        }
        Decision::ScaleTo { replicas: self.replicas, reasons: self.reasons.clone() }
    }
}

fn forecast_reason(forecast: &Forecast, plan: &Plan, current: Replicas) -> Reason {
    let [median, _, high] = forecast.peak;
    let (code, verb) =
        if plan.now > current { ("ForecastRise", "rises to") } else { ("ForecastFall", "stays at") };
    Reason::new(
        code,
        format!(
            "Demand {verb} {median} (99 %: {high}) before a replica added now is ready: the plan has {} replicas.",
            plan.now
        ),
    )
}

fn demand_reason(demand: Qps, needed: Replicas) -> Reason {
    Reason::new("DemandAboveCapacity", format!("Demand is {demand} now, which needs {needed} replicas."))
}

#[cfg(test)]
mod tests;
