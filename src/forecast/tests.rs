use proptest::prelude::*;

use super::*;
use crate::calendar::Event;
use jiff::tz::TimeZone;

const LEAD: usize = 15;

fn config(calendar: Calendar) -> Config {
    Config { step: Step::MINUTE, lead: LEAD, calendar: Arc::new(calendar), parts: Parts::default() }
}

/// Monday, 5 January 2026, midnight UTC.
fn start() -> Timestamp {
    "2026-01-05T00:00:00Z".parse().unwrap()
}

/// A smooth day between 100 and 900 QPS, a tenth of it on days off.
fn office(minute: usize) -> f64 {
    let day = if (minute / 1440) % 7 >= 5 { 0.1 } else { 1.0 };
    let phase = (minute % 1440) as f64 / 1440.0 * std::f64::consts::TAU;
    day * (500.0 - 400.0 * phase.cos())
}

fn learned(calendar: Calendar, minutes: usize, load: impl Fn(usize) -> Option<f64>) -> Forecaster {
    let mut forecaster = Forecaster::new(config(calendar), start());
    for minute in 0..minutes {
        forecaster.observe(load(minute).map(Qps::clamped));
    }
    forecaster
}

fn median(forecast: &Forecast, stage: usize) -> f64 {
    forecast.load(forecast.stages[stage].quantile(0.5)).get()
}

#[test]
fn a_regular_load_is_forecast_within_a_few_percent() {
    let now = 22 * 1440 + 7 * 60;
    let forecast = learned(Calendar::default(), now, |m| Some(office(m))).forecast().unwrap();
    for (index, stage) in forecast.stages.iter().enumerate() {
        let (said, came) = (median(&forecast, index), office(now + stage.ahead));
        assert!((said / came - 1.0).abs() < 0.06, "{} steps ahead: {said} against {came}", stage.ahead);
    }
}

#[test]
fn a_load_that_outgrows_its_scale_is_learned_anew_without_losing_time() {
    // Six weeks in which the load grows tenfold: the scale is changed after the history has dropped its first days.
    let load = |minute: usize| office(minute) * 10_f64.powf(minute as f64 / (42.0 * 1440.0));
    let now = 42 * 1440 + 7 * 60;
    let forecaster = learned(Calendar::default(), now, |m| Some(load(m)));
    assert_eq!(forecaster.len(), now);
    assert_eq!(forecaster.next_step(), start() + SignedDuration::from_mins(i64::try_from(now).unwrap()));
    let forecast = forecaster.forecast().unwrap();
    let (said, came) = (median(&forecast, LEAD), load(now + LEAD));
    assert!((said / came - 1.0).abs() < 0.1, "{said} against {came}");
}

#[test]
fn before_the_first_sample_there_is_no_forecast() {
    assert!(Forecaster::new(config(Calendar::default()), start()).forecast().is_none());
    assert!(learned(Calendar::default(), 50, |_| None).forecast().is_none());
}

#[test]
fn the_first_samples_already_give_a_cautious_forecast() {
    let forecast = learned(Calendar::default(), 3, |_| Some(200.0)).forecast().unwrap();
    let [median, high, highest] = forecast.peak.map(Qps::get);
    assert!((150.0..=260.0).contains(&median), "{median}");
    assert!(median < high && high < highest, "{:?}", forecast.peak);
}

#[test]
fn a_gap_is_bridged_by_the_usual_course() {
    let now = 22 * 1440 + 8 * 60;
    let gap = now - 120..now;
    let forecaster = learned(Calendar::default(), now, |m| (!gap.contains(&m)).then(|| office(m)));
    let forecast = forecaster.forecast().unwrap();
    let (said, came) = (median(&forecast, LEAD), office(now + LEAD));
    assert!((said / came - 1.0).abs() < 0.25, "{said} against {came}");
}

#[test]
fn in_a_gap_past_days_are_read_at_the_time_that_it_is() {
    // No weekends, and four hours that are dark in the morning's rise.
    let load = |minute: usize| office(minute % 1440);
    let dark = 22 * 1440 + 5 * 60..22 * 1440 + 9 * 60;
    let forecaster = learned(Calendar::default(), dark.end, |m| (!dark.contains(&m)).then(|| load(m)));
    let analogy = forecaster.analogs.ahead(&forecaster.history, LEAD).unwrap();
    let came = to_level(load(dark.end - 1 + LEAD), forecaster.offset).0;
    assert!((analogy.plain - came).abs() < 0.02, "{} against {came}", analogy.plain);
}

