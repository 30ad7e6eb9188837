//! `holt-winters`: what predictive-horizontal-pod-autoscaler does. The replicas that the HPA's rule asks for are a
//! series of their own; additive Holt-Winters with a season of a day forecasts it, and the larger of the forecast and
//! the HPA's recommendation is taken. The rule is recorded without the tolerance, which makes it the better rival: with
//! it the forecast feeds back into what it forecasts, and the fleet swings.

use super::hpa::Hpa;
use super::{Proposal, Strategy, StrategyKind, View};
use crate::series::Step;
use crate::simulate::plant::Plant;
use crate::units::Replicas;

const DAY_SECONDS: usize = 86_400;
/// Recommendations are kept at this resolution, or at the plant's if that is coarser.
const INTERVAL_SECONDS: u32 = 300;
/// Seasons that are stored; parameters are chosen anew once a season.
const SEASONS: usize = 4;

/// Smoothing of level, trend and season.
#[derive(Debug, Clone, Copy)]
struct Smoothing {
    level: f64,
    trend: f64,
    season: f64,
}

/// The state of additive Holt-Winters after some values.
#[derive(Debug, Clone)]
struct Model {
    smoothing: Smoothing,
    level: f64,
    trend: f64,
    /// What the time of day adds, by slot.
    season: Vec<f64>,
    /// The slot of the next value.
    next: usize,
}

impl Model {
    /// Starts from the first season: its mean is the level, deviations from it are the season.
    fn new(first: &[f64], smoothing: Smoothing) -> Self {
        let level = first.iter().sum::<f64>() / first.len() as f64;
        let season = first.iter().map(|v| v - level).collect();
        Self { smoothing, level, trend: 0.0, season, next: 0 }
    }

    /// What is expected `ahead` values from now, 1 being the next.
    fn expect(&self, ahead: usize) -> f64 {
        let slot = (self.next + ahead - 1) % self.season.len();
        self.level + self.trend * ahead as f64 + self.season.get(slot).copied().unwrap_or(0.0)
    }

    /// Takes the next value and gives the error of its forecast.
    fn update(&mut self, value: f64) -> f64 {
        let error = value - self.expect(1);
        let Smoothing { level, trend, season } = self.smoothing;
        self.level += self.trend + level * error;
        self.trend += level * trend * error;
        if let Some(slot) = self.season.get_mut(self.next) {
            *slot += season * (1.0 - level) * error;
        }
        self.next = (self.next + 1) % self.season.len();
        error
    }
}

/// The model with the smoothing whose one-step forecasts of `history` were best in the mean square.
fn fit(history: &[f64], season: usize) -> Option<Model> {
    let (first, rest) = history.split_at_checked(season)?;
    let mut best: Option<(f64, Model)> = None;
    for level in [0.05, 0.1, 0.3, 0.6, 0.9] {
        for trend in [0.0, 0.01, 0.1] {
            for season in [0.05, 0.2, 0.5] {
                let mut model = Model::new(first, Smoothing { level, trend, season });
                let error: f64 = rest.iter().map(|v| model.update(*v).powi(2)).sum();
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, model));
                }
            }
        }
    }
    best.map(|(_, model)| model)
}

/// The HPA with a forecast of its own recommendations.
#[derive(Debug)]
pub(super) struct HoltWinters {
    hpa: Hpa,
    /// Steps in an interval, and intervals in a day.
    interval: usize,
    season: usize,
    /// Intervals until a replica that is added now is ready.
    ahead: usize,
    /// Mean recommendation of each interval, the last [`SEASONS`] days.
    history: Vec<f64>,
    /// Sum and number of recommendations in the interval that runs.
    running: (f64, f64),
    model: Option<Model>,
    since_fit: usize,
}

impl HoltWinters {
    pub(super) fn new(plant: &Plant) -> Self {
        let seconds = plant.step.seconds().max(INTERVAL_SECONDS);
        let interval = (seconds / plant.step.seconds()) as usize;
        let length = interval * plant.step.seconds() as usize;
        let grid =
            Step::from_seconds(u32::try_from(length).unwrap_or(INTERVAL_SECONDS)).unwrap_or(plant.step);
        Self {
            hpa: Hpa::new("", plant, 0.7),
            interval,
            season: (DAY_SECONDS / length).max(1),
            ahead: grid.count_in(plant.lead_time) + 1,
            history: Vec::new(),
            running: (0.0, 0.0),
            model: None,
            since_fit: 0,
        }
    }

    /// Adds a recommendation; at the end of an interval the model learns it.
    fn learn(&mut self, step: usize, recommended: Replicas) {
        self.running.0 += recommended.as_f64();
        self.running.1 += 1.0;
        if !(step + 1).is_multiple_of(self.interval) {
            return;
        }
        let mean = self.running.0 / self.running.1;
        self.running = (0.0, 0.0);
        self.history.push(mean);
        if let Some(model) = &mut self.model {
            model.update(mean);
        }
        self.since_fit += 1;
        if self.since_fit >= self.season && self.history.len() >= 2 * self.season {
            self.refit();
        }
    }

    fn refit(&mut self) {
        let surplus = self.history.len().saturating_sub(SEASONS * self.season);
        self.history.drain(..surplus);
        self.model = fit(&self.history, self.season);
        self.since_fit = 0;
    }

    /// The highest recommendation expected until a replica that is added now is ready.
    fn expected(&self) -> Replicas {
        let Some(model) = &self.model else { return Replicas(0) };
        let highest = (1..=self.ahead).map(|i| model.expect(i)).fold(0.0, f64::max);
        // The PHPA rounds to the nearest whole replica.
        Replicas::at_least(highest - 0.5)
    }
}

impl Strategy for HoltWinters {
    fn name(&self) -> &'static str {
        StrategyKind::HoltWinters.name()
    }

    fn propose(&mut self, view: &View<'_>) -> Proposal {
        // Without data the series goes on with what runs, so that times of day stay in their places.
        self.learn(view.step, self.hpa.proportional(view).unwrap_or(view.desired));
        match self.hpa.recommend(view) {
            Some(recommended) => self.hpa.behave(view, recommended.max(self.expected())).into(),
            None => view.desired.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_pattern_with_a_trend_is_learned() {
        let value = |i: usize| 5.0 + 0.01 * i as f64 + [0.0, 4.0, -4.0, 1.0][i % 4];
        let history: Vec<f64> = (0..200).map(value).collect();
        let model = fit(&history, 4).unwrap();
        for ahead in 1..8 {
            assert!((model.expect(ahead) - value(199 + ahead)).abs() < 0.3, "{ahead}");
        }
        assert!(fit(&history[..3], 4).is_none());
    }
}
