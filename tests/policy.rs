//! The policy as people write it: what it means, and what they are told when it is wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod specs;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use milvus_autoscaler::calendar::ScheduleBounds;
use milvus_autoscaler::decide::behavior::{HpaBehavior, ScalingPolicy, SelectPolicy};
use milvus_autoscaler::policy::{
    Auth, ClusterPolicy, DemandUnit, GivenCapacity, HeaderValue, MilvusAutoscaler, Mode, Policy, PolicyError,
    SecretKey, TargetKind, crd_yaml,
};
use milvus_autoscaler::units::{Qps, Ratio, Replicas};
use proptest::prelude::*;

fn data(name: &str) -> PathBuf {
    Path::new("tests/data/policy").join(name)
}

/// Compares with a file of expected text; `UPDATE_GOLDENS=1` writes it.
fn assert_golden(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    assert_eq!(actual, expected, "{} differs; UPDATE_GOLDENS=1 writes it anew", path.display());
}

fn secret(secret: &str, key: &str) -> SecretKey {
    SecretKey { secret: secret.to_owned(), key: key.to_owned() }
}

#[test]
fn the_smallest_policy_has_every_default() {
    let ClusterPolicy { policy, target, hpa, prometheus } =
        ClusterPolicy::read(&data("minimal.yaml")).unwrap();
    assert_eq!((policy.min_replicas, policy.max_replicas), (Replicas(1), Replicas(20)));
    assert_eq!((policy.mode, policy.demand.unit), (Mode::Active, DemandUnit::Qps));
    assert_eq!((&policy.capacity, policy.lead_time, policy.slo.p99_latency), (&None, None, None));
    assert_eq!(policy.slo.violation_budget, Ratio::clamped(0.001));
    assert_eq!(
        (policy.target_utilization, policy.memory_utilization),
        (Ratio::clamped(0.7), Ratio::clamped(0.8))
    );
    assert_eq!(policy.history, SignedDuration::from_hours(28 * 24));
    assert_eq!(policy.calendar.zone().iana_name(), Some("UTC"));
    assert_eq!(policy.behavior, HpaBehavior::default());
    assert!(policy.schedules.is_empty());
    assert_eq!((target.kind, target.name.as_str(), hpa), (TargetKind::Milvus, "milvus", None));
    assert_eq!((prometheus.auth, prometheus.ca, prometheus.matchers), (None, None, None));
    assert_eq!(prometheus.timeout, SignedDuration::from_secs(10));
}

#[test]
fn everything_that_is_written_counts() {
    let ClusterPolicy { policy, hpa, prometheus, .. } = ClusterPolicy::read(&data("full.yaml")).unwrap();
    assert_eq!((policy.name.as_str(), policy.namespace.as_deref()), ("search", Some("milvus")));
    assert_eq!((policy.mode, policy.demand.unit), (Mode::Preview, DemandUnit::Nq));
    let point = |replicas, qps| (Replicas(replicas), Qps::new(qps).unwrap());
    assert_eq!(policy.capacity, Some(GivenCapacity::Curve(vec![point(1, 95.0), point(4, 340.0)])));
    assert_eq!(policy.slo.p99_latency, Some(SignedDuration::from_millis(100)));
    assert_eq!(policy.lead_time, Some(SignedDuration::from_mins(10)));
    assert_eq!(policy.calendar.holidays().count(), 8);
    let event = &policy.calendar.events()[0];
    assert_eq!(event.start, "2026-11-10T16:00:00Z".parse().unwrap());
    assert_eq!(policy.schedules.iter().count(), 2);
    let monday_nine = "2026-10-12T01:00:00Z".parse().unwrap();
    assert_eq!(policy.schedules.bounds(monday_nine).min, Some(Replicas(2)));
    assert_eq!(policy.behavior.scale_up.select, SelectPolicy::Min);
    let first = ScalingPolicy::Pods { value: 4, period: SignedDuration::from_mins(1) };
    assert_eq!(policy.behavior.scale_up.policies[0], first);
    assert_eq!(policy.behavior.scale_down, HpaBehavior::kubernetes().scale_down);
    assert_eq!(hpa.as_deref(), Some("milvus-querynode"));
    assert_eq!(prometheus.url, "https://mimir.monitoring.svc/prometheus");
    assert_eq!(prometheus.ca, Some(secret("mimir-ca", "ca.crt")));
    let login =
        Auth::Basic { username: secret("mimir-login", "username"), password: secret("mimir-login", "token") };
    assert_eq!(prometheus.auth, Some(login));
    assert_eq!(prometheus.headers[0].1, HeaderValue::Literal("search".to_owned()));
    assert_eq!(prometheus.headers[1].1, HeaderValue::Secret(secret("mimir-token", "token")));
}

#[test]
fn to_simulate_neither_target_nor_prometheus_is_needed() {
    let text = "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nspec: {minReplicas: 2, maxReplicas: 9, prometheus: null}";
    assert_eq!(Policy::from_yaml(text).unwrap().min_replicas, Replicas(2));
    let error = ClusterPolicy::from_yaml(text).unwrap_err().to_string();
    assert!(error.contains("spec.scaleTargetRef: is missing"), "{error}");
}

#[test]
fn json_is_yaml() {
    let text = r#"{"apiVersion":"milvus-autoscaler.io/v1alpha1","kind":"MilvusAutoscaler","spec":{"minReplicas":2,"maxReplicas":9}}"#;
    assert_eq!(Policy::from_yaml(text).unwrap().max_replicas, Replicas(9));
}

#[test]
fn every_problem_is_told_with_its_place() {
    for name in ["broken", "misspelt"] {
        let error = ClusterPolicy::read(&data(&format!("{name}.yaml"))).unwrap_err();
        assert_golden(&data(&format!("{name}.txt")), &format!("{error}\n"));
    }
}

