//! The forecaster of one policy, kept up with the load: it learns each minute once, begins from what Prometheus and
//! the own history know, and begins anew when the policy changes what it is made for.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::clock::{after_minutes, minute_of};
use super::history::History;
use super::load::Load;
use crate::calendar::Calendar;
use crate::decide::Reason;
use crate::forecast::{Accuracy, Config, Forecast, Forecaster, Parts};
use crate::series::{Series, Step};

/// How long reading the whole history may take.
const READING: Duration = Duration::from_secs(120);
/// After how long a history that could not be read is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(60);
/// How long after its end a minute may still become known.
const OVERDUE: SignedDuration = SignedDuration::from_mins(2);
/// A gap that is longer than this is worth reading the history again.
const LONG_GAP: SignedDuration = SignedDuration::from_mins(30);

/// What a forecaster is made for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Purpose {
    /// From asking for a replica until it helps.
    pub(super) lead: SignedDuration,
    /// Time zone, holidays, events.
    pub(super) calendar: Arc<Calendar>,
    /// How much history to read.
    pub(super) history: SignedDuration,
}

impl Purpose {
    fn config(&self) -> Config {
        let lead = Step::MINUTE.count_in(self.lead).max(1);
        Config { step: Step::MINUTE, lead, calendar: Arc::clone(&self.calendar), parts: Parts::default() }
    }

    /// Whether a forecaster made for `other` does: a learned lead time moves a little all the time.
    fn is_like(&self, other: &Self) -> bool {
        let (a, b) = (self.lead.as_secs_f64(), other.lead.as_secs_f64());
        self.calendar == other.calendar && self.history == other.history && (a - b).abs() <= 0.2 * b
    }
}

/// A forecaster that has learned the history.
struct Fitted {
    forecaster: Forecaster,
    history: History,
    purpose: Purpose,
}

/// A forecaster that is being made.
type Fitting = JoinHandle<Result<Fitted, Reason>>;

/// The forecaster of one policy.
pub(super) struct Outlook {
    forecaster: Option<Forecaster>,
    history: History,
    purpose: Option<Purpose>,
    fitting: Option<Fitting>,
    retry_at: Timestamp,
    failure: Option<Reason>,
    gap_since: Option<Timestamp>,
}

impl Drop for Outlook {
    fn drop(&mut self) {
        if let Some(fitting) = &self.fitting {
            fitting.abort();
        }
    }
}

impl Outlook {
    /// An outlook that knows this history.
    pub(super) fn new(history: History) -> Self {
        Self {
            forecaster: None,
            history,
            purpose: None,
            fitting: None,
            retry_at: Timestamp::MIN,
            failure: None,
            gap_since: None,
        }
    }

    /// The history so far.
    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// When what it has learned begins, and how many samples that is.
    pub(super) fn learned(&self) -> (Option<Timestamp>, usize) {
        let samples = self.forecaster.as_ref().map_or(0, Forecaster::len);
        (self.forecaster.as_ref().map(|_| self.history.start()), samples)
    }

    /// How good the forecast has been.
    pub(super) fn accuracy(&self) -> Option<Accuracy> {
        self.forecaster.as_ref().and_then(Forecaster::accuracy)
    }

    /// Why there is no forecast.
    pub(super) fn missing(&self) -> Reason {
        match &self.failure {
            Some(failure) => failure.clone(),
            None if self.forecaster.is_none() => {
                Reason::new("ReadingHistory", "The history is being read and learned.")
            }
            None => Reason::new("NoHistory", "There has been no sample of the demand yet."),
        }
    }

    /// Demand ahead.
    pub(super) fn forecast(&self) -> Option<Forecast> {
        self.forecaster.as_ref().and_then(Forecaster::forecast)
    }

    /// Keeps up: takes a forecaster that has become ready, begins a new one where one is needed, and learns the
    /// minutes that are over. Where demand is not trusted now, they are gaps.
    pub(super) async fn advance(
        &mut self,
        load: Option<&Arc<dyn Load>>,
        purpose: Purpose,
        trusted: bool,
        now: Timestamp,
        fits: &Arc<Semaphore>,
    ) {
        self.take_fitted().await;
        if let Some(load) = load
            && self.needs_fit(&purpose, trusted, now)
        {
            self.retry_at = now.saturating_add(RETRY).unwrap_or(now);
            let job = fit(Arc::clone(load), self.history.clone(), purpose, now, Arc::clone(fits));
            self.fitting = Some(tokio::spawn(job));
        }
        self.learn(load.filter(|_| trusted), now).await;
    }

    fn needs_fit(&self, purpose: &Purpose, trusted: bool, now: Timestamp) -> bool {
        let healed = trusted && self.gap_since.is_some_and(|since| now.duration_since(since) > LONG_GAP);
        let outdated = !self.purpose.as_ref().is_some_and(|made_for| made_for.is_like(purpose));
        self.fitting.is_none() && now >= self.retry_at && (outdated || healed || self.forecaster.is_none())
    }

