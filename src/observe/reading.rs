//! What was measured, or why it was not.

use jiff::Timestamp;
use serde::Serialize;

/// A measurement. No data is never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Reading<T> {
    /// A trustworthy value.
    Value {
        /// The value.
        value: T,
        /// When the newest sample that it rests on was taken; of several sources, the oldest one's.
        at: Timestamp,
    },
    /// A value that leaves something out: sources that should be there are not.
    Partial {
        /// The value of the sources that are there.
        value: T,
        /// When it was measured.
        at: Timestamp,
    },
    /// The newest sample is too old to say anything of now.
    Stale {
        /// When it was taken.
        at: Timestamp,
    },
    /// There is no sample, or it is no number.
    #[default]
    Missing,
}

impl<T: Copy> Reading<T> {
    /// The value, if it can be trusted.
    #[must_use]
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Value { value, .. } => Some(*value),
            Self::Partial { .. } | Self::Stale { .. } | Self::Missing => None,
        }
    }

    /// The value, trustworthy or partial: of a sum or a maximum, the real one is at least this.
    #[must_use]
    pub fn at_least(&self) -> Option<T> {
        match self {
            Self::Value { value, .. } | Self::Partial { value, .. } => Some(*value),
            Self::Stale { .. } | Self::Missing => None,
        }
    }

    /// When it was measured.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Value { at, .. } | Self::Partial { at, .. } | Self::Stale { at } => Some(*at),
            Self::Missing => None,
        }
    }

    /// The same with another value.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Value { value, at } => Reading::Value { value: change(value), at },
            Self::Partial { value, at } => Reading::Partial { value: change(value), at },
            Self::Stale { at } => Reading::Stale { at },
            Self::Missing => Reading::Missing,
        }
    }

    /// The same, but partial if it was trustworthy and `partial` holds.
    #[must_use]
    pub fn partial_if(self, partial: bool) -> Self {
        match self {
            Self::Value { value, at } if partial => Self::Partial { value, at },
            other => other,
        }
    }

    /// What it is, in a word.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self::Value { .. } => "fresh",
            Self::Partial { .. } => "partial",
            Self::Stale { .. } => "stale",
            Self::Missing => "missing",
        }
    }
}
