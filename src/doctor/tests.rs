//! A good setup passes; each fault is named, alone, with its mend.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::rights::needed;
use super::*;
use crate::actuate::{Fault, FaultKind, Survey};
use crate::observe::{Family, Observation, QueryNode, Reading};
use crate::series::{Series, Step};
use crate::units::{Qps, Replicas};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_772_323_200 + second).unwrap()
}

fn value<T>(value: T) -> Reading<T> {
    Reading::Value { value, at: time(-5) }
}

fn observation() -> Observation {
    let node = |name: &str| QueryNode {
        name: name.to_owned(),
        scraped: Some(time(-5)),
        cpu: Some(2.4),
        cpu_limit: Some(4.0),
        ..QueryNode::default()
    };
    Observation {
        at: time(0),
        family: Some(Family::V2_4),
        versions: vec!["2.5.15".to_owned()],
        demand: value(Qps::clamped(310.0)),
        offered: value(Qps::clamped(310.0)),
        served: value(Qps::clamped(310.0)),
        offered_vectors: value(Qps::clamped(310.0)),
        served_vectors: value(Qps::clamped(310.0)),
        p99: value(SignedDuration::from_millis(42)),
        queue_p99: value(SignedDuration::from_millis(3)),
        backlog: value(0.0),
        utilization: value(0.6),
        memory: value(11.0 * 1024.0 * 1024.0 * 1024.0),
        loading: value(0.0),
        draining: value(0.0),
        copies: value(0.98),
        proxies_scraped: 2,
        proxies_ready: Some(2),
        query_nodes: vec![node("querynode-a"), node("querynode-b"), node("querynode-c")],
        warning: None,
    }
}

fn policy(more: &str) -> ClusterPolicy {
    ClusterPolicy::from_yaml(&format!(
        "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nmetadata: {{name: search, namespace: \
         milvus}}\nspec:\n  scaleTargetRef: {{kind: Deployment, name: milvus-querynode}}\n  minReplicas: 1\n  \
         maxReplicas: 20\n  prometheus: {{url: 'http://prometheus.monitoring.svc:9090'}}\n{more}"
    ))
    .unwrap()
}

fn workload() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "milvus-querynode", "namespace": "milvus", "managedFields": [
            {"manager": "kubectl-client-side-apply", "operation": "Update",
             "fieldsV1": {"f:spec": {"f:template": {}}}},
            {"manager": "milvus-autoscaler", "operation": "Update", "subresource": "scale",
             "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
             "fieldsV1": {"f:status": {"f:replicas": {}}}},
        ]},
        "spec": {"replicas": 3, "template": {"spec": {
            "terminationGracePeriodSeconds": 1860,
            "containers": [
                {"name": "sidecar"},
                {"name": "querynode", "resources": {"limits": {"cpu": "4", "memory": "16Gi"}}},
            ],
        }}},
    })
}

fn history(days: usize) -> Series {
    let step = Step::from_seconds(300).unwrap();
    let mut series = Series::new(time(-28 * 86_400), step);
    (0..28 * 288).for_each(|index| series.push((index >= (28 - days) * 288).then_some(Qps::HUNDRED)));
    series
}

/// A setup without fault.
fn good() -> Facts {
    let policy = policy("");
    let granted = |right| Asked { right, granted: Ok(true) };
    let rights = needed(&policy, "milvus", "milvus-autoscaler").into_iter().map(granted).collect();
    let cluster = ClusterFacts {
        version: "v1.34.4".to_owned(),
        namespace: "milvus".to_owned(),
        survey: Ok(Survey::assumed(&policy.target, Replicas(3))),
        workload: Some(workload()),
        lever: None,
        milvus: None,
        other_slot: None,
        proxies_ready: Some(2),
        has_definition: Some(true),
        user: "system:serviceaccount:milvus-autoscaler:milvus-autoscaler".to_owned(),
        rights,
    };
    Facts {
        policy,
        load: LoadFacts {
            url: "http://prometheus.monitoring.svc:9090".to_owned(),
            selector: "namespace=\"milvus\"".to_owned(),
            observation: Ok(observation()),
            history: Ok(history(28)),
            without_pod: Some(0),
        },
        cluster: Cluster::Known(Box::new(cluster)),
    }
}

fn golden(name: &str, facts: &Facts) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doctor").join(name);
    let text = render(&examine(facts));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

#[test]
fn a_good_setup_passes_every_check() {
    let checks = examine(&good());
    assert!(checks.iter().all(|check| check.verdict == Verdict::Pass), "{checks:#?}");
    golden("good.txt", &good());
}

#[test]
fn without_a_cluster_its_checks_are_skipped_and_do_not_pass() {
    let mut facts = good();
    facts.cluster = Cluster::Absent("no kubeconfig and not in a pod".to_owned());
    let checks = examine(&facts);
    let cluster: Vec<&Check> = checks.iter().filter(|check| check.area == CLUSTER).collect();
    assert!(cluster.len() >= 9);
    assert!(cluster.iter().all(|check| check.verdict == Verdict::Skip));
    assert_eq!(failed(&checks), 0);
    golden("no-cluster.txt", &facts);
}