    /// Waits for a forecaster that is being made.
    pub(super) async fn settle(&mut self) {
        if let Some(fitting) = self.fitting.take() {
            self.take(fitting).await;
        }
    }

    async fn take_fitted(&mut self) {
        if let Some(fitting) = self.fitting.take_if(|fitting| fitting.is_finished()) {
            self.take(fitting).await;
        }
    }

    async fn take(&mut self, fitting: Fitting) {
        match fitting.await {
            Ok(Ok(fitted)) => {
                self.forecaster = Some(fitted.forecaster);
                self.history = fitted.history;
                self.purpose = Some(fitted.purpose);
                self.failure = None;
                self.gap_since = None;
            }
            Ok(Err(reason)) => self.failure = Some(reason),
            Err(_) => self.failure = Some(Reason::new("FittingFailed", "The history could not be learned.")),
        }
    }

    /// Learns the minutes that are over.
    async fn learn(&mut self, load: Option<&Arc<dyn Load>>, now: Timestamp) {
        let Some(forecaster) = &mut self.forecaster else { return };
        let from = forecaster.next_step();
        if now.duration_since(from) < Step::MINUTE.duration() {
            return;
        }
        let minutes = match load {
            Some(load) => load.history(from, now).await.ok(),
            None => None,
        };
        // A minute that is over, and the window of rates around it too, is a gap if nothing is known of it.
        let overdue = now.saturating_sub(OVERDUE).map_or(0, |until| minutes_between(from, until));
        let known = minutes.as_ref().map_or(0, Series::len);
        for minute in 0..overdue.max(known) {
            let rate = minutes.as_ref().and_then(|minutes| minutes.get(minute));
            let at = after_minutes(from, minute);
            forecaster.observe(rate);
            self.history.push(at, rate);
            match rate {
                None => self.gap_since = self.gap_since.or(Some(at)),
                Some(_) if now.duration_since(at) < LONG_GAP => {
                    self.gap_since = self.gap_since.filter(|since| at.duration_since(*since) > LONG_GAP);
                }
                Some(_) => {}
            }
        }
    }
}

/// Whole minutes between two moments.
fn minutes_between(from: Timestamp, until: Timestamp) -> usize {
    usize::try_from((until.as_second() - from.as_second()) / 60).unwrap_or(0)
}

/// Reads the history and makes a forecaster of it, few at a time.
async fn fit(
    load: Arc<dyn Load>,
    known: History,
    purpose: Purpose,
    now: Timestamp,
    fits: Arc<Semaphore>,
) -> Result<Fitted, Reason> {
    let closed = || Reason::new("FittingFailed", "The controller is stopping.");
    let _permit = fits.acquire_owned().await.map_err(|_| closed())?;
    let from = minute_of(now.saturating_sub(purpose.history).unwrap_or(now));
    let reading = tokio::time::timeout(READING, load.history(from, now)).await;
    let read = reading.map_err(|_| {
        let message = format!("Prometheus did not give the history within {} s.", READING.as_secs());
        Reason::new("HistoryTimeout", message)
    })??;
    let work = tokio::task::spawn_blocking(move || fitted(&merged(&read, &known), purpose));
    work.await.map_err(|_| Reason::new("FittingFailed", "The history could not be learned."))
}

/// What Prometheus knows, and where it knows nothing, what the own history does; from the first sample on.
fn merged(read: &Series, known: &History) -> Series {
    let own = known.minutes(read.start(), read.time(read.len()));
    let of = |index: usize| read.get(index).or_else(|| own.get(index));
    let first = (0..read.len()).find(|index| of(*index).is_some()).unwrap_or(read.len());
    let mut series = Series::new(read.time(first), Step::MINUTE);
    (first..read.len()).for_each(|index| series.push(of(index)));
    series
}

fn fitted(series: &Series, purpose: Purpose) -> Fitted {
    let mut history = History::new(series.start());
    series.iter().enumerate().for_each(|(index, rate)| history.push(series.time(index), rate));
    Fitted { forecaster: Forecaster::fit(purpose.config(), series), history, purpose }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Qps;

    #[test]
    fn the_own_history_fills_what_prometheus_has_forgotten() {
        let start = Timestamp::from_second(1_700_000_100).unwrap();
        let mut known = History::new(start);
        (0..20).for_each(|minute| known.push(after_minutes(start, minute), Some(Qps::HUNDRED)));
        let mut read = Series::new(
            after_minutes(start, 0).saturating_sub(SignedDuration::from_mins(30)).unwrap(),
            Step::MINUTE,
        );
        (0..40).for_each(|_| read.push(None));
        (40..60).for_each(|_| read.push(Some(Qps::ZERO)));
        let series = merged(&read, &known);
        assert_eq!(series.start(), start);
        assert_eq!(series.len(), 30);
        assert!((series.get(0).unwrap().get() - 100.0).abs() < 0.1);
        assert_eq!(series.get(10), Some(Qps::ZERO));
    }
}
