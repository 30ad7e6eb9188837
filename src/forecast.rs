//! The forecast of demand, with its uncertainty.
//!
//! One regression per horizon (direct forecasting) sees the load's recent course, its profiles by day and week, the
//! same time yesterday and last week, and the past days that most resembled today. It works on the logarithm of the
//! load, so that errors are relative, and learns at every step; old days fade. The size of its errors has a
//! regression of its own, and their distribution is the empirical one. Where load comes in bursts of random size at
//! set times, past days are mixed in as an ensemble. Quantiles of the peak are calibrated as outcomes come in.
//!
//! | file | what it does |
//! |---|---|
//! | `history` | the past, bounded in memory |
//! | `seasonal` | profiles by week, kind of day, day |
//! | `analog` | past days like today |
//! | `features` | what the regressions see |
//! | `ridge` | the regression |
//! | `model` | one horizon: expected level, size and distribution of its error |
//! | `residuals` | the empirical distribution |
//! | `ensemble` | past days as an ensemble, and its share |
//! | `calibration` | conformal calibration of the peak's quantiles, and the record of accuracy |

mod analog;
mod calibration;
mod ensemble;
mod features;
mod history;
mod model;
mod residuals;
mod ridge;
mod seasonal;

use std::collections::VecDeque;
use std::f64::consts::LN_2;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::calendar::Calendar;
use crate::series::{Series, Step};
use crate::units::Qps;
use analog::Analogs;
use calibration::Calibration;
pub use calibration::{Accuracy, REPORTED};
use ensemble::{Members, Mixture, ShareLearner, plain};
use features::{FIVE_MINUTES, Features, HOUR, Levels, Outlook};
use history::{Clock, History, PAST_DAYS};
use model::{DirectModel, Expectation, LEVEL_FEATURES, Origin, SizeSlot, log_size};
use seasonal::{Seasonal, Slot};

/// What a forecaster is made for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The grid that samples come on.
    pub step: Step,
    /// Steps until a replica added now is ready.
    pub lead: usize,
    /// Time zone, holidays and events.
    pub calendar: Arc<Calendar>,
    /// What it is made of; all of it, but where a benchmark asks what each part brings.
    pub parts: Parts,
}

/// The parts of a forecaster that can be left out, to measure what each brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each part is there or not, in any combination")]
pub struct Parts {
    /// Profiles by day and week, the same time yesterday and last week.
    pub seasonality: bool,
    /// Past days like today.
    pub analogs: bool,
    /// Several regressions, weighted by how they did lately; otherwise the one with four weeks of memory.
    pub mixing: bool,
    /// Past days as an ensemble.
    pub ensemble: bool,
    /// Conformal calibration of the peak's quantiles.
    pub calibration: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self { seasonality: true, analogs: true, mixing: true, ensemble: true, calibration: true }
    }
}

/// The load's level on the forecast's own, logarithmic scale.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Level(f64);

/// The distribution of demand in one stage of the time ahead.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Steps from now to the stage's beginning; 0 is the step that begins now.
    pub ahead: usize,
    /// How many steps it stands for.
    pub steps: usize,
    mixture: Mixture,
    announced: Option<Level>,
}

impl Stage {
    /// The probability that demand in one step of this stage is above `level`.
    #[must_use]
    pub fn exceedance(&self, level: Level) -> f64 {
        match self.announced {
            Some(announced) if level < announced => 1.0,
            _ => self.mixture.exceedance(level.0),
        }
    }

    /// The level that demand exceeds with probability `1 − p`.
    #[must_use]
    pub fn quantile(&self, p: f64) -> Level {
        let own = Level(self.mixture.quantile(p));
        self.announced.filter(|announced| *announced > own).unwrap_or(own)
    }
}

