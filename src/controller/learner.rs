//! What QueryNodes carry, how long a new one takes and what must stay in memory: as the policy gives it, or as it was
//! learned. A number that is given always wins.

use jiff::{SignedDuration, Timestamp};

use super::status;
use crate::actuate::Survey;
use crate::capacity::Capacity;
use crate::decide::{Floor, Reason};
use crate::learn::capacity::at_once;
use crate::learn::lead_time::Progress;
use crate::learn::{CapacityEstimate, CapacityLearner, LeadTimeLearner, MemoryLearner, Settling};
use crate::observe::Observation;
use crate::policy::status::{
    CapacityStatus, CurvePointStatus, LeadTimeStatus, MilvusAutoscalerStatus, Origin,
};
use crate::policy::text::{DurationText, duration_text};
use crate::policy::{ClusterPolicy, GivenCapacity, Policy};
use crate::units::{Qps, Replicas};

/// How sure capacity must be for what it says of the past to be believed.
const SURE: f64 = 0.8;

/// What one policy has learned.
#[derive(Debug, Default)]
pub(super) struct Learner {
    capacity: CapacityLearner,
    lead_time: LeadTimeLearner,
    memory: MemoryLearner,
    settling: Settling,
    /// What a single look says, where there was no more.
    glimpse: Option<CapacityEstimate>,
    /// Why nothing was learned of capacity last.
    obstacle: Option<Reason>,
}

impl Learner {
    /// Goes on from what a status holds.
    pub(super) fn restore(&mut self, status: &MilvusAutoscalerStatus) {
        let points = status.capacity.as_ref().map(|capacity| capacity.points.as_slice());
        self.capacity = CapacityLearner::from_points(points.unwrap_or_default());
        let points = status.lead_time.as_ref().map(|lead| lead.points.as_slice());
        self.lead_time = LeadTimeLearner::from_points(points.unwrap_or_default());
        self.memory = status.memory.as_ref().map(MemoryLearner::from_status).unwrap_or_default();
    }

    /// Forgets what was learned for another purpose: `new` replaces `old`.
    pub(super) fn adapt(&mut self, old: &ClusterPolicy, new: &ClusterPolicy) {
        if (&old.target, &old.prometheus.url, &old.prometheus.matchers)
            != (&new.target, &new.prometheus.url, &new.prometheus.matchers)
        {
            *self = Self::default();
            return;
        }
        let (old, new) = (&old.policy, &new.policy);
        if (&old.demand, old.target_utilization, old.slo.p99_latency)
            != (&new.demand, new.target_utilization, new.slo.p99_latency)
        {
            self.capacity = CapacityLearner::default();
        }
    }

    /// Learns from what was seen of Milvus and of its QueryNodes.
    pub(super) fn observe(
        &mut self,
        policy: &Policy,
        survey: &Survey,
        observation: &Observation,
        now: Timestamp,
    ) {
        self.memory.observe(observation);
        self.settling.observe(observation);
        let motion = self.settling.motion(observation.at, survey.ready());
        let (desired, ready) = (survey.desired, survey.ready());
        self.lead_time.observe(Progress { at: now, desired, ready, motion });
        let learned = match self.unrest(policy, survey, observation.at, now) {
            Some(reason) => {
                self.capacity.interrupt();
                Err(reason)
            }
            None => self.capacity.observe(observation, ready, policy),
        };
        self.obstacle = learned.err();
    }

    /// Takes what a single look says of capacity, for lack of more.
    pub(super) fn glimpse(&mut self, policy: &Policy, survey: &Survey, observation: &Observation) {
        match at_once(observation, survey.ready(), policy) {
            Ok(estimate) => self.glimpse = Some(estimate),
            Err(reason) => self.obstacle = Some(reason),
        }
    }

    /// Why nothing can be learned of capacity now.
    fn unrest(
        &self,
        policy: &Policy,
        survey: &Survey,
        observed: Timestamp,
        now: Timestamp,
    ) -> Option<Reason> {
        let lead = self.lead_time(policy);
        if let Some(reason) = self.settling.guard(observed) {
            return Some(reason);
        }
        let (helping, _) = survey.helping(now, lead, SignedDuration::from_mins(1));
        let is_at_rest = helping == survey.desired && helping == survey.ready() && !survey.rolling;
        (!is_at_rest || survey.draining() > Replicas(0)).then(|| {
            let message =
                "QueryNodes come, go or have no segments yet: what the fleet carries now says little.";
            Reason::new("FleetChanging", message)
        })
    }

