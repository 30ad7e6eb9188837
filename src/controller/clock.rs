//! The one place where the controller reads the time.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};

/// The time that cycles live in. What bounds a request is always real time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Resolves after `pause`.
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()>;
}

/// Real time.
#[derive(Debug, Clone, Copy)]
pub struct RealTime;

impl Clock for RealTime {
    fn now(&self) -> Timestamp {
        now()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(pause).boxed()
    }
}

/// Now, in real time.
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
