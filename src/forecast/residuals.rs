//! The empirical distribution of forecast errors, in units of their expected size.

use std::sync::Arc;

use statrs::distribution::{ContinuousCDF, Laplace};

/// Bins of the histogram. They are narrow in the middle and wide in the tails.
const BINS: usize = 240;
/// How many samples the prior, a Laplace distribution, is worth.
const PRIOR_SAMPLES: f64 = 60.0;
const RESCALE_AT: f64 = 1e12;

/// A histogram of standardised errors that forgets exponentially.
#[derive(Debug, Clone)]
pub(super) struct Residuals {
    weights: Vec<f64>,
    newest: f64,
    growth: f64,
    shape: Arc<Shape>,
}

impl Residuals {
    /// A distribution that weighs an error `memory` samples ago by 1/e.
    pub(super) fn new(memory: f64) -> Self {
        let prior = Laplace::new(0.0, 1.0).expect("1 is above 0");
        let weights: Vec<f64> =
            (0..BINS).map(|bin| PRIOR_SAMPLES * (prior.cdf(edge(bin + 1)) - prior.cdf(edge(bin)))).collect();
        let shape = Arc::new(Shape::of(&weights));
        Self { weights, newest: 1.0, growth: 1.0 + 1.0 / memory, shape }
    }

    /// Takes one standardised error.
    pub(super) fn add(&mut self, error: f64) {
        self.newest *= self.growth;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..BINS")]
        let bin = position(error) as usize;
        self.weights[bin] += self.newest;
        if self.newest > RESCALE_AT {
            self.weights.iter_mut().for_each(|w| *w /= RESCALE_AT);
            self.newest /= RESCALE_AT;
        }
    }

    /// Brings [`Residuals::shape`] up to date.
    pub(super) fn refresh(&mut self) {
        self.shape = Arc::new(Shape::of(&self.weights));
    }

    /// The distribution as of the last refresh.
    pub(super) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }
}

/// The distribution of a standardised forecast error.
#[derive(Debug, PartialEq)]
pub(super) struct Shape {
    /// Probability of an error above each bin's lower edge, from 1 down to 0.
    survival: Vec<f64>,
}

impl Shape {
    fn of(weights: &[f64]) -> Self {
        let share = 1.0 / weights.iter().sum::<f64>();
        let mut survival = vec![0.0; BINS + 1];
        for bin in (0..BINS).rev() {
            survival[bin] = (survival[bin + 1] + weights[bin] * share).min(1.0);
        }
        Self { survival }
    }

    /// The Laplace distribution with scale 1: what is assumed before errors have been seen.
    pub(super) fn laplace() -> Arc<Self> {
        Arc::clone(Residuals::new(1.0).shape())
    }

    /// The probability of an error above `u`.
    pub(super) fn exceedance(&self, u: f64) -> f64 {
        let position = position(u);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..BINS")]
        let bin = position as usize;
        let inside = position - bin as f64;
        self.survival[bin] * (1.0 - inside) + self.survival[bin + 1] * inside
    }

    /// The error that is exceeded with probability `1 − p`.
    pub(super) fn quantile(&self, p: f64) -> f64 {
        let exceedance = 1.0 - p;
        let bin = self.survival.partition_point(|s| *s > exceedance).clamp(1, BINS) - 1;
        let (above, below) = (self.survival[bin], self.survival[bin + 1]);
        let inside =
            if above > below { ((above - exceedance) / (above - below)).clamp(0.0, 1.0) } else { 0.5 };
        edge(bin) * (1.0 - inside) + edge(bin + 1).min(LARGEST) * inside
    }
}

/// Quantiles end here: 60 times the expected size of an error.
const LARGEST: f64 = 60.0;

/// Maps an error to `0.0..BINS`, monotonically, without a logarithm: this runs thousands of times a decision.
fn position(u: f64) -> f64 {
    let squeezed = u / (1.0 + u.abs());
    ((squeezed + 1.0) * 0.5 * BINS as f64).clamp(0.0, BINS as f64 - 1e-6)
}

/// The lower edge of `bin`, the inverse of [`position`].
fn edge(bin: usize) -> f64 {
    let squeezed = (bin as f64 / BINS as f64).mul_add(2.0, -1.0);
    (squeezed / (1.0 - squeezed.abs()).max(1e-9)).clamp(-LARGEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_a_uniform_distribution() {
        let mut residuals = Residuals::new(1e9);
        (0..100_000).for_each(|i| residuals.add(f64::from(i % 1000) / 1000.0));
        residuals.refresh();
        for p in [0.05, 0.5, 0.95, 0.99] {
            assert!((residuals.shape().quantile(p) - p).abs() < 0.02, "{p}");
            assert!((residuals.shape().exceedance(p) - (1.0 - p)).abs() < 0.02, "{p}");
        }
    }

    #[test]
    fn is_monotone_and_bounded_everywhere() {
        let shape = Shape::laplace();
        let mut last = 1.0;
        for i in -2000..2000 {
            let s = shape.exceedance(f64::from(i) / 20.0);
            assert!((0.0..=last).contains(&s));
            last = s;
        }
        for u in [f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert!(shape.exceedance(u).is_finite() || u.is_infinite());
        }
        let quantiles: Vec<f64> = (0..=100).map(|p| shape.quantile(f64::from(p) / 100.0)).collect();
        assert!(quantiles.windows(2).all(|w| w[0] <= w[1]));
    }
}