    /// What QueryNodes carry, or why that is not known.
    pub(super) fn capacity(&self, policy: &Policy, now: Timestamp) -> Result<Capacity, Reason> {
        match &policy.capacity {
            Some(GivenCapacity::PerReplica(qps)) => Capacity::linear(*qps),
            Some(GivenCapacity::Curve(points)) => Capacity::curve(points),
            None => {
                let estimate = self.estimate(policy, now).ok_or_else(|| self.unknown())?;
                return Ok(estimate.capacity);
            }
        }
        .map_err(|_| self.unknown())
    }

    fn unknown(&self) -> Reason {
        let why = self
            .obstacle
            .as_ref()
            .map_or("It takes some minutes of load to learn it.", |reason| &reason.message);
        let message = format!(
            "What a QueryNode carries is not known yet: nothing is scaled but to the bounds. {why} Or set \
             spec.capacity."
        );
        Reason::new("CapacityUnknown", message)
    }

    fn estimate(&self, policy: &Policy, now: Timestamp) -> Option<CapacityEstimate> {
        self.capacity.estimate(policy, now).or_else(|| self.glimpse.clone())
    }

    /// Whether capacity is known well enough to say how many replicas a peak needed.
    pub(super) fn is_sure(&self, policy: &Policy, now: Timestamp) -> bool {
        policy.capacity.is_some() || self.estimate(policy, now).is_some_and(|known| known.confidence >= SURE)
    }

    /// How long a replica takes until it helps.
    pub(super) fn lead_time(&self, policy: &Policy) -> SignedDuration {
        policy.lead_time.unwrap_or_else(|| self.lead_time.estimate().planned)
    }

    /// What must not be taken away from `current` replicas.
    pub(super) fn floors(&self, policy: &Policy, current: Replicas) -> Vec<Floor> {
        self.memory.floors(policy.memory_utilization, current)
    }

    /// What must stay of `current` replicas while others drain.
    pub(super) fn drain_floor(&self, current: Replicas) -> Option<Floor> {
        self.memory.drain_floor(current)
    }

    /// Why nothing may be taken away, by an observation made at `observed`.
    pub(super) fn guard(&self, observed: Timestamp) -> Option<Reason> {
        self.settling.guard(observed)
    }

    /// How long a replica takes, for the status.
    pub(super) fn lead_status(&self, policy: &Policy) -> LeadTimeStatus {
        match policy.lead_time {
            None => self.lead_time.estimate().status(),
            Some(given) => LeadTimeStatus {
                origin: Origin::Given,
                value: DurationText(duration_text(given)),
                lower: None,
                upper: None,
                confidence: 1.0,
                points: Vec::new(),
                updated: None,
            },
        }
    }

    /// All of it, for the status, while `ready` replicas serve.
    pub(super) fn describe(
        &self,
        next: &mut MilvusAutoscalerStatus,
        policy: &Policy,
        ready: Replicas,
        now: Timestamp,
    ) {
        next.capacity = match &policy.capacity {
            Some(given) => Some(given_status(given)),
            None => self.estimate(policy, now).map(|estimate| estimate.status(ready)),
        };
        next.lead_time = Some(self.lead_status(policy));
        let memory = self.memory.status(policy.memory_utilization);
        let is_known = memory.resident_bytes.is_some() || memory.in_memory_replicas.is_some();
        next.memory = is_known.then_some(memory);
    }
}

