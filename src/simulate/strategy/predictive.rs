//! The product: the same forecast and the same decisions as the controller's.

use std::sync::Arc;

use super::{Band, Proposal, Strategy, View};
use crate::capacity::Capacity;
use crate::decide::{Decision, Fleet, Floor, Memory, Situation, decide};
use crate::forecast::{Config, Forecaster, Parts};
use crate::policy::Policy;
use crate::simulate::plant::Plant;

/// Forecasts and decides as the controller does.
pub(super) struct Predictive {
    policy: Policy,
    capacity: Capacity,
    config: Config,
    /// Made at the first step, when the trace's start is known.
    forecaster: Option<Forecaster>,
    memory: Memory,
}

impl Predictive {
    pub(super) fn new(plant: &Plant, policy: &Policy) -> Self {
        let calendar = Arc::new(policy.calendar.clone());
        let config = Config { step: plant.step, lead: plant.lead_steps(), calendar, parts: Parts::default() };
        Self {
            policy: policy.clone(),
            capacity: plant.capacity.clone(),
            config,
            forecaster: None,
            memory: Memory::default(),
        }
    }
}

impl Strategy for Predictive {
    fn name(&self) -> &'static str {
        "predictive"
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        let start = view.demand.start();
        let forecaster = self.forecaster.get_or_insert_with(|| Forecaster::new(self.config.clone(), start));
        for step in forecaster.len()..view.step {
            forecaster.observe(view.demand.get(step));
        }
        let forecast = forecaster.forecast();
        let arrivals: Vec<usize> = view.arrivals.iter().map(|at| at.saturating_sub(view.step)).collect();
        let terms = self.policy.terms(self.capacity.clone(), view.now);
        let floors: Vec<Floor> = terms.floor.into_iter().collect();
        let situation = Situation {
            now: view.now,
            demand: view.last(),
            forecast: forecast.as_ref(),
            fleet: Fleet { desired: view.desired, ready: view.ready, arrivals: &arrivals },
            floors: &floors,
            guards: &[],
            pressure: None,
        };
        let outcome = decide(&terms.rules, &mut self.memory, &situation);
        self.memory.record_scale(&terms.rules, view.now, view.desired, outcome.desired);
        Proposal {
            desired: outcome.desired,
            forecast: forecast.map(|forecast| {
                let [p50, p95, p99] = forecast.peak;
                Band { p50, p95, p99 }
            }),
            reasons: match outcome.decision {
                Decision::ScaleTo { reasons, .. } => reasons,
                Decision::Hold { reason } => vec![reason],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Series, Step};
    use crate::units::{Qps, Replicas};
    use jiff::SignedDuration;

    const POLICY: &str = "
apiVersion: milvus-autoscaler.io/v1alpha1
kind: MilvusAutoscaler
metadata: {name: search}
spec:
  minReplicas: 1
  maxReplicas: 20
  schedules: [{name: weekday-floor, start: '0 8 * * MON-FRI', duration: 12h, minReplicas: 5}]
";

    #[test]
    fn a_schedule_is_kept_and_named() {
        let policy = Policy::from_yaml(POLICY).unwrap();
        let plant = Plant {
            step: Step::MINUTE,
            lead_time: SignedDuration::from_mins(10),
            drain_time: SignedDuration::from_mins(2),
            capacity: Capacity::Linear { per_replica: Qps::HUNDRED },
            min: Replicas(1),
            max: Replicas(20),
        };
        let mut predictive = Predictive::new(&plant, &policy);
        // A Monday, from half past seven until half past eight.
        let mut demand = Series::new("2026-01-05T07:30:00Z".parse().unwrap(), Step::MINUTE);
        let mut replicas = Replicas(1);
        for step in 0..60 {
            let now = demand.time(step);
            let view = View { step, now, demand: &demand, ready: replicas, desired: replicas, arrivals: &[] };
            let proposal = predictive.propose(&view);
            assert_eq!(proposal.desired >= Replicas(5), step >= 30, "at {now}");
            if step == 30 {
                assert!(proposal.reasons.iter().any(|reason| reason.message.contains("weekday-floor")));
            }
            replicas = proposal.desired;
            demand.push(Some(Qps::clamped(50.0)));
        }
    }
}
