//! What QueryNodes carry within the SLO, learned.
//!
//! 1. **Utilisation law.** Utilisation grows with load, so a fleet whose busiest QueryNode is `u` busy under a load
//!    carries `load × target / u` at the target utilisation. The busiest node, not the average: it is the one whose
//!    queue makes searches late.
//! 2. **Windows.** The median over five minutes is a point, and the weighted median of a few points at one number of
//!    replicas what these carry, so that neither a wild sample nor a wild minute says anything. Points weigh less at
//!    low utilisation, where idle work hides the cost of a search, and with age.
//! 3. **Latency and queue time** move the target: down to the utilisation at which p99 passed its target, up to one
//!    at which it did not, each the further the more often it was seen.
//! 4. **Curve.** The Universal Scalability Law through the numbers of replicas that were seen, straight to 0 below
//!    them, and never the full gain of a replica beyond them.
//! 5. **Caution.** What is planned with lies below the estimate, the further the less sure that is.

mod estimate;
mod point;
mod sample;

use jiff::{SignedDuration, Timestamp};

pub use estimate::CapacityEstimate;
use point::Point;
pub use point::Signal;
pub use sample::Sample;

use crate::decide::Reason;
use crate::observe::Observation;
use crate::policy::Policy;
use crate::policy::status::CapacityPoint;
use crate::units::Replicas;

/// How long a window is.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// The fewest samples that make a point of a window.
const FEWEST: usize = 5;
/// The most samples of a window that are kept.
const MOST_SAMPLES: usize = 64;
/// Without a sample for so long, a window begins anew.
const LAPSE: SignedDuration = SignedDuration::from_mins(3);
/// Points of one signal at one number of replicas.
const MOST_ALIKE: usize = 7;
/// Points in all.
const MOST_POINTS: usize = 42;

/// Learns what QueryNodes carry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CapacityLearner {
    points: Vec<Point>,
    window: Vec<Sample>,
}

impl CapacityLearner {
    /// A learner that goes on from these points; those that make no sense are left out.
    #[must_use]
    pub fn from_points(points: &[CapacityPoint]) -> Self {
        let mut learner = Self::default();
        for point in points.iter().filter_map(Point::from_status) {
            learner.keep(point);
        }
        learner
    }

    /// The points, oldest first.
    #[must_use]
    pub fn points(&self) -> Vec<CapacityPoint> {
        self.points.iter().copied().map(Point::to_status).collect()
    }

    /// Takes in what was observed while `replicas` served. To be called only while the fleet is at rest; what cannot
    /// be learned from is left out.
    ///
    /// # Errors
    /// Why nothing can be learned from this observation.
    pub fn observe(
        &mut self,
        observation: &Observation,
        replicas: Replicas,
        policy: &Policy,
    ) -> Result<(), Reason> {
        self.take(Sample::of(observation, replicas, policy)?, policy);
        Ok(())
    }

    /// Takes in a sample, and makes a point of the window if that is full.
    pub fn take(&mut self, sample: Sample, policy: &Policy) {
        let last = self.window.last();
        let goes_on = last.is_some_and(|last| {
            let since = sample.at.duration_since(last.at);
            last.replicas == sample.replicas && since > SignedDuration::ZERO && since <= LAPSE
        });
        // The same moment observed twice is no second sample.
        if last.is_some_and(|last| last.at == sample.at) {
            return;
        }
        if !goes_on {
            self.window.clear();
        }
        if self.window.len() < MOST_SAMPLES {
            self.window.push(sample);
        }
        let is_over = self.window.first().is_some_and(|first| sample.at.duration_since(first.at) >= WINDOW);
        if is_over && self.window.len() >= FEWEST {
            if let Some(point) = Sample::median(&self.window).and_then(|sample| Point::of(&sample, policy)) {
                self.keep(point);
            }
            self.window.clear();
        }
    }

    /// Forgets the samples of the window under way: the fleet has changed.
    pub fn interrupt(&mut self) {
        self.window.clear();
    }

    /// What is known by now; `None` if nothing is.
    #[must_use]
    pub fn estimate(&self, policy: &Policy, now: Timestamp) -> Option<CapacityEstimate> {
        CapacityEstimate::of(&self.points, policy, now)
    }

    /// Keeps a point, and lets go of the one that says least where there are too many.
    fn keep(&mut self, point: Point) {
        let alike = |other: &Point| {
            other.replicas == point.replicas && other.signal.is_law() == point.signal.is_law()
        };
        self.points.push(point);
        self.points.sort_by_key(|point| point.at);
        if self.points.iter().filter(|other| alike(other)).count() > MOST_ALIKE {
            self.drop_least(alike);
        }
        if self.points.len() > MOST_POINTS {
            self.drop_least(|_| true);
        }
    }

    fn drop_least(&mut self, among: impl Fn(&Point) -> bool) {
        let Some(now) = self.points.last().map(|point| point.at) else { return };
        let weight = |index: &usize| self.points.get(*index).map_or(0.0, |point| point.weight(now));
        let candidates = (0..self.points.len()).filter(|index| self.points.get(*index).is_some_and(&among));
        if let Some(least) = candidates.min_by(|a, b| weight(a).total_cmp(&weight(b))) {
            self.points.remove(least);
        }
    }
}

/// What one observation alone says of capacity while `replicas` serve: with a low confidence, and so a low value.
///
/// # Errors
/// Why it says nothing.
pub fn at_once(
    observation: &Observation,
    replicas: Replicas,
    policy: &Policy,
) -> Result<CapacityEstimate, Reason> {
    let sample = Sample::of(observation, replicas, policy)?;
    let point = Point::of(&sample, policy);
    point
        .and_then(|point| CapacityEstimate::of(&[point], policy, observation.at))
        .ok_or_else(sample::too_little_load)
}

#[cfg(test)]
mod tests;
