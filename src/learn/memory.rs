//! What must stay in memory, and so the fewest QueryNodes that hold it.
//!
//! Two things need QueryNodes whatever the load: the data that is resident, and collections that are loaded several
//! times, each copy of which needs a QueryNode of its own. Milvus does not export how often a collection is loaded, so
//! the rows in memory are compared with the rows that are stored. Of a collection that is loaded in part this sees too
//! few copies; then `spec.minReplicas` holds them.

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Floor, Reason};
use crate::observe::{Observation, Reading};
use crate::policy::status::MemoryStatus;
use crate::units::{Ratio, Replicas};

/// For how long, at least, what was seen counts. What a stopped QueryNode held is loaded by the others, and memory that
/// is free for a moment is needed again.
const HELD: SignedDuration = SignedDuration::from_mins(30);

/// The most that was seen lately, above 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Most {
    /// When the current period began.
    since: Option<Timestamp>,
    /// The most in this period and in the one before.
    most: (f64, f64),
}

impl Most {
    fn from_status(value: Option<f64>) -> Self {
        Self { since: None, most: (value.filter(|value| *value > 0.0).unwrap_or(0.0), 0.0) }
    }

    /// A reading that leaves something out can raise what is known, never lower it, and none at all changes nothing.
    fn observe(&mut self, reading: Reading<f64>, at: Timestamp) {
        if let Some(value) = reading.at_least().filter(usable) {
            self.most.0 = self.most.0.max(value);
        }
        let Some(value) = reading.value().filter(usable) else { return };
        let since = *self.since.get_or_insert(at);
        if at.duration_since(since) >= HELD {
            self.most = (value, self.most.0);
            self.since = Some(at);
        }
    }

