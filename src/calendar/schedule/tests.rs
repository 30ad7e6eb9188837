//! Schedules over ordinary days and over daylight-saving changes, against a minute-by-minute reading of the clock.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn schedule(cron: &str, zone_name: &str, minutes: i64) -> Schedule {
    Schedule::new(cron, cron, zone(zone_name), SignedDuration::from_mins(minutes), Replicas(2), None).unwrap()
}

fn next(schedule: &Schedule, from: &str) -> String {
    schedule.next_change(at(from)).map_or("never".to_owned(), |change| change.to_string())
}

#[test]
fn a_weekday_floor_follows_local_time() {
    let floor = schedule("0 8 * * MON-FRI", "Asia/Shanghai", 12 * 60);
    // Friday 9 October 2026, 08:00 in Shanghai is midnight UTC.
    assert_eq!(floor.active(at("2026-10-08T23:59:59Z")), None);
    assert_eq!(floor.active(at("2026-10-09T00:00:00Z")), Some(Replicas(2)));
    assert_eq!(floor.active(at("2026-10-09T11:59:59Z")), Some(Replicas(2)));
    assert_eq!(floor.active(at("2026-10-09T12:00:00Z")), None);
    assert_eq!(next(&floor, "2026-10-09T00:00:00Z"), "2026-10-09T12:00:00Z");
    assert_eq!(next(&floor, "2026-10-09T12:00:00Z"), "2026-10-12T00:00:00Z");
}

#[test]
fn a_start_moves_with_daylight_saving_and_its_length_does_not() {
    let floor = schedule("0 8 * * *", "Europe/Berlin", 12 * 60);
    assert_eq!(next(&floor, "2026-03-28T12:00:00Z"), "2026-03-28T19:00:00Z");
    assert_eq!(next(&floor, "2026-03-28T19:00:00Z"), "2026-03-29T06:00:00Z");
    assert_eq!(next(&floor, "2026-03-29T06:00:00Z"), "2026-03-29T18:00:00Z");
    // A night that has an hour more still lasts as long as it says.
    let night = schedule("0 22 * * *", "Europe/Berlin", 8 * 60);
    assert_eq!(next(&night, "2026-10-24T20:00:00Z"), "2026-10-25T04:00:00Z");
}

#[test]
fn a_skipped_start_happens_at_the_jump() {
    let floor = schedule("30 2 * * *", "Europe/Berlin", 60);
    assert_eq!(next(&floor, "2026-03-29T00:00:00Z"), "2026-03-29T01:00:00Z");
    assert_eq!(floor.active(at("2026-03-29T01:59:59Z")), Some(Replicas(2)));
    assert_eq!(floor.active(at("2026-03-29T02:00:00Z")), None);
}

#[test]
fn a_repeated_hour_counts_once_for_a_fixed_time_and_twice_for_a_repeating_one() {
    let fixed = schedule("30 2 * * *", "Europe/Berlin", 10);
    assert_eq!(next(&fixed, "2026-10-25T00:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(next(&fixed, "2026-10-25T00:40:00Z"), "2026-10-26T01:30:00Z");
    let repeating = schedule("30 * * * *", "Europe/Berlin", 10);
    assert_eq!(next(&repeating, "2026-10-25T00:40:00Z"), "2026-10-25T01:30:00Z");
    let always = schedule("*/15 * * * *", "Europe/Berlin", 15);
    for minute in 0..(24 * 60) {
        let moment = at("2026-10-24T20:00:00Z") + SignedDuration::from_mins(minute);
        assert!(always.active(moment).is_some(), "{moment}");
    }
    assert_eq!(always.next_change(at("2026-10-24T20:00:00Z")), None);
}

#[test]
fn runs_that_overlap_are_one() {
    let floor = schedule("0 9,10,14 * * *", "UTC", 90);
    assert_eq!(next(&floor, "2026-10-09T00:00:00Z"), "2026-10-09T09:00:00Z");
    assert_eq!(next(&floor, "2026-10-09T09:00:00Z"), "2026-10-09T11:30:00Z");
    assert_eq!(next(&floor, "2026-10-09T11:30:00Z"), "2026-10-09T14:00:00Z");
    // Runs that touch are one too.
    assert_eq!(next(&schedule("0 9,10 * * *", "UTC", 60), "2026-10-09T09:30:00Z"), "2026-10-09T11:00:00Z");
}

#[test]
fn long_and_rare_schedules_are_found() {
    let month = schedule("0 0 1 * *", "UTC", 31 * 24 * 60);
    assert!(month.active(at("2026-08-31T23:59:59Z")).is_some());
    let december = schedule("0 0 24 12 *", "UTC", 8 * 24 * 60);
    assert!(december.active(at("2026-12-31T12:00:00Z")).is_some());
    assert_eq!(next(&december, "2027-01-01T00:00:00Z"), "2027-12-24T00:00:00Z");
    let leap = schedule("0 0 29 2 *", "UTC", 60);
    assert_eq!(leap.next_change(at("2026-01-01T00:00:00Z")), None);
    assert!(leap.active(at("2028-02-29T00:30:00Z")).is_some());
}

#[test]
fn what_is_no_schedule_is_refused() {
    let build = |cron: &str| {
        Schedule::new("x", cron, TimeZone::UTC, SignedDuration::from_mins(1), Replicas(1), None).map(|_| ())
    };
    for bad in [
        "",
        " ",
        "8am",
        "0 8 * *",
        "0 0 8 * * *",
        "60 8 * * *",
        "0 8 * * FOO",
        "0 8 32 * *",
        "@often",
        "é * * * *",
    ] {
        assert!(matches!(build(bad), Err(ScheduleError::Cron { .. })), "{bad}");
    }
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert!(matches!(build(never), Err(ScheduleError::Never { .. })), "{never}");
    }
    for good in ["@daily", "0 0 29 2 *", "0 8 * * 1-5", "0 8 L * *", "0 8 * * MON#1", "*/5 8-20 * * *"] {
        assert_eq!(build(good), Ok(()), "{good}");
    }
}

#[test]
fn the_highest_floor_and_the_lowest_maximum_count() {
    let build = |name: &str, cron: &str, min, max: Option<u32>| {
        let hour = SignedDuration::from_hours(1);
        Schedule::new(name, cron, TimeZone::UTC, hour, Replicas(min), max.map(Replicas)).unwrap()
    };
    let schedules = Schedules::new(vec![
        build("a", "0 8 * * *", 2, Some(9)),
        build("b", "30 8 * * *", 4, Some(12)),
        build("c", "0 12 * * *", 1, None),
    ]);
    let bounds = schedules.bounds(at("2026-10-09T08:45:00Z"));
    assert_eq!((bounds.min, bounds.max), (Some(Replicas(4)), Some(Replicas(9))));
    assert_eq!(bounds.active, ["a", "b"]);
    assert_eq!(schedules.bounds(at("2026-10-09T09:45:00Z")), ScheduleBounds::default());
    assert_eq!(schedules.next_change(at("2026-10-09T08:45:00Z")), Some(at("2026-10-09T09:00:00Z")));
}

/// Whether `schedule` is active, found by asking the wall clock about every minute of its duration.
fn active_by_clock(schedule: &Schedule, moment: Timestamp) -> bool {
    let minute = SignedDuration::from_mins(1);
    let minutes = schedule.duration.as_mins();
    let floor = moment.as_second().div_euclid(60) * 60;
    (0..=minutes).map(|back| Timestamp::from_second(floor - 60 * back).unwrap()).any(|start| {
        let local = schedule.zone.to_datetime(start);
        let of_day = i16::from(local.hour()) * 60 + i16::from(local.minute());
        let matches = schedule.on(local.date()) && schedule.minutes.contains(&of_day);
        matches && start + schedule.duration > moment && start <= moment && minute <= schedule.duration
    })
}

fn any_cron() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "0 8 * * MON-FRI",
        "*/15 * * * *",
        "30 * * * *",
        "0 */2 * * *",
        "0 0 1,15 * *",
        "59 23 * * SUN",
        "* * * * *",
        "5,50 9-17 * * *",
    ])
}

