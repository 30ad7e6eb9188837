//! What one observation says of capacity.

use jiff::{SignedDuration, Timestamp};

use crate::decide::Reason;
use crate::observe::{Observation, Reading};
use crate::policy::Policy;
use crate::units::{Qps, Replicas};

/// The least utilisation that says anything of the cost of a search: below it, idle work is most of it.
const LEAST_UTILIZATION: f64 = 0.1;

/// A fleet at work, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The moment.
    pub at: Timestamp,
    /// Replicas that served.
    pub replicas: Replicas,
    /// The load that they carried, in the unit of the demand.
    pub load: Qps,
    /// Utilisation of the busiest: CPU used over its limit.
    pub utilization: f64,
    /// p99 over its target, where there is one and it is measured.
    pub latency: Option<f64>,
    /// p99 of the time in the queue over the target of p99, likewise.
    pub queue: Option<f64>,
}

impl Sample {
    /// What `observation` says while `replicas` serve.
    ///
    /// # Errors
    /// Why it says nothing.
    pub(super) fn of(observation: &Observation, replicas: Replicas, policy: &Policy) -> Result<Self, Reason> {
        if replicas == Replicas(0) {
            return Err(Reason::new("NoneReady", "No QueryNode is ready to learn from."));
        }
        unsettled(observation)?;
        let load = load(observation)?;
        let utilization = utilization(observation)?;
        if load == Qps::ZERO || utilization < LEAST_UTILIZATION {
            return Err(too_little_load());
        }
        let slo = policy.slo.p99_latency.map(|slo| slo.as_secs_f64()).filter(|slo| *slo > 0.0);
        let over_slo = |reading: &Reading<SignedDuration>| {
            slo.zip(reading.value()).map(|(slo, value)| value.as_secs_f64() / slo)
        };
        Ok(Self {
            at: observation.at,
            replicas,
            load,
            utilization,
            latency: over_slo(&observation.p99),
            queue: over_slo(&observation.queue_p99),
        })
    }

    /// The median of each number, at the end of the window.
    pub(super) fn median(window: &[Self]) -> Option<Self> {
        let last = *window.last()?;
        let of = |value: fn(&Self) -> Option<f64>| middle(window.iter().filter_map(value).collect());
        // The median of the ratio, and of the load: a sample with an odd load has an odd utilisation too.
        let load = of(|sample| Some(sample.load.get()))?;
        let carried = of(|sample| Some(sample.load.get() / sample.utilization))?;
        let utilization = load / carried;
        utilization.is_finite().then_some(Self {
            load: Qps::clamped(load),
            utilization,
            latency: of(|sample| sample.latency),
            queue: of(|sample| sample.queue),
            ..last
        })
    }
}

fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// While data moves, nodes are busy with it.
fn unsettled(observation: &Observation) -> Result<(), Reason> {
    let some = |reading: &Reading<f64>| reading.at_least().is_some_and(|tasks| tasks >= 0.5);
    if some(&observation.loading) || some(&observation.draining) {
        let message = "Segments are loading or moving: what QueryNodes carry now says little.";
        return Err(Reason::new("Loading", message));
    }
    Ok(())
}

/// Demand, as far as it was served.
fn load(observation: &Observation) -> Result<Qps, Reason> {
    let demand = observation.demand.value().ok_or_else(|| {
        let message =
            format!("Demand is {}, so what QueryNodes carry is not seen.", observation.demand.state());
        Reason::new("MetricsMissing", message)
    })?;
    let served = match (observation.served.value(), observation.offered.value()) {
        (Some(served), Some(offered)) if offered > Qps::ZERO => (served.get() / offered.get()).min(1.0),
        _ => 1.0,
    };
    Ok(Qps::clamped(demand.get() * served))
}

fn utilization(observation: &Observation) -> Result<f64, Reason> {
    let limited = observation.query_nodes.iter().any(|node| node.cpu_limit.is_some());
    let value = observation.utilization.value().filter(|value| value.is_finite());
    value.ok_or_else(|| match &observation.utilization {
        Reading::Partial { .. } => Reason::new(
            "MetricsPartial",
            "Not every QueryNode is scraped, so the busiest one may be among the others.",
        ),
        _ if !observation.query_nodes.is_empty() && !limited => Reason::new(
            "CpuLimitUnknown",
            "The CPU limit of the QueryNodes is not known, so their utilisation is not: set \
             resources.limits.cpu on them, or spec.capacity.",
        ),
        other => Reason::new(
            "MetricsMissing",
            format!("The CPU use of the QueryNodes is {}: check that they are scraped.", other.state()),
        ),
    })
}

pub(super) fn too_little_load() -> Reason {
    let message = format!(
        "The busiest QueryNode is less than {:.0} % busy: too little to tell what it carries.",
        LEAST_UTILIZATION * 100.0
    );
    Reason::new("TooLittleLoad", message)
}