fn given_status(given: &GivenCapacity) -> CapacityStatus {
    let (per_replica, curve) = match given {
        GivenCapacity::PerReplica(qps) => (Some(qps.get()), Vec::new()),
        GivenCapacity::Curve(points) => {
            let point = |(replicas, qps): &(Replicas, Qps)| CurvePointStatus {
                replicas: status::count(*replicas),
                qps: qps.get(),
            };
            (None, points.iter().map(point).collect())
        }
    };
    CapacityStatus {
        origin: Origin::Given,
        qps_per_replica: per_replica,
        lower_qps_per_replica: None,
        upper_qps_per_replica: None,
        curve,
        confidence: 1.0,
        points: Vec::new(),
        updated: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::tests::{at, observation};
    use crate::observe::{QueryNode, Reading};
    use crate::policy::{Target, TargetKind};

    /// Four QueryNodes that carry 200 QPS, half busy, and hold 8 GiB each.
    fn seen(second: i64) -> Observation {
        const GIB: f64 = 1_073_741_824.0;
        let rate = Reading::Value { value: Qps::clamped(200.0), at: at(second) };
        let node = |index: u32| QueryNode {
            name: format!("node-{index}"),
            cpu_limit: Some(2.0),
            memory_limit: Some(16.0 * GIB),
            segments: Some(3.0),
            ..QueryNode::default()
        };
        Observation {
            demand: rate,
            offered: rate,
            served: rate,
            utilization: Reading::Value { value: 0.5, at: at(second) },
            memory: Reading::Value { value: 32.0 * GIB, at: at(second) },
            query_nodes: (0..4).map(node).collect(),
            ..observation(second)
        }
    }

    fn survey() -> Survey {
        let target =
            Target { kind: TargetKind::Deployment, name: "querynode".into(), query_node_group: None };
        Survey::assumed(&target, Replicas(4))
    }

    fn policy() -> Policy {
        Policy::with_bounds(Replicas(1), Replicas(20))
    }

    /// Watches for so many minutes, each half minute.
    fn watched(minutes: i64, survey: &Survey) -> Learner {
        let mut learner = Learner::default();
        for second in (0..minutes * 60).step_by(30) {
            learner.observe(&policy(), survey, &seen(second), at(second));
        }
        learner
    }

    fn carried(learner: &Learner, policy: &Policy) -> f64 {
        learner.capacity(policy, at(3600)).unwrap().of(Replicas(4)).get()
    }

    #[test]
    fn capacity_is_unknown_at_first_then_learned_and_never_outranks_what_is_given() {
        let unknown = Learner::default().capacity(&policy(), at(0)).unwrap_err();
        assert_eq!(unknown.code, "CapacityUnknown");
        assert!(watched(4, &survey()).capacity(&policy(), at(240)).is_err());
        let learner = watched(60, &survey());
        // 200 QPS × 0.7 / 0.5 = 280 QPS, less a little caution.
        let qps = carried(&learner, &policy());
        assert!((260.0..280.0).contains(&qps), "{qps}");
        assert!(learner.is_sure(&policy(), at(3600)));
        let given = Policy { capacity: Some(GivenCapacity::PerReplica(Qps::HUNDRED)), ..policy() };
        assert!((carried(&learner, &given) - 400.0).abs() < 1e-9);
        let mut next = MilvusAutoscalerStatus::default();
        learner.describe(&mut next, &given, Replicas(4), at(3600));
        assert_eq!(next.capacity.unwrap().origin, Origin::Given);
    }

    #[test]
    fn a_restart_goes_on_from_the_status() {
        let learner = watched(60, &survey());
        let mut next = MilvusAutoscalerStatus::default();
        learner.describe(&mut next, &policy(), Replicas(4), at(3600));
        assert_eq!(next.capacity.as_ref().unwrap().origin, Origin::Learned);
        assert_eq!(next.memory.as_ref().unwrap().floor_replicas, Some(3));
        let mut again = Learner::default();
        again.restore(&next);
        assert!((carried(&again, &policy()) / carried(&learner, &policy()) - 1.0).abs() < 1e-3);
        assert_eq!(again.floors(&policy(), Replicas(9)), learner.floors(&policy(), Replicas(9)));
        assert_eq!(again.lead_time(&policy()), learner.lead_time(&policy()));
    }

    #[test]
    fn what_was_learned_for_another_purpose_is_forgotten() {
        let policy = |extra: &str, target: &str| {
            let text = format!(
                "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nspec: {{scaleTargetRef: {{kind: \
                 Deployment, name: {target}}}, minReplicas: 1, maxReplicas: 9, prometheus: {{url: \
                 'http://p'}}{extra}}}"
            );
            ClusterPolicy::from_yaml(&text).unwrap()
        };
        let plain = policy("", "q");
        let after = |new: &ClusterPolicy| {
            let mut learner = watched(60, &survey());
            learner.adapt(&plain, new);
            let capacity = learner.capacity(&plain.policy, at(3600)).is_ok();
            (capacity, !learner.floors(&plain.policy, Replicas(9)).is_empty())
        };
        assert_eq!(after(&policy(", leadTime: 5m", "q")), (true, true));
        assert_eq!(after(&policy(", slo: {p99Latency: 50ms}", "q")), (false, true));
        assert_eq!(after(&policy(", capacity: {targetUtilization: 50%}", "q")), (false, true));
        assert_eq!(after(&policy(", demand: {unit: nq}", "q")), (false, true));
        assert_eq!(after(&policy("", "other")), (false, false));
    }

    #[test]
    fn a_fleet_in_motion_teaches_nothing_of_capacity() {
        let mut young = survey();
        young.pods[3].created = at(3500);
        let rolling = Survey { rolling: true, ..survey() };
        let mut short = survey();
        short.pods.pop();
        for survey in [young, rolling, short] {
            let learner = watched(60, &survey);
            let unknown = learner.capacity(&policy(), at(3600)).unwrap_err();
            assert!(unknown.message.contains("come, go or have no segments"), "{}", unknown.message);
        }
    }
}
