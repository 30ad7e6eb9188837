//! `cron`: replicas by a fixed schedule of day, night and weekend, the best that the warm-up part suggests.

use jiff::SignedDuration;

use super::{Context, Proposal, Strategy, StrategyKind, View};
use crate::calendar::{Calendar, LocalTime};
use crate::simulate::plant::Plant;
use crate::units::{Qps, Replicas};

/// Schedules start and end on half hours.
const SLOTS: usize = 48;
const SLOT_MINUTES: u16 = 30;
const HALF_HOUR: SignedDuration = SignedDuration::from_mins(30);

/// Replicas by weekday daytime, weekday night and weekend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// Half hours of the day in which the weekday's daytime starts and ends.
    day: (usize, usize),
    daytime: Replicas,
    night: Replicas,
    weekend: Replicas,
}

impl Schedule {
    fn at(&self, (weekend, slot): (bool, usize)) -> Replicas {
        match () {
            () if weekend => self.weekend,
            () if (self.day.0..self.day.1).contains(&slot) => self.daytime,
            () => self.night,
        }
    }
}

/// Holds the most that was needed so far; when the warm-up is over, makes its schedule and keeps to it.
#[derive(Debug)]
pub(super) struct Cron {
    plant: Plant,
    calendar: Calendar,
    warmup: usize,
    slo_weight: f64,
    highest: Qps,
    schedule: Option<Schedule>,
}

impl Cron {
    pub(super) fn new(context: Context<'_>) -> Self {
        Self {
            plant: context.plant.clone(),
            calendar: context.policy.calendar.clone(),
            warmup: context.warmup.max(1),
            slo_weight: context.slo_weight,
            highest: Qps::ZERO,
            schedule: None,
        }
    }

    /// The schedule that would have been best so far.
    fn learn(&self, view: &View<'_>) -> Schedule {
        let (mut needs, mut walker) = (Needs::new(), self.calendar.walker());
        for t in 0..view.step {
            if let Some(demand) = view.demand.get(t) {
                needs.add(slot(walker.local(view.demand.time(t))), self.plant.needed(demand));
            }
        }
        needs.best_schedule(self.slo_weight)
    }

    /// A schedule is switched early, so that replicas are ready when they are needed.
    fn scheduled(&self, schedule: Schedule, view: &View<'_>) -> Replicas {
        let (lead, mut walker) = (self.plant.lead_time, self.calendar.walker());
        let ahead = std::iter::successors(Some(SignedDuration::ZERO), |d| Some(*d + HALF_HOUR))
            .take_while(|d| *d < lead);
        let times = ahead.chain([lead]).filter_map(|d| view.now.checked_add(d).ok());
        times.map(|time| schedule.at(slot(walker.local(time)))).max().unwrap_or(view.desired)
    }
}

impl Strategy for Cron {
    fn name(&self) -> &'static str {
        StrategyKind::Cron.name()
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        if let Some(demand) = view.last().filter(|d| *d > self.highest) {
            self.highest = demand;
        }
        if view.step == self.warmup {
            self.schedule = Some(self.learn(view));
        }
        match self.schedule {
            Some(schedule) => self.scheduled(schedule, view),
            None => self.plant.needed(self.highest).max(view.desired),
        }
        .into()
    }
}

/// Whether a time is on a weekend, and its half hour of the day. Holidays are no part of a schedule that repeats.
fn slot(local: LocalTime) -> (bool, usize) {
    (local.is_weekend(), usize::from(local.minute_of_day / SLOT_MINUTES))
}

/// How often each number of replicas was needed, by half hour of weekdays and on weekends.
#[derive(Debug)]
struct Needs {
    weekday: [Histogram; SLOTS],
    weekend: Histogram,
}

impl Needs {
    fn new() -> Self {
        Self { weekday: std::array::from_fn(|_| Histogram::default()), weekend: Histogram::default() }
    }

    fn add(&mut self, (weekend, slot): (bool, usize), needed: Replicas) {
        match self.weekday.get_mut(slot).filter(|_| !weekend) {
            Some(histogram) => histogram.add(needed),
            None => self.weekend.add(needed),
        }
    }

