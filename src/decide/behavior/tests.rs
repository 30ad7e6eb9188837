//! The HPA's own cases, and what must hold for all.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const UNLIMITED: HpaBehavior =
    HpaBehavior { scale_up: ScalingRules::UNLIMITED, scale_down: ScalingRules::UNLIMITED };

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    current: u32,
    desired: u32,
    min: u32,
    max: u32,
    scale_up: Option<Rules>,
    scale_down: Option<Rules>,
    added: Vec<Change>,
    removed: Vec<Change>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Rules {
    window: i64,
    policies: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    pods: Option<u32>,
    percent: Option<u32>,
    period: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    seconds_ago: i64,
    replicas: i64,
}

#[derive(Deserialize)]
struct Expected {
    replicas: u32,
    limit: Option<String>,
}

impl Rules {
    fn scaling_rules(&self) -> ScalingRules {
        let policy = |rule: &Rule| {
            let period = secs(rule.period);
            match (rule.pods, rule.percent) {
                (Some(value), _) => ScalingPolicy::Pods { value, period },
                (None, value) => ScalingPolicy::Percent { value: value.unwrap(), period },
            }
        };
        ScalingRules {
            stabilization_window: secs(self.window),
            select: SelectPolicy::Max,
            policies: self.policies.iter().map(policy).collect(),
        }
    }
}

impl Case {
    fn behavior(&self) -> HpaBehavior {
        let defaults = HpaBehavior::kubernetes();
        HpaBehavior {
            scale_up: self.scale_up.as_ref().map_or(defaults.scale_up, Rules::scaling_rules),
            scale_down: self.scale_down.as_ref().map_or(defaults.scale_down, Rules::scaling_rules),
        }
    }

    fn state(&self) -> BehaviorState {
        let event = |change: &Change, sign: i64| ScaleEvent {
            at: at(NOW - change.seconds_ago),
            change: sign * change.replicas,
        };
        let added = self.added.iter().map(|change| event(change, 1));
        let removed = self.removed.iter().map(|change| event(change, -1));
        BehaviorState { recommendations: Vec::new(), scale_events: added.chain(removed).collect() }
    }
}

#[test]
fn limits_are_those_of_the_hpa() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../tests/data/policy/behavior.json")).unwrap();
    assert_eq!(cases.len(), 42);
    for case in cases {
        let (replicas, limit) = limited(
            &case.state(),
            &case.behavior(),
            at(NOW),
            Replicas(case.current),
            Replicas(case.desired),
            Replicas(case.min),
            Replicas(case.max),
        );
        assert_eq!(replicas.0, case.expected.replicas, "{}", case.name);
        assert_eq!(limit.map(|limit| limit.kind.code()), case.expected.limit.as_deref(), "{}", case.name);
    }
}

/// The HPA reckons percentages in floats, where 110 % of 100 is a little more than 110.
#[test]
fn percentages_are_reckoned_as_the_hpa_does() {
    let period = secs(60);
    assert_eq!(ScalingPolicy::Percent { value: 10, period }.highest(100), 111);
    assert_eq!(ScalingPolicy::Percent { value: 10, period }.highest(10), 11);
    assert_eq!(ScalingPolicy::Percent { value: 10, period }.lowest(9), 8);
    assert_eq!(ScalingPolicy::Percent { value: 1000, period }.lowest(9), -81);
}

fn windows(up: i64, down: i64) -> HpaBehavior {
    let mut behavior = UNLIMITED;
    behavior.scale_up.stabilization_window = secs(up);
    behavior.scale_down.stabilization_window = secs(down);
    behavior
}

/// Feeds recommendations, one a minute, to a target that follows at once; returns the replicas of each minute.
fn followed(behavior: &HpaBehavior, start: u32, recommendations: &[u32]) -> Vec<u32> {
    let (mut state, mut current, mut result) = (BehaviorState::default(), Replicas(start), Vec::new());
    for (minute, desired) in (0_i64..).zip(recommendations) {
        let now = at(NOW + 60 * minute);
        let (next, _) =
            normalize(&mut state, behavior, now, current, Replicas(*desired), Replicas(1), Replicas(100));
        state.record_scale(behavior, now, current, next);
        current = next;
        result.push(current.0);
    }
    result
}

#[test]
fn scaling_down_waits_for_the_window() {
    let behavior = windows(0, 300);
    // The 10 of before counts for 5 minutes, then the 8 does, then the 3.
    assert_eq!(followed(&behavior, 10, &[8, 3, 3, 3, 3, 3, 3, 3]), [10, 10, 10, 10, 10, 3, 3, 3]);
    assert_eq!(followed(&behavior, 10, &[3, 12, 3, 3, 3, 3, 3, 3]), [10, 12, 12, 12, 12, 12, 3, 3]);
}

