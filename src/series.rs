//! A load on a regular time grid, with explicit gaps.

use std::num::NonZeroU32;

use jiff::{SignedDuration, Timestamp};

use crate::units::Qps;

/// The distance between two samples of a [`Series`], in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step(NonZeroU32);

impl Step {
    /// One minute: the grid that decisions are made on.
    pub const MINUTE: Self = Self(NonZeroU32::new(60).expect("60 is not 0"));

    /// A step of `seconds`; `None` for 0.
    #[must_use]
    pub fn from_seconds(seconds: u32) -> Option<Self> {
        NonZeroU32::new(seconds).map(Self)
    }

    /// Its length in seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.0.get()
    }

    /// Its length as a duration.
    #[must_use]
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(i64::from(self.seconds()))
    }

    /// How many steps `duration` takes, rounded up: a wait of 90 s takes two minutes' steps.
    #[must_use]
    pub fn count_in(self, duration: SignedDuration) -> usize {
        let seconds = duration.as_secs().max(0);
        usize::try_from((seconds + i64::from(self.seconds()) - 1) / i64::from(self.seconds()))
            .unwrap_or(usize::MAX)
    }
}

/// Mean demand per bucket on a regular grid. Bucket `i` starts at `start + i × step`; a bucket without data is a
/// gap, which is not the same as no load.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    start: Timestamp,
    step: Step,
    /// NaN stands for a gap and never leaves this module; half the memory of `Option<f64>`.
    values: Vec<f64>,
}

impl Series {
    /// An empty series whose first bucket will start at `start`.
    #[must_use]
    pub fn new(start: Timestamp, step: Step) -> Self {
        Self { start, step, values: Vec::new() }
    }

    /// When bucket 0 starts.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// The grid's step.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Buckets, gaps included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no bucket at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Adds the next bucket; `None` is a gap.
    pub fn push(&mut self, value: Option<Qps>) {
        self.values.push(value.map_or(f64::NAN, Qps::get));
    }

    /// The mean demand in bucket `index`; `None` in a gap and beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Qps> {
        self.values.get(index).and_then(|v| Qps::new(*v).ok())
    }

    /// When bucket `index` starts.
    #[must_use]
    pub fn time(&self, index: usize) -> Timestamp {
        let seconds = i64::try_from(index).unwrap_or(i64::MAX).saturating_mul(i64::from(self.step.seconds()));
        self.start.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }

    /// Every bucket in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Qps>> + '_ {
        self.values.iter().map(|v| Qps::new(*v).ok())
    }

    /// Mean and peak of the buckets that have data; `None` if none has.
    #[must_use]
    pub fn mean_and_peak(&self) -> Option<(Qps, Qps)> {
        let (mut sum, mut peak, mut count) = (0.0, 0.0_f64, 0_u64);
        for value in self.iter().flatten() {
            sum += value.get();
            peak = peak.max(value.get());
            count += 1;
        }
        (count > 0).then(|| (Qps::clamped(sum / count as f64), Qps::clamped(peak)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_not_zero() {
        let mut series = Series::new(Timestamp::UNIX_EPOCH, Step::MINUTE);
        series.push(Some(Qps::ZERO));
        series.push(None);
        assert_eq!(series.get(0), Some(Qps::ZERO));
        assert_eq!(series.get(1), None);
        assert_eq!(series.get(2), None);
        assert_eq!(series.time(1).as_second(), 60);
        assert_eq!(series.mean_and_peak(), Some((Qps::ZERO, Qps::ZERO)));
    }

    #[test]
    fn waits_round_up_to_whole_steps() {
        assert_eq!(Step::MINUTE.count_in(SignedDuration::from_secs(0)), 0);
        assert_eq!(Step::MINUTE.count_in(SignedDuration::from_secs(60)), 1);
        assert_eq!(Step::MINUTE.count_in(SignedDuration::from_secs(61)), 2);
    }
}
