//! How long a replica takes until it helps, learned from real scale-outs: from asking for it until segments have moved
//! to it and hold still. That its pod is Ready says nothing.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::settling::Motion;
use crate::policy::Policy;
use crate::policy::status::{LeadTimePoint, LeadTimeStatus, Origin};
use crate::policy::text::{DurationText, duration_text};
use crate::units::Replicas;

/// The bounds of what is planned with.
const BOUNDS: (SignedDuration, SignedDuration) =
    (SignedDuration::from_mins(1), SignedDuration::from_mins(60));
/// Scale-outs that are remembered.
const MOST_POINTS: usize = 10;
/// The share of the scale-outs remembered that took no longer than what is planned with.
const QUANTILE: f64 = 0.9;
/// What is added while nothing is sure, as a share.
const MARGIN: f64 = 0.5;
/// Scale-outs of which half the confidence comes.
const HALF_SURE: f64 = 2.0;
/// Without a look at the fleet for so long, what happened in between is not known.
const LAPSE: SignedDuration = SignedDuration::from_mins(3);

/// The fleet at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The moment.
    pub at: Timestamp,
    /// Replicas asked for.
    pub desired: Replicas,
    /// Replicas that are Ready.
    pub ready: Replicas,
    /// How far data has moved.
    pub motion: Motion,
}

impl Progress {
    fn is_at_rest(&self) -> bool {
        self.ready == self.desired && matches!(self.motion, Motion::Settled(_))
    }
}

/// A scale-out that is being watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    asked: Timestamp,
    added: Replicas,
}

/// A scale-out that was watched to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    asked: Timestamp,
    added: Replicas,
    took: SignedDuration,
}

/// Learns how long scale-outs take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeadTimeLearner {
    points: Vec<Point>,
    last: Option<Progress>,
    under_way: Option<UnderWay>,
}

impl LeadTimeLearner {
    /// A learner that goes on from these points; those that make no sense are left out.
    #[must_use]
    pub fn from_points(points: &[LeadTimePoint]) -> Self {
        let mut learner = Self::default();
        for point in points {
            let Ok(added) = u32::try_from(point.replicas) else { continue };
            let took = SignedDuration::from_secs(point.seconds);
            if took > SignedDuration::ZERO && took <= BOUNDS.1 {
                learner.keep(Point { asked: point.time.0, added: Replicas(added), took });
            }
        }
        learner
    }

    /// Takes in how far the fleet is. A scale-out on top of another change, or one with a moment in which nothing was
    /// known, is not learned from.
    pub fn observe(&mut self, now: Progress) {
        let before = self.last.replace(now);
        let seen = |before: &Progress| {
            let since = now.at.duration_since(before.at);
            since > SignedDuration::ZERO && since <= LAPSE
        };
        let Some(before) = before.filter(seen) else {
            self.under_way = None;
            return;
        };
        if now.desired != before.desired {
            let is_clean = self.under_way.is_none() && before.is_at_rest() && now.desired > before.desired;
            // It was asked for after the last look, so at the latest then.
            self.under_way = is_clean
                .then(|| UnderWay { asked: before.at, added: now.desired.saturating_sub(before.desired) });
            return;
        }
        let Some(UnderWay { asked, added }) = self.under_way else { return };
        let since = now.at.duration_since(asked);
        match now.motion {
            Motion::Unknown => self.under_way = None,
            _ if since > BOUNDS.1 => self.under_way = None,
            Motion::Settled(held) if now.ready == now.desired => {
                self.under_way = None;
                let took = (since - held).max(BOUNDS.0);
                self.keep(Point { asked, added, took });
            }
            Motion::Settled(_) | Motion::Moving => {}
        }
    }

    fn keep(&mut self, point: Point) {
        self.points.push(point);
        self.points.sort_by_key(|point| point.asked);
        if self.points.len() > MOST_POINTS {
            self.points.remove(0);
        }
    }

    /// What is known: a careful default until a scale-out was seen.
    #[must_use]
    pub fn estimate(&self) -> LeadTimeEstimate {
        let mut took: Vec<_> = self.points.iter().map(|point| point.took).collect();
        took.sort_unstable();
        let rank = Replicas::at_least(QUANTILE * took.len() as f64).0 as usize;
        let high = rank.checked_sub(1).and_then(|index| took.get(index));
        let confidence = took.len() as f64 / (took.len() as f64 + HALF_SURE);
        let planned = high.map_or(Policy::ASSUMED_LEAD_TIME, |high| {
            let seconds = high.as_secs_f64() * (1.0 + MARGIN * (1.0 - confidence));
            whole_seconds(seconds).clamp(BOUNDS.0, BOUNDS.1)
        });
        LeadTimeEstimate {
            planned,
            seen: took.first().copied().zip(took.last().copied()),
            confidence,
            points: self.points.clone(),
        }
    }
}

fn whole_seconds(seconds: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(seconds.round()).unwrap_or(BOUNDS.1)
}

/// How long a replica takes until it helps, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadTimeEstimate {
    /// What to plan with.
    pub planned: SignedDuration,
    /// How sure it is, from 0 to 1.
    pub confidence: f64,
    /// The shortest and the longest that was seen.
    seen: Option<(SignedDuration, SignedDuration)>,
    points: Vec<Point>,
}