#[test]
fn the_binary_refuses_and_accepts_what_the_api_server_does() {
    for case in specs::cases() {
        let result = ClusterPolicy::from_yaml(&case.policy.to_string());
        assert_eq!(result.is_err(), case.refused.is_some(), "{case:?}: {result:?}");
    }
}

#[test]
fn a_resource_is_checked_like_a_file() {
    for case in specs::cases() {
        // What the API server has let through can be read; what it means may still be wrong.
        if let Ok(resource) = serde_json::from_value::<MilvusAutoscaler>(case.policy.clone()) {
            let from_file = ClusterPolicy::from_yaml(&case.policy.to_string());
            if let Ok(policy) = from_file {
                assert_eq!(ClusterPolicy::from_resource(&resource).unwrap(), policy);
            }
        }
    }
    let mut resource: MilvusAutoscaler = serde_json::from_value(specs::full()).unwrap();
    resource.spec.forecast.as_mut().unwrap().time_zone = Some("Asia/Shangai".into());
    let error = ClusterPolicy::from_resource(&resource).unwrap_err().to_string();
    assert!(error.ends_with("did you mean Asia/Shanghai?"), "{error}");
}

#[test]
fn schedules_stay_within_the_bounds_of_the_policy() {
    let policy = Policy::with_bounds(Replicas(2), Replicas(10));
    let bounds = |min: Option<u32>, max: Option<u32>| {
        let scheduled = ScheduleBounds { min: min.map(Replicas), max: max.map(Replicas), active: Vec::new() };
        let (min, max) = policy.bounds(&scheduled);
        (min.0, max.0)
    };
    assert_eq!(bounds(None, None), (2, 10));
    assert_eq!(bounds(Some(4), Some(6)), (4, 6));
    assert_eq!(bounds(Some(1), Some(20)), (2, 10));
    assert_eq!(bounds(Some(20), Some(1)), (10, 10));
    assert_eq!(bounds(Some(4), Some(3)), (4, 4));
    assert_eq!(bounds(None, Some(1)), (2, 2));
}

#[test]
fn what_is_no_policy_is_told_as_such() {
    let cases = [
        ("", "apiVersion: is missing; write `apiVersion: milvus-autoscaler.io/v1alpha1`"),
        ("just text", "apiVersion: is missing"),
        ("[]", "apiVersion: is missing"),
        (
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler",
            "2:7: kind: is `HorizontalPodAutoscaler`; write",
        ),
        ("apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler", "spec: is missing"),
        ("a: [1, 2", "cannot be read as YAML"),
        ("a: 1\na: 2", "2:1: cannot be read as YAML"),
        ("a: 1\n---\nb: 2", "cannot be read as YAML"),
    ];
    for (text, expected) in cases {
        let error = Policy::from_yaml(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

#[test]
fn what_is_no_file_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    assert!(matches!(Policy::read(&file), Err(PolicyError::Read { .. })));
    assert!(matches!(Policy::read(folder.path()), Err(PolicyError::Read { .. })));
    fs::write(&file, vec![b' '; 1 + (1 << 20)]).unwrap();
    assert!(matches!(Policy::read(&file), Err(PolicyError::TooLarge { .. })));
    fs::write(&file, b"a: 1\nb: \xff").unwrap();
    let error = Policy::read(&file).unwrap_err().to_string();
    assert!(error.contains("policy.yaml:2:1: not a text file"), "{error}");
}

#[test]
fn the_definition_is_the_one_that_ships() {
    assert_golden(&data("crd.yaml"), &crd_yaml());
    assert_eq!(crd_yaml(), crd_yaml());
}

/// YAML that is often nearly a policy.
fn nearly_yaml() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "apiVersion: milvus-autoscaler.io/v1alpha1\n",
        "kind: MilvusAutoscaler\n",
        "spec:\n",
        "  minReplicas: ",
        "1\n",
        "  maxReplicas: ",
        "99999999999999999999\n",
        "-1\n",
        "  leadTime: ",
        "10m\n",
        "  schedules:\n",
        "  - ",
        "{",
        "}",
        "[",
        "]",
        "name: a",
        ", ",
        "start: '* * * * *'",
        "duration: 5m",
        "minReplicas: 2",
        "&a ",
        "*a ",
        "<<: ",
        "\t",
        "? ",
        "!!binary ",
        "|\n",
        "\u{feff}",
        "é",
        "\"",
        "'",
        "~\n",
        ".inf\n",
        ".nan\n",
        "0x1F\n",
        "%YAML 1.2\n",
        "---\n",
        "  capacity: {qpsPerReplica: .nan}\n",
        "  forecast: {timeZone: ''}\n",
        "  metadata: 1\n",
        "spec: {minReplicas: 1, maxReplicas: 2}\n",
    ]);
    prop::collection::vec(prop_oneof![6 => piece.prop_map(str::to_owned), 1 => ".{0,8}"], 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_text_makes_the_reader_panic(text in nearly_yaml()) {
        if let Err(error) = Policy::from_yaml(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_change_to_a_policy_makes_the_reader_panic(at in 0_usize..2000, length in 0_usize..30, with in ".{0,6}") {
        let text = fs::read_to_string(data("full.yaml")).unwrap();
        let (from, to) = (at.min(text.len()), (at + length).min(text.len()));
        prop_assume!(text.is_char_boundary(from) && text.is_char_boundary(to));
        let changed = format!("{}{with}{}", &text[..from], &text[to..]);
        let _ = ClusterPolicy::from_yaml(&changed);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        prop_assert!(Policy::read(file.path()).is_err());
    }
}
