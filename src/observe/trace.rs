//! A recorded load, row by row as it was recorded.

use jiff::{SignedDuration, Timestamp};

use crate::series::Step;
use crate::units::Qps;

/// The shortest and the longest distance of rows, and the longest trace.
const MAX_STEP_SECONDS: i64 = 3600;
const MAX_SPAN_SECONDS: i64 = 10 * 366 * 86_400;

/// So many equal distances in a row that are not the step are another step, not gaps.
const OTHER_STEP_RUN: usize = 12;

/// Gaps of at most this length, or of one row, are bridged.
const BRIDGED: SignedDuration = SignedDuration::from_mins(30);

/// One row: the means over a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// When the bucket starts.
    pub time: Timestamp,
    /// Mean queries a second.
    pub qps: Qps,
    /// 99th percentile of search latency in milliseconds, where it was recorded.
    pub p99_ms: Option<f64>,
    /// Mean vectors searched a second, where it was recorded.
    pub nq_per_second: Option<f64>,
}

/// A recorded load on a regular step: rows ascend in time, and rows may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    name: String,
    step: Step,
    seconds: Vec<i64>,
    qps: Vec<f64>,
    p99_ms: Column,
    nq_per_second: Column,
}

/// Rows missing between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The row before it.
    pub after_row: usize,
    /// When the first missing bucket starts.
    pub start: Timestamp,
    /// When the next row's bucket starts.
    pub end: Timestamp,
    /// Whether it is short enough to be bridged by interpolation.
    pub bridged: bool,
}

impl Trace {
    /// Where it comes from: a path, or the name of what made it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The distance of rows.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// How many rows it has: at least two.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.seconds.len()
    }

    /// When the first row's bucket starts.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        timestamp(self.seconds.first().copied().unwrap_or(0))
    }

    /// When the last row's bucket starts.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        timestamp(self.seconds.last().copied().unwrap_or(0))
    }

    /// Queries a second of each row.
    #[must_use]
    pub fn qps(&self) -> &[f64] {
        &self.qps
    }

    /// When each row's bucket starts, in Unix seconds.
    #[must_use]
    pub fn seconds(&self) -> &[i64] {
        &self.seconds
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        self.seconds.iter().zip(&self.qps).enumerate().map(|(i, (seconds, qps))| Row {
            time: timestamp(*seconds),
            qps: Qps::clamped(*qps),
            p99_ms: self.p99_ms.get(i),
            nq_per_second: self.nq_per_second.get(i),
        })
    }

    /// Where rows are missing.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> + '_ {
        let step = i64::from(self.step.seconds());
        self.seconds.windows(2).enumerate().filter_map(move |(row, pair)| {
            let (before, after) = (*pair.first()?, *pair.get(1)?);
            let missing = after - before - step;
            (missing > 0).then(|| Gap {
                after_row: row,
                start: timestamp(before + step),
                end: timestamp(after),
                bridged: missing <= step || missing <= BRIDGED.as_secs(),
            })
        })
    }

    /// Mean and peak of the rows.
    #[must_use]
    pub fn mean_and_peak(&self) -> (Qps, Qps) {
        let peak = self.qps.iter().copied().fold(0.0, f64::max);
        if peak <= 0.0 {
            return (Qps::ZERO, Qps::ZERO);
        }
        let mean = self.qps.iter().map(|v| v / peak).sum::<f64>() / self.qps.len() as f64 * peak;
        (Qps::clamped(mean), Qps::clamped(peak))
    }

    /// The same load in vectors searched a second; `None` unless every row has that.
    #[must_use]
    pub fn in_vectors(&self) -> Option<Self> {
        let qps = (0..self.rows()).map(|i| self.nq_per_second.get(i)).collect::<Option<_>>()?;
        Some(Self { qps, ..self.clone() })
    }
}

/// Builds a [`Trace`] from rows in order of time.
#[derive(Debug, Default)]
pub struct TraceBuilder {
    seconds: Vec<i64>,
    qps: Vec<f64>,
    p99_ms: Column,
    nq_per_second: Column,
}

