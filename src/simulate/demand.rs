//! A trace on the plant's grid.

use crate::observe::{Gap, Trace};
use crate::series::{Series, Step};
use crate::units::Qps;

/// The load, step by step: what was there, and what a strategy could have seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// What strategies see: long gaps are gaps here.
    seen: Series,
    /// What the plant serves: interpolated through gaps.
    served: Vec<f64>,
    /// The trace's rows as they were recorded, rising.
    recorded: Vec<f64>,
}

impl Demand {
    /// Puts a trace on a grid of `step` that starts with its first row.
    ///
    /// Rows further apart than a step are interpolated linearly between the centres of their buckets, and hold their
    /// value before the first centre and after the last; closer rows are averaged. Gaps are interpolated too; in
    /// those that are not [bridged](Gap::bridged) strategies see nothing.
    ///
    /// # Errors
    /// If the trace is shorter than a step.
    pub fn from_trace(trace: &Trace, step: Step) -> Result<Self, TooShort> {
        let start = trace.start().as_second();
        let span = trace.last().as_second() - start + i64::from(trace.step().seconds());
        let steps = usize::try_from(span / i64::from(step.seconds())).unwrap_or(0);
        if steps == 0 {
            return Err(TooShort { span, step: step.seconds() });
        }
        let points = if trace.step() < step { averages(trace, step) } else { centres(trace) };
        let served = interpolate(&points, steps, step);
        let mut seen = Series::new(trace.start(), step);
        let mut gaps = trace.gaps().filter(|gap| !gap.bridged).peekable();
        let mut known = points.iter().map(|p| p.half_seconds).peekable();
        for (t, qps) in served.iter().enumerate() {
            let centre = centre(t, step);
            while gaps.next_if(|gap| 2 * (gap.end.as_second() - start) <= centre).is_some() {}
            while known.next_if(|at| *at < centre).is_some() {}
            let missing =
                gaps.peek().is_some_and(|gap| within(gap, start, centre)) && known.peek() != Some(&centre);
            seen.push((!missing).then(|| Qps::clamped(*qps)));
        }
        let mut recorded = trace.qps().to_vec();
        recorded.sort_unstable_by(f64::total_cmp);
        Ok(Self { seen, served, recorded })
    }

    /// Steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.served.len()
    }

    /// Whether there is no step; never so for one made from a trace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    /// Demand in step `t`; 0 beyond the end.
    #[must_use]
    pub fn at(&self, t: usize) -> Qps {
        Qps::clamped(self.served.get(t).copied().unwrap_or(0.0))
    }

    /// What strategies see, whole.
    #[must_use]
    pub fn seen(&self) -> &Series {
        &self.seen
    }

    /// Whether step `t` was recorded, or bridged; other steps are replayed but not scored.
    #[must_use]
    pub fn is_known(&self, t: usize) -> bool {
        self.seen.get(t).is_some()
    }

    /// The `fraction` quantile of the trace's rows, interpolated between neighbours. On the plant's grid the peaks of
    /// a coarse trace are rarer: interpolation only touches them.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Qps {
        let place = fraction.clamp(0.0, 1.0) * (self.recorded.len().saturating_sub(1)) as f64;
        let below = self.recorded.get(index(place.floor())).copied().unwrap_or(0.0);
        let above = self.recorded.get(index(place.ceil())).copied().unwrap_or(below);
        Qps::clamped(below + (above - below) * place.fract())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the steps")]
fn index(place: f64) -> usize {
    place as usize
}

/// A trace that does not fill one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the trace covers {span} s, less than one step of {step} s; choose a shorter --step")]
pub struct TooShort {
    span: i64,
    step: u32,
}

/// A known value. Times are half seconds after the trace's start, so that centres are whole numbers.
#[derive(Debug, Clone, Copy)]
struct Point {
    half_seconds: i64,
    qps: f64,
}

/// When the centre of step `t` is, in half seconds after the start.
fn centre(t: usize, step: Step) -> i64 {
    i64::try_from(t)
        .unwrap_or(i64::MAX / 8)
        .saturating_mul(2)
        .saturating_add(1)
        .saturating_mul(i64::from(step.seconds()))
}

