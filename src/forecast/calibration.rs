//! Online calibration: "99 %" is to be 99 %, whatever the load does.

use std::collections::VecDeque;

use super::ensemble::pinball;
use super::history::Clock;

/// Days of memory of the accuracy that is reported.
const REPORT_DAYS: f64 = 7.0;

/// Adaptive conformal inference for one quantile of the peak (Gibbs and Candès, 2021): the level asked of the
/// distribution moves by a little after each outcome, so that the share of outcomes below it comes to what was asked.
#[derive(Debug, Clone)]
struct Quantile {
    wanted: f64,
    /// Log-odds of the level that is asked of the distribution, so that it stays between 0 and 1.
    asked: f64,
    coverage: f64,
    loss: f64,
}

impl Quantile {
    fn new(wanted: f64) -> Self {
        Self { wanted, asked: log_odds(wanted), coverage: wanted, loss: 0.0 }
    }

    fn level(&self) -> f64 {
        1.0 / (1.0 + (-self.asked).exp())
    }

    /// Keeps the record.
    fn note(&mut self, quantile: f64, outcome: f64, rate: f64) {
        self.coverage += (covered(quantile, outcome) - self.coverage) * rate;
        self.loss += (pinball(self.wanted, quantile, outcome) - self.loss) * rate;
    }

    /// Moves the level that is asked for.
    fn adapt(&mut self, quantile: f64, outcome: f64) {
        // A miss of the 99 % quantile is 99 times rarer than a hit, so the step follows the level.
        let step = 0.004 / (1.0 - self.wanted).sqrt().max(0.05);
        self.asked += step * (self.wanted - covered(quantile, outcome));
        let start = log_odds(self.wanted);
        self.asked = self.asked.clamp(start - 2.5, start + 2.5);
    }
}

fn covered(quantile: f64, outcome: f64) -> f64 {
    f64::from(u8::from(outcome <= quantile))
}

fn log_odds(p: f64) -> f64 {
    (p / (1.0 - p)).ln()
}

/// The quantiles of the peak that are calibrated and reported.
pub const REPORTED: [f64; 3] = [0.5, 0.95, 0.99];

/// How good the forecast has been in the last week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// Outcomes that it rests on, one every seven minutes or every step.
    pub outcomes: u64,
    /// Mean absolute error of the median over the mean outcome (WAPE).
    pub wape: f64,
    /// For each of [`REPORTED`]: the share of outcomes at or below the quantile.
    pub coverage: [f64; 3],
    /// For each of [`REPORTED`]: the mean pinball loss over the mean outcome.
    pub pinball: [f64; 3],
}

/// Calibrates the quantiles of the peak and keeps their record.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    adapts: bool,
    quantiles: [Quantile; 3],
    pending: VecDeque<(usize, [f64; 3])>,
    outcomes: u64,
    /// Outcomes that the record remembers.
    report: f64,
    mean_outcome: f64,
    mean_error: f64,
}

impl Calibration {
    /// With `adapts`, quantiles are calibrated; otherwise their record is only kept.
    pub(super) fn new(clock: Clock, adapts: bool) -> Self {
        Self {
            adapts,
            quantiles: REPORTED.map(Quantile::new),
            pending: VecDeque::new(),
            outcomes: 0,
            report: clock.origins_in(REPORT_DAYS),
            mean_outcome: 0.0,
            mean_error: 0.0,
        }
    }

    /// The levels to ask of the distribution for [`REPORTED`], in rising order.
    pub(super) fn levels(&self) -> [f64; 3] {
        let [median, high, highest] = &self.quantiles;
        let high = high.level().max(median.level());
        [median.level(), high, highest.level().max(high)]
    }

    /// Keeps the quantiles said of the peak until step `due`.
    pub(super) fn remember(&mut self, due: usize, quantiles: [f64; 3]) {
        self.pending.push_back((due, quantiles));
    }

    /// Whether a peak that was forecast has ended by step `now`.
    pub(super) fn is_due(&self, now: usize) -> bool {
        self.pending.front().is_some_and(|(due, _)| *due <= now)
    }

    /// Learns from the peak that ended at step `now`; `None` if it is unknown.
    pub(super) fn learn(&mut self, now: usize, peak: Option<f64>) {
        while self.is_due(now) {
            let Some((due, said)) = self.pending.pop_front() else { return };
            if let Some(peak) = peak.filter(|_| due == now) {
                self.learn_from(said, peak);
            }
        }
    }

    fn learn_from(&mut self, said: [f64; 3], peak: f64) {
        self.outcomes += 1;
        let rate = 1.0 / (self.outcomes as f64).min(self.report);
        self.mean_outcome += (peak - self.mean_outcome) * rate;
        self.mean_error += ((peak - said[0]).abs() - self.mean_error) * rate;
        for (quantile, said) in self.quantiles.iter_mut().zip(said) {
            quantile.note(said, peak, rate);
            if self.adapts {
                quantile.adapt(said, peak);
            }
        }
    }

    /// The record of the last week; `None` before the first outcome, and while the load is 0.
    pub(super) fn accuracy(&self) -> Option<Accuracy> {
        (self.outcomes > 0 && self.mean_outcome > 0.0).then(|| Accuracy {
            outcomes: self.outcomes,
            wape: self.mean_error / self.mean_outcome,
            coverage: [0, 1, 2].map(|i| self.quantiles[i].coverage),
            pinball: [0, 1, 2].map(|i| self.quantiles[i].loss / self.mean_outcome),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Step;

    /// Outcomes 0 to 999 in a scrambled order, forecast by a distribution that is far too narrow.
    #[test]
    fn a_distribution_that_is_too_narrow_is_brought_to_its_coverage() {
        let mut calibration = Calibration::new(Clock::new(Step::MINUTE), true);
        let outcome = |step: usize| (step * 7919 % 1000) as f64;
        for step in 0..20_000 {
            let said = calibration.levels().map(|p| 500.0 + 700.0 * (p - 0.5));
            calibration.remember(step, said);
            calibration.learn(step, Some(outcome(step)));
        }
        let accuracy = calibration.accuracy().unwrap();
        assert!((accuracy.coverage[0] - 0.5).abs() < 0.03, "{accuracy:?}");
        assert!((calibration.levels()[1] - 0.95).abs() < 0.06);
    }

    #[test]
    fn unknown_outcomes_teach_nothing() {
        let mut calibration = Calibration::new(Clock::new(Step::MINUTE), true);
        calibration.remember(0, [1.0; 3]);
        calibration.learn(0, None);
        assert_eq!(calibration.accuracy(), None);
    }
}