impl TraceBuilder {
    /// Adds the next row.
    ///
    /// # Errors
    /// If its time is not after the row before, has a fraction of a second, or is too far from the first row.
    pub fn push(&mut self, row: Row) -> Result<(), Fault> {
        let seconds = row.time.as_second();
        if row.time.subsec_nanosecond() != 0 {
            return Err(Fault::FractionOfSecond);
        }
        if let Some(before) = self.seconds.last() {
            if seconds == *before {
                return Err(Fault::Duplicate(row.time));
            }
            if seconds < *before {
                return Err(Fault::Backwards { before: timestamp(*before), after: row.time });
            }
        }
        if self.seconds.first().is_some_and(|first| seconds - first > MAX_SPAN_SECONDS) {
            return Err(Fault::TooLong);
        }
        self.p99_ms.push(self.seconds.len(), row.p99_ms);
        self.nq_per_second.push(self.seconds.len(), row.nq_per_second);
        self.seconds.push(seconds);
        self.qps.push(row.qps.get());
        Ok(())
    }

    /// The trace, named after where it comes from.
    ///
    /// # Errors
    /// If there are fewer than two rows, or their distances are no regular step of 1 s to 1 h with gaps.
    pub fn finish(self, name: impl Into<String>) -> Result<Trace, Fault> {
        let step = step_of(&self.seconds)?;
        Ok(Trace {
            name: name.into(),
            step,
            seconds: self.seconds,
            qps: self.qps,
            p99_ms: self.p99_ms,
            nq_per_second: self.nq_per_second,
        })
    }
}

/// Why rows are no trace. Rows are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A time that is not on a whole second.
    #[error("the time has a fraction of a second; steps are 1 s or longer")]
    FractionOfSecond,
    /// The same time twice.
    #[error("{0} stands in the row before too; each time may stand once")]
    Duplicate(Timestamp),
    /// Time runs backwards.
    #[error("{after} comes after {before}; rows must ascend in time")]
    Backwards {
        /// The time of the row before.
        before: Timestamp,
        /// The time of this row.
        after: Timestamp,
    },
    /// Over ten years.
    #[error("more than 10 years after the first row; split the trace")]
    TooLong,
    /// Fewer than two rows.
    #[error("rows of data: {0}; at least two are needed")]
    TooFewRows(usize),
    /// Rows further apart than an hour.
    #[error("rows are {0} s apart; the step may be 1 s to 3600 s")]
    StepTooLong(i64),
    /// Distances that are no multiples of the step, or two steps in one trace.
    #[error(
        "mixed steps: {distance} s after the row before, while the smallest distance of rows is {step} s; \
         resample to one step"
    )]
    MixedSteps {
        /// The row after the odd distance.
        row: usize,
        /// The odd distance in seconds.
        distance: i64,
        /// The smallest distance in seconds.
        step: i64,
    },
}

impl Fault {
    /// The row that it concerns, counted from 0, where that is known only in the end.
    #[must_use]
    pub fn row(&self) -> Option<usize> {
        match self {
            Self::MixedSteps { row, .. } => Some(*row),
            _ => None,
        }
    }
}

/// An optional column: nothing is stored until the first value comes.
#[derive(Debug, Clone, Default)]
struct Column(Vec<f64>);

impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.to_bits() == b.to_bits())
    }
}

impl Column {
    fn push(&mut self, row: usize, value: Option<f64>) {
        if let Some(value) = value {
            self.0.resize(row, f64::NAN);
            self.0.push(value);
        }
    }