/// Demand ahead, as a distribution for each stage.
#[derive(Debug, Clone)]
pub struct Forecast {
    offset: f64,
    /// Every step until a replica added now is ready, then five minutes at a time; in order.
    pub stages: Vec<Stage>,
    /// Which of the stages begins when a replica added now becomes ready.
    pub lead_stage: usize,
    /// For each of [`REPORTED`]: the quantile of the highest demand from now until then.
    pub peak: [Qps; 3],
}

impl Forecast {
    /// A load on the scale of the stages.
    #[must_use]
    pub fn level(&self, load: Qps) -> Level {
        to_level(load.get(), self.offset)
    }

    /// The load at `level`.
    #[must_use]
    pub fn load(&self, level: Level) -> Qps {
        Qps::clamped(to_load(level.0, self.offset))
    }

    /// A forecast by hand: `center(stage)` is the median of the stage that many steps ahead, and `spread` the scale of
    /// a Laplace distribution of its logarithm. For tests, and to explain a decision.
    #[must_use]
    pub fn from_medians(lead: usize, spread: f64, center: impl Fn(usize) -> Qps) -> Self {
        let offset = 1e-3;
        let stages: Vec<Stage> = stage_grid(lead, 5)
            .into_iter()
            .map(|(ahead, steps)| Stage {
                ahead,
                steps,
                mixture: plain(to_level(center(ahead).get(), offset).0, spread),
                announced: None,
            })
            .collect();
        let peak = (0..=lead).map(&center).fold(Qps::ZERO, |a, b| if b > a { b } else { a });
        Self { offset, stages, lead_stage: lead, peak: [peak; 3] }
    }
}

fn to_level(load: f64, offset: f64) -> Level {
    Level((load + offset).ln())
}

fn to_load(level: f64, offset: f64) -> f64 {
    level.exp() - offset
}

/// `(ahead, steps)` of each stage: single steps until a replica added now is ready, then strides until eight times
/// that.
fn stage_grid(lead: usize, stride: usize) -> Vec<(usize, usize)> {
    let single = (0..=lead).map(|ahead| (ahead, 1));
    let strides = (lead + 1..farthest(lead)).step_by(stride).map(|ahead| (ahead, stride));
    single.chain(strides).collect()
}

/// How many steps ahead the forecast goes.
fn farthest(lead: usize) -> usize {
    8 * (lead + 1)
}

/// The horizons with a model of their own, in steps from the newest sample.
fn horizons(lead: usize) -> Vec<usize> {
    let until_ready = lead + 1;
    let sixths = [2, 4, 6, 9, 12, 18, 30, 48].map(|sixths| until_ready * sixths / 6);
    let mut horizons: Vec<usize> = std::iter::once(1).chain(sixths).filter(|horizon| *horizon > 0).collect();
    horizons.sort_unstable();
    horizons.dedup();
    horizons
}

/// Learns a load step by step and forecasts it.
///
/// Time and memory of a step are bounded whatever the history. Same samples in, same forecasts out.
#[derive(Debug, Clone)]
pub struct Forecaster {
    config: Config,
    clock: Clock,
    start: Timestamp,
    /// Added before taking logarithms: a tenth of the mean load, below which errors do not matter.
    offset: f64,
    history: History,
    seasonal: Seasonal,
    analogs: Analogs,
    levels: Levels,
    /// Slots from the newest sample on, as far as forecasts go.
    slots: VecDeque<Slot>,
    /// By horizon, rising; the last one is of the peak.
    models: Vec<DirectModel>,
    lead_model: usize,
    share: ShareLearner,
    calibration: Calibration,
    gap_steps: usize,
}

/// Gaps longer than this many minutes make the running means start anew.
const LONG_GAP_MINUTES: usize = 30;
/// Minutes that one stage stands for beyond the lead time.
const STRIDE_MINUTES: usize = 5;
/// The first mean is of an hour; this one is refined until it holds.
const OFFSET_SHARE: f64 = 0.1;

