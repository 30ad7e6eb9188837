//! A direct model of one horizon: its own regressions, its own error size, its own error distribution.

use std::collections::VecDeque;
use std::sync::Arc;

use super::history::Clock;
use super::residuals::{Residuals, Shape};
use super::ridge::{Ridge, Sample, Sums, to_sample};

/// Features of the expected level, see [`super::features`].
pub(super) const LEVEL_FEATURES: usize = 20;
/// Features of the expected size of the error.
pub(super) const SIZE_FEATURES: usize = 8;
/// Ways to expect the level that are weighed against each other.
const EXPERTS: usize = 3;
/// Errors below this, 0.3 % of the level, count as none.
const NEGLIGIBLE: f64 = 0.003;
/// Samples that the regressions learn at a time: two hours or so.
const BATCH: usize = 20;
/// From so many samples on (five days), coefficients hardly move with a batch and are solved less often: each so many
/// batches, the fewer the shorter the memory.
const SETTLED: usize = 1000;
/// See [`SETTLED`].
const SLOW_EVERY: usize = 6;
/// See [`SETTLED`].
const FAST_EVERY: usize = 2;
/// Slots of the day by which the size of errors is kept, for working days and days off.
const SIZE_SLOTS: usize = 96;

/// What is known at an origin, beside the features.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The newest level.
    pub(super) level: f64,
    /// The newest level less the last day's mean.
    pub(super) above_day: f64,
    /// Size of the difference to the last five minutes' mean: how jittery it is; see [`log_size`].
    pub(super) from_five_minutes: f64,
    /// Size of the difference to the last hour's mean.
    pub(super) from_hour: f64,
}

/// Where the target lies in the day, for the size of errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeSlot(usize);

impl SizeSlot {
    pub(super) fn new(minute_of_day: u16, is_day_off: bool) -> Self {
        Self(usize::from(minute_of_day) / 15 + if is_day_off { SIZE_SLOTS } else { 0 })
    }
}

/// An expectation and the size of its error, in levels (logarithms).
#[derive(Debug, Clone)]
pub(super) struct Expectation {
    pub(super) center: f64,
    pub(super) scale: f64,
    pub(super) shape: Arc<Shape>,
}

/// What was said at an origin, kept until the outcome is known.
#[derive(Debug, Clone)]
struct Pending {
    at: usize,
    features: [f32; LEVEL_FEATURES],
    size_features: [f32; SIZE_FEATURES],
    experts: [f64; EXPERTS],
    center: f64,
    scale: f64,
    level: f64,
}

/// The model of the level `ahead` steps after an origin, or of the peak until then.
#[derive(Debug, Clone)]
pub(super) struct DirectModel {
    pub(super) ahead: usize,
    pub(super) is_peak: bool,
    /// Origins in a day.
    day: f64,
    /// Four weeks of memory.
    slow: Ridge<LEVEL_FEATURES>,
    /// Four days of memory.
    fast: Ridge<LEVEL_FEATURES>,
    /// Whether experts are weighed; otherwise the first one counts alone.
    mixing: bool,
    expert_weights: [f64; EXPERTS],
    expert_losses: [f64; EXPERTS],
    size: Ridge<SIZE_FEATURES>,
    size_lately: f64,
    size_of_day: f64,
    size_by_slot: Vec<f32>,
    residuals: Residuals,
    pending: VecDeque<Pending>,
    /// Samples of the level and of the size of errors that the regressions have yet to learn.
    level_samples: Vec<Sample<LEVEL_FEATURES>>,
    size_samples: Vec<Sample<SIZE_FEATURES>>,
    learned: usize,
    batches: usize,
}

impl DirectModel {
    pub(super) fn new(clock: Clock, ahead: usize, is_peak: bool, mixing: bool) -> Self {
        let days = |days: f64| clock.origins_in(days);
        let mut size_prior = [0.0; SIZE_FEATURES];
        (size_prior[1], size_prior[2], size_prior[3]) = (0.4, 0.3, 0.3);
        Self {
            ahead,
            is_peak,
            day: days(1.0),
            slow: Ridge::new(days(28.0), 0.002, [0.0; LEVEL_FEATURES]),
            fast: Ridge::new(days(4.0), 0.002, [0.0; LEVEL_FEATURES]),
            mixing,
            expert_weights: if mixing { [1.0 / EXPERTS as f64; EXPERTS] } else { [1.0, 0.0, 0.0] },
            expert_losses: [0.0; EXPERTS],
            size: Ridge::new(days(14.0), 0.01, size_prior),
            size_lately: 0.1,
            size_of_day: 0.1,
            size_by_slot: vec![f32::NAN; 2 * SIZE_SLOTS],
            residuals: Residuals::new(days(21.0)),
            pending: VecDeque::new(),
            level_samples: Vec::with_capacity(BATCH),
            size_samples: Vec::with_capacity(BATCH),
            learned: 0,
            batches: 0,
        }
    }

    /// What to expect, given the features at an origin.
    pub(super) fn expect(
        &self,
        features: &[f64; LEVEL_FEATURES],
        origin: Origin,
        target: SizeSlot,
    ) -> Expectation {
        let experts = self.experts(features, origin);
        Expectation {
            center: self.combine(&experts),
            scale: self.scale(&self.size_features(&experts, origin, target)),
            shape: Arc::clone(self.residuals.shape()),
        }
    }

