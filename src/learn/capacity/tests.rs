use proptest::prelude::*;

use super::*;
use crate::learn::tests::{at, observation};
use crate::observe::{QueryNode, Reading};
use crate::units::{Qps, Ratio};

/// A fleet that obeys the Universal Scalability Law, with idle work and an M/M/c-like growth of latency.
#[derive(Debug, Clone, Copy)]
struct Truth {
    /// CPU-bound throughput of one replica.
    saturation: f64,
    contention: f64,
    /// Utilisation of an idle replica.
    idle: f64,
    /// p99 over its target without load.
    latency: f64,
}

impl Truth {
    const PLAIN: Self = Self { saturation: 150.0, contention: 0.05, idle: 0.02, latency: 0.2 };

    fn saturation_of(&self, replicas: u32) -> f64 {
        let n = f64::from(replicas);
        self.saturation * n / (1.0 + self.contention * (n - 1.0))
    }

    /// What a fleet shows under a load; `noise` multiplies what it measures.
    fn sample(&self, second: i64, replicas: u32, load: f64, noise: f64) -> Sample {
        let busy = (load / self.saturation_of(replicas)).min(0.99);
        Sample {
            at: at(second),
            replicas: Replicas(replicas),
            load: Qps::clamped(load.min(self.saturation_of(replicas))),
            utilization: (self.idle + (1.0 - self.idle) * busy) * noise,
            latency: Some(self.latency / (1.0 - busy)),
            queue: Some(self.latency * busy / (1.0 - busy)),
        }
    }

    /// The load at which p99 meets its target, or utilisation `most`, whichever comes first.
    fn capacity(&self, replicas: u32, most: f64) -> f64 {
        self.saturation_of(replicas) * (1.0 - self.latency).min(most)
    }
}

fn policy(slo: bool) -> Policy {
    let mut policy = Policy::with_bounds(Replicas(1), Replicas(20));
    policy.slo.p99_latency = slo.then(|| SignedDuration::from_millis(100));
    policy
}

/// Watches a fleet for a while, each half minute, under a load as a share of its saturation.
fn watch(
    learner: &mut CapacityLearner,
    truth: &Truth,
    policy: &Policy,
    from: i64,
    minutes: i64,
    replicas: u32,
    share: f64,
) {
    for second in (from..from + minutes * 60).step_by(30) {
        // A noise of 4 % with a period of its own.
        let noise = 1.0 + 0.04 * ((second / 30 * 7 % 11) as f64 / 5.0 - 1.0);
        learner.take(truth.sample(second, replicas, share * truth.saturation_of(replicas), noise), policy);
    }
}

fn carried(learner: &CapacityLearner, policy: &Policy, second: i64, replicas: u32) -> f64 {
    learner.estimate(policy, at(second)).unwrap().capacity.of(Replicas(replicas)).get()
}

#[test]
fn nothing_is_known_before_anything_was_seen() {
    let mut learner = CapacityLearner::default();
    assert_eq!(learner.estimate(&policy(true), at(0)), None);
    // Four minutes are no window.
    watch(&mut learner, &Truth::PLAIN, &policy(true), 0, 4, 2, 0.5);
    assert_eq!(learner.estimate(&policy(true), at(240)), None);
}

#[test]
fn it_comes_near_the_truth_from_below() {
    let policy = policy(false);
    let mut learner = CapacityLearner::default();
    let truth = Truth::PLAIN;
    let target = truth.capacity(4, 0.7);
    watch(&mut learner, &truth, &policy, 0, 6, 4, 0.5);
    let first = learner.estimate(&policy, at(360)).unwrap();
    watch(&mut learner, &truth, &policy, 360, 120, 4, 0.5);
    let later = learner.estimate(&policy, at(7560)).unwrap();
    let ratio = |estimate: &CapacityEstimate| estimate.capacity.of(Replicas(4)).get() / target;
    assert!((0.6..0.9).contains(&ratio(&first)), "{}", ratio(&first));
    assert!((0.9..1.0).contains(&ratio(&later)), "{}", ratio(&later));
    assert!(later.confidence > 0.95 && first.confidence < 0.6);
    let status = later.status(Replicas(4));
    assert!(status.lower_qps_per_replica < status.qps_per_replica);
    assert!(status.qps_per_replica < status.upper_qps_per_replica);
}

