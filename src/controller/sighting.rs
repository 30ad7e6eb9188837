//! What an observation means for a decision: demand that can be trusted or why none can, guards, floors, pressure.

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Floor, Reason};
use crate::observe::{Observation, Reading};
use crate::policy::Policy;
use crate::units::{Qps, Replicas};

/// What was seen of Milvus at one moment, as far as decisions need it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sighting {
    /// Demand, or why none can be trusted.
    pub(super) demand: Result<Qps, Reason>,
    /// How old the newest sample is, if there is any.
    pub(super) age: Option<SignedDuration>,
    /// Why nothing may be taken away now: loading, draining.
    pub(super) guards: Vec<Reason>,
    /// How far latency is above its target: 1.2 is a fifth.
    pub(super) latency: Option<f64>,
    /// All that was seen.
    pub(super) observation: Option<Observation>,
}

impl Sighting {
    /// Nothing was seen.
    pub(super) fn none(reason: Reason) -> Self {
        Self { demand: Err(reason), age: None, guards: Vec::new(), latency: None, observation: None }
    }

    /// What `observation` means under `policy`.
    pub(super) fn of(observation: Observation, policy: &Policy) -> Self {
        let slo = policy.slo.p99_latency.filter(|slo| *slo > SignedDuration::ZERO);
        Self {
            demand: demand(&observation),
            age: observation.demand.at().map(|at| age(observation.at, at)),
            guards: guards(&observation),
            latency: slo.zip(observation.p99.value()).map(|(slo, p99)| p99.as_secs_f64() / slo.as_secs_f64()),
            observation: Some(observation),
        }
    }
}

/// By the server's clock alone, so that clocks that differ do no harm.
fn age(now: Timestamp, at: Timestamp) -> SignedDuration {
    now.duration_since(at).max(SignedDuration::ZERO)
}

fn demand(observation: &Observation) -> Result<Qps, Reason> {
    match observation.demand {
        Reading::Value { value, .. } => Ok(value),
        Reading::Partial { .. } => Err(Reason::new("MetricsPartial", partial(observation))),
        Reading::Stale { at } => {
            let seconds = age(observation.at, at).as_secs();
            Err(Reason::new("MetricsStale", format!("The newest sample of the demand is {seconds} s old.")))
        }
        Reading::Missing => {
            let message = "Prometheus has no sample of the demand: check spec.prometheus.matchers, and that \
                           the proxies are scraped.";
            Err(Reason::new("MetricsMissing", message))
        }
    }
}

fn partial(observation: &Observation) -> String {
    let scraped = observation.proxies_scraped;
    match (&observation.warning, observation.proxies_ready) {
        (_, Some(ready)) if scraped < ready => {
            format!("Only {scraped} of {ready} proxies are scraped, so part of the demand is not seen.")
        }
        (Some(warning), _) => format!("Prometheus warns that its answer is not complete: {warning}."),
        _ => "Part of the demand is not seen.".to_owned(),
    }
}

fn guards(observation: &Observation) -> Vec<Reason> {
    let mut guards = Vec::new();
    // What is partial is at least this much.
    if let Some(tasks) = observation.loading.at_least().filter(|tasks| *tasks >= 0.5) {
        let message =
            format!("{tasks:.0} segments or channels are loading or moving: nothing is taken away.");
        guards.push(Reason::new("Loading", message));
    }
    if let Some(rest) = observation.draining.at_least().filter(|rest| *rest >= 0.5) {
        let message =
            format!("Stopping QueryNodes still hold {rest:.0} segments or channels: nothing is taken away.");
        guards.push(Reason::new("Draining", message));
    }
    guards
}

/// Cycles in a row in which latency must be above its target to ask for more.
const PATIENCE: u32 = 2;
/// More replicas that latency asks for, as a share of those that help now. Relative to these, not to those asked for:
/// replicas on their way are not asked for again.
const MORE: f64 = 0.25;

/// Latency above its target, for some time, asks for more than helps now.
pub(super) fn pressure(latency: Option<f64>, high_for: u32, helping: Replicas) -> Option<Floor> {
    let latency = latency.filter(|latency| *latency > 1.0)?;
    if high_for < PATIENCE || helping == Replicas(0) {
        return None;
    }
    let replicas = helping + Replicas::at_least(helping.as_f64() * MORE);
    let message = format!(
        "99 % of searches take up to {:.0} % of the latency target: {replicas} replicas instead of the \
         {helping} that help now.",
        latency * 100.0
    );
    Some(Floor { replicas, reason: Reason::new("LatencyAboveTarget", message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_asks_for_more_than_helps_and_never_again_for_what_is_on_its_way() {
        let asked = |latency: f64, high_for: u32, helping: u32| {
            pressure(Some(latency), high_for, Replicas(helping)).map(|floor| floor.replicas.0)
        };
        assert_eq!(asked(1.2, 2, 4), Some(5));
        assert_eq!(asked(9.0, 9, 1), Some(2));
        assert_eq!(asked(1.2, 1, 4), None);
        assert_eq!(asked(1.0, 9, 4), None);
        assert_eq!(asked(2.0, 9, 0), None);
        assert_eq!(pressure(None, 9, Replicas(4)), None);
    }
}
