//! Makes the trace of a scenario. Only basic arithmetic is used, so that every machine makes the same.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Change, Point, Scenario};
use crate::observe::{Fault, Row, Trace, TraceBuilder};
use crate::units::Qps;

const DAY_MINUTES: f64 = 1440.0;
/// How long slow noise lasts.
const SLOW_SECONDS: f64 = 900.0;
/// A row keeps one decimal.
const PRECISION: f64 = 10.0;

pub(super) fn trace(scenario: &Scenario, name: &str) -> Result<Trace, Fault> {
    let zone = scenario.time_zone.parse().unwrap_or(TimeZone::UTC);
    let step = scenario.step().map_or(60, |s| i64::from(s.seconds()));
    let at = |moment: DateTime| zone.to_timestamp(moment).map_or(i64::MAX, Timestamp::as_second);
    let first = at(scenario.start.to_datetime(jiff::civil::Time::midnight()));
    let after_last = scenario.start.saturating_add(i64::from(scenario.days).days());
    let end = at(after_last.to_datetime(jiff::civil::Time::midnight()));
    let outages: Vec<_> = scenario.outages.iter().map(|o| at(o.from)..at(o.to)).collect();
    let mut load = Load::new(scenario, &zone, step);
    let mut builder = TraceBuilder::default();
    let mut second = first;
    while second < end {
        let Ok(time) = Timestamp::from_second(second) else { break };
        let qps = Qps::clamped((load.next(time) * PRECISION).round() / PRECISION);
        if !outages.iter().any(|outage| outage.contains(&second)) {
            builder.push(Row { time, qps, p99_ms: None, nq_per_second: None })?;
        }
        second += step;
    }
    builder.finish(name)
}

/// The load, row by row.
struct Load<'a> {
    scenario: &'a Scenario,
    zone: &'a TimeZone,
    changes: Vec<Swing>,
    /// Noise from row to row, and from day to day; apart, so that neither depends on how often the other is asked.
    rows: Normal,
    days: Normal,
    slow: f64,
    /// How much of the slow noise is left at the next row.
    persistence: f64,
    day: Option<Day>,
}

/// What is special about a day.
#[derive(Debug, Clone, Copy)]
struct Day {
    date: Date,
    factor: f64,
    shift_minutes: f64,
}

impl<'a> Load<'a> {
    fn new(scenario: &'a Scenario, zone: &'a TimeZone, step_seconds: i64) -> Self {
        Self {
            scenario,
            zone,
            changes: scenario.changes.iter().map(|change| Swing::new(change, zone)).collect(),
            rows: Normal::new(scenario.seed, 0),
            days: Normal::new(scenario.seed, 1),
            slow: 0.0,
            persistence: (1.0 - step_seconds as f64 / SLOW_SECONDS).max(0.0),
            day: None,
        }
    }

    fn next(&mut self, time: Timestamp) -> f64 {
        let local = self.zone.to_datetime(time);
        let day = self.day_of(local.date());
        let minute =
            f64::from(local.hour()) * 60.0 + f64::from(local.minute()) + f64::from(local.second()) / 60.0;
        let usual = self.usual(local.date(), minute + day.shift_minutes) * day.factor;
        let changed: f64 = self.changes.iter().map(|change| change.at(time.as_second())).product();
        let weeks = (local.date() - self.scenario.start).get_days() / 7;
        let grown = (1.0 + self.scenario.growth_per_week * f64::from(weeks)).max(0.0);
        usual * changed * grown * self.noise()
    }

    fn noise(&mut self) -> f64 {
        let fresh = (1.0 - self.persistence * self.persistence).sqrt();
        self.slow = self.persistence * self.slow + fresh * self.rows.next();
        let noise = &self.scenario.noise;
        (1.0 + noise.slow * self.slow + noise.fast * self.rows.next()).max(0.0)
    }

    fn day_of(&mut self, date: Date) -> Day {
        if let Some(day) = self.day.filter(|day| day.date == date) {
            return day;
        }
        let factor = (1.0 + self.scenario.noise.daily * self.days.next()).max(0.0);
        let shift_minutes = self.scenario.noise.shift_minutes * self.days.next();
        *self.day.insert(Day { date, factor, shift_minutes })
    }

    /// The load of a day at a minute of it, on a smooth curve between its points and those of the days around it.
    fn usual(&self, date: Date, minute: f64) -> f64 {
        let around = [(-1_i64, -DAY_MINUTES), (0, 0.0), (1, DAY_MINUTES)];
        let points = around.into_iter().flat_map(|(days, offset)| {
            let day = self.points(date.saturating_add(days.days()));
            day.iter().map(move |p| (minute_of(p) + offset, p.qps))
        });
        let (mut before, mut after) = (None, None);
        for point in points {
            if point.0 <= minute {
                before = Some(point);
            } else if after.is_none() {
                after = Some(point);
            }
        }
        match (before, after) {
            (Some((start, from)), Some((end, to))) => {
                from + (to - from) * smooth((minute - start) / (end - start))
            }
            (Some((_, only)), None) | (None, Some((_, only))) => only,
            (None, None) => 0.0,
        }
    }