#[test]
fn several_numbers_of_replicas_shape_a_curve() {
    let policy = policy(false);
    let mut learner = CapacityLearner::default();
    let truth = Truth { contention: 0.1, ..Truth::PLAIN };
    for (index, replicas) in (0..).zip([2, 4, 6, 8]) {
        watch(&mut learner, &truth, &policy, index * 3600, 30, replicas, 0.5);
    }
    for replicas in [2, 3, 5, 8] {
        let ratio = carried(&learner, &policy, 14_400, replicas) / truth.capacity(replicas, 0.7);
        assert!((0.85..1.0).contains(&ratio), "{replicas}: {ratio}");
    }
    let ratio = carried(&learner, &policy, 14_400, 16) / truth.capacity(16, 0.7);
    assert!((0.6..1.1).contains(&ratio), "far beyond what was seen: {ratio}");
}

#[test]
fn late_searches_lower_it_and_early_ones_raise_it() {
    let truth = |latency: f64| Truth { latency, ..Truth::PLAIN };
    let learned = |latency: f64, share: f64, minutes: i64| {
        let mut learner = CapacityLearner::default();
        watch(&mut learner, &truth(latency), &policy(true), 0, minutes, 4, share);
        carried(&learner, &policy(true), minutes * 60, 4)
    };
    let plain = learned(0.1, 0.55, 60);
    // p99 passes its target at a utilisation of 0.5.
    let late = learned(0.5, 0.55, 60);
    assert!(late < 0.9 * plain && late > 0.7 * plain, "{late} of {plain}");
    // p99 is well within its target at 0.8.
    let early = learned(0.05, 0.8, 60);
    assert!(early > 1.05 * plain && early < 1.25 * plain, "{early} of {plain}");
}

#[test]
fn slow_searches_of_an_idle_fleet_are_not_the_loads_fault() {
    let mut learner = CapacityLearner::default();
    // Each search takes longer than the target, however few there are.
    watch(&mut learner, &Truth { latency: 2.0, ..Truth::PLAIN }, &policy(true), 0, 60, 4, 0.3);
    let mut without = CapacityLearner::default();
    watch(&mut without, &Truth::PLAIN, &policy(false), 0, 60, 4, 0.3);
    let (slow, plain) =
        (carried(&learner, &policy(true), 3600, 4), carried(&without, &policy(false), 3600, 4));
    assert!((slow / plain - 1.0).abs() < 0.01, "{slow} and {plain}");
}

#[test]
fn latency_that_was_late_once_is_forgiven_by_many_good_hours() {
    let policy = policy(true);
    let (late, good) = (Truth { latency: 0.6, ..Truth::PLAIN }, Truth { latency: 0.1, ..Truth::PLAIN });
    let mut learner = CapacityLearner::default();
    watch(&mut learner, &late, &policy, 0, 6, 4, 0.5);
    watch(&mut learner, &good, &policy, 360, 120, 4, 0.6);
    let ratio = carried(&learner, &policy, 7560, 4) / late.capacity(4, 0.7);
    assert!(ratio > 0.88, "{ratio}");
}

#[test]
fn a_cheaper_or_dearer_load_is_learned_within_the_hour() {
    let policy = policy(false);
    let mut learner = CapacityLearner::default();
    watch(&mut learner, &Truth::PLAIN, &policy, 0, 600, 4, 0.5);
    let dear = Truth { saturation: 75.0, ..Truth::PLAIN };
    watch(&mut learner, &dear, &policy, 36_000, 30, 4, 0.5);
    let ratio = carried(&learner, &policy, 37_800, 4) / dear.capacity(4, 0.7);
    assert!((0.7..1.05).contains(&ratio), "{ratio}");
}

#[test]
fn confidence_fades_with_age_and_takes_capacity_with_it() {
    let policy = policy(false);
    let mut learner = CapacityLearner::default();
    watch(&mut learner, &Truth::PLAIN, &policy, 0, 60, 4, 0.5);
    let of = |days: i64| learner.estimate(&policy, at(3600 + days * 86_400)).unwrap();
    assert!(of(14).confidence < 0.1 && of(0).confidence > 0.9);
    assert!(of(14).capacity.of(Replicas(4)) < of(0).capacity.of(Replicas(4)));
}

/// An observation of nodes of 2 cores, evenly busy.
fn observed(second: i64, load: f64, utilization: Reading<f64>) -> Observation {
    let rate = Reading::Value { value: Qps::clamped(load), at: at(second) };
    let node = QueryNode { cpu_limit: Some(2.0), ..QueryNode::default() };
    Observation {
        demand: rate,
        offered: rate,
        served: rate,
        utilization,
        query_nodes: vec![node],
        ..observation(second)
    }
}

fn value(utilization: f64) -> Reading<f64> {
    Reading::Value { value: utilization, at: at(0) }
}

