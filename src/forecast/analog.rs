//! Analog days: the past days whose last hours ran most like today's.
//!
//! They learn day types from the data: no calendar says that the day after a match is quiet, but the morning does.
//! The method of analogs goes back to Lorenz (1969).

use super::history::{Clock, History};

/// Days that are compared.
pub(super) const DAYS: usize = 28;

#[derive(Debug, Clone, Copy)]
struct Day {
    /// Mean squared difference in shape between today's last hours and this day's; NaN before it is known.
    distance: f64,
    /// How much higher today has run of late.
    lift: f64,
    /// Share of this day among all, from likeness.
    weight: f64,
}

/// Likeness of today to each of the last four weeks' days, updated step by step.
#[derive(Debug, Clone)]
pub(super) struct Analogs {
    days: [Day; DAYS],
    /// For each day: the step with today's time of day.
    steps: [Option<usize>; DAYS],
    shape_rate: f64,
    lift_rate: f64,
}

/// What analog days say of a moment ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Analogy {
    /// Their mean level, lifted to today's.
    pub(super) lifted: f64,
    /// Their mean level as it was.
    pub(super) plain: f64,
}

impl Analogs {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            days: [Day { distance: f64::NAN, lift: 0.0, weight: 0.0 }; DAYS],
            steps: [None; DAYS],
            shape_rate: 1.0 / clock.minutes(150) as f64,
            lift_rate: 1.0 / clock.minutes(30) as f64,
        }
    }

    /// Compares the newest step of `history` with the same time on each past day.
    pub(super) fn observe(&mut self, history: &History, level: f64) {
        self.steps = history.same_times();
        for (day, step) in self.days.iter_mut().zip(&self.steps) {
            let Some(then) = history.get(*step) else { continue };
            let difference = level - then;
            if day.distance.is_nan() {
                (day.distance, day.lift) = (difference * difference, difference);
            }
            day.lift += (difference - day.lift) * self.lift_rate;
            let shape = difference - day.lift;
            let distance = shape * shape + 0.05 * difference * difference;
            day.distance += (distance - day.distance) * self.shape_rate;
        }
    }

    /// Brings the weights up to date with the distances.
    pub(super) fn weigh(&mut self) {
        let known = self.days.iter().map(|day| day.distance).filter(|distance| distance.is_finite());
        let nearest = known.fold(f64::INFINITY, f64::min).max(1e-5);
        let mut total = 0.0;
        let mut recency = 1.0;
        for day in &mut self.days {
            let likeness = (-0.7 * (day.distance / nearest - 1.0)).exp();
            day.weight = if day.distance.is_nan() { 0.0 } else { likeness * recency };
            recency *= 0.98;
            total += day.weight;
        }
        if total > 0.0 {
            self.days.iter_mut().for_each(|day| day.weight /= total);
        }
    }

    /// What followed on the analog days `ahead` steps after this time; `None` if nothing is known.
    pub(super) fn ahead(&self, history: &History, ahead: usize) -> Option<Analogy> {
        let (mut lifted, mut plain, mut weights) = (0.0, 0.0, 0.0);
        for (day, step) in self.days.iter().zip(&self.steps).filter(|(day, _)| day.weight > 1e-3) {
            if let Some(level) = history.get(step.map(|step| step + ahead)) {
                lifted += day.weight * (level + day.lift);
                plain += day.weight * level;
                weights += day.weight;
            }
        }
        (weights > 0.0).then(|| Analogy { lifted: lifted / weights, plain: plain / weights })
    }

    /// Each known day as a member of an ensemble: its step with today's time of day, and its weight, half by likeness
    /// and half alike for all, fading with age.
    pub(super) fn members(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.days.iter().zip(&self.steps).enumerate().filter_map(|(back, (day, step))| {
            let age = i32::try_from(back).unwrap_or(i32::MAX);
            let weight = 0.97_f64.powi(age) * (0.5 + 0.5 * day.weight * DAYS as f64);
            (!day.distance.is_nan()).then_some(((*step)?, weight))
        })
    }
}
