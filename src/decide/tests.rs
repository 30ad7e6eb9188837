use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules {
        capacity: Capacity::Linear { per_replica: Qps::HUNDRED },
        min: Replicas(2),
        max: Replicas(40),
        costs: Costs::default(),
        behavior: HpaBehavior::default(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn flat(qps: f64) -> Forecast {
    Forecast::from_medians(15, 0.03, |_| Qps::clamped(qps))
}

fn floor(replicas: u32) -> Floor {
    Floor { replicas: Replicas(replicas), reason: Reason::new("MemoryFloor", "held by memory") }
}

fn situation(demand: Option<f64>, forecast: Option<&Forecast>, desired: u32) -> Situation<'_> {
    Situation {
        now: at(0),
        demand: demand.map(Qps::clamped),
        forecast,
        fleet: Fleet { desired: Replicas(desired), ready: Replicas(desired), arrivals: &[] },
        floors: &[],
        guards: &[],
        pressure: None,
    }
}

/// Decides again and again on the same situation, a minute apart, as time passes for stabilisation.
fn settled(rules: &Rules, mut situation: Situation<'_>) -> Outcome {
    let mut memory = Memory::default();
    let mut outcome = decide(rules, &mut memory, &situation);
    for minute in 1..20 {
        situation.now = at(60 * minute);
        outcome = decide(rules, &mut memory, &situation);
    }
    outcome
}

#[test]
fn a_fleet_that_fits_is_left_alone() {
    let forecast = flat(430.0);
    let outcome = settled(&rules(), situation(Some(430.0), Some(&forecast), 5));
    assert!(matches!(outcome.decision, Decision::Hold { .. }), "{outcome:?}");
}

#[test]
fn a_rise_that_is_forecast_is_met_with_its_reason() {
    let forecast = Forecast::from_medians(15, 0.03, |ahead| Qps::clamped(200.0 + 40.0 * ahead as f64));
    let outcome = decide(&rules(), &mut Memory::default(), &situation(Some(200.0), Some(&forecast), 3));
    let Decision::ScaleTo { replicas, reasons } = outcome.decision else { panic!("held") };
    assert!(replicas >= Replicas(8));
    assert_eq!(reasons[0].code, "ForecastRise");
}

#[test]
fn the_forecast_never_blocks_a_reaction() {
    let forecast = flat(100.0);
    let outcome = decide(&rules(), &mut Memory::default(), &situation(Some(1450.0), Some(&forecast), 2));
    assert_eq!(outcome.desired, Replicas(15));
}

#[test]
fn a_fall_waits_for_stabilisation() {
    let (forecast, rules) = (flat(210.0), rules());
    let mut memory = Memory::default();
    let fits = flat(900.0);
    decide(&rules, &mut memory, &situation(Some(900.0), Some(&fits), 10));
    let mut low = situation(Some(210.0), Some(&forecast), 10);
    low.now = at(60);
    assert_eq!(decide(&rules, &mut memory, &low).desired, Replicas(10));
    assert!(settled(&rules, low).desired <= Replicas(4));
}

#[test]
fn a_guard_holds_and_says_why() {
    let forecast = flat(210.0);
    let guards = [Reason::new("Rollout", "a rollout is under way")];
    let guarded = Situation { guards: &guards, ..situation(Some(210.0), Some(&forecast), 10) };
    let outcome = settled(&rules(), guarded);
    assert_eq!(outcome.decision, Decision::Hold { reason: guards[0].clone() });
}

fn any_forecast() -> impl Strategy<Value = Forecast> {
    (0.0..6000.0_f64, -40.0..40.0_f64, 0.005..0.8_f64, 0_usize..40).prop_map(
        |(start, slope, spread, lead)| {
            Forecast::from_medians(lead, spread, |ahead| Qps::clamped(start + slope * ahead as f64))
        },
    )
}

prop_compose! {
    fn any_case()(
        forecast in prop::option::of(any_forecast()),
        demand in 0.0..8000.0_f64,
        ready in 0_u32..60,
        arrivals in prop::collection::vec(0_usize..50, 0..8),
        floors in prop::collection::vec(0_u32..50, 0..3),
        guarded in any::<bool>(),
        minutes in 1_usize..12,
    ) -> Case {
        let mut arrivals = arrivals;
        arrivals.sort_unstable();
        Case { forecast, demand: Some(demand), ready, arrivals, floors: floors.into_iter().map(floor).collect(), guarded, minutes }
    }
}

#[derive(Debug, Clone)]
struct Case {
    forecast: Option<Forecast>,
    demand: Option<f64>,
    ready: u32,
    arrivals: Vec<usize>,
    floors: Vec<Floor>,
    guarded: bool,
    minutes: usize,
}

impl Case {
    fn desired(&self) -> u32 {
        self.ready + u32::try_from(self.arrivals.len()).unwrap()
    }

    fn run(&self) -> Outcome {
        let guards = [Reason::new("Draining", "a drain is under way")];
        let mut memory = Memory::default();
        let mut outcome = None;
        for minute in 0..self.minutes {
            let situation = Situation {
                now: at(60 * i64::try_from(minute).unwrap()),
                demand: self.demand.map(Qps::clamped),
                forecast: self.forecast.as_ref(),
                fleet: Fleet {
                    desired: Replicas(self.desired()),
                    ready: Replicas(self.ready),
                    arrivals: &self.arrivals,
                },
                floors: &self.floors,
                guards: if self.guarded { &guards } else { &[] },
                pressure: None,
            };
            outcome = Some(decide(&rules(), &mut memory, &situation));
        }
        outcome.unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn within_bounds_and_never_below_a_floor(case in any_case()) {
        let outcome = case.run();
        let rules = rules();
        prop_assert!((rules.min..=rules.max).contains(&outcome.desired));
        for floor in &case.floors {
            prop_assert!(outcome.desired >= floor.replicas.min(rules.max));
        }
    }

    #[test]
    fn without_data_or_under_guard_nothing_is_taken_away(mut case in any_case(), lose in any::<bool>()) {
        if lose { case.demand = None } else { case.guarded = true }
        let current = Replicas(case.desired()).min(rules().max);
        prop_assert!(case.run().desired >= current);
    }

    #[test]
    fn more_demand_never_gives_fewer_replicas(case in any_case(), more in 0.0..3000.0_f64) {
        let mut higher = case.clone();
        higher.demand = case.demand.map(|demand| demand + more);
        prop_assert!(higher.run().desired >= case.run().desired);
    }

    #[test]
    fn demand_now_is_always_met_within_the_maximum(case in any_case()) {
        let needed = rules().capacity.replicas_for(Qps::clamped(case.demand.unwrap()), rules().max);
        prop_assert!(case.run().desired >= needed);
    }

    #[test]
    fn the_same_input_gives_the_same_output(case in any_case()) {
        prop_assert_eq!(case.run(), case.run());
    }

    /// Of steady forecasts: with a changing one, the costs of each change can make it cheaper to go lower for a while.
    #[test]
    fn a_higher_forecast_never_gives_fewer_replicas(
        level in 0.0..3000.0_f64, spread in 0.005..0.3_f64, lead in 0_usize..40, factor in 1.0..2.0_f64,
        desired in 2_u32..40,
    ) {
        let decide_on = |level: f64| {
            let forecast = Forecast::from_medians(lead, spread, |_| Qps::clamped(level));
            settled(&rules(), situation(Some(0.0), Some(&forecast), desired)).desired
        };
        prop_assert!(decide_on(level * factor) >= decide_on(level));
    }

    #[test]
    fn memory_survives_being_stored(case in any_case()) {
        let mut memory = Memory::default();
        let situation = situation(case.demand, case.forecast.as_ref(), case.desired());
        decide(&rules(), &mut memory, &situation);
        let stored = serde_json::to_string(&memory).unwrap();
        let mut restored: Memory = serde_json::from_str(&stored).unwrap();
        prop_assert_eq!(
            decide(&rules(), &mut memory, &situation),
            decide(&rules(), &mut restored, &situation)
        );
    }
}