fn within(gap: &Gap, start: i64, centre: i64) -> bool {
    2 * (gap.start.as_second() - start) <= centre && centre < 2 * (gap.end.as_second() - start)
}

/// Each row as a point in the centre of its bucket.
fn centres(trace: &Trace) -> Vec<Point> {
    let start = trace.start().as_second();
    let half_step = i64::from(trace.step().seconds());
    let point = |(at, qps): (&i64, &f64)| Point { half_seconds: 2 * (at - start) + half_step, qps: *qps };
    trace.seconds().iter().zip(trace.qps()).map(point).collect()
}

/// The mean of the rows whose centres lie in a step, as a point in the step's centre; steps without rows have none.
fn averages(trace: &Trace, step: Step) -> Vec<Point> {
    let width = 2 * i64::from(step.seconds());
    let mut averages: Vec<Point> = Vec::new();
    let mut count = 0.0;
    for row in centres(trace) {
        let half_seconds = row.half_seconds / width * width + width / 2;
        if let Some(last) = averages.last_mut().filter(|last| last.half_seconds == half_seconds) {
            count += 1.0;
            last.qps += (row.qps - last.qps) / count;
        } else {
            count = 1.0;
            averages.push(Point { half_seconds, qps: row.qps });
        }
    }
    averages
}

