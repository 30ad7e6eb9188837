//! Quantities with their units: a number that has passed through here is valid.

use std::fmt;
use std::ops::{Add, Sub};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of QueryNode replicas.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Replicas(pub u32);

impl Replicas {
    /// Replicas in `self` beyond `other`, 0 if there are none.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The fewest whole replicas that are at least `count`; NaN and negative counts become 0.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
    pub fn at_least(count: f64) -> Self {
        Self(count.ceil() as u32)
    }

    /// The count as a float, for arithmetic with rates.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0)
    }
}

impl Add for Replicas {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Replicas {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Demand or capacity in queries a second (or vectors a second where the policy's demand unit is `nq`):
/// finite and not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Qps(f64);

impl Qps {
    /// No load at all. Not to be confused with "no data", which is `Option::<Qps>::None`.
    pub const ZERO: Self = Self(0.0);
    /// 100 queries a second: a round number for examples.
    #[cfg(test)]
    pub(crate) const HUNDRED: Self = Self(100.0);

    /// # Errors
    /// If the value is negative, NaN or infinite.
    pub fn new(value: f64) -> Result<Self, NotARate> {
        if value.is_finite() && value >= 0.0 {
            // `+ 0.0` turns -0.0 into 0.0, which prints and compares as people expect.
            Ok(Self(value + 0.0))
        } else {
            Err(NotARate(value))
        }
    }

    /// The nearest valid rate: negative and NaN become 0, infinite becomes the largest finite number.
    /// For results of arithmetic on valid rates; input is parsed with [`Qps::new`].
    #[must_use]
    pub fn clamped(value: f64) -> Self {
        Self(if value > 0.0 { value.min(f64::MAX) } else { 0.0 })
    }

    /// Queries a second.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Qps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            v if v >= 100.0 => write!(f, "{v:.0} QPS"),
            v if v >= 1.0 => write!(f, "{v:.1} QPS"),
            v => write!(f, "{v:.3} QPS"),
        }
    }
}

/// A number that is no rate: negative, NaN or infinite.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a rate: it must be a finite number of 0 or more")]
pub struct NotARate(pub f64);

/// A share of a whole, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Ratio(f64);

impl Ratio {
    /// # Errors
    /// If the value is not from 0 to 1.
    pub fn new(value: f64) -> Result<Self, NotARatio> {
        if (0.0..=1.0).contains(&value) { Ok(Self(value + 0.0)) } else { Err(NotARatio(value)) }
    }

    /// The nearest share: below 0 and NaN become 0, above 1 becomes 1. For constants and results of arithmetic.
    #[must_use]
    pub const fn clamped(value: f64) -> Self {
        Self(if value > 1.0 {
            1.0
        } else if value > 0.0 {
            value
        } else {
            0.0
        })
    }

    /// The share as a fraction of 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ten digits hide what binary fractions add: 0.07 × 100 is 7.000000000000001.
        write!(f, "{}%", (self.0 * 1e12).round() / 1e10)
    }
}

/// A number that is no share of a whole.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a ratio: it must be from 0 to 1")]
pub struct NotARatio(pub f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_finite_and_not_negative() {
        assert!(Qps::new(1.5).is_ok());
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Qps::new(bad).is_err());
        }
        assert_eq!(Qps::new(-0.0).unwrap().get().to_bits(), 0.0_f64.to_bits());
        assert_eq!(Qps::clamped(f64::NAN), Qps::ZERO);
        assert!(Qps::clamped(f64::INFINITY).get() >= f64::MAX);
    }

    #[test]
    fn replicas_never_go_below_zero() {
        assert_eq!(Replicas(2) - Replicas(5), Replicas(0));
        assert_eq!(Replicas(u32::MAX) + Replicas(1), Replicas(u32::MAX));
        assert_eq!(Replicas::at_least(2.1), Replicas(3));
        assert_eq!(Replicas::at_least(-1.0), Replicas(0));
        assert_eq!(Replicas::at_least(f64::NAN), Replicas(0));
        assert_eq!(Replicas::at_least(f64::INFINITY), Replicas(u32::MAX));
    }
}
