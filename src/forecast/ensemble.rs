//! Past days as an ensemble: where load comes in bursts at set times but of random size, what happened at this time on
//! other days says more than any regression. How much it says is learned from its pinball loss.

use std::collections::VecDeque;
use std::sync::Arc;

use super::history::Clock;
use super::model::Expectation;
use super::residuals::Shape;

/// Shares of the ensemble that compete.
const SHARES: [f64; 5] = [0.0, 0.02, 0.06, 0.15, 0.35];
/// Levels of the quantiles whose pinball losses decide.
const LEVELS: [f64; 2] = [0.95, 0.99];
/// A larger share must be better by this factor: the ensemble is coarse.
const MARGIN: f64 = 0.98;
/// The share is learned from one origin in so many: it changes over days, and mixtures take time.
pub(super) const ORIGINS_APART: usize = 2;
/// Days of memory for the losses.
const MEMORY_DAYS: f64 = 10.0;

/// A mixture of an expectation with an ensemble of past days.
#[derive(Debug, Clone)]
pub(super) struct Mixture {
    pub(super) expectation: Expectation,
    /// Share of the ensemble, from 0 to 1.
    pub(super) share: f64,
    pub(super) members: Members,
}

/// Levels of past days, highest first, each with the share of all that lies above it.
#[derive(Debug, Clone, Default)]
pub(super) struct Members(Vec<(f32, f32)>);

impl Members {
    /// Members from levels with weights, in any order.
    pub(super) fn new(mut members: Vec<(f32, f32)>) -> Self {
        members.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let total: f32 = members.iter().map(|(_, weight)| weight).sum();
        let mut above = 0.0;
        for (_, weight) in &mut members {
            let own = std::mem::replace(weight, (above / total).min(1.0));
            above += own;
        }
        Self(members)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The share of members above `level`.
    fn exceedance(&self, level: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, reason = "members have this precision")]
        let next = self.0.partition_point(|(member, _)| *member > level as f32);
        self.above(next)
    }

    /// The share of members before this place.
    fn above(&self, place: usize) -> f64 {
        let all = if self.is_empty() { 0.0 } else { 1.0 };
        self.0.get(place).map_or(all, |(_, above)| f64::from(*above))
    }
}

impl Mixture {
    /// The probability of a level above `level`.
    pub(super) fn exceedance(&self, level: f64) -> f64 {
        mixed_exceedance(&self.expectation, &self.members, self.effective_share(), level)
    }

    /// The level that is exceeded with probability `1 − p`.
    pub(super) fn quantile(&self, p: f64) -> f64 {
        mixed_quantile(&self.expectation, &self.members, self.effective_share(), p)
    }

    fn effective_share(&self) -> f64 {
        if self.members.is_empty() { 0.0 } else { self.share }
    }
}

fn mixed_exceedance(expectation: &Expectation, members: &Members, share: f64, level: f64) -> f64 {
    let own = expectation.shape.exceedance((level - expectation.center) / expectation.scale);
    if share > 0.0 { (1.0 - share) * own + share * members.exceedance(level) } else { own }
}

/// Between two members the mixture is the expectation's distribution, shifted: once the two are found, its quantile is
/// one of the expectation's.
fn mixed_quantile(expectation: &Expectation, members: &Members, share: f64, p: f64) -> f64 {
    let own = |p: f64| expectation.center + expectation.scale * expectation.shape.quantile(p);
    if members.is_empty() || share <= 0.0 {
        return own(p);
    }
    let wanted = 1.0 - p;
    let reaches = |(level, above): &(f32, f32)| {
        let own = expectation.shape.exceedance((f64::from(*level) - expectation.center) / expectation.scale);
        (1.0 - share) * own + share * f64::from(*above) <= wanted
    };
    let next = members.0.partition_point(reaches);
    let level = |place: usize| members.0.get(place).map(|(level, _)| f64::from(*level));
    let highest = next.checked_sub(1).and_then(level).unwrap_or(f64::INFINITY);
    let lowest = level(next).unwrap_or(f64::NEG_INFINITY);
    let rest = (wanted - share * members.above(next)) / (1.0 - share);
    if rest <= 0.0 { highest } else { own(1.0 - rest.min(1.0)).clamp(lowest, highest) }
}

/// Learns the ensemble's share from the pinball losses of mixtures with each of [`SHARES`].
#[derive(Debug, Clone)]
pub(super) struct ShareLearner {
    pending: VecDeque<(usize, [[f64; LEVELS.len()]; SHARES.len()])>,
    losses: [f64; SHARES.len()],
    outcomes: f64,
    /// Outcomes in a day.
    day: f64,
    share: f64,
}

