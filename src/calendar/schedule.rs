//! Recurring times with other bounds: a cron expression for the start, a duration, and a floor.
//!
//! Starts are times on the wall. A start that a daylight-saving change skips happens when the clock jumps; one that
//! happens twice counts the first time, unless the expression repeats within the day, as in `*/15 * * * *`.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};

use croner::parser::{CronParser, Seconds, Year};
use croner::{Cron, JobType};

use crate::decide::{Floor, Reason};
use crate::units::Replicas;

/// A recurring time with other bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    name: String,
    cron: Cron,
    /// Minutes of a day at which it may start, in order.
    minutes: Vec<i16>,
    /// Whether it starts several times a day, so that both halves of a repeated hour count.
    repeats: bool,
    zone: TimeZone,
    duration: SignedDuration,
    min: Replicas,
    max: Option<Replicas>,
}

/// Why an expression is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is no cron expression.
    #[error(
        "`{expression}` is not a cron expression ({problem}); write five fields (minute, hour, day of month, month, \
         day of week), such as `0 8 * * MON-FRI`"
    )]
    Cron {
        /// What was written.
        expression: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No day ever matches.
    #[error("`{expression}` never happens; check its day and month")]
    Never {
        /// What was written.
        expression: String,
    },
}

impl Schedule {
    /// The longest duration of a schedule.
    pub const LONGEST: SignedDuration = SignedDuration::from_hours(31 * 24);

    /// How far ahead [`Schedule::next_change`] looks for a start.
    const START_HORIZON_DAYS: i64 = 400;

    /// How far ahead it looks for the end of a schedule that keeps starting anew.
    const END_HORIZON: SignedDuration = SignedDuration::from_hours(40 * 24);

    /// A schedule that starts by `expression` in `zone` and lasts `duration` each time.
    ///
    /// # Errors
    /// If `expression` is no cron expression of five fields, or never happens.
    pub fn new(
        name: impl Into<String>,
        expression: &str,
        zone: TimeZone,
        duration: SignedDuration,
        min: Replicas,
        max: Option<Replicas>,
    ) -> Result<Self, ScheduleError> {
        let cron = parse_cron(expression)?;
        let schedule = Self {
            name: name.into(),
            minutes: minutes_of(&cron),
            repeats: matches!(cron.determine_job_type(), JobType::IntervalWildcard),
            cron,
            zone,
            duration: duration.min(Self::LONGEST),
            min,
            max,
        };
        // Leap days fall on the same weekday again after 28 years.
        let mut days = days_from(jiff::civil::date(2024, 1, 1), 29 * 366);
        let never = schedule.minutes.is_empty() || !days.any(|date| schedule.on(date));
        if never { Err(ScheduleError::Never { expression: expression.to_owned() }) } else { Ok(schedule) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fewest replicas while it is active.
    #[must_use]
    pub fn min(&self) -> Replicas {
        self.min
    }

    /// The most replicas while it is active, where it says so.
    #[must_use]
    pub fn max(&self) -> Option<Replicas> {
        self.max
    }

    /// Its floor at `at`; `None` while it is not active.
    #[must_use]
    pub fn active(&self, at: Timestamp) -> Option<Replicas> {
        self.ends(at).map(|_| self.min)
    }

    /// When it next becomes active or inactive after `at`; `None` if not within a year, or if it stays active for
    /// more than a month.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        match self.ends(at) {
            Some(end) => self.last_end(end, at),
            None => self.start_after(at),
        }
    }

    /// The end of the run that is going on at `at`, not counting later starts.
    fn ends(&self, at: Timestamp) -> Option<Timestamp> {
        let end = self.start_until(at)?.checked_add(self.duration).ok()?;
        (end > at).then_some(end)
    }

    /// The end of a run that ends at `end`, when all starts until then are counted in.
    fn last_end(&self, mut end: Timestamp, at: Timestamp) -> Option<Timestamp> {
        let horizon = at.checked_add(Self::END_HORIZON).ok()?;
        while end <= horizon {
            match self.ends(end) {
                Some(later) => end = later,
                None => return Some(end),
            }
        }
        None
    }

