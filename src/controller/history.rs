//! The load of the last weeks in little room: five-minute means of eight weeks, two bytes each.
//!
//! It outlives the controller and what Prometheus keeps. A value is kept on a logarithmic scale with steps of 0.04 %.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::series::{Series, Step};
use crate::units::Qps;

/// Seconds of a bucket.
const BUCKET: i64 = 300;
/// Eight weeks of buckets.
const MOST: usize = 8 * 7 * 288;
/// Stands for no data.
const GAP: u16 = u16::MAX;
/// The least rate above 0 that is told from it.
const LEAST: f64 = 1e-3;
/// Steps for each e-fold: 65,000 of them reach from [`LEAST`] to 1e8.
const STEPS: f64 = 2560.0;

/// Five-minute means.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct History {
    /// The bucket that starts at the epoch has number 0.
    first: i64,
    buckets: VecDeque<u16>,
    /// Sum and count of the minutes of the bucket after the last.
    open: (f64, u32),
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to its range")]
fn encode(rate: f64) -> u16 {
    if rate <= 0.0 {
        return 0;
    }
    (1.0 + (rate / LEAST).max(1.0).ln() * STEPS).round().min(f64::from(GAP - 1)) as u16
}

fn decode(code: u16) -> Option<Qps> {
    match code {
        GAP => None,
        0 => Some(Qps::ZERO),
        code => Some(Qps::clamped(LEAST * ((f64::from(code) - 1.0) / STEPS).exp())),
    }
}

impl History {
    /// Nothing is known before `at`.
    pub(super) fn new(at: Timestamp) -> Self {
        Self { first: at.as_second().div_euclid(BUCKET), buckets: VecDeque::new(), open: (0.0, 0) }
    }

    /// When it begins.
    pub(super) fn start(&self) -> Timestamp {
        self.time(0)
    }

    fn time(&self, index: usize) -> Timestamp {
        let index = i64::try_from(index).unwrap_or(i64::MAX / BUCKET);
        Timestamp::from_second((self.first + index) * BUCKET).unwrap_or(Timestamp::MAX)
    }

    /// Takes the mean of the minute that starts at `at`. Minutes come in order; one that was skipped is a gap, and one
    /// that is older than what is known is ignored.
    pub(super) fn push(&mut self, at: Timestamp, rate: Option<Qps>) {
        let bucket = at.as_second().div_euclid(BUCKET);
        let mut open = self.first + i64::try_from(self.buckets.len()).unwrap_or(0);
        if bucket < open {
            return;
        }
        if bucket - open > i64::try_from(MOST).unwrap_or(i64::MAX) {
            *self = Self::new(at);
            open = bucket;
        }
        for _ in open..bucket {
            self.close();
        }
        if let Some(rate) = rate {
            self.open = (self.open.0 + rate.get(), self.open.1 + 1);
        }
    }

    fn close(&mut self) {
        let (sum, count) = std::mem::take(&mut self.open);
        self.buckets.push_back(if count > 0 { encode(sum / f64::from(count)) } else { GAP });
        if self.buckets.len() > MOST {
            self.buckets.pop_front();
            self.first += 1;
        }
    }

    /// The minutes from `from` to `to`, where they are known.
    pub(super) fn minutes(&self, from: Timestamp, to: Timestamp) -> Series {
        let mut series = Series::new(from, Step::MINUTE);
        for at in (from.as_second()..to.as_second()).step_by(60) {
            let index = usize::try_from(at.div_euclid(BUCKET) - self.first).ok();
            let code = index.and_then(|index| self.buckets.get(index));
            series.push(code.copied().and_then(decode));
        }
        series
    }

    /// As bytes: the number of the first bucket, then the buckets, little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 2 * self.buckets.len());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.buckets.iter().flat_map(|code| code.to_le_bytes()));
        bytes
    }

    /// From bytes; `None` if they are none of ours.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let first = i64::from_le_bytes(*first);
        let known = Timestamp::from_second(first.checked_mul(BUCKET)?).is_ok();
        if !known || !rest.len().is_multiple_of(2) || rest.len() > 2 * MOST {
            return None;
        }
        let buckets = rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        Some(Self { first, buckets, open: (0.0, 0) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_100 + 60 * minute).unwrap()
    }

    #[test]
    fn five_minutes_become_their_mean_and_a_gap_stays_a_gap() {
        let mut history = History::new(at(0));
        for minute in 0..5 {
            history.push(at(minute), Some(Qps::clamped(100.0 + minute as f64)));
        }
        // Ten minutes without any, then a new bucket begins.
        history.push(at(15), Some(Qps::ZERO));
        history.push(at(20), None);
        let minutes = history.minutes(at(-1), at(20));
        assert_eq!(minutes.get(0), None);
        for minute in 1..6 {
            assert!((minutes.get(minute).unwrap().get() - 102.0).abs() < 0.05);
        }
        assert_eq!(minutes.get(6), None);
        assert_eq!(minutes.get(16), Some(Qps::ZERO));
        assert_eq!(History::from_bytes(&history.to_bytes()).unwrap().buckets, history.buckets);
        assert_eq!(history.time(history.buckets.len()), at(20));
    }

    #[test]
    fn it_stays_bounded_and_survives_what_is_not_its_own() {
        let mut history = History::new(at(0));
        for minute in 0..i64::try_from(6 * MOST).unwrap() {
            history.push(at(minute), Some(Qps::HUNDRED));
        }
        assert_eq!(history.buckets.len(), MOST);
        assert!(history.to_bytes().len() < 33_000);
        // Years later, and from the past.
        history.push(at(100_000_000), Some(Qps::HUNDRED));
        history.push(at(0), Some(Qps::HUNDRED));
        assert!(history.buckets.is_empty());
        for bad in [&[][..], &[1, 2, 3], &[255; 11], &[0x7f; 8]] {
            assert_eq!(History::from_bytes(bad), None);
        }
    }

    proptest! {
        #[test]
        fn rates_come_back_within_a_thousandth(rate in 1e-3..1e8_f64) {
            let back = decode(encode(rate)).unwrap().get();
            prop_assert!((back / rate - 1.0).abs() < 1e-3);
        }
    }
}
