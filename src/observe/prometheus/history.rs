//! A long past in pieces: a server answers at most 11,000 points a series at once, and less where it is busy.

use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::response::Data;

use super::{Client, QueryError};
use crate::series::{Series, Step};
use crate::units::Qps;

/// The most points that are asked for at once.
const MOST_POINTS: i64 = 10_000;
/// The fewest that are asked for before it is given up.
const FEWEST_POINTS: i64 = 300;

/// The stretch of the past that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// From when; the first bucket starts at the next multiple of `step`.
    pub from: Timestamp,
    /// Until when; the last bucket ends there or before.
    pub until: Timestamp,
    /// The length of a bucket.
    pub step: Step,
    /// How long after a bucket's start the query is evaluated for it: a step for a mean over the bucket.
    pub lag: SignedDuration,
}

impl Past {
    /// The last `range` before `until`, in buckets of `step`, where the query is a rate over `window`: it is evaluated
    /// so that the window lies around the bucket's middle.
    #[must_use]
    pub fn of_rate(until: Timestamp, range: SignedDuration, step: Step, window: SignedDuration) -> Self {
        let lag = SignedDuration::from_secs(i64::midpoint(i64::from(step.seconds()), window.as_secs()));
        let beyond = (lag - step.duration()).max(SignedDuration::ZERO);
        let until = until.saturating_sub(beyond).unwrap_or(until);
        Self { from: until.saturating_sub(range).unwrap_or(Timestamp::MIN), until, step, lag }
    }

    /// How many buckets it has.
    #[must_use]
    pub fn count(&self) -> usize {
        let (first, end) = self.buckets();
        usize::try_from((end - first) / i64::from(self.step.seconds())).unwrap_or(0)
    }

    /// When the bucket `index` starts.
    #[must_use]
    pub fn time(&self, index: usize) -> Timestamp {
        let (first, _) = self.buckets();
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        let seconds = first.saturating_add(index.saturating_mul(i64::from(self.step.seconds())));
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    }

    /// The starts of the first bucket and of the one after the last, in seconds.
    fn buckets(&self) -> (i64, i64) {
        let step = i64::from(self.step.seconds());
        let first = self.from.as_second().div_euclid(step) * step;
        let first = if first < self.from.as_second() { first + step } else { first };
        (first, self.until.as_second().div_euclid(step) * step)
    }
}

impl Client {
    /// What `query` came to in the past. Where it came to nothing, or to no rate, there is a gap.
    ///
    /// # Errors
    /// If there is no answer, or it has several series.
    pub async fn history(&self, query: &str, past: Past) -> Result<Series, QueryError> {
        let values = self.past_values(query, past, &|_| {}).await?;
        let mut series = Series::new(past.time(0), past.step);
        for value in values {
            series.push(Qps::new(value).ok());
        }
        Ok(series)
    }

    /// The value for each bucket; NaN where there is none. `read` hears how many more buckets have been read.
    pub(in crate::observe) async fn past_values(
        &self,
        query: &str,
        past: Past,
        read: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<f64>, QueryError> {
        let step = i64::from(past.step.seconds());
        let (first, end) = past.buckets();
        let mut values = vec![f64::NAN; past.count()];
        let (mut next, mut points) = (first, MOST_POINTS);
        while next < end {
            let until = end.min(next + points * step);
            match self.piece(query, past, next, until).await {
                Ok(samples) => {
                    place(&mut values, &samples, first, step);
                    read(usize::try_from((until - next) / step).unwrap_or(0));
                    next = until;
                }
                // Of what was asked for: a short past is not made shorter.
                Err(error) if error.kind.may_fit_in_pieces() && (until - next) / step > FEWEST_POINTS => {
                    points = (until - next) / step / 3;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }

    /// Times, in seconds of the bucket's start, and values in `from..until`.
    async fn piece(
        &self,
        query: &str,
        past: Past,
        from: i64,
        until: i64,
    ) -> Result<Vec<(f64, f64)>, QueryError> {
        let (step, lag) = (i64::from(past.step.seconds()), past.lag.as_secs());
        let range = || {
            self.api
                .query_range(query, from + lag, until - step + lag, f64::from(past.step.seconds()))
                .query("partial_response", "false")
                .post_raw()
        };
        let reply = self.ask(range).await?;
        if let Some(warning) = reply.warning {
            // What is missing there would look like less load.
            tracing::warn!(
                prometheus = self.url(),
                warning,
                "part of the past is left out, as it is incomplete"
            );
            return Ok(Vec::new());
        }
        let Data::Matrix(mut series) = reply.data else { return Ok(Vec::new()) };
        if series.len() > 1 {
            return Err(QueryError::several(self.url(), query, series.len()));
        }
        let samples = series.pop().map(|series| series.into_inner().1).unwrap_or_default();
        Ok(samples.iter().map(|sample| (sample.timestamp() - lag as f64, sample.value())).collect())
    }
}

/// Puts samples where their times belong; what lies beside the grid is left out.
fn place(values: &mut [f64], samples: &[(f64, f64)], first: i64, step: i64) {
    for (at, value) in samples {
        let index = (at - first as f64) / step as f64;
        let nearest = index.round();
        if nearest < 0.0 || (index - nearest).abs() > 0.25 {
            continue;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 or more, and checked")]
        if let Some(slot) = values.get_mut(nearest as usize) {
            *slot = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn buckets_lie_on_multiples_of_the_step() {
        let past = Past { from: at(61), until: at(359), step: Step::MINUTE, lag: SignedDuration::ZERO };
        assert_eq!(past.buckets(), (120, 300));
    }

    #[test]
    fn the_window_of_a_rate_lies_around_the_bucket() {
        let window = SignedDuration::from_mins(2);
        let past = Past::of_rate(at(86_400), SignedDuration::from_hours(1), Step::MINUTE, window);
        // The bucket 0..60 is seen through the window -30..90.
        assert_eq!(past.lag.as_secs(), 90);
        let (_, end) = past.buckets();
        assert!(end - 60 + past.lag.as_secs() <= 86_400, "the newest query is not of the future");
    }

    #[test]
    fn samples_beside_the_grid_are_left_out() {
        let mut values = [f64::NAN; 3];
        place(&mut values, &[(120.001, 1.0), (200.0, 2.0), (240.0, 3.0), (0.0, 4.0), (900.0, 5.0)], 120, 60);
        assert_eq!(values[0].to_bits(), 1.0_f64.to_bits());
        assert!(values[1].is_nan());
        assert_eq!(values[2].to_bits(), 3.0_f64.to_bits());
    }
}