    /// The last start at or before `at`, if it can still be going on at `at`.
    fn start_until(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        let days = self.duration.as_hours() / 24 + 2;
        // A start of tomorrow by the wall can lie before `at` where a whole day was skipped or repeated.
        let newest = today.tomorrow().unwrap_or(today);
        (0..=days + 1)
            .filter_map(|back| newest.checked_sub(Span::new().days(back)).ok())
            .filter(|date| self.on(*date))
            .find_map(|date| self.starts(date).last_until(at))
    }

    /// The first start after `at`.
    fn start_after(&self, at: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(at).date();
        let oldest = today.yesterday().unwrap_or(today);
        days_from(oldest, Self::START_HORIZON_DAYS)
            .filter(|date| self.on(*date))
            .find_map(|date| self.starts(date).first_after(at))
    }

    /// Whether it starts on `date` at all.
    fn on(&self, date: Date) -> bool {
        let (year, month, day) =
            (i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs());
        let pattern = &self.cron.pattern;
        [
            pattern.year_match(year),
            pattern.month_match(u32::from(month)),
            pattern.day_match(year, u32::from(month), u32::from(day)),
        ]
        .into_iter()
        .all(|matched| matched.unwrap_or(false))
    }

    /// Its starts on `date`.
    fn starts(&self, date: Date) -> Starts<'_> {
        let midnight = self.instant(date, 0);
        let next = date.tomorrow().ok().and_then(|next| self.instant(next, 0));
        match (midnight, next) {
            (Some(from), Some(until)) if until.as_second() - from.as_second() == 86_400 => {
                Starts::Even { midnight: from, minutes: &self.minutes }
            }
            _ => Starts::Uneven(self.uneven_starts(date)),
        }
    }

    /// The instant when the wall clock shows `minute` on `date`; the first, if it does so twice; the moment of the
    /// jump, if it never does.
    fn instant(&self, date: Date, minute: i16) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall(date, minute));
        if !matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
            return ambiguous.compatible().ok();
        }
        // The later reading lies after the jump, so the jump is the last transition up to it.
        let later = ambiguous.later().ok()?.checked_add(SignedDuration::from_nanos(1)).ok()?;
        self.zone.preceding(later).next().map(|jump| jump.timestamp())
    }

    /// The second instant when the wall clock shows `minute` on `date`, if it does so twice.
    fn second_instant(&self, date: Date, minute: i16) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall(date, minute));
        matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. }).then(|| ambiguous.later().ok()).flatten()
    }

    /// Its starts on a day with a daylight-saving change, in order.
    fn uneven_starts(&self, date: Date) -> Vec<Timestamp> {
        let first = self.minutes.iter().filter_map(|minute| self.instant(date, *minute));
        let mut starts: Vec<Timestamp> = first.collect();
        if self.repeats {
            starts.extend(self.minutes.iter().filter_map(|minute| self.second_instant(date, *minute)));
        }
        starts.sort_unstable();
        starts.dedup();
        starts
    }
}

/// `minute` of `date` by the clock on the wall.
fn wall(date: Date, minute: i16) -> DateTime {
    date.to_datetime(Time::midnight()).saturating_add(Span::new().minutes(minute))
}

/// The starts on one day.
enum Starts<'a> {
    /// On a day of 24 hours.
    Even {
        /// When the day begins.
        midnight: Timestamp,
        /// Minutes after that.
        minutes: &'a [i16],
    },
    /// On any other day: the instants in order.
    Uneven(Vec<Timestamp>),
}

impl Starts<'_> {
    /// The last one at or before `at`.
    fn last_until(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Even { midnight, minutes } => {
                let count = minutes.partition_point(|minute| minutes_after(*midnight, *minute) <= at);
                count.checked_sub(1).map(|index| minutes_after(*midnight, minutes[index]))
            }
            Self::Uneven(starts) => {
                let count = starts.partition_point(|start| *start <= at);
                count.checked_sub(1).map(|index| starts[index])
            }
        }
    }

    /// The first one after `at`.
    fn first_after(&self, at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Even { midnight, minutes } => minutes
                .get(minutes.partition_point(|minute| minutes_after(*midnight, *minute) <= at))
                .map(|minute| minutes_after(*midnight, *minute)),
            Self::Uneven(starts) => starts.get(starts.partition_point(|start| *start <= at)).copied(),
        }
    }
}