impl Forecaster {
    /// A forecaster whose first sample will be of the step that starts at `start`.
    #[must_use]
    pub fn new(config: Config, start: Timestamp) -> Self {
        Self::from_step(config, start, 0)
    }

    /// A forecaster whose first sample will be of step `first`, counted from `start`.
    fn from_step(config: Config, start: Timestamp, first: usize) -> Self {
        let clock = Clock::new(config.step);
        let horizons = horizons(config.lead);
        let until_ready = config.lead + 1;
        let lead_model = horizons.iter().position(|h| *h == until_ready).unwrap_or(0);
        let recent = farthest(config.lead).max(clock.minutes(120));
        Self {
            clock,
            start,
            offset: f64::NAN,
            history: History::new(clock, recent, first),
            seasonal: Seasonal::new(),
            analogs: Analogs::new(clock),
            levels: Levels::new(clock),
            slots: VecDeque::new(),
            models: horizons
                .into_iter()
                .map(|horizon| DirectModel::new(clock, horizon, false, config.parts.mixing))
                .chain([DirectModel::new(clock, until_ready, true, config.parts.mixing)])
                .collect(),
            lead_model,
            share: ShareLearner::new(clock),
            calibration: Calibration::new(clock, config.parts.calibration),
            gap_steps: 0,
            config,
        }
    }

    /// A forecaster that has learned all of `series`.
    #[must_use]
    pub fn fit(config: Config, series: &Series) -> Self {
        let mut forecaster = Self::new(config, series.start());
        // The right offset at once saves learning twice.
        forecaster.offset = series.mean_and_peak().map_or(f64::NAN, |(mean, _)| offset_for(mean.get()));
        series.iter().for_each(|sample| forecaster.learn(sample));
        forecaster
    }

