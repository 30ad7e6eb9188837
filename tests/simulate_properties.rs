//! What must hold for every load and every strategy.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test that fails may panic, and exact results are compared exactly"
)]

use jiff::{SignedDuration, Timestamp};
use milvus_autoscaler::capacity::Capacity;
use milvus_autoscaler::observe::{Row, Trace, TraceBuilder};
use milvus_autoscaler::policy::Policy;
use milvus_autoscaler::series::Step;
use milvus_autoscaler::simulate::strategy::StrategyKind;
use milvus_autoscaler::simulate::{Demand, Outcome, Plant, Setup, simulate};
use milvus_autoscaler::units::{Qps, Replicas};
use proptest::prelude::*;

const START: i64 = 1_772_409_600;
const DAY: usize = 96;

/// A load with a daily pattern and noise in steps of a quarter of an hour.
fn pattern(days: usize, noise: &[f64]) -> Vec<Option<f64>> {
    (0..days * DAY)
        .map(|t| {
            let phase = (t % DAY) as f64 / DAY as f64;
            let usual = if (0.35..0.75).contains(&phase) { 100.0 } else { 15.0 };
            Some((usual * (1.0 + noise[t % noise.len()])).max(0.0))
        })
        .collect()
}

fn trace(values: &[Option<f64>]) -> Trace {
    let mut builder = TraceBuilder::default();
    let rows = values.iter().enumerate().filter_map(|(t, v)| v.map(|v| (t, v)));
    for (t, qps) in rows {
        let time = Timestamp::from_second(START + i64::try_from(t).unwrap() * 900).unwrap();
        builder.push(Row { time, qps: Qps::clamped(qps), p99_ms: None, nq_per_second: None }).unwrap();
    }
    builder.finish("test").unwrap()
}

fn setup(step: u32, lead: i64, strategies: &[StrategyKind]) -> Setup {
    Setup {
        plant: Plant {
            step: Step::from_seconds(step).unwrap(),
            lead_time: SignedDuration::from_secs(lead),
            drain_time: SignedDuration::from_mins(2),
            capacity: Capacity::linear(Qps::clamped(10.0)).unwrap(),
            min: Replicas(1),
            max: Replicas(12),
        },
        policy: Policy::with_bounds(Replicas(1), Replicas(12)),
        warmup: None,
        slo_weight: 30.0,
        strategies: strategies.to_vec(),
    }
}

fn run(values: &[Option<f64>], setup: &Setup) -> Outcome {
    simulate(Demand::from_trace(&trace(values), setup.plant.step).unwrap(), setup)
}

fn noise() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-0.9..0.9_f64, 1..200)
}

