//! Whether segments still move between QueryNodes.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::decide::Reason;
use crate::observe::{Observation, Reading};
use crate::units::Replicas;

/// How long segments must have held still before something may be taken away.
const STILL: SignedDuration = SignedDuration::from_secs(15);
/// Segments that have not held still for so long are being written and compacted, not moved to new nodes.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

/// Watches how many segments each QueryNode holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settling {
    segments: BTreeMap<String, u64>,
    /// Since when they have been these.
    since: Option<Timestamp>,
    /// When they last held still.
    still_at: Option<Timestamp>,
    busy: bool,
}

/// How far data has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// Nothing is known of segments.
    Unknown,
    /// Segments move, or a node has none yet.
    Moving,
    /// It has been at rest for so long.
    Settled(SignedDuration),
}

impl Settling {
    /// Takes in what was observed.
    pub fn observe(&mut self, observation: &Observation) {
        let held = |count: f64| Replicas::at_least(count).0.into();
        let nodes = observation.query_nodes.iter();
        let segments: BTreeMap<_, _> =
            nodes.filter_map(|node| Some((node.name.clone(), held(node.segments?)))).collect();
        let some = |reading: &Reading<f64>| reading.at_least().is_some_and(|tasks| tasks >= 0.5);
        self.busy = some(&observation.loading) || some(&observation.draining);
        if segments.is_empty() {
            *self = Self { busy: self.busy, ..Self::default() };
            return;
        }
        let at = observation.at;
        if self.since.is_none() || segments != self.segments {
            self.segments = segments;
            self.since = Some(at);
        }
        if self.still_at.is_none() || self.held(at).is_some_and(|held| held >= STILL) {
            self.still_at = Some(at);
        }
    }

    /// How long segments have been where they are, by `at`.
    fn held(&self, at: Timestamp) -> Option<SignedDuration> {
        self.since.map(|since| at.duration_since(since))
    }

    /// How far data has moved by `at`, to a fleet of `replicas`.
    #[must_use]
    pub fn motion(&self, at: Timestamp, replicas: Replicas) -> Motion {
        let Some(held) = self.held(at) else { return Motion::Unknown };
        // A new node holds nothing until the balancer has begun, and segments hold still until then.
        let total: u64 = self.segments.values().sum();
        let holders = self.segments.values().filter(|count| **count > 0).count() as u64;
        if self.busy || held < STILL || holders < total.min(replicas.0.into()) {
            return Motion::Moving;
        }
        Motion::Settled(held)
    }

    /// Why nothing may be taken away at `at`, if segments have not held still.
    #[must_use]
    pub fn guard(&self, at: Timestamp) -> Option<Reason> {
        let held = self.held(at).filter(|held| *held < STILL)?;
        let moving = at.duration_since(self.still_at?);
        (moving < PATIENCE).then(|| {
            let message = format!(
                "Segments moved between QueryNodes up to {} s ago: nothing is taken away until they have held \
                 still for {} s.",
                held.as_secs(),
                STILL.as_secs()
            );
            Reason::new("SegmentsMoving", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::tests::{at, observation};
    use crate::observe::QueryNode;

    fn seen(second: i64, segments: &[Option<f64>]) -> Observation {
        let node = |(index, segments): (usize, &Option<f64>)| QueryNode {
            name: format!("node-{index}"),
            segments: *segments,
            ..QueryNode::default()
        };
        Observation { query_nodes: segments.iter().enumerate().map(node).collect(), ..observation(second) }
    }

    #[test]
    fn segments_settle_once_they_hold_still_and_every_node_has_some() {
        let mut settling = Settling::default();
        assert_eq!(settling.motion(at(0), Replicas(2)), Motion::Unknown);
        let mut after = |second: i64, segments: &[Option<f64>], replicas: u32| {
            settling.observe(&seen(second, segments));
            settling.motion(at(second), Replicas(replicas))
        };
        assert_eq!(after(0, &[Some(6.0), None], 2), Motion::Moving);
        // Ready, and the balancer has not begun.
        assert_eq!(after(30, &[Some(6.0), Some(0.0)], 2), Motion::Moving);
        assert_eq!(after(60, &[Some(6.0), Some(0.0)], 2), Motion::Moving);
        assert_eq!(after(90, &[Some(4.0), Some(2.0)], 2), Motion::Moving);
        assert_eq!(after(120, &[Some(3.0), Some(3.0)], 2), Motion::Moving);
        assert_eq!(after(150, &[Some(3.0), Some(3.0)], 2), Motion::Settled(SignedDuration::from_secs(30)));
        // One segment, two nodes.
        assert_eq!(after(180, &[Some(1.0), None], 2), Motion::Moving);
        assert_eq!(after(210, &[Some(1.0), None], 2), Motion::Settled(SignedDuration::from_secs(30)));
        assert_eq!(after(240, &[None, None], 2), Motion::Unknown);
    }

    #[test]
    fn moving_segments_guard_but_not_for_ever() {
        let mut settling = Settling::default();
        let mut guarded = |second: i64, count: f64| {
            settling.observe(&seen(second, &[Some(count)]));
            settling.guard(at(second)).map(|reason| reason.code)
        };
        assert_eq!(guarded(0, 5.0), Some("SegmentsMoving"));
        assert_eq!(guarded(15, 5.0), None);
        assert_eq!(guarded(30, 6.0), Some("SegmentsMoving"));
        assert_eq!(guarded(60, 6.0), None);
        for second in (90..=600).step_by(30) {
            assert_eq!(guarded(second, f64::from(i32::try_from(second).unwrap())), Some("SegmentsMoving"));
        }
        // Ten minutes without a pause are ingestion.
        assert_eq!(guarded(660, 1.0), None);
    }

    #[test]
    fn without_segments_nothing_is_claimed() {
        let mut settling = Settling::default();
        settling.observe(&seen(0, &[None]));
        assert_eq!(settling.guard(at(0)), None);
        assert_eq!(settling.motion(at(0), Replicas(1)), Motion::Unknown);
    }
}