#[test]
fn an_announced_event_is_expected_whatever_history_says() {
    let now = 9 * 1440;
    let soon = start() + SignedDuration::from_mins(9 * 1440 + 10);
    let launch = Event {
        name: "launch".to_owned(),
        start: soon,
        end: soon + SignedDuration::from_hours(2),
        expected: Qps::clamped(5000.0),
    };
    let calendar = Calendar::new(TimeZone::UTC, [], vec![launch]);
    let forecast = learned(calendar, now, |m| Some(office(m))).forecast().unwrap();
    assert!(median(&forecast, 5) < 1000.0);
    assert!((median(&forecast, 12) - 5000.0).abs() < 1.0);
    assert!(forecast.peak[0].get() > 4999.0);
    let level = forecast.level(Qps::clamped(4000.0));
    assert!((forecast.stages[12].exceedance(level) - 1.0).abs() < 1e-9);
}

#[test]
fn a_clock_change_moves_the_pattern() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    // Office hours by the clock on the wall; clocks change on 29 March, the night before a Monday.
    let start: Timestamp = "2026-03-02T00:00:00Z".parse().unwrap();
    let calendar = Calendar::new(zone.clone(), [], vec![]);
    let load = |minute: usize| {
        let at = start + SignedDuration::from_mins(i64::try_from(minute).unwrap());
        let local = calendar.local(at);
        if (480..1080).contains(&local.minute_of_day) { 1000.0 } else { 100.0 }
    };
    let mut forecaster = Forecaster::new(config(calendar.clone()), start);
    let mut minute = 0;
    // Ten minutes before eight in the morning on the day after.
    let morning: Timestamp = "2026-03-30T05:50:00Z".parse().unwrap();
    while forecaster.next_step() < morning {
        forecaster.observe(Some(Qps::clamped(load(minute))));
        minute += 1;
    }
    let forecast = forecaster.forecast().unwrap();
    assert!(median(&forecast, 14) > 600.0, "{}", median(&forecast, 14));
}

#[test]
fn a_new_level_is_learned_anew_without_losing_the_past() {
    // The load grows a hundredfold: what was negligible no longer is.
    let forecaster = learned(Calendar::default(), 12 * 1440, |m| {
        Some(if m < 4 * 1440 { 0.01 * office(m) } else { office(m) })
    });
    assert_eq!(forecaster.next_step(), start() + SignedDuration::from_hours(12 * 24));
    assert!((15.0..90.0).contains(&forecaster.offset), "{}", forecaster.offset);
}

#[test]
fn fitting_at_once_comes_close_to_learning_step_by_step() {
    let minutes = 15 * 1440;
    let mut series = Series::new(start(), Step::MINUTE);
    (0..minutes).for_each(|m| series.push(Some(Qps::clamped(office(m)))));
    let fitted = Forecaster::fit(config(Calendar::default()), &series).forecast().unwrap();
    let stepped = learned(Calendar::default(), minutes, |m| Some(office(m))).forecast().unwrap();
    let (a, b) = (median(&fitted, LEAD), median(&stepped, LEAD));
    assert!((a / b - 1.0).abs() < 0.05, "{a} against {b}");
}

#[test]
fn quantiles_of_noise_cover_what_they_say() {
    let noise = |m: usize| 100.0 + f64::from(u32::try_from((m * 2_654_435_761) % 1000).unwrap()) / 10.0;
    let accuracy = learned(Calendar::default(), 20 * 1440, |m| Some(noise(m))).accuracy().unwrap();
    assert!((accuracy.coverage[1] - 0.95).abs() < 0.02, "{accuracy:?}");
    assert!((accuracy.coverage[2] - 0.99).abs() < 0.01, "{accuracy:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_load_gives_finite_ordered_quantiles(
        samples in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![
            0.0..10.0_f64, Just(0.0), 0.0..1e12_f64,
        ]), 1..600),
        lead in 0_usize..30,
    ) {
        let config = Config { lead, ..config(Calendar::default()) };
        let mut forecaster = Forecaster::new(config, start());
        for sample in &samples {
            forecaster.observe(sample.map(Qps::clamped));
            if let Some(forecast) = forecaster.forecast() {
                prop_assert!(forecast.peak[0] <= forecast.peak[1] && forecast.peak[1] <= forecast.peak[2]);
                for stage in &forecast.stages {
                    let quantiles = [0.05, 0.5, 0.95, 0.99].map(|p| stage.quantile(p));
                    prop_assert!(quantiles.windows(2).all(|w| w[0].0 <= w[1].0 + 1e-9), "{quantiles:?}");
                    let exceedance = stage.exceedance(forecast.level(Qps::HUNDRED));
                    prop_assert!((0.0..=1.0).contains(&exceedance), "{exceedance}");
                }
            }
        }
    }

    #[test]
    fn the_future_changes_nothing(cut in 10_usize..2000, factor in 0.1..10.0_f64) {
        let load = |m: usize| office(m) * (1.0 + 0.1 * ((m % 13) as f64 - 6.0) / 6.0);
        let first = learned(Calendar::default(), cut, |m| Some(load(m))).forecast();
        let mut other = learned(Calendar::default(), cut, |m| Some(load(m)));
        let second = other.forecast();
        other.observe(Some(Qps::clamped(load(cut) * factor)));
        prop_assert_eq!(first.map(|f| f.peak), second.map(|f| f.peak));
    }
}