fn any_zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Asia/Shanghai",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Two starts a day or more, or starts outside the hours of change: there the wall clock itself is the oracle.
    #[test]
    fn it_is_active_when_the_wall_clock_says_so(
        cron in any_cron(), zone in any_zone(), minutes in 1_i64..600, second in 1_760_000_000_i64..1_830_000_000,
    ) {
        let schedule = schedule(cron, zone, minutes);
        let moment = Timestamp::from_second(second).unwrap();
        // A start that is skipped happens at the jump, which the wall clock does not show.
        let day = SignedDuration::from_hours(24);
        let jumps = schedule.zone.following(moment - day).next().is_some_and(|jump| jump.timestamp() < moment + day);
        prop_assume!(!jumps);
        prop_assert_eq!(schedule.active(moment).is_some(), active_by_clock(&schedule, moment));
    }

    /// Between a moment and the next change nothing changes, and at the change it does.
    #[test]
    fn it_changes_when_it_says_and_not_before(
        cron in any_cron(), zone in any_zone(), minutes in 1_i64..3000, second in 1_760_000_000_i64..1_830_000_000,
        share in 0.0_f64..1.0,
    ) {
        let schedule = schedule(cron, zone, minutes);
        let moment = Timestamp::from_second(second).unwrap();
        let before = schedule.active(moment);
        if let Some(change) = schedule.next_change(moment) {
            prop_assert!(change > moment);
            prop_assert_ne!(schedule.active(change), before);
            #[expect(clippy::cast_possible_truncation, reason = "a share of a small number")]
            let between = second + ((change.as_second() - second - 1) as f64 * share) as i64;
            prop_assert_eq!(schedule.active(Timestamp::from_second(between).unwrap()), before);
        }
    }

    #[test]
    fn the_clock_agrees_with_looking_each_time(
        zone in any_zone(), start in 1_760_000_000_i64..1_830_000_000, steps in prop::collection::vec(-7200_i64..200_000, 1..40),
    ) {
        let schedules = Schedules::new(vec![
            schedule("0 8 * * MON-FRI", zone, 12 * 60),
            schedule("*/30 20-23 * * *", zone, 20),
            schedule("0 0 1 * *", zone, 3 * 24 * 60),
        ]);
        let mut clock = schedules.clock();
        let mut second = start;
        for step in steps {
            second += step;
            let moment = Timestamp::from_second(second).unwrap();
            prop_assert_eq!(clock.bounds(moment), &schedules.bounds(moment));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-0-9*/,#LW@a-zA-Z? ]{0,30}|.{0,20}") {
        let built = Schedule::new("x", &text, TimeZone::UTC, SignedDuration::from_mins(5), Replicas(1), None);
        if let Ok(schedule) = built {
            for second in [Timestamp::MIN.as_second(), 0, 1_800_000_000, Timestamp::MAX.as_second()] {
                let moment = Timestamp::from_second(second).unwrap();
                let _ = (schedule.active(moment), schedule.next_change(moment));
            }
        }
    }
}
