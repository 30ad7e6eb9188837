//! What the report's charts are drawn from.

use std::collections::HashMap;

use serde::Serialize;

use super::encode::{self, Levels};
use crate::decide::Reason;
use crate::policy::DemandUnit;
use crate::simulate::replay::is_violation;
use crate::simulate::{Change, Outcome, Replay, Setup};
use crate::units::Replicas;

/// Points of a series, so that browsers draw without delay.
const MOST_POINTS: usize = 200_000;
/// The size at which series are made coarser.
const MOST_BYTES: usize = 2_400_000;
/// The decisions that are kept, the largest first.
const MOST_CHANGES: usize = 1_500;

/// The data of a report. Series have one value for each point, and a point is one step or a few.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    /// When the first point starts, in seconds since 1970.
    start: i64,
    /// The length of a step in seconds.
    step: u32,
    /// Steps in a point.
    per: usize,
    points: usize,
    /// The first scored step.
    scored: usize,
    zone: Zone,
    unit: &'static str,
    lead: i64,
    /// What each number of replicas carries, from 0 on.
    capacity: Vec<f64>,
    /// The highest load in each point.
    demand: Levels,
    /// The lowest, where a point is more than a step.
    demand_low: Option<Levels>,
    p50: Levels,
    upper: Levels,
    /// Forecasts are cut off here.
    limit: f64,
    /// Points without a forecast.
    unforeseen: String,
    /// Points without recorded load.
    unknown: String,
    strategies: Vec<Course>,
    reasons: Vec<Reason>,
    decisions: Decisions,
    spans: Vec<NamedSpan>,
}

/// What a strategy did.
#[derive(Debug, Serialize)]
struct Course {
    name: &'static str,
    ready: String,
    desired: String,
    /// Points with demand above capacity.
    missed: String,
}

/// The largest changes of the strategy that explains itself.
#[derive(Debug, Default, Serialize)]
struct Decisions {
    by: &'static str,
    /// How many there were.
    total: usize,
    /// Step, replicas before, replicas after, places of the reasons.
    list: Vec<(usize, u32, u32, Vec<usize>)>,
}

/// The policy's time zone: from when on which offset from UTC holds, both in seconds.
#[derive(Debug, Serialize)]
struct Zone {
    name: String,
    offsets: Vec<(i64, i32)>,
}

/// A time with a name: an announced event or a holiday. Seconds since 1970.
#[derive(Debug, Serialize)]
struct NamedSpan {
    name: String,
    from: i64,
    to: i64,
}

/// The data as JSON, in as fine a grid as fits.
pub(super) fn json(setup: &Setup, outcome: &Outcome) -> String {
    let mut per = outcome.demand.len().div_ceil(MOST_POINTS).max(1);
    loop {
        let json = serde_json::to_string(&Data::new(setup, outcome, per)).unwrap_or_default();
        if json.len() <= MOST_BYTES || per >= outcome.demand.len() {
            return json;
        }
        per *= 2;
    }
}

impl Data {
    fn new(setup: &Setup, outcome: &Outcome, per: usize) -> Self {
        let demand = &outcome.demand;
        let steps = demand.len();
        let grid = Grid { steps, per };
        let served: Vec<f64> = (0..steps).map(|t| demand.at(t).get()).collect();
        let capacity = capacity(setup, outcome);
        let limit = limit(&served, &capacity);
        let forecast = Band::new(outcome, limit);
        let (reasons, decisions) = decisions(outcome);
        Self {
            start: demand.seen().start().as_second(),
            step: setup.plant.step.seconds(),
            per,
            points: grid.points(),
            scored: outcome.scored_from,
            zone: zone(setup, outcome),
            unit: if setup.policy.demand.unit == DemandUnit::Nq { "vectors/s" } else { "QPS" },
            lead: setup.plant.lead_time.as_secs(),
            capacity,
            demand: encode::levels(&grid.fold(&served, f64::max)),
            demand_low: (per > 1).then(|| encode::levels(&grid.fold(&served, f64::min))),
            p50: encode::levels(&grid.fold(&forecast.p50, f64::max)),
            upper: encode::levels(&grid.fold(&forecast.upper, f64::max)),
            limit,
            unforeseen: encode::marks(&grid.fold(&forecast.unforeseen, |a, b| a && b)),
            unknown: encode::marks(&grid.marks(|t| !demand.is_known(t))),
            strategies: outcome.replays.iter().map(|r| Course::new(setup, outcome, r, grid)).collect(),
            reasons,
            decisions,
            spans: spans(setup, outcome),
        }
    }
}

impl Course {
    fn new(setup: &Setup, outcome: &Outcome, replay: &Replay, grid: Grid) -> Self {
        let missed = |t: usize| {
            let ready = replay.ready.get(t).copied().unwrap_or_default();
            outcome.demand.is_known(t) && is_violation(&setup.plant, outcome.demand.at(t), ready)
        };
        Self {
            name: replay.name,
            ready: encode::counts(&numbers(&grid.fold(&replay.ready, Ord::min))),
            desired: encode::counts(&numbers(&grid.fold(&replay.desired, Ord::max))),
            missed: encode::marks(&grid.marks(missed)),
        }
    }
}

fn numbers(replicas: &[Replicas]) -> Vec<u32> {
    replicas.iter().map(|r| r.0).collect()
}

/// Steps in points.
#[derive(Debug, Clone, Copy)]
struct Grid {
    steps: usize,
    per: usize,
}