#[test]
fn where_nothing_answers_two_checks_fail_and_the_others_are_skipped() {
    let mut facts = good();
    facts.load.observation =
        Err("Prometheus at http://p: no connection; check spec.prometheus.url".to_owned());
    facts.cluster = Cluster::Unreachable("no answer from the API server within 5 s".to_owned());
    let checks = examine(&facts);
    assert_eq!(failed(&checks), 2);
    assert!(checks.iter().all(|check| matches!(check.verdict, Verdict::Fail | Verdict::Skip)));
    golden("nothing-answers.txt", &facts);
}

/// What goes wrong, the check that says so, its verdict, and a part of its mend or finding.
type Case = (&'static str, fn(&mut Facts), &'static str, Verdict, &'static str);

fn seen(facts: &mut Facts) -> &mut Observation {
    facts.load.observation.as_mut().unwrap()
}

fn cluster(facts: &mut Facts) -> &mut ClusterFacts {
    let Cluster::Known(cluster) = &mut facts.cluster else { panic!("there is a cluster") };
    cluster
}

fn object(facts: &mut Facts) -> &mut Value {
    cluster(facts).workload.as_mut().unwrap()
}

fn managed_by(facts: &mut Facts, manager: &str) {
    object(facts)["metadata"]["managedFields"][1]["manager"] = json!(manager);
}

fn of_operator(facts: &mut Facts, replicas: i64) {
    cluster(facts).milvus = Some(json!({
        "kind": "Milvus", "metadata": {"name": "my", "annotations": {"milvus.io/querynode-current-group-id": "1"}},
        "spec": {"components": {"queryNode": {"replicas": replicas}}},
    }));
}

const CASES: &[Case] = &[
    ("wrong labels", |f| seen(f).family = None, "milvus", Verdict::Fail, "spec.prometheus.matchers"),
    (
        "an upgrade",
        |f| seen(f).versions.push("2.6.0".to_owned()),
        "milvus",
        Verdict::Warn,
        "finish the upgrade",
    ),
    (
        "a store of Thanos is away",
        |f| seen(f).warning = Some("store unavailable".to_owned()),
        "reachable",
        Verdict::Fail,
        "store unavailable",
    ),
    (
        "the scrape has stopped",
        |f| seen(f).demand = Reading::Stale { at: time(-600) },
        "demand",
        Verdict::Fail,
        "600 s old",
    ),
    (
        "a proxy is not scraped",
        |f| {
            seen(f).demand = Reading::Partial { value: Qps::clamped(155.0), at: time(-5) };
        },
        "demand",
        Verdict::Fail,
        "scrape every proxy",
    ),
    ("never searched", |f| seen(f).demand = Reading::Missing, "demand", Verdict::Fail, "rateWindow (2m)"),
    ("a proxy is not scraped", |f| seen(f).proxies_scraped = 1, "proxies", Verdict::Fail, "1 of 2 ready"),
    (
        "a QueryNode is not scraped",
        |f| drop(seen(f).query_nodes.pop()),
        "querynodes",
        Verdict::Fail,
        "2 of 3 ready",
    ),
    ("no pod labels", |f| f.load.without_pod = Some(5), "labels", Verdict::Warn, "5 processes"),
    ("no queue", |f| seen(f).queue_p99 = Reading::Missing, "queue", Verdict::Warn, "is missing"),
    (
        "no CPU limit is known and capacity is to be learned",
        |f| seen(f).utilization = Reading::Missing,
        "cpu",
        Verdict::Warn,
        "",
    ),
    (
        "loaded twice",
        |f| seen(f).copies = seen(f).copies.map(|_| 1.97),
        "in-memory",
        Verdict::Fail,
        "spec.minReplicas: 2",
    ),
    ("no coordinator", |f| seen(f).loading = Reading::Missing, "loading", Verdict::Warn, "coordinator"),
    ("no memory", |f| seen(f).memory = Reading::Missing, "memory", Verdict::Warn, "floor"),
    ("young", |f| f.load.history = Ok(history(3)), "history", Verdict::Warn, "3.0 days of 28"),
    ("new", |f| f.load.history = Ok(history(0)), "history", Verdict::Warn, "none yet"),
    ("slow", |f| f.load.history = Err("timeout".to_owned()), "history", Verdict::Fail, "timeout"),
    (
        "misspelt target",
        |f| {
            let message = "Deployment milvus/milvus-querynode: not found (404)";
            cluster(f).survey = Err(Fault::new(FaultKind::NotFound, message));
        },
        "target",
        Verdict::Fail,
        "scaleTargetRef",
    ),
    (
        "too many",
        |f| f.policy.policy.max_replicas = Replicas(2),
        "bounds",
        Verdict::Warn,
        "outside of 1 to 2",
    ),
    ("no CRD", |f| cluster(f).has_definition = Some(false), "definition", Verdict::Fail, "autoscaler crd"),
    (
        "killed after 30 s",
        |f| {
            let spec = &mut object(f)["spec"]["template"]["spec"];
            spec["terminationGracePeriodSeconds"] = Value::Null;
        },
        "grace-period",
        Verdict::Fail,
        "terminationGracePeriodSeconds: 1860",
    ),
    (
        "no memory limit",
        |f| {
            object(f)["spec"]["template"]["spec"]["containers"][1]["resources"]["limits"] = json!({"cpu": 4});
        },
        "memory-limit",
        Verdict::Fail,
        "resources.limits.memory",
    ),
    (
        "no CPU limit",
        |f| {
            object(f)["spec"]["template"]["spec"]["containers"][1]["resources"]["limits"] =
                json!({"memory": "1Gi"});
        },
        "cpu-limit",
        Verdict::Fail,
        "spec.capacity",
    ),
    ("Argo CD", |f| managed_by(f, "argocd-controller"), "other-writers", Verdict::Fail, "ignoreDifferences"),
    ("Flux", |f| managed_by(f, "kustomize-controller"), "other-writers", Verdict::Fail, "Flux"),
    ("Helm", |f| managed_by(f, "helm"), "other-writers", Verdict::Warn, "queryNode.replicas: -1"),
    ("a person", |f| managed_by(f, "kubectl-edit"), "other-writers", Verdict::Warn, "leave the number out"),
    ("a stranger", |f| managed_by(f, "night-job"), "other-writers", Verdict::Warn, "`night-job`"),
    (
        "Argo CD, whose number was changed",
        |f| {
            object(f)["metadata"]["annotations"] = json!({"argocd.argoproj.io/tracking-id": "milvus:apps"});
        },
        "other-writers",
        Verdict::Warn,
        "if its manifest has the replicas",
    ),
    (
        "Argo CD, whose manifest is known",
        |f| {
            object(f)["metadata"]["annotations"] = json!({
                "argocd.argoproj.io/tracking-id": "milvus:apps",
                "kubectl.kubernetes.io/last-applied-configuration": "{\"spec\": {\"replicas\": 2}}",
            });
        },
        "other-writers",
        Verdict::Fail,
        "takes back",
    ),
    (
        "the operator",
        |f| {
            managed_by(f, "milvus-operator");
            of_operator(f, 3);
            object(f)["metadata"]["labels"] = json!({"milvus.io/querynode-group-id": "1"});
        },
        "other-writers",
        Verdict::Fail,
        "queryNode.replicas: -1",
    ),
    (
        "the operator's idle Deployment",
        |f| {
            of_operator(f, -1);
            object(f)["metadata"]["labels"] = json!({"milvus.io/querynode-group-id": "0"});
        },
        "operator-slot",
        Verdict::Fail,
        "{kind: Milvus, name: my}",
    ),
    (
        "a permission is missing",
        |f| {
            for asked in &mut cluster(f).rights {
                asked.granted = Ok(asked.right.verb != "patch");
            }
        },
        "permissions",
        Verdict::Fail,
        "rbac.yaml",
    ),
];

#[test]
fn each_fault_is_named_with_its_mend() {
    for (what, break_it, name, verdict, part) in CASES {
        let mut facts = good();
        if *what == "no CPU limit is known and capacity is to be learned" {
            facts.policy = policy("  capacity: {qpsPerReplica: 100}\n");
        }
        break_it(&mut facts);
        let checks = examine(&facts);
        let check = checks.iter().find(|check| check.name == *name && check.verdict == *verdict);
        let check = check.unwrap_or_else(|| panic!("{what}: {checks:#?}"));
        assert!(check.finding.contains(part) || check.mend.contains(part), "{what}: {check:?}");
        assert!(!check.mend.is_empty(), "{what}: {check:?}");
        // A fault of one thing is not told as the fault of many.
        let others = checks.iter().filter(|check| check.verdict == Verdict::Fail && check.name != *name);
        assert_eq!(others.count(), 0, "{what}: {checks:#?}");
    }
}

#[test]
fn capacity_to_be_learned_needs_the_cpu_limit() {
    let mut facts = good();
    seen(&mut facts).utilization = Reading::Missing;
    let checks = examine(&facts);
    let check = checks.iter().find(|check| check.name == "cpu").unwrap();
    assert_eq!((check.verdict, failed(&checks)), (Verdict::Fail, 1));
}

#[test]
fn a_graceful_stop_that_was_made_shorter_needs_less_time() {
    let mut facts = good();
    let spec = &mut object(&mut facts)["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = json!(120);
    spec["containers"][1]["env"] = json!([{"name": "QUERYNODE_GRACEFULSTOPTIMEOUT", "value": "90"}]);
    assert_eq!(failed(&examine(&facts)), 0);
}

#[test]
fn many_faults_at_once_are_all_listed() {
    let mut facts = good();
    for (what, break_it, ..) in CASES {
        if !what.starts_with("Argo") && !what.contains("operator") && *what != "misspelt target" {
            break_it(&mut facts);
        }
    }
    golden("bad.txt", &facts);
}