    fn get(&self, row: usize) -> Option<f64> {
        self.0.get(row).copied().filter(|v| !v.is_nan())
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// The smallest distance, if every other is a multiple of it.
fn step_of(seconds: &[i64]) -> Result<Step, Fault> {
    let distances = || seconds.iter().zip(seconds.iter().skip(1)).map(|(a, b)| b - a);
    let Some(step) = distances().min() else {
        return Err(Fault::TooFewRows(seconds.len()));
    };
    if let Some((row, distance)) = distances().enumerate().find(|(_, d)| d % step != 0) {
        return Err(Fault::MixedSteps { row: row + 1, distance, step });
    }
    if let Some((row, distance)) = other_step(distances(), step) {
        return Err(Fault::MixedSteps { row: row + 1, distance, step });
    }
    if step > MAX_STEP_SECONDS {
        return Err(Fault::StepTooLong(step));
    }
    u32::try_from(step).ok().and_then(Step::from_seconds).ok_or(Fault::FractionOfSecond)
}

/// The start of a run of equal distances that is too regular to be gaps: 12 of them, or three that are half of all.
fn other_step(distances: impl ExactSizeIterator<Item = i64>, step: i64) -> Option<(usize, i64)> {
    let enough = OTHER_STEP_RUN.min(distances.len().div_ceil(2).max(3));
    let (mut run, mut last) = (0, step);
    for (i, distance) in distances.enumerate() {
        run = if distance == last { run + 1 } else { 1 };
        last = distance;
        if distance != step && run >= enough {
            return Some((i + 1 - run, distance));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(seconds: &[i64]) -> Result<Trace, Fault> {
        let mut builder = TraceBuilder::default();
        for s in seconds {
            let qps = Qps::clamped(1.0);
            builder.push(Row { time: timestamp(*s), qps, p99_ms: None, nq_per_second: None })?;
        }
        builder.finish("test")
    }

    #[test]
    fn the_step_is_the_smallest_distance() {
        let trace = build(&[0, 60, 120, 300]).unwrap();
        assert_eq!(trace.step(), Step::MINUTE);
        assert_eq!(trace.rows(), 4);
        let gaps: Vec<_> = trace.gaps().collect();
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].start.as_second(), gaps[0].end.as_second()), (180, 300));
        assert!(gaps[0].bridged);
    }

    #[test]
    fn gaps_of_half_an_hour_or_one_row_are_bridged() {
        let bridged = |rows: &[i64]| build(rows).unwrap().gaps().map(|g| g.bridged).collect::<Vec<_>>();
        assert_eq!(bridged(&[0, 60, 1920]), [true]); // 30 min missing
        assert_eq!(bridged(&[0, 60, 1980]), [false]); // 31 min missing
        assert_eq!(bridged(&[0, 3600, 10_800]), [true]); // one row of an hour
        assert_eq!(bridged(&[0, 3600, 14_400]), [false]);
    }

    #[test]
    fn irregular_rows_are_refused() {
        assert_eq!(build(&[]), Err(Fault::TooFewRows(0)));
        assert_eq!(build(&[7]), Err(Fault::TooFewRows(1)));
        assert_eq!(build(&[0, 60, 150]), Err(Fault::MixedSteps { row: 2, distance: 90, step: 60 }));
        assert_eq!(build(&[0, 3601]), Err(Fault::StepTooLong(3601)));
        assert!(matches!(build(&[0, 60, 60]), Err(Fault::Duplicate(_))));
        assert!(matches!(build(&[0, 60, 30]), Err(Fault::Backwards { .. })));
        assert_eq!(build(&[0, 60, MAX_SPAN_SECONDS + 60]), Err(Fault::TooLong));
    }

    #[test]
    fn a_second_step_is_not_a_row_of_gaps() {
        let minutes_then_five = [0, 60, 120, 420, 720, 1020];
        assert_eq!(build(&minutes_then_five), Err(Fault::MixedSteps { row: 3, distance: 300, step: 60 }));
        let one_odd_second: Vec<i64> = (0..20).map(|i| i * 60).chain([1141, 1200]).collect();
        assert_eq!(build(&one_odd_second), Err(Fault::MixedSteps { row: 1, distance: 60, step: 1 }));
        assert!(build(&[0, 60, 360]).is_ok());
        assert!(build(&[0, 60, 120, 180, 300, 420, 540, 600, 660]).is_ok());
    }

    #[test]
    fn huge_values_have_a_mean() {
        let mut builder = TraceBuilder::default();
        for seconds in 0..3 {
            let qps = Qps::clamped(f64::MAX);
            builder.push(Row { time: timestamp(seconds), qps, p99_ms: None, nq_per_second: None }).unwrap();
        }
        let trace = builder.finish("test").unwrap();
        assert_eq!(trace.mean_and_peak(), (Qps::clamped(f64::MAX), Qps::clamped(f64::MAX)));
        assert_eq!(trace.in_vectors(), None);
    }
}