    /// Chooses the levels, and when the day starts and ends, for the least SLO-adjusted cost.
    fn best_schedule(&self, slo_weight: f64) -> Schedule {
        let whole: Histogram =
            self.weekday.iter().chain([&self.weekend]).fold(Histogram::default(), Histogram::plus);
        // The price of a step in violation, in replica-steps.
        let price = slo_weight * whole.total() / whole.steps().max(1.0);
        let weekend = self.weekend.best_level(price);
        let mut best = (
            f64::INFINITY,
            Schedule { day: (0, 0), daytime: Replicas(0), night: Replicas(0), weekend: weekend.1 },
        );
        for start in 0..SLOTS {
            let mut day = Histogram::default();
            for end in start + 1..=SLOTS {
                day = self.weekday.get(end - 1).map_or_else(Histogram::default, |slot| day.plus(slot));
                let outside =
                    self.weekday.iter().enumerate().filter(|(slot, _)| !(start..end).contains(slot));
                let night = outside.fold(Histogram::default(), |sum, (_, slot)| sum.plus(slot));
                let (daytime, night) = (day.best_level(price), night.best_level(price));
                let cost = daytime.0 + night.0;
                if cost < best.0 {
                    let schedule = Schedule {
                        day: (start, end),
                        daytime: daytime.1,
                        night: night.1,
                        weekend: weekend.1,
                    };
                    best = (cost, schedule);
                }
            }
        }
        best.1
    }
}

/// How often each number of replicas was needed; the index is the number.
#[derive(Debug, Default, Clone)]
struct Histogram(Vec<f64>);

impl Histogram {
    fn add(&mut self, needed: Replicas) {
        let index = needed.0 as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, 0.0);
        }
        if let Some(count) = self.0.get_mut(index) {
            *count += 1.0;
        }
    }

    fn plus(self, other: &Self) -> Self {
        let mut sum = self.0;
        sum.resize(sum.len().max(other.0.len()), 0.0);
        for (count, more) in sum.iter_mut().zip(&other.0) {
            *count += more;
        }
        Self(sum)
    }

    fn steps(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Replica-steps needed.
    fn total(&self) -> f64 {
        self.0.iter().enumerate().map(|(replicas, count)| replicas as f64 * count).sum()
    }

    /// The level with the least cost, replica-steps and the price of those in violation, and that cost.
    fn best_level(&self, price: f64) -> (f64, Replicas) {
        let steps = self.steps();
        let mut above = steps;
        let mut best = (f64::INFINITY, 0);
        for (level, count) in (0_u32..).zip(&self.0) {
            above -= count;
            let cost = f64::from(level) * steps + price * above;
            if cost < best.0 {
                best = (cost, level);
            }
        }
        if best.0.is_finite() { (best.0, Replicas(best.1)) } else { (0.0, Replicas(0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_schedule_of_a_clear_week() {
        let mut needs = Needs::new();
        for slot in 0..SLOTS {
            let weekday = if (16..40).contains(&slot) { 10 } else { 2 };
            for _ in 0..5 {
                needs.add((false, slot), Replicas(weekday));
            }
            needs.add((true, slot), Replicas(1));
        }
        let schedule = needs.best_schedule(30.0);
        let expected =
            Schedule { day: (16, 40), daytime: Replicas(10), night: Replicas(2), weekend: Replicas(1) };
        assert_eq!(schedule, expected);
        assert_eq!(schedule.at((true, 20)), Replicas(1));
        assert_eq!(schedule.at((false, 39)), Replicas(10));
        assert_eq!(schedule.at((false, 40)), Replicas(2));
    }

    #[test]
    fn a_rare_peak_is_not_worth_its_fleet() {
        let mut histogram = Histogram::default();
        for _ in 0..9999 {
            histogram.add(Replicas(2));
        }
        histogram.add(Replicas(50));
        assert_eq!(histogram.best_level(60.0).1, Replicas(2));
        assert_eq!(histogram.best_level(1e9).1, Replicas(50));
        assert_eq!(Histogram::default().best_level(60.0), (0.0, Replicas(0)));
    }
}