#[test]
fn scaling_up_waits_for_its_window_too() {
    assert_eq!(followed(&windows(120, 0), 5, &[9, 9, 9, 9]), [5, 5, 9, 9]);
    assert_eq!(followed(&windows(120, 0), 5, &[9, 7, 9, 8]), [5, 5, 7, 8]);
}

#[test]
fn without_behavior_the_plan_is_followed_at_once() {
    let mut state = BehaviorState::default();
    for (minute, desired) in (0_i64..).zip([50, 1, 100, 2]) {
        let now = at(NOW + 60 * minute);
        let behavior = UNLIMITED;
        let (result, limits) = normalize(
            &mut state,
            &behavior,
            now,
            Replicas(10),
            Replicas(desired),
            Replicas(1),
            Replicas(100),
        );
        state.record_scale(&behavior, now, Replicas(10), result);
        assert_eq!((result.0, limits), (desired, Vec::new()));
    }
    assert!(state.is_empty());
}

#[test]
fn bounds_outrank_rate_limits() {
    let mut behavior = UNLIMITED;
    behavior.scale_up.policies = vec![ScalingPolicy::Pods { value: 1, period: secs(60) }];
    behavior.scale_down.select = SelectPolicy::Disabled;
    let mut state = BehaviorState::default();
    let mut result = |current, desired| {
        let (replicas, limits) = normalize(
            &mut state,
            &behavior,
            at(NOW),
            Replicas(current),
            Replicas(desired),
            Replicas(5),
            Replicas(10),
        );
        (replicas.0, limits.into_iter().map(|limit| limit.kind).collect::<Vec<_>>())
    };
    assert_eq!(result(1, 8), (5, vec![LimitKind::ScaleUpLimit]));
    assert_eq!(result(20, 8), (10, vec![LimitKind::ScaleDownLimit]));
    assert_eq!(result(7, 6), (7, vec![LimitKind::ScaleDownLimit]));
    assert_eq!(result(7, 9), (8, vec![LimitKind::ScaleUpLimit]));
}

#[test]
fn the_state_survives_a_restart() {
    let behavior = HpaBehavior::kubernetes();
    let mut state = BehaviorState::default();
    let first =
        normalize(&mut state, &behavior, at(NOW), Replicas(10), Replicas(3), Replicas(1), Replicas(100));
    assert_eq!(first.0, Replicas(10));
    state.record_scale(&behavior, at(NOW), Replicas(9), Replicas(10));
    let text = serde_json::to_string(&state).unwrap();
    let mut restored: BehaviorState = serde_json::from_str(&text).unwrap();
    assert_eq!(restored, state);
    // 299 seconds later the 10 still counts, 301 seconds later it does not.
    for (seconds, expected) in [(299, 10), (301, 3)] {
        let mut state = restored.clone();
        let now = at(NOW + seconds);
        let (replicas, _) =
            normalize(&mut state, &behavior, now, Replicas(10), Replicas(3), Replicas(1), Replicas(100));
        assert_eq!(replicas.0, expected);
    }
    // A clock that went back must not hold for ever.
    let (replicas, _) = normalize(
        &mut restored,
        &behavior,
        at(NOW - 86_400),
        Replicas(10),
        Replicas(3),
        Replicas(1),
        Replicas(100),
    );
    assert_eq!(replicas.0, 10);
    let later = at(NOW - 86_400 + 301);
    let (replicas, _) =
        normalize(&mut restored, &behavior, later, Replicas(10), Replicas(3), Replicas(1), Replicas(100));
    assert_eq!(replicas.0, 3);
}

prop_compose! {
    fn any_policy()(is_pods: bool, value in 1_u32..2000, period in 1_i64..=1800) -> ScalingPolicy {
        let period = secs(period);
        if is_pods { ScalingPolicy::Pods { value, period } } else { ScalingPolicy::Percent { value, period } }
    }
}

prop_compose! {
    fn any_rules()(
        window in prop_oneof![Just(0_i64), 1_i64..=3600],
        select in prop::sample::select(vec![SelectPolicy::Max, SelectPolicy::Min, SelectPolicy::Disabled]),
        policies in prop::collection::vec(any_policy(), 0..4),
    ) -> ScalingRules {
        ScalingRules { stabilization_window: secs(window), select, policies }
    }
}

prop_compose! {
    fn any_behavior()(scale_up in any_rules(), scale_down in any_rules()) -> HpaBehavior {
        HpaBehavior { scale_up, scale_down }
    }
}

