//! The past of one load on the forecast's own scale, bounded in memory.

use std::collections::VecDeque;

use super::seasonal::Slot;
use crate::series::Step;

/// Past days that are looked back on.
pub(super) const PAST_DAYS: usize = 28;
/// Days kept: those, and the day under way.
pub(super) const DAYS: usize = PAST_DAYS + 1;

/// Minutes between origins that are learned from. It has no factor in common with an hour, so that no rhythm of the
/// load or of its recording is seen at the same few phases only.
const ORIGIN_MINUTES: usize = 7;

/// A step that no history holds, and none of those that follow it either.
const NEVER: usize = usize::MAX / 2;

/// How many steps of a series make a day, an hour, a few minutes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    step_seconds: usize,
}

impl Clock {
    pub(super) fn new(step: Step) -> Self {
        Self { step_seconds: step.seconds() as usize }
    }

    /// Steps in `minutes`, at least one.
    pub(super) fn minutes(self, minutes: usize) -> usize {
        (minutes * 60 / self.step_seconds).max(1)
    }

    pub(super) fn day(self) -> usize {
        self.minutes(1440)
    }

    /// Steps from one origin that is learned from to the next.
    pub(super) fn origin(self) -> usize {
        self.minutes(ORIGIN_MINUTES)
    }

    /// Origins in `days`.
    pub(super) fn origins_in(self, days: f64) -> f64 {
        days * self.day() as f64 / self.origin() as f64
    }

    fn hour(self) -> usize {
        self.minutes(60)
    }

    /// Whole steps in `minutes`, of either sign.
    fn steps_in(self, minutes: i64) -> Option<isize> {
        isize::try_from(minutes * 60 / i64::try_from(self.step_seconds).ok()?).ok()
    }

    fn minutes_in(self, steps: usize) -> usize {
        steps * self.step_seconds / 60
    }
}

/// Levels by step. Steps count from 0 at the first sample ever taken; old ones are dropped.
#[derive(Debug, Clone)]
pub(super) struct History {
    clock: Clock,
    /// The step of `levels[0]`, a multiple of a day of steps.
    first: usize,
    /// NaN in gaps and announced events, which say nothing of usual days. `f32` halves the memory of a thousand loads.
    levels: Vec<f32>,
    /// Local minute of the day at the start of each hour of steps since `first`.
    hours: VecDeque<u16>,
    /// See [`History::same_times`].
    same_times: [usize; PAST_DAYS],
    /// The last hours as they were, events included and gaps bridged, oldest first.
    recent: VecDeque<f64>,
    recent_steps: usize,
}

impl History {
    /// An empty history from step `first` on, the beginning of a day of steps, that can look back `recent_steps` at full
    /// detail.
    pub(super) fn new(clock: Clock, recent_steps: usize, first: usize) -> Self {
        Self {
            clock,
            first,
            // Growing by doubling would take half as much again.
            levels: Vec::with_capacity((DAYS + 1) * clock.day()),
            hours: VecDeque::new(),
            same_times: [NEVER; PAST_DAYS],
            recent: VecDeque::new(),
            recent_steps: recent_steps + 1,
        }
    }

    /// The oldest step that is kept.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Steps taken so far: the next one's number.
    pub(super) fn len(&self) -> usize {
        self.first + self.levels.len()
    }

    /// Adds a step: its level, bridged where `is_gap`.
    pub(super) fn push(&mut self, level: f64, slot: Slot, is_gap: bool) {
        let is_new_hour = self.len().is_multiple_of(self.clock.hour());
        if is_new_hour {
            self.hours.push_back(slot.minute_of_day);
        }
        #[allow(clippy::cast_possible_truncation, reason = "seven digits of a logarithm are plenty")]
        self.levels.push(if is_gap || slot.in_event { f32::NAN } else { level as f32 });
        self.recent.push_back(level);
        if self.recent.len() > self.recent_steps {
            self.recent.pop_front();
        }
        if self.levels.len() >= (DAYS + 1) * self.clock.day() {
            self.drop_oldest_day();
        }
        // Within an hour of steps the same time of a past day moves on as time does.
        if is_new_hour {
            self.same_times = self.find_same_times();
        } else {
            self.same_times.iter_mut().for_each(|step| *step += 1);
        }
    }

    fn drop_oldest_day(&mut self) {
        let day = self.clock.day();
        self.levels.drain(..day);
        self.hours.drain(..day / self.clock.hour());
        self.first += day;
    }

    /// The usual level at `step`; `None` in a gap, in an event, in the future and beyond memory.
    pub(super) fn get(&self, step: usize) -> Option<f64> {
        let level = f64::from(self.kept(step));
        (!level.is_nan()).then_some(level)
    }