impl Grid {
    fn points(self) -> usize {
        self.steps.div_ceil(self.per)
    }

    /// One value for each point, folded from those of its steps.
    fn fold<T: Copy>(self, values: &[T], fold: impl Fn(T, T) -> T) -> Vec<T> {
        values.chunks(self.per).filter_map(|chunk| chunk.iter().copied().reduce(&fold)).collect()
    }

    /// Points with at least one marked step.
    fn marks(self, mark: impl Fn(usize) -> bool) -> Vec<bool> {
        let marks: Vec<bool> = (0..self.steps).map(mark).collect();
        self.fold(&marks, |a, b| a || b)
    }
}

/// The forecast, step by step; where there is none, it stays at the last.
struct Band {
    p50: Vec<f64>,
    upper: Vec<f64>,
    unforeseen: Vec<bool>,
}

impl Band {
    fn new(outcome: &Outcome, limit: f64) -> Self {
        let forecaster = outcome.replays.iter().find(|replay| !replay.forecast.is_empty());
        let mut band = Self { p50: Vec::new(), upper: Vec::new(), unforeseen: Vec::new() };
        let mut last = (0.0, 0.0);
        for t in 0..outcome.demand.len() {
            let forecast = forecaster.and_then(|replay| replay.forecast_at(t));
            last = forecast.map_or(last, |f| (f.p50.get().min(limit), f.p99.get().min(limit)));
            band.p50.push(last.0);
            band.upper.push(last.1);
            band.unforeseen.push(forecast.is_none());
        }
        band
    }
}

/// Far above what anybody looks at: a forecast that has seen little may say anything, and would squeeze all else into
/// the lowest level.
fn limit(served: &[f64], capacity: &[f64]) -> f64 {
    let highest = served.iter().chain(capacity).copied().fold(0.0, f64::max);
    (highest * 8.0).min(f64::MAX)
}

/// What 0, 1, 2 … replicas carry, up to the most that any strategy asked for.
fn capacity(setup: &Setup, outcome: &Outcome) -> Vec<f64> {
    let counts = outcome.replays.iter().flat_map(|replay| replay.ready.iter().chain(&replay.desired));
    let most = counts.max().map_or(0, |r| r.0);
    (0..=most).map(|n| setup.plant.capacity.of(Replicas(n)).get()).collect()
}

/// The largest decisions of the first strategy that explains itself, and their reasons, each once.
fn decisions(outcome: &Outcome) -> (Vec<Reason>, Decisions) {
    let Some(replay) = outcome.replays.iter().find(|replay| !replay.changes.is_empty()) else {
        return (Vec::new(), Decisions::default());
    };
    let mut reasons = Reasons::default();
    let list = largest(replay, outcome.scored_from)
        .into_iter()
        .map(|change| {
            let places = change.reasons.iter().map(|reason| reasons.place(reason)).collect();
            (change.step, change.from.0, change.to.0, places)
        })
        .collect();
    (reasons.list, Decisions { by: replay.name, total: replay.changes.len(), list })
}

/// The largest changes, scored ones first, in the order of time.
fn largest(replay: &Replay, scored_from: usize) -> Vec<&Change> {
    let mut changes: Vec<&Change> = replay.changes.iter().collect();
    changes.sort_by_key(|c| (c.step < scored_from, std::cmp::Reverse(c.from.0.abs_diff(c.to.0)), c.step));
    changes.truncate(MOST_CHANGES);
    changes.sort_by_key(|change| change.step);
    changes
}

/// Reasons, each once.
#[derive(Default)]
struct Reasons<'a> {
    list: Vec<Reason>,
    places: HashMap<(&'static str, &'a str), usize>,
}

impl<'a> Reasons<'a> {
    fn place(&mut self, reason: &'a Reason) -> usize {
        *self.places.entry((reason.code, &*reason.message)).or_insert_with(|| {
            self.list.push(reason.clone());
            self.list.len() - 1
        })
    }
}

fn zone(setup: &Setup, outcome: &Outcome) -> Zone {
    let zone = setup.policy.calendar.zone();
    let series = outcome.demand.seen();
    let (start, end) = (series.start(), series.time(outcome.demand.len()));
    let changes = zone.following(start).take_while(|change| change.timestamp() < end);
    let mut offsets = vec![(start.as_second(), zone.to_offset(start).seconds())];
    offsets.extend(changes.map(|change| (change.timestamp().as_second(), change.offset().seconds())));
    offsets.dedup_by_key(|(_, offset)| *offset);
    Zone { name: zone.iana_name().unwrap_or("UTC").to_owned(), offsets }
}

/// Announced events and holidays within the trace.
fn spans(setup: &Setup, outcome: &Outcome) -> Vec<NamedSpan> {
    let calendar = &setup.policy.calendar;
    let series = outcome.demand.seen();
    let (start, end) = (series.start(), series.time(outcome.demand.len()));
    let holidays = calendar.holidays().filter_map(|day| {
        let midnight = |date: jiff::civil::Date| date.to_zoned(calendar.zone().clone()).ok();
        let (from, to) = (midnight(day)?.timestamp(), midnight(day.tomorrow().ok()?)?.timestamp());
        let within = from < end && to > start;
        within.then(|| NamedSpan { name: "holiday".to_owned(), from: from.as_second(), to: to.as_second() })
    });
    let events = calendar.events_between(start, end).map(|event| NamedSpan {
        name: event.name.clone(),
        from: event.start.as_second(),
        to: event.end.as_second(),
    });
    holidays.chain(events).collect()
}