impl LeadTimeEstimate {
    /// It for the status.
    #[must_use]
    pub fn status(&self) -> LeadTimeStatus {
        let text = |duration| DurationText(duration_text(duration));
        let time = |at: Timestamp| Time(Timestamp::from_second(at.as_second()).unwrap_or(at));
        let point = |point: &Point| LeadTimePoint {
            time: time(point.asked),
            replicas: i32::try_from(point.added.0).unwrap_or(i32::MAX),
            seconds: point.took.as_secs(),
        };
        LeadTimeStatus {
            origin: if self.points.is_empty() { Origin::Assumed } else { Origin::Learned },
            value: text(self.planned),
            lower: self.seen.map(|(least, _)| text(least)),
            upper: self.seen.map(|(_, most)| text(most)),
            confidence: (self.confidence * 100.0).round() / 100.0,
            points: self.points.iter().map(point).collect(),
            updated: self.points.last().map(|point| time(point.asked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::learn::tests::at;

    const STILL: Motion = Motion::Settled(SignedDuration::from_secs(30));

    /// (seconds, desired, ready, motion) by the half minute or so.
    fn watched(course: &[(i64, u32, u32, Motion)]) -> LeadTimeLearner {
        let mut learner = LeadTimeLearner::default();
        for &(second, desired, ready, motion) in course {
            learner.observe(Progress {
                at: at(second),
                desired: Replicas(desired),
                ready: Replicas(ready),
                motion,
            });
        }
        learner
    }

    fn took(course: &[(i64, u32, u32, Motion)]) -> Option<i64> {
        watched(course).points.first().map(|point| point.took.as_secs())
    }

    #[test]
    fn a_scale_out_takes_until_segments_hold_still() {
        use Motion::{Moving, Unknown};
        let clean = [
            (0, 2, 2, STILL),
            (30, 4, 2, STILL),
            (60, 4, 4, Moving),
            (90, 4, 4, Moving),
            (120, 4, 4, Moving),
            (150, 4, 4, STILL),
        ];
        assert_eq!(took(&clean), Some(120));
        let with = |index: usize, other: (i64, u32, u32, Motion)| {
            let mut course = clean;
            course[index] = other;
            took(&course)
        };
        let cases = [
            ("a gap in the metrics", with(3, (90, 4, 4, Unknown))),
            ("more on top", with(3, (90, 5, 4, Moving))),
            ("fewer on top", with(3, (90, 3, 3, Moving))),
            ("not at rest before", with(0, (0, 2, 1, STILL))),
            ("segments moved before", with(0, (0, 2, 2, Moving))),
            ("never ready", with(5, (150, 4, 3, STILL))),
            ("too long between looks", with(5, (400, 4, 4, STILL))),
            ("the clock goes back", with(3, (50, 4, 4, Moving))),
        ];
        for (what, took) in cases {
            assert_eq!(took, None, "{what}");
        }
    }

    #[test]
    fn the_default_holds_until_a_scale_out_was_seen() {
        let estimate = LeadTimeLearner::default().estimate();
        assert_eq!(estimate.planned, Policy::ASSUMED_LEAD_TIME);
        assert_eq!(estimate.status().origin, Origin::Assumed);
        assert_eq!(estimate.status().lower, None);
    }

    fn point(time: i64, seconds: i64) -> LeadTimePoint {
        LeadTimePoint { time: Time(at(time)), replicas: 1, seconds }
    }

    #[test]
    fn few_are_planned_with_a_margin_and_many_without_the_worst() {
        let planned = |seconds: &[i64]| {
            let points: Vec<_> = (0..).zip(seconds).map(|(time, seconds)| point(time, *seconds)).collect();
            LeadTimeLearner::from_points(&points).estimate().planned.as_secs()
        };
        assert_eq!(planned(&[300]), 400);
        assert_eq!(planned(&[300, 200]), 375);
        // Nine of ten took 300 s at most; one waited for a machine.
        assert_eq!(planned(&[300, 300, 300, 300, 3000, 300, 300, 300, 300, 300]), 325);
        assert_eq!(planned(&[1]), 60);
        assert_eq!(planned(&[3600]), 3600);
        // Only the newest count.
        assert_eq!(planned(&[[3000; 9].as_slice(), [300; 10].as_slice()].concat()), 325);
    }

    proptest! {
        #[test]
        fn any_course_and_any_points_stay_within_bounds(
            points in prop::collection::vec((any::<i32>(), any::<i64>(), any::<i32>()), 0..30),
            course in prop::collection::vec((0_i64..200, 0_u32..6, 0_u32..6, 0_i64..400), 0..60),
        ) {
            let points: Vec<_> = points
                .into_iter()
                .map(|(time, seconds, replicas)| {
                    LeadTimePoint { replicas, ..point(i64::from(time), seconds) }
                })
                .collect();
            let mut learner = LeadTimeLearner::from_points(&points);
            let mut second = 0;
            for (step, desired, ready, held) in course {
                second += step;
                let motion = match held {
                    0..15 => Motion::Moving,
                    15..30 => Motion::Unknown,
                    held => Motion::Settled(SignedDuration::from_secs(held)),
                };
                let (desired, ready) = (Replicas(desired), Replicas(ready));
                learner.observe(Progress { at: at(second), desired, ready, motion });
            }
            let estimate = learner.estimate();
            prop_assert!(estimate.planned >= BOUNDS.0 && estimate.planned <= BOUNDS.1);
            prop_assert!(estimate.status().points.len() <= MOST_POINTS);
            let again = LeadTimeLearner::from_points(&estimate.status().points);
            prop_assert_eq!(again.estimate().planned, estimate.planned);
        }
    }
}
