//! What the regressions see at an origin. All are differences to the newest level, so that coefficients of zero mean
//! "as now".

use std::f64::consts::LN_2;

use super::Parts;
use super::analog::Analogs;
use super::history::{Clock, History};
use super::model::LEVEL_FEATURES;
use super::seasonal::{Seasonal, Slot};

/// Running means of the level over several spans.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    rates: [f64; 4],
    /// Over 5, 15, 60 and 360 minutes.
    pub(super) means: [f64; 4],
    day_steps: f64,
    /// The highest of late: it fades by half in four weeks.
    pub(super) highest: f64,
    /// Over a day; over all there is, in the first one.
    pub(super) day: f64,
    seen: f64,
}

/// Index of the five minutes' and the hour's mean in [`Levels::means`].
pub(super) const FIVE_MINUTES: usize = 0;
/// See [`FIVE_MINUTES`].
pub(super) const HOUR: usize = 2;

impl Levels {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            rates: [5, 15, 60, 360].map(|minutes| 1.0 / clock.minutes(minutes) as f64),
            means: [f64::NAN; 4],
            day_steps: clock.day() as f64,
            highest: f64::NEG_INFINITY,
            day: 0.0,
            seen: 0.0,
        }
    }

    /// Takes the next level; after a long gap the short means start anew.
    pub(super) fn observe(&mut self, level: f64, is_restart: bool) {
        for (mean, rate) in self.means.iter_mut().zip(self.rates) {
            if mean.is_nan() || is_restart {
                *mean = level;
            } else {
                *mean += (level - *mean) * rate;
            }
        }
        self.seen += 1.0;
        self.highest = level.max(self.highest - LN_2 / (28.0 * self.day_steps));
        self.day += (level - self.day) / self.seen.min(self.day_steps);
    }
}

/// What the seasonal parts say of one moment ahead; NaN where they know nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    week: f64,
    kind: f64,
    yesterday: f64,
    last_week: f64,
    lifted: f64,
    plain: f64,
}

impl Outlook {
    /// The highest of each part.
    fn max(self, other: Self) -> Self {
        // `f64::max` prefers a number to NaN.
        Self {
            week: self.week.max(other.week),
            kind: self.kind.max(other.kind),
            yesterday: self.yesterday.max(other.yesterday),
            last_week: self.last_week.max(other.last_week),
            lifted: self.lifted.max(other.lifted),
            plain: self.plain.max(other.plain),
        }
    }
}

/// The parts that features are made from, at one origin.
pub(super) struct Features<'a> {
    pub(super) history: &'a History,
    pub(super) seasonal: &'a Seasonal,
    pub(super) analogs: &'a Analogs,
    pub(super) levels: &'a Levels,
    parts: Parts,
    pub(super) clock: Clock,
    pub(super) level: f64,
    now: Outlook,
    yesterday: usize,
    last_week: usize,
    recent: [f64; 9],
}

impl<'a> Features<'a> {
    pub(super) fn new(
        (history, seasonal, analogs, levels): (&'a History, &'a Seasonal, &'a Analogs, &'a Levels),
        parts: Parts,
        clock: Clock,
        level: f64,
        slot: Slot,
    ) -> Self {
        let nothing = Outlook {
            week: f64::NAN,
            kind: f64::NAN,
            yesterday: f64::NAN,
            last_week: f64::NAN,
            lifted: level,
            plain: level,
        };
        let past = history.same_times();
        let mut features = Self {
            history,
            seasonal,
            analogs,
            levels,
            parts,
            clock,
            level,
            now: nothing,
            yesterday: past[0],
            last_week: past[6],
            recent: [0.0; 9],
        };
        features.now = features.outlook(0, slot);
        features.recent = features.recent();
        features
    }

    /// What is expected `ahead` steps from now, when it will be `slot`.
    pub(super) fn outlook(&self, ahead: usize, slot: Slot) -> Outlook {
        let unless = |left_out: bool, value: f64| if left_out { f64::NAN } else { value };
        let unseasonal = !self.parts.seasonality;
        let past = |step: usize| unless(unseasonal, f64::from(self.history.kept(step + ahead)));
        let analogy = self.analogs.ahead(self.history, ahead).filter(|_| self.parts.analogs);
        Outlook {
            week: unless(unseasonal, self.seasonal.of_week(slot)),
            kind: unless(unseasonal, self.seasonal.of_kind(slot)),
            yesterday: past(self.yesterday),
            last_week: past(self.last_week),
            lifted: analogy.map_or(self.level, |analogy| analogy.lifted),
            plain: analogy.map_or(self.level, |analogy| analogy.plain),
        }
    }

    /// The highest of several outlooks.
    pub(super) fn peak(outlooks: impl Iterator<Item = Outlook>) -> Option<Outlook> {
        outlooks.reduce(Outlook::max)
    }

    /// How the level has run so far, the same for every horizon but the slope over its own length.
    fn recent(&self) -> [f64; 9] {
        let slope = |minutes: usize| self.slope(self.clock.minutes(minutes));
        let [five, quarter, hour, six_hours] = self.levels.means.map(|mean| mean - self.level);
        [0.05, five, quarter, hour, six_hours, self.levels.day - self.level, slope(3), slope(60), slope(30)]
    }

    fn slope(&self, steps: usize) -> f64 {
        self.history.ago(steps).map_or(0.0, |before| self.level - before)
    }

    /// The features of the horizon `ahead` steps away, of which `outlook` is expected.
    pub(super) fn of(&self, ahead: usize, outlook: Outlook) -> [f64; LEVEL_FEATURES] {
        let [bias, five, quarter, hour, six_hours, day, slope_3, slope_60, slope_30] = self.recent;
        let slope_own = self.slope(ahead.min(self.clock.minutes(120)));
        let change = |then: f64, now: f64| or_zero(then - now);
        let to_level = |then: f64| or_zero(then - self.level);
        [
            bias,
            five,
            quarter,
            hour,
            six_hours,
            day,
            slope_3,
            slope_own,
            slope_60,
            slope_30,
            change(outlook.week, self.now.week),
            to_level(outlook.week),
            change(outlook.kind, self.now.kind),
            change(outlook.yesterday, self.now.yesterday),
            to_level(outlook.yesterday),
            change(outlook.last_week, self.now.last_week),
            to_level(outlook.last_week),
            to_level(outlook.lifted),
            to_level(outlook.plain),
            to_level(outlook.kind),
        ]
    }
}

/// Unknown is "no difference".
fn or_zero(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