prop_compose! {
    fn any_state()(
        recommendations in prop::collection::vec((0_i64..4000, 0_u32..200), 0..20),
        events in prop::collection::vec((0_i64..4000, -50_i64..50), 0..20),
    ) -> BehaviorState {
        let mut state = BehaviorState {
            recommendations: recommendations
                .into_iter()
                .map(|(ago, replicas)| Recommendation { at: at(NOW - ago), replicas: Replicas(replicas) })
                .collect(),
            scale_events: events.into_iter().map(|(ago, change)| ScaleEvent { at: at(NOW - ago), change }).collect(),
        };
        state.recommendations.sort_by_key(|entry| entry.at);
        state
    }
}

/// What stabilisation gives when every recommendation is kept.
fn stabilized_from_all(
    all: &[Recommendation],
    behavior: &HpaBehavior,
    now: Timestamp,
    current: Replicas,
    desired: Replicas,
) -> Replicas {
    let state = BehaviorState { recommendations: all.to_vec(), scale_events: Vec::new() };
    stabilize(&state, behavior, now, current, desired)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_result_is_within_bounds(
        mut state in any_state(), behavior in any_behavior(),
        current in 0_u32..300, desired in 0_u32..300, min in 0_u32..100, more in 0_u32..100,
    ) {
        let (min, max) = (Replicas(min), Replicas(min + more));
        let (result, limits) =
            normalize(&mut state, &behavior, at(NOW), Replicas(current), Replicas(desired), min, max);
        prop_assert!(result >= min && result <= max);
        let last = limits.last().map_or(Replicas(desired), |limit| limit.to);
        prop_assert_eq!(last, result);
    }

    #[test]
    fn limits_never_cross_current(
        state in any_state(), behavior in any_behavior(), current in 0_u32..300, desired in 0_u32..300,
    ) {
        let (current, desired) = (Replicas(current), Replicas(desired));
        let (lowest, highest) = rate_limit(&state, &behavior, at(NOW), current);
        prop_assert!(lowest <= current && current <= highest);
        let stabilized = stabilize(&state, &behavior, at(NOW), current, desired);
        prop_assert!(stabilized >= current.min(desired) && stabilized <= current.max(desired));
    }

    #[test]
    fn a_higher_wish_never_gives_fewer(
        state in any_state(), behavior in any_behavior(),
        current in 0_u32..300, desired in 0_u32..300, more in 0_u32..100,
    ) {
        let result = |desired| {
            normalize(&mut state.clone(), &behavior, at(NOW), Replicas(current), Replicas(desired), Replicas(1),
                Replicas(250)).0
        };
        prop_assert!(result(desired) <= result(desired + more));
    }

    #[test]
    fn what_is_forgotten_never_mattered(
        behavior in any_behavior(),
        steps in prop::collection::vec((1_i64..600, 0_u32..30, 0_u32..30), 1..100),
    ) {
        let (mut state, mut all, mut second) = (BehaviorState::default(), Vec::new(), NOW);
        for (wait, current, desired) in steps {
            second += wait;
            let (now, current, desired) = (at(second), Replicas(current), Replicas(desired));
            let expected = stabilized_from_all(&all, &behavior, now, current, desired);
            prop_assert_eq!(stabilize(&state, &behavior, now, current, desired), expected);
            state.record_recommendation(&behavior, now, desired);
            all.push(Recommendation { at: now, replicas: desired });
        }
    }

    #[test]
    fn the_state_stays_small(behavior in any_behavior(), numbers in prop::collection::vec(0_u32..5000, 300..600)) {
        let mut state = BehaviorState::default();
        let mut current = Replicas(10);
        for (second, desired) in (0_i64..).zip(numbers) {
            let now = at(NOW + second);
            let (next, _) =
                normalize(&mut state, &behavior, now, current, Replicas(desired), Replicas(1), Replicas(5000));
            state.record_scale(&behavior, now, current, next);
            current = next;
        }
        prop_assert!(state.recommendations.len() <= BehaviorState::CAPACITY);
        prop_assert!(state.scale_events.len() <= BehaviorState::CAPACITY);
    }

    #[test]
    fn nothing_overflows(
        state in any_state(), behavior in any_behavior(), current: u32, desired: u32, min: u32, max: u32, second: i64,
    ) {
        let now = Timestamp::from_second(second).unwrap_or(Timestamp::MAX);
        let (mut state, max) = (state, min.max(max));
        normalize(&mut state, &behavior, now, Replicas(current), Replicas(desired), Replicas(min), Replicas(max));
        state.record_scale(&behavior, now, Replicas(current), Replicas(desired));
    }
}