#[test]
fn one_observation_says_little_and_says_so() {
    let estimate = at_once(&observed(0, 100.0, value(0.5)), Replicas(2), &policy(true)).unwrap();
    let carried = estimate.capacity.of(Replicas(2)).get();
    assert!((100.0..140.0).contains(&carried), "{carried}");
    assert!(estimate.confidence <= 0.5);
}

#[test]
fn what_cannot_be_learned_from_says_why() {
    let good = || observed(0, 100.0, value(0.5));
    let rate = |qps| Reading::Value { value: Qps::clamped(qps), at: at(0) };
    let unlimited = vec![QueryNode { cpu: Some(1.0), ..QueryNode::default() }];
    let cases = [
        ("NoneReady", 0, good()),
        ("TooLittleLoad", 2, observed(0, 100.0, value(0.09))),
        ("TooLittleLoad", 2, observed(0, 0.0, value(0.5))),
        ("MetricsPartial", 2, observed(0, 9.0, Reading::Partial { value: 0.5, at: at(0) })),
        ("MetricsMissing", 2, observed(0, 9.0, Reading::Missing)),
        ("MetricsMissing", 2, observed(0, 9.0, value(f64::NAN))),
        ("CpuLimitUnknown", 2, Observation { query_nodes: unlimited, ..observed(0, 9.0, Reading::Missing) }),
        ("MetricsMissing", 2, Observation { demand: Reading::Stale { at: at(0) }, ..good() }),
        (
            "MetricsMissing",
            2,
            Observation { demand: Reading::Partial { value: Qps::HUNDRED, at: at(0) }, ..good() },
        ),
        ("Loading", 2, Observation { loading: value(3.0), ..good() }),
        ("Loading", 2, Observation { draining: Reading::Partial { value: 1.0, at: at(0) }, ..good() }),
    ];
    for (code, replicas, observation) in cases {
        let reason = at_once(&observation, Replicas(replicas), &policy(true)).unwrap_err();
        assert_eq!(reason.code, code, "{observation:?}");
    }
    // A fleet that serves half of what is asked of it carries half.
    let overloaded = Observation { served: rate(50.0), ..good() };
    let of = |observation| {
        at_once(&observation, Replicas(2), &policy(true)).unwrap().capacity.of(Replicas(2)).get()
    };
    assert!((of(overloaded) / of(good()) - 0.5).abs() < 1e-9);
}

#[test]
fn windows_need_a_fleet_at_rest() {
    let mut learner = CapacityLearner::default();
    let (policy, truth) = (policy(false), Truth::PLAIN);
    for second in (0..3600).step_by(30) {
        let replicas = if second / 120 % 2 == 0 { 2 } else { 3 };
        learner.take(truth.sample(second, replicas, 100.0, 1.0), &policy);
    }
    assert_eq!(learner.estimate(&policy, at(3600)), None, "no number of replicas held for five minutes");
    for second in (3600..7200).step_by(600) {
        learner.take(truth.sample(second, 2, 100.0, 1.0), &policy);
    }
    assert_eq!(learner.estimate(&policy, at(7200)), None, "samples ten minutes apart");
    watch(&mut learner, &truth, &policy, 7200, 4, 2, 0.5);
    learner.interrupt();
    watch(&mut learner, &truth, &policy, 7440, 4, 2, 0.5);
    assert_eq!(learner.estimate(&policy, at(7680)), None, "a change in between");
}

