//! The one place where the controller reads the time.

use jiff::{SignedDuration, Timestamp};

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the controller is an edge")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// The beginning of the minute that `at` is in.
#[must_use]
pub(super) fn minute_of(at: Timestamp) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(60)).unwrap_or(at)
}

/// `minutes` after `at`.
#[must_use]
pub(super) fn after_minutes(at: Timestamp, minutes: usize) -> Timestamp {
    let minutes = i64::try_from(minutes).unwrap_or(i64::MAX / 60);
    at.saturating_add(SignedDuration::from_secs(minutes.saturating_mul(60))).unwrap_or(Timestamp::MAX)
}