    /// As [`History::get`], as it is kept; NaN for `None`.
    pub(super) fn kept(&self, step: usize) -> f32 {
        // A step before the first one, and one that has wrapped below 0, wraps to a place far beyond the last.
        self.levels.get(step.wrapping_sub(self.first)).copied().unwrap_or(f32::NAN)
    }

    /// The level `steps` before the newest, as it was; the oldest known one where there are fewer.
    pub(super) fn ago(&self, steps: usize) -> Option<f64> {
        let newest = self.recent.len().checked_sub(1)?;
        self.recent.get(newest.saturating_sub(steps)).copied()
    }

    /// The highest of the newest `steps` levels.
    pub(super) fn peak_of_last(&self, steps: usize) -> f64 {
        self.recent.iter().rev().take(steps).fold(f64::NEG_INFINITY, |peak, level| peak.max(*level))
    }

    /// For each past day, yesterday first: the step that had the newest step's local time of day, which a change of the
    /// clock moves. It may be older than memory, and is a step that no history holds where there was no such day.
    pub(super) fn same_times(&self) -> &[usize; PAST_DAYS] {
        &self.same_times
    }

    fn find_same_times(&self) -> [usize; PAST_DAYS] {
        let newest = self.len().checked_sub(1);
        let now = newest.and_then(|newest| self.minute_of_day(newest));
        let same_time = |days: usize| self.same_time(newest?, now?, days);
        std::array::from_fn(|back| same_time(back + 1).unwrap_or(NEVER))
    }

    fn same_time(&self, newest: usize, now: u16, days: usize) -> Option<usize> {
        let then = newest.checked_sub(days * self.clock.day())?;
        let shift = (i64::from(now) - i64::from(self.minute_of_day(then)?) + 720).rem_euclid(1440) - 720;
        if shift == 0 {
            return Some(then);
        }
        then.checked_add_signed(self.clock.steps_in(shift)?)
    }

    fn minute_of_day(&self, step: usize) -> Option<u16> {
        let hour = self.clock.hour();
        let start = self.hours.get((step / hour).checked_sub(self.first / hour)?)?;
        let minutes = usize::from(*start) + self.clock.minutes_in(step % hour);
        u16::try_from(minutes % 1440).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use jiff::{Timestamp, tz::TimeZone};

    fn fill(history: &mut History, calendar: &Calendar, start: &str, steps: usize) {
        let start: Timestamp = start.parse().unwrap();
        for step in 0..steps {
            let seconds = i64::try_from(step * history.clock.step_seconds).unwrap();
            let at = start + jiff::SignedDuration::from_secs(seconds);
            let local = calendar.local(at);
            history.push(f64::from(local.minute_of_day), Slot::of(local, false), false);
        }
    }

    #[test]
    fn the_same_local_time_is_found_across_a_clock_change() {
        let calendar = Calendar::new(TimeZone::get("Europe/Berlin").unwrap(), [], vec![]);
        for seconds in [10, 60, 300] {
            let clock = Clock::new(Step::from_seconds(seconds).unwrap());
            let mut history = History::new(clock, 10, 0);
            fill(&mut history, &calendar, "2026-03-27T00:00:00Z", 4 * clock.day());
            let newest = history.ago(0).unwrap();
            for (back, step) in history.same_times().iter().take(3).enumerate() {
                let same = history.get(*step).unwrap();
                assert!(
                    (same - newest).abs() < 0.5,
                    "{seconds} s, {back} days before: {same} against {newest}"
                );
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::new(Clock::new(Step::MINUTE), 10, 0);
        fill(&mut history, &Calendar::default(), "2026-01-01T00:00:00Z", 100 * 1440);
        assert!(history.levels.len() <= (DAYS + 1) * 1440);
        assert!(history.recent.len() <= 11);
        assert_eq!(history.len(), 100 * 1440);
        assert!(history.same_times().iter().all(|step| history.get(*step).is_some()));
    }

    #[test]
    fn the_same_times_move_on_with_every_step_and_are_none_before_there_were_days() {
        let calendar = Calendar::new(TimeZone::get("Europe/Berlin").unwrap(), [], vec![]);
        let mut history = History::new(Clock::new(Step::MINUTE), 10, 0);
        let start: Timestamp = "2026-03-27T00:00:00Z".parse().unwrap();
        for minute in 0..4 * 1440 {
            let local = calendar.local(start + jiff::SignedDuration::from_mins(minute));
            history.push(1.0, Slot::of(local, false), minute % 50 == 0);
            for (moved, found) in history.same_times().iter().zip(history.find_same_times()) {
                assert!(*moved == found || (*moved >= NEVER && found == NEVER), "{moved}, {found}");
            }
        }
        assert!(history.same_times()[..3].iter().all(|step| *step < history.len()));
        assert!(history.same_times()[4..].iter().all(|step| *step >= NEVER));
    }
}
