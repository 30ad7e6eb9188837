//! Analog days: the past days whose last hours ran most like today's.
//!
//! They learn day types from the data: no calendar says that the day after a match is quiet, but the morning does.
//! The method of analogs goes back to Lorenz (1969).

use std::hint::select_unpredictable;

use super::history::{Clock, History, PAST_DAYS};

/// Likeness of today to each of the last four weeks' days, yesterday first, updated step by step.
#[derive(Debug, Clone)]
pub(super) struct Analogs {
    /// Mean squared difference in shape between today's last hours and the day's; NaN before it is known.
    distances: [f32; PAST_DAYS],
    /// How much higher today has run of late.
    lifts: [f32; PAST_DAYS],
    /// Share of the day among all, from likeness.
    weights: [f64; PAST_DAYS],
    /// The days whose share matters.
    near: Vec<usize>,
    shape_rate: f32,
    lift_rate: f32,
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
    #[allow(clippy::cast_possible_truncation, reason = "rates, as precise as what they are for")]
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            distances: [f32::NAN; PAST_DAYS],
            lifts: [0.0; PAST_DAYS],
            weights: [0.0; PAST_DAYS],
            near: Vec::with_capacity(PAST_DAYS),
            shape_rate: (1.0 / clock.minutes(150) as f64) as f32,
            lift_rate: (1.0 / clock.minutes(30) as f64) as f32,
        }
    }

    /// Compares the newest step of `history` with the same time on each past day.
    pub(super) fn observe(&mut self, history: &History, level: f64) {
        #[allow(clippy::cast_possible_truncation, reason = "levels are kept with this precision")]
        let level = level as f32;
        let then = history.same_times().map(|step| history.kept(step));
        // This runs at every step: without branches it vectorises.
        for (day, then) in then.into_iter().enumerate() {
            let (distance, lift, difference) = (self.distances[day], self.lifts[day], level - then);
            let is_first = distance.is_nan();
            let lift_before = select_unpredictable(is_first, difference, lift);
            let distance_before = select_unpredictable(is_first, difference * difference, distance);
            let lift_now = lift_before + (difference - lift_before) * self.lift_rate;
            let shape = difference - lift_now;
            let apart = shape * shape + 0.05 * difference * difference;
            let distance_now = distance_before + (apart - distance_before) * self.shape_rate;
            let is_known = !then.is_nan();
            self.lifts[day] = select_unpredictable(is_known, lift_now, lift);
            self.distances[day] = select_unpredictable(is_known, distance_now, distance);
        }
    }

    /// Brings the weights up to date with the distances.
    pub(super) fn weigh(&mut self) {
        // `f32::min` prefers a number to NaN.
        let nearest = self.distances.iter().copied().fold(f32::INFINITY, f32::min).max(1e-5);
        let mut total = 0.0;
        let mut recency = 1.0;
        for (weight, distance) in self.weights.iter_mut().zip(self.distances) {
            let likeness = f64::from((-0.7 * (distance / nearest - 1.0)).exp());
            *weight = if distance.is_nan() { 0.0 } else { likeness * recency };
            recency *= 0.98;
            total += *weight;
        }
        if total > 0.0 {
            self.weights.iter_mut().for_each(|weight| *weight /= total);
        }
        self.near.clear();
        self.near.extend((0..PAST_DAYS).filter(|day| self.weights[*day] > 1e-3));
    }

    /// What followed on the analog days `ahead` steps after this time; `None` if nothing is known.
    pub(super) fn ahead(&self, history: &History, ahead: usize) -> Option<Analogy> {
        let (mut lifted, mut plain, mut weights) = (0.0, 0.0, 0.0);
        for day in &self.near {
            if let Some(level) = history.get(history.same_times()[*day] + ahead) {
                let weight = self.weights[*day];
                lifted += weight * (level + f64::from(self.lifts[*day]));
                plain += weight * level;
                weights += weight;
            }
        }
        (weights > 0.0).then(|| Analogy { lifted: lifted / weights, plain: plain / weights })
    }

    /// Each known day as a member of an ensemble: its step with today's time of day, and its weight, half by likeness
    /// and half alike for all, fading with age.
    pub(super) fn members(&self, history: &History) -> impl Iterator<Item = (usize, f64)> {
        let days = self.weights.iter().zip(self.distances).zip(history.same_times());
        days.enumerate().filter_map(|(back, ((weight, distance), step))| {
            let age = i32::try_from(back).unwrap_or(i32::MAX);
            let weight = 0.97_f64.powi(age) * (0.5 + 0.5 * weight * PAST_DAYS as f64);
            (!distance.is_nan()).then_some((*step, weight))
        })
    }
}