    fn points(&self, date: Date) -> &'a [Point] {
        let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        let quiet = weekend || self.scenario.holidays.contains(&date);
        if quiet && !self.scenario.weekend.is_empty() {
            &self.scenario.weekend
        } else {
            &self.scenario.weekday
        }
    }
}

fn minute_of(point: &Point) -> f64 {
    f64::from(point.at.hour()) * 60.0 + f64::from(point.at.minute()) + f64::from(point.at.second()) / 60.0
}

/// From 0 to 1 without a corner at either end.
fn smooth(share: f64) -> f64 {
    share * share * (3.0 - 2.0 * share)
}

/// A change of the load, in Unix seconds.
#[derive(Debug, Clone, Copy)]
struct Swing {
    from: i64,
    to: i64,
    ramp: f64,
    factor: f64,
}

impl Swing {
    fn new(change: &Change, zone: &TimeZone) -> Self {
        let at = |moment: DateTime| zone.to_timestamp(moment).map_or(i64::MAX, Timestamp::as_second);
        let ramp = change.ramp.parse().unwrap_or(SignedDuration::ZERO).as_secs_f64();
        Self { from: at(change.from), to: at(change.to), ramp, factor: change.factor }
    }

    fn at(&self, second: i64) -> f64 {
        if !(self.from..self.to).contains(&second) {
            return 1.0;
        }
        let edge = (second - self.from).min(self.to - second) as f64;
        let share = if edge < self.ramp { smooth(edge / self.ramp) } else { 1.0 };
        1.0 + (self.factor - 1.0) * share
    }
}

/// Numbers that are almost normally distributed, with mean 0 and deviation 1: sums of twelve uniform ones.
struct Normal(ChaCha8Rng);

impl Normal {
    fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    fn next(&mut self) -> f64 {
        let uniform = |rng: &mut ChaCha8Rng| f64::from(rng.next_u32()) / f64::from(u32::MAX);
        (0..12).map(|_| uniform(&mut self.0)).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(more: &str) -> Scenario {
        let text = format!(
            "description: d\nseed: 7\nstart: 2026-03-02\ndays: 14\nstep: 1h\nweekday: [{{at: '06:00', qps: 100}}, \
             {{at: '12:00', qps: 200}}]\nweekend: [{{at: '01:00', qps: 50}}, {{at: '22:00', qps: 50}}]\n{more}"
        );
        Scenario::from_yaml(&text).unwrap()
    }

    fn qps(more: &str) -> Vec<f64> {
        scenario(more).trace("test").unwrap().qps().to_vec()
    }

    #[test]
    fn the_load_follows_points_and_day_types() {
        let plain = qps("");
        assert_eq!(plain.len(), 14 * 24);
        let at = |day: usize, hour: usize| plain[day * 24 + hour];
        let close = |a: f64, b: f64| assert!((a - b).abs() < 0.06, "{a} is not {b}");
        close(at(0, 6), 100.0);
        close(at(0, 9), 150.0);
        close(at(0, 12), 200.0);
        close(at(5, 15), 50.0);
        // From Monday noon to Tuesday morning it falls without a jump.
        close(at(0, 21), 150.0);
        close(qps("holidays: [2026-03-03]")[24 + 12], 50.0);
        close(qps("growthPerWeek: 0.1")[7 * 24 + 12], 220.0);
    }

    #[test]
    fn changes_and_outages() {
        let sudden = qps("changes: [{from: 2026-03-02T11:00, to: 2026-03-02T13:00, factor: 2}]");
        assert!((sudden[12] - 400.0).abs() < 0.06 && (sudden[13] - 197.0).abs() < 5.0);
        let ramped = qps("changes: [{from: 2026-03-02T10:00, to: 2026-03-02T14:00, factor: 3, ramp: 4h}]");
        assert!((ramped[12] - 400.0).abs() < 0.06);
        let trace =
            scenario("outages: [{from: 2026-03-02T10:00, to: 2026-03-02T14:00}]").trace("test").unwrap();
        assert_eq!(trace.gaps().count(), 1);
        assert_eq!(trace.rows(), 14 * 24 - 4);
    }

    #[test]
    fn a_time_zone_moves_the_day_and_daylight_saving_shifts_it() {
        let load = |zone: &str| scenario(&format!("timeZone: {zone}")).trace("test").unwrap();
        assert_eq!(load("Asia/Shanghai").start().to_string(), "2026-03-01T16:00:00Z");
        // New York springs forward on 2026-03-08: an hour less.
        assert_eq!(load("America/New_York").rows(), 14 * 24 - 1);
    }

    #[test]
    fn noise_is_seeded_and_has_the_deviation_asked_for() {
        let noisy = qps("noise: {fast: 0.05}");
        assert_eq!(noisy, qps("noise: {fast: 0.05}"));
        let plain = qps("");
        let squares: f64 = noisy.iter().zip(&plain).map(|(n, p)| (n / p - 1.0).powi(2)).sum();
        let deviation = (squares / plain.len() as f64).sqrt();
        assert!((deviation - 0.05).abs() < 0.01, "{deviation}");
        let slow = qps("noise: {slow: 0.05, daily: 0.1, shiftMinutes: 5}");
        assert!(slow.iter().zip(&plain).any(|(s, p)| (s - p).abs() > 1.0));
    }
}
