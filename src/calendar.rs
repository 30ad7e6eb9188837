//! Local time as people's load follows it: time zone with its daylight-saving changes, holidays, announced events;
//! and schedules that set other bounds at certain times.

use std::collections::BTreeSet;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

pub use schedule::{Schedule, ScheduleBounds, ScheduleClock, ScheduleError, Schedules};

use crate::units::Qps;

mod schedule;

/// A known one-off load.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// When it starts.
    pub start: Timestamp,
    /// When it is over; after `start`.
    pub end: Timestamp,
    /// The highest load to expect in it.
    pub expected: Qps,
}

/// A moment in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// The day.
    pub date: Date,
    /// Minutes since midnight by the clock on the wall, from 0 to 1439.
    pub minute_of_day: u16,
    /// The day of the week.
    pub weekday: Weekday,
    /// Whether the day is a holiday.
    pub is_holiday: bool,
}

impl LocalTime {
    /// Whether it is Saturday or Sunday.
    #[must_use]
    pub fn is_weekend(&self) -> bool {
        matches!(self.weekday, Weekday::Saturday | Weekday::Sunday)
    }
}

/// What shapes the load in time: the users' time zone, holidays and announced events.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    zone: TimeZone,
    holidays: BTreeSet<Date>,
    events: Vec<Event>,
}

impl Default for Calendar {
    fn default() -> Self {
        Self::new(TimeZone::UTC, [], Vec::new())
    }
}

impl Calendar {
    /// A calendar in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone, holidays: impl IntoIterator<Item = Date>, mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event| event.start);
        Self { zone, holidays: holidays.into_iter().collect(), events }
    }

    /// The time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The announced events, by their start.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The holidays in order.
    pub fn holidays(&self) -> impl Iterator<Item = Date> + '_ {
        self.holidays.iter().copied()
    }

    /// Whether `date` is a holiday.
    #[must_use]
    pub fn is_holiday(&self, date: Date) -> bool {
        self.holidays.contains(&date)
    }

    /// The event with the highest load among those going on at `at`.
    #[must_use]
    pub fn event_at(&self, at: Timestamp) -> Option<&Event> {
        self.events_between(at, at).max_by(|a, b| a.expected.get().total_cmp(&b.expected.get()))
    }

    /// The events that go on at some moment from `from` to `to`, both included.
    pub fn events_between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.start <= to && event.end > from)
    }

    /// `at` in local time. To walk through many moments, a [`Walker`] is quicker.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> LocalTime {
        self.walker().local(at)
    }

    /// A walker that remembers the local day it is in.
    #[must_use]
    pub fn walker(&self) -> Walker<'_> {
        Walker { calendar: self, span: None }
    }
}

/// Gives local times quickly while moments stay in the same local day: one comparison and one division each.
#[derive(Debug, Clone)]
pub struct Walker<'a> {
    calendar: &'a Calendar,
    span: Option<Span>,
}

/// A stretch of time in one local day with one offset from UTC.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The first second of it.
    from: i64,
    /// The first second after it.
    until: i64,
    /// The second at which a clock with this offset shows midnight; it may lie before `from`.
    midnight: i64,
    date: Date,
    weekday: Weekday,
    is_holiday: bool,
}

impl Walker<'_> {
    /// `at` in local time.
    pub fn local(&mut self, at: Timestamp) -> LocalTime {
        let second = floor_second(at);
        let span = match self.span {
            Some(span) if (span.from..span.until).contains(&second) => span,
            _ => *self.span.insert(self.calendar.span(at)),
        };
        LocalTime {
            date: span.date,
            minute_of_day: u16::try_from((second - span.midnight) / 60).unwrap_or(0),
            weekday: span.weekday,
            is_holiday: span.is_holiday,
        }
    }
}

impl Calendar {
    /// The stretch around `at`.
    fn span(&self, at: Timestamp) -> Span {
        const DAY: i64 = 86_400;
        let second = floor_second(at);
        let offset = i64::from(self.zone.to_offset(at).seconds());
        let midnight = second - (second + offset).rem_euclid(DAY);
        let date = self.zone.to_datetime(at).date();
        let last_change =
            self.zone.preceding(next_instant(at)).next().map(|change| floor_second(change.timestamp()));
        let next_change = self.zone.following(at).next().map(|change| floor_second(change.timestamp()));
        Span {
            from: last_change.map_or(midnight, |change| change.max(midnight)),
            until: next_change.map_or(midnight + DAY, |change| change.min(midnight + DAY)),
            midnight,
            date,
            weekday: date.weekday(),
            is_holiday: self.is_holiday(date),
        }
    }
}