    fn experts(&self, features: &[f64; LEVEL_FEATURES], origin: Origin) -> [f64; EXPERTS] {
        // A change by a factor of 50 within one horizon is beyond anything that a regression can know.
        let change = |ridge: &Ridge<LEVEL_FEATURES>| ridge.predict(features).clamp(-4.0, 4.0);
        [origin.level + change(&self.slow), origin.level + change(&self.fast), origin.level]
    }

    fn combine(&self, experts: &[f64; EXPERTS]) -> f64 {
        experts.iter().zip(&self.expert_weights).map(|(expert, weight)| expert * weight).sum()
    }

    fn size_features(
        &self,
        experts: &[f64; EXPERTS],
        origin: Origin,
        target: SizeSlot,
    ) -> [f64; SIZE_FEATURES] {
        let by_slot = f64::from(self.size_by_slot[target.0]);
        let by_slot = if by_slot.is_nan() { self.size_of_day } else { by_slot };
        [
            1.0,
            log_size(self.size_lately),
            log_size(self.size_of_day),
            log_size(by_slot),
            log_size(experts[0] - experts[1]),
            origin.from_five_minutes,
            origin.above_day,
            origin.from_hour,
        ]
    }

    fn scale(&self, size_features: &[f64; SIZE_FEATURES]) -> f64 {
        self.size.predict(size_features).clamp(-7.0, 2.0).exp()
    }

    /// Keeps what is expected from origin `at`, to learn from it when the outcome is known.
    pub(super) fn remember(
        &mut self,
        at: usize,
        features: &[f64; LEVEL_FEATURES],
        origin: Origin,
        target: SizeSlot,
    ) {
        let experts = self.experts(features, origin);
        let size_features = self.size_features(&experts, origin, target);
        self.pending.push_back(Pending {
            at,
            features: to_sample(features),
            size_features: to_sample(&size_features),
            experts,
            center: self.combine(&experts),
            scale: self.scale(&size_features),
            level: origin.level,
        });
    }

    /// The origin whose outcome is known at step `now`, if it was remembered.
    pub(super) fn is_due(&self, now: usize) -> bool {
        self.pending.front().is_some_and(|pending| pending.at + self.ahead <= now)
    }

    /// Learns from the outcome at step `now`: `None` if it is unknown.
    pub(super) fn learn(&mut self, now: usize, outcome: Option<f64>, slot: SizeSlot) {
        while self.is_due(now) {
            let Some(pending) = self.pending.pop_front() else { return };
            if let Some(outcome) = outcome.filter(|_| pending.at + self.ahead == now) {
                self.learn_from(&pending, outcome, slot);
            }
        }
    }

    fn learn_from(&mut self, pending: &Pending, outcome: f64, slot: SizeSlot) {
        let error = outcome - pending.center;
        self.residuals.add(error / pending.scale);
        self.learn_size(error.abs(), slot);
        let [change, size] = to_sample(&[outcome - pending.level, log_size(error)]);
        self.level_samples.push((pending.features, change));
        self.size_samples.push((pending.size_features, size));
        for (loss, expert) in self.expert_losses.iter_mut().zip(&pending.experts) {
            *loss += ((outcome - expert).abs() - *loss) / (3.0 * self.day);
        }
        self.learned += 1;
        // In the first days, when each sample counts, more often.
        if self.level_samples.len() >= (self.learned / BATCH).clamp(2, BATCH) {
            self.learn_batch();
            self.solve();
        }
    }

    fn learn_size(&mut self, error: f64, slot: SizeSlot) {
        self.size_lately += (error - self.size_lately) / 4.0;
        self.size_of_day += (error - self.size_of_day) / self.day;
        let by_slot = &mut self.size_by_slot[slot.0];
        #[allow(clippy::cast_possible_truncation, reason = "a size of errors")]
        let error = error as f32;
        *by_slot = if by_slot.is_nan() { error } else { *by_slot + (error - *by_slot) * 0.1 };
    }

    fn learn_batch(&mut self) {
        let sums = Sums::of(&self.level_samples);
        self.slow.learn(&sums);
        self.fast.learn(&sums);
        self.size.learn(&Sums::of(&self.size_samples));
        self.level_samples.clear();
        self.size_samples.clear();
        self.batches += 1;
    }

    fn solve(&mut self) {
        let is_settled = self.learned >= SETTLED;
        if !is_settled || self.batches.is_multiple_of(SLOW_EVERY) {
            self.slow.solve();
        }
        if !is_settled || self.batches.is_multiple_of(FAST_EVERY) {
            self.fast.solve();
            self.size.solve();
            self.residuals.refresh();
            if self.mixing {
                self.weigh_experts();
            }
        }
    }

    /// Exponential weights on the losses relative to the best expert's (Vovk, 1990).
    fn weigh_experts(&mut self) {
        let best = self.expert_losses.iter().copied().fold(f64::INFINITY, f64::min).max(1e-9);
        let weights = self.expert_losses.map(|loss| (-20.0 * (loss / best - 1.0)).exp());
        let total: f64 = weights.iter().sum();
        self.expert_weights = weights.map(|weight| weight / total);
    }
}

/// The size of an error, as the regression of sizes works on it: its logarithm.
pub(super) fn log_size(error: f64) -> f64 {
    (error.abs() + NEGLIGIBLE).ln()
}