/// A week of days and nights, of which nothing is known at first: each ten minutes the fleet becomes what the learned
/// capacity says the load needs. The shares of time in which it was over 85 % busy, and the replicas used over those
/// that would have done.
fn week(truth: &Truth, most: f64) -> (f64, f64) {
    let policy = policy(false);
    let mut learner = CapacityLearner::default();
    let (mut replicas, mut busy, mut used, mut needed) = (6_u32, 0.0, 0.0, 0.0);
    for second in (0..7 * 86_400).step_by(30) {
        let phase = (second % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
        let load = most * (0.55 - 0.45 * phase.cos());
        learner.take(truth.sample(second, replicas, load, 1.0), &policy);
        // The first day is for learning.
        if second >= 86_400 {
            busy += f64::from(u8::from(load > 0.85 * truth.saturation_of(replicas)));
            used += f64::from(replicas);
            needed += f64::from((1..=20).find(|n| truth.capacity(*n, 0.7) >= load).unwrap_or(20));
        }
        if second % 600 == 0
            && let Some(known) = learner.estimate(&policy, at(second))
        {
            replicas = known.capacity.replicas_for(Qps::clamped(load * 1.05), Replicas(20)).0.max(1);
        }
    }
    (busy / (6.0 * 2880.0), used / needed)
}

#[test]
fn a_fleet_that_learns_while_it_scales_stays_safe_and_does_not_run_away() {
    for contention in [0.0, 0.03, 0.1] {
        let truth = Truth { contention, ..Truth::PLAIN };
        let most = truth.capacity(12, 0.7);
        let (busy, used) = week(&truth, most);
        assert!(busy < 0.001, "contention {contention}: {busy} of the time too busy");
        assert!((0.95..1.25).contains(&used), "contention {contention}: {used} of the replicas needed");
    }
}

fn any_sample() -> impl Strategy<Value = (i64, u32, f64, f64, Option<f64>, Option<f64>)> {
    let number = || prop_oneof![0.0..2.0_f64, any::<f64>()];
    (
        0_i64..400,
        prop_oneof![1_u32..9, any::<u32>()],
        prop_oneof![0.0..1e4_f64, any::<f64>()],
        number(),
        prop::option::of(number()),
        prop::option::of(number()),
    )
}

proptest! {
    #[test]
    fn one_wild_sample_or_minute_moves_it_by_less_than_a_fifth(
        wild in prop_oneof![1e-3..1e3_f64, 0.01..0.5_f64, 2.0..50.0_f64],
        start in 0_i64..100,
        length in 1_i64..10,
        latency in 0.0..20.0_f64,
        replicas in 1_u32..12,
        share in 0.2..0.95_f64,
        slo in any::<bool>(),
    ) {
        let (policy, truth) = (policy(slo), Truth::PLAIN);
        let learned = |disturbed: bool| {
            let mut learner = CapacityLearner::default();
            for step in 0..120 {
                let mut sample = truth.sample(step * 30, replicas, share * truth.saturation_of(replicas), 1.0);
                if disturbed && (start..start + length).contains(&step) {
                    sample.utilization *= wild;
                    sample.latency = Some(latency);
                }
                learner.take(sample, &policy);
            }
            carried(&learner, &policy, 3600, replicas)
        };
        let ratio = learned(true) / learned(false);
        prop_assert!((0.8..1.25).contains(&ratio), "{ratio}");
    }

    #[test]
    fn an_even_fleet_is_learned_whatever_it_is(
        saturation in 1.0..1e4_f64,
        contention in 0.0..0.3_f64,
        idle in 0.0..0.05_f64,
        share in 0.3..0.9_f64,
        counts in prop::collection::vec(1_u32..16, 1..5),
    ) {
        let (policy, truth) = (policy(false), Truth { saturation, contention, idle, latency: 0.2 });
        let mut learner = CapacityLearner::default();
        for (index, replicas) in (0..).zip(&counts) {
            watch(&mut learner, &truth, &policy, index * 3600, 60, *replicas, share);
        }
        for replicas in &counts {
            let ratio = carried(&learner, &policy, 18_000, *replicas) / truth.capacity(*replicas, 0.7);
            prop_assert!((0.75..1.1).contains(&ratio), "{replicas}: {ratio}");
        }
    }

    #[test]
    fn whatever_is_seen_it_is_a_capacity_and_survives_a_restart(
        samples in prop::collection::vec(any_sample(), 0..300),
        slo in any::<bool>(),
        target in 0.1..0.95_f64,
    ) {
        let policy = Policy { target_utilization: Ratio::clamped(target), ..policy(slo) };
        let mut learner = CapacityLearner::default();
        let mut second = 0;
        for (step, replicas, load, utilization, latency, queue) in samples {
            second += step;
            let load = Qps::clamped(load);
            learner.take(Sample { at: at(second), replicas: Replicas(replicas), load, utilization, latency, queue }, &policy);
        }
        prop_assert!(learner.points.len() <= MOST_POINTS && learner.window.len() <= MOST_SAMPLES);
        let again = CapacityLearner::from_points(&learner.points());
        prop_assert_eq!(again.points(), learner.points());
        if let Some(estimate) = learner.estimate(&policy, at(second)) {
            for replicas in [1, 2, 9, 20, 50] {
                let (less, more) = (estimate.capacity.of(Replicas(replicas)), estimate.capacity.of(Replicas(replicas + 1)));
                prop_assert!(less <= more && less > Qps::ZERO);
            }
            prop_assert!((0.0..=1.0).contains(&estimate.confidence));
            let status = estimate.status(Replicas(3));
            let numbers = [status.qps_per_replica, status.lower_qps_per_replica, status.upper_qps_per_replica];
            prop_assert!(numbers.into_iter().flatten().all(|qps| qps.is_finite() && qps >= 0.0));
        }
    }
}