impl ShareLearner {
    pub(super) fn new(clock: Clock) -> Self {
        let day = clock.origins_in(1.0) / ORIGINS_APART as f64;
        Self { pending: VecDeque::new(), losses: [0.0; SHARES.len()], outcomes: 0.0, day, share: 0.0 }
    }

    /// The share that mixtures should give the ensemble now.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// Notes what each share says of the level at step `target`, in the unit of the load by `to_load`.
    pub(super) fn remember(
        &mut self,
        target: usize,
        expectation: &Expectation,
        members: &Members,
        to_load: impl Fn(f64) -> f64,
    ) {
        let quantiles = SHARES
            .map(|share| LEVELS.map(|level| to_load(mixed_quantile(expectation, members, share, level))));
        self.pending.push_back((target, quantiles));
    }

    /// Whether a level that was forecast has come by step `now`.
    pub(super) fn is_due(&self, now: usize) -> bool {
        self.pending.front().is_some_and(|(target, _)| *target <= now)
    }

    /// Learns from the load at step `now`; `None` if it is unknown.
    pub(super) fn learn(&mut self, now: usize, load: Option<f64>) {
        while self.is_due(now) {
            let Some((target, quantiles)) = self.pending.pop_front() else { return };
            if let Some(load) = load.filter(|_| target == now) {
                self.learn_from(&quantiles, load);
            }
        }
    }

    fn learn_from(&mut self, quantiles: &[[f64; LEVELS.len()]; SHARES.len()], load: f64) {
        self.outcomes += 1.0;
        let rate = 1.0 / self.outcomes.min(MEMORY_DAYS * self.day);
        for (loss, quantiles) in self.losses.iter_mut().zip(quantiles) {
            let now: f64 = LEVELS.iter().zip(quantiles).map(|(p, q)| pinball(*p, *q, load)).sum();
            *loss += (now - *loss) * rate;
        }
        if self.outcomes > self.day {
            self.share += (self.best() - self.share) * 0.1;
            if self.share < 1e-4 {
                self.share = 0.0;
            }
        }
    }

    fn best(&self) -> f64 {
        let mut best = 0;
        for candidate in 1..SHARES.len() {
            if self.losses[candidate] < self.losses[best] * MARGIN {
                best = candidate;
            }
        }
        SHARES[best]
    }
}

/// The pinball loss of quantile `q` at level `p` when `outcome` came (Koenker and Bassett, 1978).
pub(super) fn pinball(p: f64, q: f64, outcome: f64) -> f64 {
    if outcome > q { p * (outcome - q) } else { (1.0 - p) * (q - outcome) }
}

/// An expectation for tests and for loads without a history: Laplace around `center`.
pub(super) fn plain(center: f64, scale: f64) -> Mixture {
    let expectation = Expectation { center, scale, shape: Arc::clone(&Shape::laplace()) };
    Mixture { expectation, share: 0.0, members: Members::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Step;

    #[test]
    fn members_count_by_weight() {
        let members = Members::new(vec![(1.0, 1.0), (3.0, 1.0), (2.0, 2.0)]);
        for (level, expected) in [(0.5, 1.0), (1.5, 0.75), (2.5, 0.25), (3.0, 0.0)] {
            assert!((members.exceedance(level) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn quantile_and_exceedance_of_a_mixture_agree() {
        let mut mixture = plain(0.0, 0.1);
        mixture.share = 0.3;
        mixture.members = Members::new((0..50).map(|i| (i as f32 / 10.0, 1.0)).collect());
        for p in [0.5, 0.9, 0.95, 0.99] {
            let q = mixture.quantile(p);
            assert!(mixture.exceedance(q + 1e-3) <= 1.0 - p + 1e-2);
            assert!(mixture.exceedance(q - 0.11) >= 1.0 - p - 1e-2);
        }
    }

    #[test]
    fn a_load_of_random_bursts_gives_the_ensemble_a_share() {
        let mut learner = ShareLearner::new(Clock::new(Step::MINUTE));
        let members = Members::new((0..28).map(|i| (if i % 4 == 0 { 2.0 } else { 0.0 }, 1.0)).collect());
        let flat = plain(0.0, 0.05).expectation;
        for step in 0..2000 {
            learner.remember(step, &flat, &members, f64::exp);
            learner.learn(step, Some(if step % 4 == 0 { 2.0_f64.exp() } else { 1.0 }));
        }
        assert!(learner.share() > 0.3);
    }
}