    fn get(&self) -> Option<f64> {
        Some(self.most.0.max(self.most.1)).filter(|most| *most > 0.0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as filters take it")]
fn usable(value: &f64) -> bool {
    value.is_finite() && *value > 0.0
}

/// Learns how much memory the loaded data needs, and how often it is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MemoryLearner {
    /// Resident bytes of all QueryNodes together.
    resident: Most,
    /// The least memory limit of a QueryNode.
    limit: Option<f64>,
    /// The largest in-memory replica number.
    copies: Most,
    /// The copies that the look before saw, if nothing moved then.
    copies_before: Option<f64>,
}

impl MemoryLearner {
    /// A learner that goes on from what a status says.
    #[must_use]
    pub fn from_status(status: &MemoryStatus) -> Self {
        let bytes = |bytes: Option<i64>| bytes.filter(|bytes| *bytes > 0).map(|bytes| bytes as f64);
        Self {
            resident: Most::from_status(bytes(status.resident_bytes)),
            limit: bytes(status.limit_bytes_per_replica),
            copies: Most::from_status(status.in_memory_replicas.map(f64::from)),
            copies_before: None,
        }
    }

    /// Takes in what was observed.
    pub fn observe(&mut self, observation: &Observation) {
        let limits = observation.query_nodes.iter().filter_map(|node| node.memory_limit).filter(usable);
        self.limit = limits.reduce(f64::min).or(self.limit);
        self.resident.observe(observation.memory, observation.at);
        self.observe_copies(observation);
    }

    /// A segment that moves is in memory twice for a moment, so copies count only if two looks in a row, at which
    /// nothing moved, have seen them.
    fn observe_copies(&mut self, observation: &Observation) {
        let is_still = |reading: Reading<f64>| reading.value().is_some_and(|moving| moving < 0.5);
        let still = is_still(observation.loading) && is_still(observation.draining);
        let copies = observation.in_memory_replicas().map(Replicas::as_f64);
        let before = std::mem::replace(&mut self.copies_before, copies.at_least().filter(|_| still));
        if let Some(before) = before.filter(|_| still) {
            self.copies.observe(copies.map(|copies| copies.min(before)), observation.at);
        }
    }

    /// Resident bytes of all QueryNodes together; `None` if they were never seen.
    fn resident(&self) -> Option<f64> {
        self.resident.get()
    }

    /// The largest in-memory replica number; `None` if it was never seen.
    fn in_memory_replicas(&self) -> Option<Replicas> {
        self.copies.get().map(Replicas::at_least)
    }

    /// The fewest QueryNodes that hold all data, each filled to at most `utilization` of its limit.
    #[must_use]
    pub fn replicas(&self, utilization: Ratio) -> Option<Replicas> {
        let usable = self.limit? * utilization.get();
        (usable > 0.0).then_some(Replicas::at_least(self.resident()? / usable))
    }

    /// The floors for a fleet of `current`. They keep what memory and in-memory replicas need from being taken away, and
    /// never ask for more than there is: files that are mapped into memory fill whatever memory a new QueryNode brings.
    #[must_use]
    pub fn floors(&self, utilization: Ratio, current: Replicas) -> Vec<Floor> {
        let floors = [self.memory_floor(utilization), self.copies_floor()];
        let held = |floor: Floor| Floor { replicas: floor.replicas.min(current), ..floor };
        floors.into_iter().flatten().map(held).collect()
    }

    fn memory_floor(&self, utilization: Ratio) -> Option<Floor> {
        let replicas = self.replicas(utilization)?;
        let (resident, limit) = (self.resident()? / GIB, self.limit? / GIB);
        let message = format!(
            "{resident:.1} GiB are resident in all QueryNodes, which fill {replicas} of them to {utilization} of \
             their limit of {limit:.1} GiB."
        );
        Some(Floor { replicas, reason: Reason::new("MemoryFloor", message) })
    }

    fn copies_floor(&self) -> Option<Floor> {
        let replicas = self.in_memory_replicas().filter(|copies| *copies > Replicas(1))?;
        let message = format!(
            "A collection is in memory {replicas} times, by the rows that QueryNodes hold: each of its in-memory \
             replicas needs a QueryNode of its own."
        );
        Some(Floor { replicas, reason: Reason::new("InMemoryReplicas", message) })
    }

    /// How many of `current` QueryNodes must stay while others drain, if a collection is in memory several times. Segments
    /// move within their in-memory replica: where all of its QueryNodes stop at once, they have nowhere to go, and the
    /// drain hangs. Milvus spreads its QueryNodes evenly; which of them stop is not for the autoscaler to choose. Where
    /// an in-memory replica has but one, one at a time is the least that a scale-in can be.
    #[must_use]
    pub fn drain_floor(&self, current: Replicas) -> Option<Floor> {
        let copies = self.in_memory_replicas().filter(|copies| *copies > Replicas(1))?;
        let each = current.0 / copies.0;
        let at_once = each.saturating_sub(1).max(1);
        let message = format!(
            "A collection is in memory {copies} times: at most {at_once} of {current} QueryNodes drain at once, so that \
             its in-memory replicas keep some to move their segments to."
        );
        let replicas = Replicas(current.0.saturating_sub(at_once));
        Some(Floor { replicas, reason: Reason::new("DrainInSteps", message) })
    }

    /// It for the status.
    #[must_use]
    pub fn status(&self, utilization: Ratio) -> MemoryStatus {
        #[expect(clippy::cast_possible_truncation, reason = "float casts saturate")]
        let bytes = |value: f64| value as i64;
        let count = |replicas: Replicas| i32::try_from(replicas.0).ok();
        let copies = self.in_memory_replicas();
        MemoryStatus {
            resident_bytes: self.resident().map(bytes),
            limit_bytes_per_replica: self.limit.map(bytes),
            in_memory_replicas: copies.and_then(count),
            floor_replicas: self.replicas(utilization).max(copies).and_then(count),
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

    /// The highest floor for a fleet of `current`.
    fn floor(learner: &MemoryLearner, current: u32) -> Replicas {
        let floors = learner.floors(FULL, Replicas(current));
        floors.iter().map(|floor| floor.replicas).max().unwrap_or_default()
    }

    /// Rows in memory over rows that are stored, and how much moves.
    fn loaded(second: i64, copies: f64, moving: f64) -> Observation {
        let value = |value| Reading::Value { value, at: at(second) };
        Observation {
            copies: value(copies),
            loading: value(moving),
            draining: value(0.0),
            ..whole(second, 1.0)
        }
    }

    #[test]
    fn in_memory_replicas_keep_their_query_nodes() {
        let mut learner = MemoryLearner::default();
        learner.observe(&loaded(0, 3.0, 0.0));
        assert_eq!(floor(&learner, 9), Replicas(1), "one look is none");
        learner.observe(&loaded(30, 2.97, 0.0));
        assert_eq!(floor(&learner, 9), Replicas(3));
        assert_eq!(floor(&learner, 2), Replicas(2), "it never asks for more than there is");
        let reasons: Vec<_> =
            learner.floors(FULL, Replicas(9)).into_iter().map(|floor| floor.reason.code).collect();
        assert_eq!(reasons, ["MemoryFloor", "InMemoryReplicas"]);
        let status = learner.status(FULL);
        assert_eq!((status.in_memory_replicas, status.floor_replicas), (Some(3), Some(3)));
        assert_eq!(floor(&MemoryLearner::from_status(&status), 9), Replicas(3), "a restart forgets nothing");
        // Nothing is read for hours, or of some QueryNodes alone: they may all be there.
        for hour in 1..9 {
            learner.observe(&whole(hour * 3600, 1.0));
            let seen = loaded(hour * 3600 + 30, 1.0, 0.0);
            learner.observe(&Observation { copies: Reading::Partial { value: 1.0, at: seen.at }, ..seen });
        }
        assert_eq!(floor(&learner, 9), Replicas(3));
        // Released and loaded once: after a while, that is known.
        for minute in 0..=61 {
            learner.observe(&loaded(40_000 + 60 * minute, 1.0, 0.0));
        }
        assert_eq!(floor(&learner, 9), Replicas(1));
    }

    #[test]
    fn no_in_memory_replica_drains_whole() {
        let mut learner = MemoryLearner::default();
        for second in [0, 30] {
            learner.observe(&loaded(second, 1.0, 0.0));
        }
        assert_eq!(learner.drain_floor(Replicas(9)), None, "one copy: it moves to whatever is left");
        for second in [60, 90] {
            learner.observe(&loaded(second, 3.0, 0.0));
        }
        for (current, stay) in [(12, 9), (9, 7), (8, 7), (6, 5), (4, 3), (2, 1), (0, 0)] {
            let floor = learner.drain_floor(Replicas(current)).unwrap();
            assert_eq!(floor.replicas, Replicas(stay), "of {current}: {}", floor.reason.message);
        }
    }

    #[test]
    fn what_moves_is_in_memory_twice_and_no_copy() {
        let mut learner = MemoryLearner::default();
        for (step, (copies, moving)) in
            [(1.0, 0.0), (1.4, 3.0), (2.0, 5.0), (1.9, 0.0), (1.0, 0.0), (1.6, 0.0), (1.04, 0.0)]
                .into_iter()
                .enumerate()
        {
            learner.observe(&loaded(30 * i64::try_from(step).unwrap(), copies, moving));
            assert_eq!(floor(&learner, 9), Replicas(1), "step {step}");
        }
        assert_eq!(learner.status(FULL).in_memory_replicas, Some(1));
    }

    #[test]
    fn the_floor_holds_all_of_it_and_never_asks_for_more_than_there_is() {
        let mut learner = MemoryLearner::default();
        assert_eq!(learner.floors(FULL, Replicas(9)), []);
        learner.observe(&whole(0, 24.0));
        assert_eq!(learner.replicas(FULL), Some(Replicas(3)));
        learner.observe(&whole(30, 24.1));
        assert_eq!(learner.replicas(FULL), Some(Replicas(4)));
        assert_eq!(floor(&learner, 3), Replicas(3));
        assert_eq!(floor(&learner, 9), Replicas(4));
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
            prop_assert!(floor(&learner, 5) <= Replicas(5));
        }
    }
}
