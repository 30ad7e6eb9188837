//! Seasonal profiles: the usual load at a time of the week, of a kind of day, and of any day.

use crate::calendar::LocalTime;

/// Minutes per slot of a profile.
const SLOT_MINUTES: usize = 5;
const SLOTS: usize = 1440 / SLOT_MINUTES;
/// Seven weekdays, and holidays as a day of their own.
const WEEK_ROWS: usize = 8;
/// Working days, weekends and holidays.
const TYPE_ROWS: usize = 3;

/// Where a moment lies in the profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Minutes since local midnight.
    pub(super) minute_of_day: u16,
    /// 0 is Monday, 7 a holiday.
    week_row: u8,
    /// 0 is a working day, 1 a weekend, 2 a holiday.
    type_row: u8,
    /// Whether an announced event is on: such load says nothing of usual days.
    pub(super) in_event: bool,
}

impl Slot {
    pub(super) fn of(local: LocalTime, in_event: bool) -> Self {
        #[allow(clippy::cast_sign_loss, reason = "from 0 to 6")]
        let weekday = local.weekday.to_monday_zero_offset() as u8;
        let (week_row, type_row) =
            if local.is_holiday { (7, 2) } else { (weekday, u8::from(local.is_weekend())) };
        Self { minute_of_day: local.minute_of_day, week_row, type_row, in_event }
    }

    /// The slot of the day, from 0 to 287.
    pub(super) fn of_day(self) -> usize {
        usize::from(self.minute_of_day) / SLOT_MINUTES
    }

    /// Whether the day is no working day.
    pub(super) fn is_day_off(self) -> bool {
        self.type_row > 0
    }
}

/// Running means per slot. A slot that has not been seen is NaN.
#[derive(Debug, Clone)]
struct Profile {
    means: Vec<f64>,
    counts: Vec<f64>,
    /// Days of memory: a new value weighs 1/memory at least.
    memory: f64,
}

impl Profile {
    fn new(rows: usize, memory: f64) -> Self {
        Self { means: vec![f64::NAN; rows * SLOTS], counts: vec![0.0; rows * SLOTS], memory }
    }

    fn learn(&mut self, index: usize, value: f64) {
        let (mean, count) = (&mut self.means[index], &mut self.counts[index]);
        *count = (*count + 1.0).min(self.memory);
        if mean.is_nan() {
            *mean = value;
        } else {
            *mean += (value - *mean) / *count;
        }
    }
}

/// The profiles together.
#[derive(Debug, Clone)]
pub(super) struct Seasonal {
    week: Profile,
    kind: Profile,
    day: Profile,
    /// Sum and count of the slot that is under way.
    open: Option<(Slot, f64, f64)>,
}

impl Seasonal {
    pub(super) fn new() -> Self {
        Self {
            week: Profile::new(WEEK_ROWS, 4.0),
            kind: Profile::new(TYPE_ROWS, 6.0),
            day: Profile::new(1, 7.0),
            open: None,
        }
    }

    /// Takes the level at `slot`. A slot's mean is learned once it is over.
    pub(super) fn learn(&mut self, slot: Slot, level: f64) {
        match &mut self.open {
            Some((open, sum, count)) if (open.of_day(), open.week_row) == (slot.of_day(), slot.week_row) => {
                *sum += level;
                *count += 1.0;
            }
            open => {
                if let Some((done, sum, count)) = open.replace((slot, level, 1.0)) {
                    self.close(done, sum / count);
                }
            }
        }
    }

    fn close(&mut self, slot: Slot, mean: f64) {
        if slot.in_event {
            return;
        }
        self.week.learn(index(slot.week_row, slot), mean);
        self.kind.learn(index(slot.type_row, slot), mean);
        self.day.learn(slot.of_day(), mean);
    }

    /// The usual level at this time on this day of the week, or on a holiday; NaN if never seen.
    pub(super) fn of_week(&self, slot: Slot) -> f64 {
        let usual = self.week.means[index(slot.week_row, slot)];
        if usual.is_nan() { self.of_kind(slot) } else { usual }
    }

    /// The usual level at this time on this kind of day. A first holiday is taken for a weekend.
    pub(super) fn of_kind(&self, slot: Slot) -> f64 {
        let own = self.kind.means[index(slot.type_row, slot)];
        let weekend = if slot.is_day_off() { self.kind.means[index(1, slot)] } else { f64::NAN };
        [own, weekend, self.day.means[slot.of_day()]].into_iter().find(|v| !v.is_nan()).unwrap_or(f64::NAN)
    }
}

fn index(row: u8, slot: Slot) -> usize {
    usize::from(row) * SLOTS + slot.of_day()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use jiff::Timestamp;

    fn slot(second: i64, in_event: bool) -> Slot {
        Slot::of(Calendar::default().local(Timestamp::from_second(second).unwrap()), in_event)
    }

    #[test]
    fn a_weekend_is_not_a_working_day() {
        let mut seasonal = Seasonal::new();
        // 1 January 1970 was a Thursday: four days, minute by minute.
        for minute in 0..4 * 1440 {
            let slot = slot(minute * 60, false);
            seasonal.learn(slot, if slot.is_day_off() { 1.0 } else { 5.0 });
        }
        let day = 86_400;
        assert!((seasonal.of_week(slot(7 * day, false)) - 5.0).abs() < 1e-9, "Thursday seen before");
        assert!((seasonal.of_week(slot(4 * day, false)) - 5.0).abs() < 1e-9, "Monday: the kind of day");
        assert!((seasonal.of_week(slot(9 * day, false)) - 1.0).abs() < 1e-9, "Saturday");
    }

    #[test]
    fn an_event_teaches_nothing_of_usual_days() {
        let mut seasonal = Seasonal::new();
        for minute in 0..1440 {
            seasonal.learn(slot(minute * 60, true), 100.0);
        }
        assert!(seasonal.of_week(slot(600, false)).is_nan());
    }
}