/// The whole second at or before `at`.
fn floor_second(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

/// The moment just after `at`, as transitions are looked up before a moment, not at it.
fn next_instant(at: Timestamp) -> Timestamp {
    at.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calendar(zone: &str) -> Calendar {
        Calendar::new(TimeZone::get(zone).unwrap(), ["2026-10-01".parse().unwrap()], Vec::new())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn local_time_follows_daylight_saving() {
        let berlin = calendar("Europe/Berlin");
        let mut walker = berlin.walker();
        // 29 March 2026: at 01:00 UTC the clock jumps from 02:00 to 03:00.
        assert_eq!(walker.local(at("2026-03-29T00:59:00Z")).minute_of_day, 119);
        assert_eq!(walker.local(at("2026-03-29T01:00:00Z")).minute_of_day, 180);
        // 25 October 2026: at 01:00 UTC it goes back from 03:00 to 02:00.
        assert_eq!(walker.local(at("2026-10-25T00:59:00Z")).minute_of_day, 179);
        assert_eq!(walker.local(at("2026-10-25T01:00:00Z")).minute_of_day, 120);
        assert_eq!(walker.local(at("2026-10-25T22:59:00Z")).minute_of_day, 1439);
        assert_eq!(walker.local(at("2026-10-25T23:00:00Z")).weekday, Weekday::Monday);
    }

    #[test]
    fn a_holiday_is_a_local_day() {
        let shanghai = calendar("Asia/Shanghai");
        assert!(!shanghai.local(at("2026-09-30T15:59:59Z")).is_holiday);
        assert!(shanghai.local(at("2026-09-30T16:00:00Z")).is_holiday);
        assert!(!shanghai.local(at("2026-10-01T16:00:00Z")).is_holiday);
    }

    #[test]
    fn the_largest_of_overlapping_events_counts() {
        let event = |name: &str, start: &str, end: &str, qps: f64| Event {
            name: name.to_owned(),
            start: at(start),
            end: at(end),
            expected: Qps::clamped(qps),
        };
        let calendar = Calendar::new(
            TimeZone::UTC,
            [],
            vec![
                event("large", "2026-11-11T10:00:00Z", "2026-11-11T12:00:00Z", 3000.0),
                event("small", "2026-11-11T09:00:00Z", "2026-11-11T13:00:00Z", 500.0),
            ],
        );
        let name = |text: &str| calendar.event_at(at(text)).map(|event| event.name.as_str());
        assert_eq!(name("2026-11-11T08:59:59Z"), None);
        assert_eq!(name("2026-11-11T09:00:00Z"), Some("small"));
        assert_eq!(name("2026-11-11T10:00:00Z"), Some("large"));
        assert_eq!(name("2026-11-11T12:00:00Z"), Some("small"));
        assert_eq!(name("2026-11-11T13:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn walking_agrees_with_the_time_zone(
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu",
                "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/Scoresbysund"]),
            start in -2_000_000_000_i64..4_000_000_000,
            steps in prop::collection::vec(-7200_i64..86_400, 1..60),
        ) {
            let calendar = calendar(zone);
            let mut walker = calendar.walker();
            let mut second = start;
            for step in steps {
                second += step;
                let at = Timestamp::from_second(second).unwrap();
                let expected = calendar.zone().to_datetime(at);
                let local = walker.local(at);
                prop_assert_eq!(local.date, expected.date());
                prop_assert_eq!(i64::from(local.minute_of_day),
                    i64::from(expected.hour()) * 60 + i64::from(expected.minute()));
                prop_assert_eq!(local.weekday, expected.date().weekday());
            }
        }

        #[test]
        fn no_moment_panics(second in jiff::Timestamp::MIN.as_second()..=jiff::Timestamp::MAX.as_second()) {
            let local = calendar("America/New_York").local(Timestamp::from_second(second).unwrap());
            prop_assert!(local.minute_of_day < 1440);
        }
    }
}