/// The value in the centre of each step: on the straight line between its neighbours, the nearest beyond the ends.
fn interpolate(points: &[Point], steps: usize, step: Step) -> Vec<f64> {
    let mut next = 0;
    let at = |t: usize| {
        let centre = centre(t, step);
        while points.get(next).is_some_and(|p| p.half_seconds < centre) {
            next += 1;
        }
        let before = next.checked_sub(1).and_then(|i| points.get(i));
        match (before, points.get(next)) {
            (_, Some(after)) if after.half_seconds == centre => after.qps,
            (Some(before), Some(after)) => {
                let share =
                    (centre - before.half_seconds) as f64 / (after.half_seconds - before.half_seconds) as f64;
                before.qps + (after.qps - before.qps) * share
            }
            (Some(only), None) | (None, Some(only)) => only.qps,
            (None, None) => 0.0,
        }
    };
    (0..steps).map(at).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::observe::{Row, TraceBuilder};

    fn trace(rows: &[(i64, f64)]) -> Trace {
        let mut builder = TraceBuilder::default();
        for (seconds, qps) in rows {
            let time = Timestamp::from_second(*seconds).unwrap();
            builder.push(Row { time, qps: Qps::clamped(*qps), p99_ms: None, nq_per_second: None }).unwrap();
        }
        builder.finish("test").unwrap()
    }

    fn values(demand: &Demand) -> Vec<f64> {
        (0..demand.len()).map(|t| demand.at(t).get()).collect()
    }

    fn known(demand: &Demand) -> Vec<bool> {
        (0..demand.len()).map(|t| demand.is_known(t)).collect()
    }

    #[test]
    fn the_same_step_stays_as_it_is() {
        let demand = Demand::from_trace(&trace(&[(7, 1.0), (67, 5.0), (127, 3.0)]), Step::MINUTE).unwrap();
        assert_eq!(values(&demand), [1.0, 5.0, 3.0]);
        assert_eq!(demand.seen().start().as_second(), 7);
    }

    #[test]
    fn a_coarser_trace_is_interpolated_between_centres() {
        let demand = Demand::from_trace(&trace(&[(0, 4.0), (240, 8.0)]), Step::MINUTE).unwrap();
        assert_eq!(values(&demand), [4.0, 4.0, 4.5, 5.5, 6.5, 7.5, 8.0, 8.0]);
    }

    #[test]
    fn a_finer_trace_is_averaged() {
        let rows: Vec<_> = (0..9).map(|i| (i * 20, f64::from(u8::try_from(i).unwrap()))).collect();
        let demand = Demand::from_trace(&trace(&rows), Step::MINUTE).unwrap();
        assert_eq!(values(&demand), [1.0, 4.0, 7.0]);
        // A missing row leaves the mean of the others.
        let demand =
            Demand::from_trace(&trace(&[(0, 1.0), (20, 3.0), (60, 9.0), (80, 9.0)]), Step::MINUTE).unwrap();
        assert_eq!(values(&demand), [2.0]);
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_hidden() {
        let demand = Demand::from_trace(&trace(&[(0, 1.0), (60, 2.0), (300, 6.0)]), Step::MINUTE).unwrap();
        assert_eq!(values(&demand), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(known(&demand).iter().all(|k| *k));

        let demand =
            Demand::from_trace(&trace(&[(0, 1.0), (60, 2.0), (60 * 42, 43.0)]), Step::MINUTE).unwrap();
        assert_eq!(demand.len(), 43);
        let hidden: Vec<_> = (0..43).filter(|t| !demand.is_known(*t)).collect();
        assert_eq!(hidden, (2..42).collect::<Vec<_>>());
        assert!((demand.at(22).get() - 23.0).abs() < 1e-9);
    }

    #[test]
    fn gaps_in_coarse_and_fine_traces() {
        // Rows of half an hour, two missing: their 60 minutes are hidden.
        let demand = Demand::from_trace(&trace(&[(0, 1.0), (1800, 1.0), (7200, 1.0)]), Step::MINUTE).unwrap();
        assert_eq!(known(&demand).iter().filter(|k| !**k).count(), 60);
        assert!(demand.is_known(59) && !demand.is_known(60) && !demand.is_known(119) && demand.is_known(120));
        // Rows of 20 s, missing from 40 s to 3000 s: the first minute still has data.
        let demand = Demand::from_trace(
            &trace(&[(0, 1.0), (20, 1.0), (3000, 1.0), (3020, 1.0), (3040, 1.0)]),
            Step::MINUTE,
        );
        let demand = demand.unwrap();
        assert!(demand.is_known(0) && !demand.is_known(1) && !demand.is_known(49) && demand.is_known(50));
    }

    #[test]
    fn quantiles_are_of_the_rows_not_of_the_grid() {
        let demand = Demand::from_trace(&trace(&[(0, 1.0), (3600, 9.0), (7200, 1.0)]), Step::MINUTE).unwrap();
        assert_eq!(demand.quantile(0.75), Qps::clamped(5.0));
    }

    #[test]
    fn quantiles_interpolate() {
        let rows: Vec<_> = (0..11_u32).map(|i| (60 * i64::from(i), f64::from(i))).collect();
        let demand = Demand::from_trace(&trace(&rows), Step::MINUTE).unwrap();
        assert!((demand.quantile(0.55).get() - 5.5).abs() < 1e-12);
        assert_eq!(demand.quantile(1.0), Qps::clamped(10.0));
        assert_eq!(demand.quantile(f64::NAN), Qps::ZERO);
    }

    #[test]
    fn a_trace_shorter_than_a_step_is_refused() {
        let step = Step::from_seconds(600).unwrap();
        assert!(Demand::from_trace(&trace(&[(0, 1.0), (60, 1.0)]), step).is_err());
    }

    proptest! {
        #[test]
        fn values_stay_within_those_of_the_trace(
            rows in prop::collection::vec((1_i64..6, 0.0..100.0_f64), 2..50),
            row_step in prop::sample::select(vec![1_i64, 20, 60, 90, 300, 3600]),
            step in prop::sample::select(vec![7_u32, 10, 60, 300]),
        ) {
            let mut at = 0;
            let rows: Vec<_> = rows.iter().map(|(d, v)| { at += d * row_step; (at, *v) }).collect();
            let mut builder = TraceBuilder::default();
            for (seconds, qps) in &rows {
                let time = Timestamp::from_second(*seconds).unwrap();
                builder.push(Row { time, qps: Qps::clamped(*qps), p99_ms: None, nq_per_second: None }).unwrap();
            }
            let Ok(trace) = builder.finish("test") else { return Ok(()) };
            let Ok(demand) = Demand::from_trace(&trace, Step::from_seconds(step).unwrap()) else { return Ok(()) };
            let low = rows.iter().map(|r| r.1).fold(f64::MAX, f64::min);
            let high = rows.iter().map(|r| r.1).fold(0.0, f64::max);
            for t in 0..demand.len() {
                let value = demand.at(t).get();
                prop_assert!(value >= low - 1e-9 && value <= high + 1e-9);
                prop_assert!(demand.seen().get(t).is_none_or(|seen| seen == demand.at(t)));
            }
        }
    }
}
