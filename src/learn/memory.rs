//! What must stay in memory, and so the fewest QueryNodes that hold it.

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Floor, Reason};
use crate::observe::Observation;
use crate::policy::status::MemoryStatus;
use crate::units::{Ratio, Replicas};

/// For how long, at least, what was resident counts. What a stopped QueryNode held is loaded by the others, and memory
/// that is free for a moment is needed again.
const HELD: SignedDuration = SignedDuration::from_mins(30);

/// Learns how much memory the loaded data needs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MemoryLearner {
    /// When the current period began.
    since: Option<Timestamp>,
    /// The most resident bytes of all QueryNodes together, in this period and in the one before.
    most: (f64, f64),
    /// The least memory limit of a QueryNode.
    limit: Option<f64>,
}

impl MemoryLearner {
    /// A learner that goes on from what a status says.
    #[must_use]
    pub fn from_status(status: &MemoryStatus) -> Self {
        let bytes = |bytes: Option<i64>| bytes.filter(|bytes| *bytes > 0).map(|bytes| bytes as f64);
        Self {
            since: None,
            most: (bytes(status.resident_bytes).unwrap_or(0.0), 0.0),
            limit: bytes(status.limit_bytes_per_replica),
        }
    }

    /// Takes in what was observed. A reading that leaves QueryNodes out can raise what is held in memory, never lower
    /// it, and none at all changes nothing.
    pub fn observe(&mut self, observation: &Observation) {
        let usable = |value: &f64| value.is_finite() && *value > 0.0;
        let limits = observation.query_nodes.iter().filter_map(|node| node.memory_limit).filter(usable);
        self.limit = limits.reduce(f64::min).or(self.limit);
        if let Some(bytes) = observation.memory.at_least().filter(usable) {
            self.most.0 = self.most.0.max(bytes);
        }
        let Some(bytes) = observation.memory.value().filter(usable) else { return };
        let since = *self.since.get_or_insert(observation.at);
        if observation.at.duration_since(since) >= HELD {
            self.most = (bytes, self.most.0);
            self.since = Some(observation.at);
        }
    }

    /// Resident bytes of all QueryNodes together; `None` if they were never seen.
    fn resident(&self) -> Option<f64> {
        Some(self.most.0.max(self.most.1)).filter(|bytes| *bytes > 0.0)
    }

    /// The fewest QueryNodes that hold it all, each filled to at most `utilization` of its limit.
    #[must_use]
    pub fn replicas(&self, utilization: Ratio) -> Option<Replicas> {
        let usable = self.limit? * utilization.get();
        (usable > 0.0).then_some(Replicas::at_least(self.resident()? / usable))
    }

    /// The floor for a fleet of `current`. It keeps what memory needs from being taken away and never asks for more
    /// than there is: files that are mapped into memory fill whatever memory a new QueryNode brings.
    #[must_use]
    pub fn floor(&self, utilization: Ratio, current: Replicas) -> Option<Floor> {
        let needed = self.replicas(utilization)?;
        let (resident, limit) = (self.resident()? / GIB, self.limit? / GIB);
        let message = format!(
            "{resident:.1} GiB are resident in all QueryNodes, which fill {needed} of them to {utilization} of their \
             limit of {limit:.1} GiB."
        );
        Some(Floor { replicas: needed.min(current), reason: Reason::new("MemoryFloor", message) })
    }

    /// It for the status.
    #[must_use]
    pub fn status(&self, utilization: Ratio) -> MemoryStatus {
        #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
        let bytes = |value: f64| value as i64;
        MemoryStatus {
            resident_bytes: self.resident().map(bytes),
            limit_bytes_per_replica: self.limit.map(bytes),
            in_memory_replicas: None,
            floor_replicas: self.replicas(utilization).and_then(|replicas| i32::try_from(replicas.0).ok()),
        }
    }
}

const GIB: f64 = 1_073_741_824.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::learn::tests::{at, observation};
    use crate::observe::{QueryNode, Reading};

    fn seen(second: i64, memory: Reading<f64>) -> Observation {
        let node = QueryNode { memory_limit: Some(10.0 * GIB), ..QueryNode::default() };
        Observation { memory, query_nodes: vec![node], ..observation(second) }
    }

    fn whole(second: i64, gib: f64) -> Observation {
        seen(second, Reading::Value { value: gib * GIB, at: at(second) })
    }

    const FULL: Ratio = Ratio::clamped(0.8);

    #[test]
    fn the_floor_holds_all_of_it_and_never_asks_for_more_than_there_is() {
        let mut learner = MemoryLearner::default();
        assert_eq!(learner.floor(FULL, Replicas(9)), None);
        learner.observe(&whole(0, 24.0));
        assert_eq!(learner.replicas(FULL), Some(Replicas(3)));
        learner.observe(&whole(30, 24.1));
        assert_eq!(learner.replicas(FULL), Some(Replicas(4)));
        assert_eq!(learner.floor(FULL, Replicas(3)).unwrap().replicas, Replicas(3));
        assert_eq!(learner.floor(FULL, Replicas(9)).unwrap().replicas, Replicas(4));
    }

    #[test]
    fn less_memory_counts_only_after_a_while_and_only_if_all_of_it_was_seen() {
        let mut learner = MemoryLearner::default();
        learner.observe(&whole(0, 32.0));
        // A QueryNode has gone, and the others have not loaded what it held.
        for minute in 1..60 {
            learner.observe(&whole(minute * 60, 16.0));
            assert_eq!(learner.replicas(FULL), Some(Replicas(4)), "minute {minute}");
        }
        learner.observe(&whole(3600, 16.0));
        assert_eq!(learner.replicas(FULL), Some(Replicas(2)));
        for reading in [
            Reading::Missing,
            Reading::Stale { at: at(0) },
            Reading::Partial { value: GIB, at: at(0) },
            Reading::Value { value: f64::NAN, at: at(0) },
        ] {
            let mut later = learner;
            (0..9).for_each(|hour| later.observe(&seen(hour * 3600 + 7200, reading)));
            assert_eq!(later.replicas(FULL), Some(Replicas(2)), "{reading:?}");
        }
        learner.observe(&seen(7200, Reading::Partial { value: 24.0 * GIB, at: at(7200) }));
        assert_eq!(learner.replicas(FULL), Some(Replicas(3)), "what is seen in part is at least that much");
    }

    #[test]
    fn a_restart_forgets_nothing() {
        let mut learner = MemoryLearner::default();
        learner.observe(&whole(0, 24.0));
        let again = MemoryLearner::from_status(&learner.status(FULL));
        assert_eq!(again.replicas(FULL), Some(Replicas(3)));
        assert_eq!(again.status(FULL), learner.status(FULL));
    }

    proptest! {
        #[test]
        fn no_reading_breaks_it(readings in prop::collection::vec((any::<f64>(), any::<f64>(), 0_i64..9000), 0..20)) {
            let mut learner = MemoryLearner::default();
            let mut second = 0;
            for (bytes, limit, step) in readings {
                second += step;
                let mut observation = seen(second, Reading::Value { value: bytes, at: at(second) });
                observation.query_nodes[0].memory_limit = Some(limit);
                learner.observe(&observation);
            }
            let status = learner.status(FULL);
            prop_assert!(status.resident_bytes.is_none_or(|bytes| bytes >= 0));
            if let Some(floor) = learner.floor(FULL, Replicas(5)) {
                prop_assert!(floor.replicas <= Replicas(5));
            }
        }
    }
}