/// `minutes` after `midnight`.
fn minutes_after(midnight: Timestamp, minutes: i16) -> Timestamp {
    midnight.saturating_add(SignedDuration::from_mins(i64::from(minutes))).unwrap_or(Timestamp::MAX)
}

/// `count` days from `first` on.
fn days_from(first: Date, count: i64) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(first), |date| date.tomorrow().ok()).take(usize::try_from(count).unwrap_or(0))
}

/// Reads a cron expression of five fields.
fn parse_cron(expression: &str) -> Result<Cron, ScheduleError> {
    let error = |problem: String| ScheduleError::Cron { expression: expression.to_owned(), problem };
    let fields = expression.split_ascii_whitespace().count();
    if !expression.starts_with('@') && fields != 5 {
        return Err(error(format!("it has {fields} fields instead of 5")));
    }
    CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build()
        .parse(expression)
        .map_err(|problem| error(problem.to_string().trim_end_matches('.').to_owned()))
}

/// The minutes of a day at which `cron` may start.
fn minutes_of(cron: &Cron) -> Vec<i16> {
    let matches = |minute: &i16| {
        let minute = u32::from(minute.unsigned_abs());
        cron.pattern.hour_match(minute / 60).unwrap_or(false)
            && cron.pattern.minute_match(minute % 60).unwrap_or(false)
    };
    (0..24 * 60).filter(matches).collect()
}

/// All schedules of a policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schedules(Vec<Schedule>);

/// What the active schedules ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleBounds {
    /// The highest floor; `None` if no schedule is active.
    pub min: Option<Replicas>,
    /// The lowest maximum; `None` if no active schedule has one.
    pub max: Option<Replicas>,
    /// Names of the active schedules.
    pub active: Vec<String>,
}

impl ScheduleBounds {
    /// The least that the active schedules ask for, with its reason.
    #[must_use]
    pub fn floor(&self) -> Option<Floor> {
        let replicas = self.min?;
        let names = self.active.join(", ");
        let message = format!("Schedule {names} asks for {replicas} replicas at least.");
        Some(Floor { replicas, reason: Reason::new("ScheduleFloor", message) })
    }
}

impl Schedules {
    /// These schedules.
    #[must_use]
    pub fn new(schedules: Vec<Schedule>) -> Self {
        Self(schedules)
    }

    /// Each schedule, as the policy lists them.
    pub fn iter(&self) -> impl Iterator<Item = &Schedule> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the schedules active at `at` ask for.
    #[must_use]
    pub fn bounds(&self, at: Timestamp) -> ScheduleBounds {
        let active: Vec<&Schedule> = self.0.iter().filter(|schedule| schedule.active(at).is_some()).collect();
        ScheduleBounds {
            min: active.iter().map(|schedule| schedule.min).max(),
            max: active.iter().filter_map(|schedule| schedule.max).min(),
            active: active.iter().map(|schedule| schedule.name.clone()).collect(),
        }
    }

    /// When any of them next becomes active or inactive after `at`.
    #[must_use]
    pub fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        self.0.iter().filter_map(|schedule| schedule.next_change(at)).min()
    }

    /// A clock that remembers what is active until the next change.
    #[must_use]
    pub fn clock(&self) -> ScheduleClock<'_> {
        ScheduleClock {
            schedules: self,
            from: Timestamp::MAX,
            until: Timestamp::MIN,
            bounds: ScheduleBounds::default(),
        }
    }
}

/// Answers quickly while time moves on: schedules are only looked at again when one changes.
#[derive(Debug, Clone)]
pub struct ScheduleClock<'a> {
    schedules: &'a Schedules,
    from: Timestamp,
    until: Timestamp,
    bounds: ScheduleBounds,
}

impl ScheduleClock<'_> {
    /// What the schedules active at `at` ask for.
    pub fn bounds(&mut self, at: Timestamp) -> &ScheduleBounds {
        if !(self.from..self.until).contains(&at) {
            // Without a change in sight, look again a day later.
            let day_later = at.saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
            self.from = at;
            self.until = self.schedules.next_change(at).unwrap_or(day_later);
            self.bounds = self.schedules.bounds(at);
        }
        &self.bounds
    }
}

#[cfg(test)]
mod tests;