    /// Steps taken so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.history.len()
    }

    /// Whether no step has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The step that comes next: what [`Forecaster::observe`] takes, and the first that a forecast is of.
    #[must_use]
    pub fn next_step(&self) -> Timestamp {
        self.time_of(self.len())
    }

    /// How good the forecast of the peak has been in the last week.
    #[must_use]
    pub fn accuracy(&self) -> Option<Accuracy> {
        self.calibration.accuracy()
    }

    fn time_of(&self, step: usize) -> Timestamp {
        let seconds =
            i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(i64::from(self.config.step.seconds()));
        self.start.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    }

    /// Takes the next step's demand; `None` is a gap, in which the usual course is assumed.
    pub fn observe(&mut self, demand: Option<Qps>) {
        self.learn(demand);
        if self.is_time_to_check_offset() {
            self.check_offset();
        }
    }

    fn is_time_to_check_offset(&self) -> bool {
        let (steps, hour) = (self.len(), self.clock.minutes(60));
        steps.is_multiple_of(self.clock.day()) || [hour, 3 * hour, 6 * hour, 12 * hour].contains(&steps)
    }

    /// Learns the history anew where the load's mean has outgrown the offset.
    fn check_offset(&mut self) {
        let known = || self.known_loads().flatten();
        let count = known().count();
        let wanted = offset_for(known().sum::<f64>() / count.max(1) as f64);
        if count == 0 || (wanted / self.offset < 1.5 && self.offset / wanted < 1.5) {
            return;
        }
        let mut anew = Self::from_step(self.config.clone(), self.start, self.history.first());
        anew.offset = wanted;
        for load in self.known_loads() {
            anew.learn(load.map(Qps::clamped));
        }
        *self = anew;
    }

    /// What the history holds, from its first step on.
    fn known_loads(&self) -> impl Iterator<Item = Option<f64>> + '_ {
        (self.history.first()..self.len())
            .map(|step| self.history.get(step).map(|level| to_load(level, self.offset)))
    }

    fn learn(&mut self, demand: Option<Qps>) {
        if self.offset.is_nan() {
            self.offset = offset_for(demand.map_or(0.0, Qps::get));
        }
        let step = self.len();
        let previous = self.slots.front().copied();
        self.advance_slots(step);
        let slot = self.slots[0];
        let level = demand
            .map(|demand| to_level(demand.get(), self.offset).0)
            .or_else(|| self.usual_course(previous, slot));
        // Before the first sample there is nothing to go by.
        let Some(level) = level else {
            self.history.push(self.offset.ln(), slot, true);
            return;
        };
        self.note(level, slot, demand.is_none());
        let is_usual = demand.is_some() && !slot.in_event;
        self.learn_outcome(step, level, is_usual);
        if step.is_multiple_of(self.clock.origin()) {
            self.analogs.weigh();
            if is_usual {
                self.remember(step);
            }
        }
    }

    /// The level now if load changed as it usually does at this time.
    fn usual_course(&self, previous: Option<Slot>, slot: Slot) -> Option<f64> {
        let before = self.history.ago(0).filter(|_| self.levels.day.abs() > 0.0)?;
        let change = self.seasonal.of_week(slot) - self.seasonal.of_week(previous?);
        Some(before + if change.is_finite() { change } else { 0.0 })
    }

    fn note(&mut self, level: f64, slot: Slot, is_gap: bool) {
        self.history.push(level, slot, is_gap);
        if is_gap {
            self.gap_steps += 1;
            return;
        }
        let is_restart = self.gap_steps > self.clock.minutes(LONG_GAP_MINUTES);
        self.gap_steps = 0;
        self.seasonal.learn(slot, level);
        self.levels.observe(level, is_restart);
        self.analogs.observe(&self.history, level);
    }

    fn learn_outcome(&mut self, step: usize, level: f64, is_usual: bool) {
        let size_slot = size_slot(self.slots[0]);
        let known = |outcome: f64| is_usual.then_some(outcome);
        for model in &mut self.models {
            if model.is_due(step) {
                let outcome = if model.is_peak { self.history.peak_of_last(model.ahead) } else { level };
                model.learn(step, known(outcome), size_slot);
            }
        }
        if self.share.is_due(step) {
            self.share.learn(step, known(to_load(level, self.offset)));
        }
        if self.calibration.is_due(step) {
            let peak = self.history.peak_of_last(self.config.lead + 1);
            self.calibration.learn(step, known(to_load(peak, self.offset)));
        }
    }

    /// Keeps what is expected now, to learn from it later.
    fn remember(&mut self, step: usize) {
        let (features, origin) = (self.features(), self.origin());
        let outlooks: Vec<[f64; LEVEL_FEATURES]> =
            self.models.iter().map(|model| self.features_of(&features, model)).collect();
        let expectation = self.expect(&outlooks[self.lead_model], origin, self.lead_model);
        let peak = self.peak(&outlooks[self.models.len() - 1], origin);
        for (model, features) in self.models.iter_mut().zip(outlooks) {
            model.remember(step, &features, origin, size_slot(self.slots[model.ahead]));
        }
        let due = step + self.config.lead + 1;
        self.calibration.remember(due, peak.map(Qps::get));
        let is_of_share = step.is_multiple_of(ensemble::ORIGINS_APART * self.clock.origin());
        if self.config.parts.ensemble && is_of_share && step > 2 * self.clock.day() {
            let members = self.members(self.config.lead + 1);
            if !members.is_empty() {
                let offset = self.offset;
                self.share.remember(due, &expectation, &members, |level| to_load(level, offset));
            }
        }
    }

    fn features(&self) -> Features<'_> {
        let level = self.history.ago(0).unwrap_or(self.offset.ln());
        let parts = (&self.history, &self.seasonal, &self.analogs, &self.levels);
        Features::new(parts, self.config.parts, self.clock, level, self.slots[0])
    }

    fn origin(&self) -> Origin {
        let level = self.history.ago(0).unwrap_or(self.offset.ln());
        Origin {
            level,
            above_day: level - self.levels.day,
            from_five_minutes: log_size(level - self.levels.means[FIVE_MINUTES]),
            from_hour: log_size(level - self.levels.means[HOUR]),
        }
    }

    fn features_of(&self, features: &Features<'_>, model: &DirectModel) -> [f64; LEVEL_FEATURES] {
        let outlook = |ahead: usize| features.outlook(ahead, self.slots[ahead]);
        if model.is_peak {
            let peak = Features::peak(peak_samples(model.ahead).map(outlook));
            features.of(model.ahead, peak.unwrap_or_else(|| outlook(model.ahead)))
        } else {
            let ahead: Outlook = outlook(model.ahead);
            features.of(model.ahead, ahead)
        }
    }

    fn expect(&self, features: &[f64; LEVEL_FEATURES], origin: Origin, model: usize) -> Expectation {
        let model = &self.models[model];
        model.expect(features, origin, size_slot(self.slots[model.ahead]))
    }

    /// The calibrated quantiles of the peak until a replica added now is ready.
    fn peak(&self, features: &[f64; LEVEL_FEATURES], origin: Origin) -> [Qps; 3] {
        let expectation = self.expect(features, origin, self.models.len() - 1);
        let share = self.share.share();
        let members = if share > 0.0 { self.peak_members() } else { Members::default() };
        // A rare error in units of a small size says nothing of how high a load can go: at most twice what is known.
        let limit = self.levels.highest.max(expectation.center) + LN_2;
        let mixture = Mixture { expectation, share, members };
        let [median, high, highest] = self
            .calibration
            .levels()
            .map(|p| Qps::clamped(to_load(mixture.quantile(p).min(limit), self.offset)));
        // Rounding must not let quantiles cross.
        let high = if high > median { high } else { median };
        [median, high, if highest > high { highest } else { high }]
    }

    /// The levels of past days `ahead` steps after this time, and a few minutes around.
    fn members(&self, ahead: usize) -> Members {
        let around = self.clock.minutes(4);
        let mut members = Vec::with_capacity(3 * PAST_DAYS);
        for (then, weight) in self.analogs.members(&self.history) {
            let at = then + ahead;
            let levels = [at.wrapping_sub(around), at, at + around].map(|step| self.history.kept(step));
            #[allow(clippy::cast_possible_truncation, reason = "stored with this precision")]
            let weight = weight as f32;
            members.extend(levels.into_iter().filter(|level| !level.is_nan()).map(|level| (level, weight)));
        }
        Members::new(members)
    }

    /// The peaks of past days from this time until a replica added now would have been ready.
    fn peak_members(&self) -> Members {
        let members = self.analogs.members(&self.history).filter_map(|(then, weight)| {
            let levels =
                peak_samples(self.config.lead + 1).filter_map(|ahead| self.history.get(then + ahead));
            #[allow(clippy::cast_possible_truncation, reason = "stored with this precision")]
            levels.reduce(f64::max).map(|peak| (peak as f32, weight as f32))
        });
        Members::new(members.collect())
    }

    /// Demand from the next step on; `None` before the first sample.
    #[must_use]
    pub fn forecast(&self) -> Option<Forecast> {
        if self.slots.is_empty() || self.levels.means[0].is_nan() {
            return None;
        }
        let (features, origin) = (self.features(), self.origin());
        let expectations: Vec<Expectation> = (0..self.models.len() - 1)
            .map(|model| self.expect(&self.features_of(&features, &self.models[model]), origin, model))
            .collect();
        let peak_features = self.features_of(&features, &self.models[self.models.len() - 1]);
        let stages = stage_grid(self.config.lead, self.clock.minutes(STRIDE_MINUTES))
            .into_iter()
            .map(|(ahead, steps)| self.stage(ahead, steps, &expectations))
            .collect();
        let peak = self.with_events(self.peak(&peak_features, origin));
        Some(Forecast { offset: self.offset, stages, lead_stage: self.config.lead, peak })
    }

    fn stage(&self, ahead: usize, steps: usize, expectations: &[Expectation]) -> Stage {
        let share = self.share.share();
        let horizon = ahead + 1;
        let members = if share > 0.0 { self.members(horizon) } else { Members::default() };
        let expectation = self.interpolate(horizon, expectations);
        let announced = self.announced(ahead, steps).map(|load| to_level(load.get(), self.offset));
        Stage { ahead, steps, mixture: Mixture { expectation, share, members }, announced }
    }

    /// The expectation at `horizon` between those of the models.
    ///
    /// Beyond the lead time, errors keep the size that they have there: when that time is nearer, its forecast will
    /// be as good as today's of the lead time, and replicas can still be added then.
    fn interpolate(&self, horizon: usize, expectations: &[Expectation]) -> Expectation {
        let aheads = &self.models[..expectations.len()];
        let upper = aheads.partition_point(|model| model.ahead < horizon).min(expectations.len() - 1);
        let lower = if aheads[upper].ahead == horizon { upper } else { upper.saturating_sub(1) };
        let (from, to) = (aheads[lower].ahead, aheads[upper].ahead);
        let part =
            if to > from { ((horizon - from) as f64 / (to - from) as f64).clamp(0.0, 1.0) } else { 1.0 };
        let (a, b) = (&expectations[lower], &expectations[upper]);
        let mix = |a: f64, b: f64| a * (1.0 - part) + b * part;
        let spread = if horizon > self.config.lead {
            &expectations[self.lead_model]
        } else if part < 0.5 {
            a
        } else {
            b
        };
        let scale = if horizon > self.config.lead { spread.scale } else { mix(a.scale, b.scale) };
        Expectation { center: mix(a.center, b.center), scale, shape: Arc::clone(&spread.shape) }
    }

    /// The load announced for the stage `ahead` steps from now.
    fn announced(&self, ahead: usize, steps: usize) -> Option<Qps> {
        let calendar = &self.config.calendar;
        if calendar.events().is_empty() {
            return None;
        }
        let (from, to) = (self.time_of(self.len() + ahead), self.time_of(self.len() + ahead + steps));
        let last = to.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(to);
        calendar
            .events_between(from, last)
            .map(|event| event.expected)
            .reduce(|a, b| if b > a { b } else { a })
    }

    fn with_events(&self, peak: [Qps; 3]) -> [Qps; 3] {
        match self.announced(0, self.config.lead + 1) {
            Some(announced) => peak.map(|quantile| if announced > quantile { announced } else { quantile }),
            None => peak,
        }
    }

    /// Makes `slots[0]` that of `step`.
    fn advance_slots(&mut self, step: usize) {
        self.slots.pop_front();
        let needed = farthest(self.config.lead) + 1;
        if self.slots.len() >= needed {
            return;
        }
        // Hours at a time: finding a local day costs more than walking through it.
        let calendar = Arc::clone(&self.config.calendar);
        let mut walker = calendar.walker();
        for ahead in self.slots.len()..needed + self.clock.minutes(360) {
            let at = self.time_of(step + ahead);
            self.slots.push_back(Slot::of(walker.local(at), calendar.event_at(at).is_some()));
        }
    }
}

fn offset_for(mean: f64) -> f64 {
    (OFFSET_SHARE * mean).max(1e-6)
}

fn size_slot(slot: Slot) -> SizeSlot {
    SizeSlot::new(slot.minute_of_day, slot.is_day_off())
}

/// Steps at which a window's peak is looked for in smooth profiles: six of them are enough.
fn peak_samples(ahead: usize) -> impl Iterator<Item = usize> {
    let stride = (ahead / 5).max(1);
    (1..ahead).step_by(stride).chain([ahead])
}

#[cfg(test)]
mod tests;