/// Days with noise and, in some, a hole of up to a day.
fn load(days: usize) -> impl Strategy<Value = Vec<Option<f64>>> {
    (noise(), 1..days * DAY - 1, 0..DAY).prop_map(move |(noise, from, length)| {
        let mut values = pattern(days, &noise);
        let end = (from + length).min(values.len() - 1);
        values[from..end].fill(None);
        values
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bounds_hold_and_scores_are_ratios(values in load(4), lead in 0_i64..3600) {
        let setup = setup(300, lead, &StrategyKind::ALL);
        let outcome = run(&values, &setup);
        let hours = |name: &str| outcome.scores.iter().find(|s| s.name == name).unwrap().replica_hours;
        for (replay, score) in outcome.replays.iter().zip(&outcome.scores) {
            prop_assert_eq!(replay.desired.len(), outcome.demand.len());
            for t in 0..replay.desired.len() {
                prop_assert!((setup.plant.min..=setup.plant.max).contains(&replay.desired[t]));
                prop_assert!(replay.ready[t] <= setup.plant.max);
                prop_assert!(replay.paid[t] >= replay.desired[t].as_f64() * 300.0 - 1e-6);
            }
            prop_assert!((0.0..=1.0).contains(&score.violation_ratio));
            prop_assert!((0.0..=1.0).contains(&score.lost_ratio));
            prop_assert!(score.lost_ratio == 0.0 || score.violation_ratio > 0.0);
            let cost = score.replica_hours / hours("oracle");
            prop_assert!((score.cost_vs_oracle - cost).abs() < 1e-9);
            prop_assert!((score.saving_vs_static - (1.0 - score.replica_hours / hours("static"))).abs() < 1e-9);
            let adjusted = score.cost_vs_oracle + 30.0 * score.violation_ratio;
            prop_assert!((score.slo_adjusted_cost - adjusted).abs() < 1e-9);
        }
    }

    #[test]
    fn the_oracle_never_misses_what_the_fleet_can_carry(values in load(4), lead in 0_i64..3600) {
        let outcome = run(&values, &setup(300, lead, &[StrategyKind::Oracle]));
        for t in 0..outcome.demand.len() {
            let (demand, ready) = (outcome.demand.at(t).get(), outcome.replays[0].ready[t]);
            // The first lead time is what it starts with.
            if i64::try_from(t).unwrap() * 300 >= lead + 300 {
                prop_assert!(demand <= ready.as_f64() * 10.0 + 1e-9 || ready == Replicas(12));
            }
        }
    }

    #[test]
    fn nothing_depends_on_the_future(values in load(4), cut in 1..4 * DAY, factor in 0.0..9.0_f64) {
        let kinds: Vec<_> = StrategyKind::ALL.into_iter().filter(|k| !k.sees_the_future()).collect();
        let setup = setup(900, 900, &kinds);
        let changed: Vec<_> =
            values.iter().enumerate().map(|(t, v)| v.map(|v| if t < cut { v } else { v * factor })).collect();
        let (before, after) = (run(&values, &setup), run(&changed, &setup));
        // Steps are as long as rows, but a row before a gap bends towards the one after it.
        let same = (0..cut).take_while(|t| before.demand.at(*t) == after.demand.at(*t)).count();
        for (one, other) in before.replays.iter().zip(&after.replays) {
            prop_assert_eq!(&one.desired[..=same.min(one.desired.len() - 1)],
                &other.desired[..=same.min(other.desired.len() - 1)], "{}", one.name);
            prop_assert_eq!(one.forecast.iter().take(same + 1).collect::<Vec<_>>(),
                other.forecast.iter().take(same + 1).collect::<Vec<_>>(), "{}", one.name);
        }
    }
}

/// Replica-hours from what `timeline.csv` holds alone, as anyone may reckon who has the contract in hand: each replica
/// is a pair of the step at which it becomes ready, and nothing else.
fn hours_from_timeline(desired: &[Replicas], ready: &[Replicas], lead: usize, step: f64, drain: f64) -> f64 {
    let mut fleet: Vec<usize> = vec![0; ready[0].0 as usize];
    let mut draining: Vec<f64> = Vec::new();
    let mut paid = 0.0;
    for t in 0..desired.len() {
        assert_eq!(fleet.iter().filter(|at| **at <= t).count(), ready[t].0 as usize, "ready at step {t}");
        while fleet.len() < desired[t].0 as usize {
            fleet.push(t + lead);
        }
        while fleet.len() > desired[t].0 as usize {
            // The newest goes first; those that serve are the oldest.
            if fleet.pop().unwrap() <= t {
                draining.push(drain);
            }
        }
        paid += fleet.len() as f64 * step + draining.iter().map(|left| left.clamp(0.0, step)).sum::<f64>();
        for left in &mut draining {
            *left -= step;
        }
    }
    paid / 3600.0
}

#[test]
fn scores_can_be_recomputed_from_the_timeline() {
    let values = pattern(6, &[0.0, 0.3, -0.2, 0.6, 0.1, -0.5, 0.2]);
    let mut setup = setup(300, 1500, &StrategyKind::ALL);
    setup.warmup = Some(SignedDuration::ZERO);
    let outcome = run(&values, &setup);
    let steps = outcome.demand.len() as f64;
    for (replay, score) in outcome.replays.iter().zip(&outcome.scores) {
        let hours = hours_from_timeline(&replay.desired, &replay.ready, 5, 300.0, 120.0);
        assert!((hours - score.replica_hours).abs() < 1e-6, "{}: {hours}", replay.name);
        let short = |t: &usize| outcome.demand.at(*t).get() > 10.0 * replay.ready[*t].as_f64();
        let violations = (0..outcome.demand.len()).filter(short).count() as f64;
        assert!((violations / steps - score.violation_ratio).abs() < 1e-9, "{}", replay.name);
    }
}

#[test]
fn any_number_of_threads_gives_the_same() {
    let values = pattern(20, &[0.0, 0.3, -0.2, 0.6, 0.1, -0.5, 0.2]);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&values, &setup(60, 600, &StrategyKind::ALL)))
    };
    let one = with(1);
    for threads in [2, 5] {
        assert!(one == with(threads), "{threads} threads");
    }
}

#[test]
fn a_load_of_nothing_can_be_replayed() {
    let outcome = run(&vec![Some(0.0); 3 * DAY], &setup(60, 600, &StrategyKind::ALL));
    for score in &outcome.scores {
        assert!(score.violation_ratio == 0.0 && score.cost_vs_oracle.is_finite(), "{score:?}");
    }
}
