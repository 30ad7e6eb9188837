//! The strategies that a load is replayed through: the product's own and what people would use instead.

mod cron;
mod hold;
mod holt_winters;
mod hpa;
mod last_week;
mod oracle;
mod predictive;

use std::str::FromStr;

use jiff::Timestamp;

use super::demand::Demand;
use super::plant::Plant;
use crate::decide::Reason;
use crate::policy::Policy;
use crate::policy::text::nearest;
use crate::series::Series;
use crate::units::{Qps, Replicas};

/// What a strategy sees at step `t`: demand up to and including step `t − 1`, and the fleet.
#[derive(Debug)]
pub struct View<'a> {
    /// The step that is being decided; steps before it have happened.
    pub step: usize,
    /// When that step starts.
    pub now: Timestamp,
    /// The load on the plant's grid. It holds steps `0..step` only, so that no strategy can see ahead.
    pub demand: &'a Series,
    /// Replicas that serve.
    pub ready: Replicas,
    /// Replicas asked for so far: ready ones and those on their way.
    pub desired: Replicas,
    /// Replicas on their way, oldest first: the step at which each becomes ready.
    pub arrivals: &'a [usize],
}

impl View<'_> {
    /// Demand in the last step that has happened; `None` at the first step and in a gap.
    #[must_use]
    pub fn last(&self) -> Option<Qps> {
        self.step.checked_sub(1).and_then(|t| self.demand.get(t))
    }
}

/// A strategy's answer at one step.
#[derive(Debug, Clone, Default)]
pub struct Proposal {
    /// Replicas that it wants from this step on.
    pub desired: Replicas,
    /// The forecast that it rests on, if it forecasts.
    pub forecast: Option<Band>,
    /// Why, where the strategy explains itself.
    pub reasons: Vec<Reason>,
}

impl From<Replicas> for Proposal {
    fn from(desired: Replicas) -> Self {
        Self { desired, ..Self::default() }
    }
}

/// Quantiles of the highest demand between this step and the moment when a replica added now is ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// The median.
    pub p50: Qps,
    /// The 95 % quantile.
    pub p95: Qps,
    /// The 99 % quantile: the upper edge of the band in reports.
    pub p99: Qps,
}

/// A way to choose the number of replicas, step by step.
pub trait Strategy: Send {
    /// Its name on the command line and in every output, e.g. `hpa-50`.
    fn name(&self) -> &'static str;

    /// Replicas wanted at this step. Called once a step, in order.
    fn propose(&mut self, view: &View<'_>) -> Proposal;
}

/// What a strategy may know when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The fleet that it controls.
    pub plant: &'a Plant,
    /// The whole load, for `static` and `oracle` alone: the others see it through [`View`].
    pub demand: &'a Demand,
    /// The first scored step; those before are for learning.
    pub warmup: usize,
    /// What the user asks of the autoscaler: calendar, budget, schedules and so on.
    pub policy: &'a Policy,
    /// What the share of steps in violation weighs against cost.
    pub slo_weight: f64,
}

/// Every strategy there is, in the order of the score table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrategyKind {
    /// The product.
    Predictive,
    /// The peak of the scored part, always.
    Static,
    /// The Kubernetes HPA at 70 % CPU.
    Hpa,
    /// The Kubernetes HPA at 50 % CPU.
    Hpa50,
    /// The best day, night and weekend schedule that the warm-up suggests.
    Cron,
    /// What predictive-horizontal-pod-autoscaler does.
    HoltWinters,
    /// Last week's maximum over the next 30 minutes, or the load now if that is more.
    LastWeek,
    /// Sees the future: the least replica-hours without a violation.
    Oracle,
}

impl StrategyKind {
    /// Every strategy, in the order of the score table.
    pub const ALL: [Self; 8] = [
        Self::Predictive,
        Self::Static,
        Self::Hpa,
        Self::Hpa50,
        Self::Cron,
        Self::HoltWinters,
        Self::LastWeek,
        Self::Oracle,
    ];

    /// Its name on the command line and in every output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Predictive => "predictive",
            Self::Static => "static",
            Self::Hpa => "hpa",
            Self::Hpa50 => "hpa-50",
            Self::Cron => "cron",
            Self::HoltWinters => "holt-winters",
            Self::LastWeek => "last-week",
            Self::Oracle => "oracle",
        }
    }

    /// Whether it decides by what lies ahead, which no real autoscaler can.
    #[must_use]
    pub fn sees_the_future(self) -> bool {
        matches!(self, Self::Static | Self::Oracle)
    }

    /// The strategy, ready to be replayed.
    #[must_use]
    pub fn build(self, context: Context<'_>) -> Box<dyn Strategy> {
        let plant = context.plant;
        match self {
            Self::Predictive => Box::new(predictive::Predictive::new(plant, context.policy)),
            Self::Static => Box::new(hold::Static::new(context)),
            Self::Hpa => Box::new(hpa::Hpa::new(self.name(), plant, 0.7)),
            Self::Hpa50 => Box::new(hpa::Hpa::new(self.name(), plant, 0.5)),
            Self::Cron => Box::new(cron::Cron::new(context)),
            Self::HoltWinters => Box::new(holt_winters::HoltWinters::new(plant)),
            Self::LastWeek => Box::new(last_week::LastWeek::new(plant)),
            Self::Oracle => Box::new(oracle::Oracle::new(context)),
        }
    }
}

impl FromStr for StrategyKind {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| UnknownStrategy(name.to_owned()))
    }
}

/// A name that no strategy has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy \"{0}\"{hint}; there are {all}", hint = hint(.0), all = StrategyKind::ALL.map(StrategyKind::name).join(", "))]
pub struct UnknownStrategy(String);

fn hint(name: &str) -> String {
    nearest(name, StrategyKind::ALL.map(StrategyKind::name))
        .map_or(String::new(), |near| format!(" (did you mean \"{near}\"?)"))
}
