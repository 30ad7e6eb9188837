//! The commands that ask Prometheus, on a real one: a real Milvus under real searches, and a real API server.
//!
//! `tests/real/setup && cargo test --test real_prometheus`
#![allow(clippy::unwrap_used, clippy::panic)]
// Servers live in real time.
#![allow(clippy::disallowed_methods)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use milvus_autoscaler::observe::csv;
use serde_json::{Value, json};
use support::kubelet::{Behaviour, Kubelet};
use support::kubernetes::Kubernetes;
use support::milvus::{Milvus, SearchLoad, Second};
use support::prometheus::{Prometheus, USER, scrape};
use support::{Folder, eventually};

const NAMESPACE: &str = "milvus";
const OWN: &str = "milvus-autoscaler";
const SOON: Duration = Duration::from_secs(60);
/// Searches: 50 seconds of 20 a second, and then 60 a second.
const PLAN: &str = "50:20,55:60";
const STEP: i64 = 5;

/// Runs `autoscaler`, without any cluster unless `kubeconfig` names one.
async fn autoscaler(folder: &Path, kubeconfig: Option<&Path>, arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_autoscaler"));
    let absent = folder.join("absent");
    command.current_dir(folder).args(arguments).env("HOME", folder).timeout(SOON);
    command.env("KUBECONFIG", kubeconfig.unwrap_or(&absent));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a run that must succeed printed.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A policy in a folder.
fn write_policy(folder: &Path, name: &str, url: &str, change: impl FnOnce(&mut Value)) {
    let mut policy = json!({
        "apiVersion": "milvus-autoscaler.io/v1alpha1", "kind": "MilvusAutoscaler",
        "metadata": {"name": "search", "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "querynode"},
            "minReplicas": 1, "maxReplicas": 12,
            "prometheus": {"url": url, "timeout": "5s", "rateWindow": "10s", "staleAfter": "30s"},
            "capacity": {"qpsPerReplica": 10},
            "leadTime": "5m",
            "forecast": {"timeZone": "Asia/Shanghai"},
        },
    });
    change(&mut policy);
    fs::write(folder.join(name), policy.to_string()).unwrap();
}

/// Waits until the load has run for so many seconds.
async fn until_second(load: &SearchLoad, second: usize) {
    eventually(&format!("second {second} of the load"), Duration::from_secs(180), || async {
        let seconds = load.seconds().len();
        if seconds >= second { Ok(()) } else { Err(seconds.to_string()) }
    })
    .await;
}

/// The mean of what was sent in `from..from + STEP`, unless the load changed within ten seconds of it.
fn sent(seconds: &[Second], from: i64) -> Option<f64> {
    let around: Vec<&Second> =
        seconds.iter().filter(|one| (from - 10..from + STEP + 10).contains(&i64::from(one.second))).collect();
    let first = around.first()?.target_qps;
    let steady = around.len() == 25 && around.iter().all(|one| (one.target_qps - first).abs() < 0.1);
    let within = around.iter().filter(|one| (from..from + STEP).contains(&i64::from(one.second)));
    steady.then(|| within.map(|one| one.qps).sum::<f64>() / STEP as f64)
}

/// One Milvus, one Prometheus, and every command that asks them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_searched_is_recorded_and_recommended_on() {
    let folder = Folder::new("cli");
    let milvus = Milvus::start().await;
    let labels = [("namespace", NAMESPACE), ("pod", "milvus-standalone-0")];
    let mut prometheus = Prometheus::start(&scrape(&[(milvus.metrics(), &labels)])).await;
    write_policy(folder.path(), "policy.yaml", &prometheus.url(), |_| {});

    let mut load = milvus.search(PLAN, &["--vectors", "2000", "--dim", "32", "--shards", "2"]);
    load.running().await;
    let began = Timestamp::now().as_second() - 1;

    // Prometheus is down for a while, and Milvus goes on.
    until_second(&load, 16).await;
    prometheus.stop();
    let down = Timestamp::now().as_second();
    until_second(&load, 32).await;
    prometheus.run().await;
    let up = Timestamp::now().as_second();

    until_second(&load, 85).await;
    recommends_for_the_load(folder.path()).await;
    doctor_of_prometheus(folder.path(), &prometheus.url()).await;
    doctor_of_a_cluster(folder.path(), &prometheus.url()).await;

    let seconds = load.finish().await;
    record_is_what_was_sent(folder.path(), &seconds, began, down..up).await;

    prometheus.stop();
    let gone = autoscaler(folder.path(), None, &["recommend", "--policy", "policy.yaml"]).await;
    assert_eq!(gone.status.code(), Some(1));
    let message = text(&gone.stderr);
    assert!(message.contains("no connection") && message.contains("spec.prometheus.url"), "{message}");
}

async fn record_is_what_was_sent(folder: &Path, seconds: &[Second], began: i64, down: std::ops::Range<i64>) {
    let arguments = ["record", "--policy", "policy.yaml", "--range", "4m", "--step", "5s", "-o", "load.csv"];
    let recorded = autoscaler(folder, None, &arguments).await;
    assert_eq!(printed(&recorded), "");
    let said = text(&recorded.stderr);
    assert!(said.starts_with("load.csv: ") && said.contains("rows of 5s"), "{said}");
    let trace = csv::read_file(&folder.join("load.csv")).unwrap();
    let mut compared = [0, 0];
    for row in trace.iter() {
        let at = row.time.as_second();
        // The window around the row's bucket must not touch the time without Prometheus.
        let is_cut = at - 10 < down.end && at + STEP + 10 > down.start;
        let Some(sent) = sent(seconds, at - began).filter(|_| !is_cut) else { continue };
        assert!((row.qps.get() / sent - 1.0).abs() < 0.15, "{at}: {} of {sent}", row.qps);
        assert!(row.nq_per_second.is_some_and(|nq| (nq / sent - 1.0).abs() < 0.15), "{row:?} of {sent}");
        assert!(row.p99_ms.is_some_and(|p99| p99 > 0.0 && p99 < 10_000.0), "{row:?}");
        compared[usize::from(sent > 40.0)] += 1;
    }
    assert!(compared[1] >= 4, "{compared:?}: {said}");
    // While Prometheus was down there are no rows.
    let gap = trace.iter().filter(|row| (down.start + 6..down.end - 6).contains(&row.time.as_second()));
    assert_eq!(gap.count(), 0, "{said}");
    assert!(trace.gaps().count() >= 1, "{said}");

    // It is a trace that can be simulated.
    let simulate =
        ["simulate", "--trace", "load.csv", "--policy", "policy.yaml", "--step", "5s", "--format", "json"];
    let summary: Value = serde_json::from_str(&printed(&autoscaler(folder, None, &simulate).await)).unwrap();
    assert_eq!(summary["trace"]["rows"], trace.rows());
}

async fn recommends_for_the_load(folder: &Path) {
    let arguments = ["recommend", "--policy", "policy.yaml", "--format", "json"];
    let report: Value = serde_json::from_str(&printed(&autoscaler(folder, None, &arguments).await)).unwrap();
    let (status, decision) = (&report["status"], &report["status"]["decision"]);
    assert_eq!(status["currentReplicas"], 1, "{report:#}");
    let demand = decision["demandQps"].as_f64().unwrap();
    assert!((45.0..75.0).contains(&demand), "{report:#}");
    // What is measured now is carried, and the fleet is not doubled for fear.
    let desired = status["desiredReplicas"].as_i64().unwrap();
    assert!((5..=12).contains(&desired), "{report:#}");
    assert_eq!(decision["action"], "ScaleUp");
    assert!(!decision["proposals"].as_array().unwrap().is_empty());

    let table = printed(&autoscaler(folder, None, &["recommend", "--policy", "policy.yaml"]).await);
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["scale up: 1 → ", "as Prometheus scrapes", "10.0 QPS a replica, from the policy", "CST"] {
        assert!(words.contains(part), "{part}: {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

/// What a check of a report found.
fn finding<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap()["finding"].as_str().unwrap()
}

/// The checks of a report that have this verdict.
fn with_verdict(report: &Value, verdict: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["verdict"] == verdict);
    checks.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

/// What `doctor` fails for, having said so with its exit code.
async fn failures(folder: &Path, kubeconfig: Option<&Path>, arguments: &[&str]) -> Vec<String> {
    with_verdict(&examined(folder, kubeconfig, arguments).await, "fail")
}

/// What `doctor` says, with the exit code that belongs to it.
async fn examined(folder: &Path, kubeconfig: Option<&Path>, arguments: &[&str]) -> Value {
    let all = [&["doctor", "--format", "json", "--policy"], arguments].concat();
    let output = autoscaler(folder, kubeconfig, &all).await;
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{} {}", text(&output.stdout), text(&output.stderr)));
    let failed = with_verdict(&report, "fail");
    assert_eq!(output.status.code(), Some(i32::from(!failed.is_empty())), "{report:#}");
    report
}

async fn doctor_of_prometheus(folder: &Path, url: &str) {
    let good = examined(folder, None, &["policy.yaml"]).await;
    assert_eq!(good["failed"], 0, "{good:#}");
    // By its series alone, as this version does not name itself.
    assert!(finding(&good, "milvus").contains("2.3"), "{good:#}");
    assert!(finding(&good, "in-memory").contains("up to 1 in-memory replica,"), "{good:#}");
    assert!(with_verdict(&good, "skip").contains(&"permissions".to_owned()));
    let matchers = |labels: Value| {
        move |policy: &mut Value| {
            policy["spec"]["prometheus"]["matchers"] = labels;
        }
    };
    write_policy(folder, "elsewhere.yaml", url, matchers(json!({"namespace": "elsewhere"})));
    let failed = failures(folder, None, &["elsewhere.yaml"]).await;
    assert!(
        ["milvus", "demand", "querynodes"].iter().all(|name| failed.contains(&(*name).to_owned())),
        "{failed:?}"
    );
    write_policy(folder, "query.yaml", url, |policy| {
        policy["spec"]["demand"] = json!({"query": "sum(rate(no_such_metric[1m]))"});
    });
    assert_eq!(failures(folder, None, &["query.yaml"]).await, ["demand"]);
}

/// A Deployment of QueryNodes as it should be.
fn deployment(name: &str) -> Value {
    let labels = json!({"app": name, "app.kubernetes.io/instance": "milvus"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 1860,
                "containers": [{"name": "querynode", "image": "milvus",
                    "resources": {"limits": {"cpu": "500m", "memory": "4Gi"}}}],
            },
        }},
    })
}

struct Cluster {
    api_server: Kubernetes,
    _kubelet: Kubelet,
    kubeconfig: PathBuf,
}

impl Cluster {
    async fn start() -> Self {
        let api_server = Kubernetes::start().await;
        let behaviour =
            Behaviour { ready_after: Some(Duration::from_millis(100)), drain: Duration::from_millis(100) };
        let kubelet = Kubelet::start(&api_server, behaviour);
        api_server.namespace(NAMESPACE).await;
        api_server.namespace(OWN).await;
        let kubeconfig = api_server.kubeconfig();
        Self { api_server, _kubelet: kubelet, kubeconfig }
    }

    /// Creates a Deployment as `manager` would, and waits for its pods.
    async fn deploy(&self, object: Value, manager: &str) {
        let deployments: Api<Deployment> = Api::namespaced(self.api_server.client().await, NAMESPACE);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let parameters = PatchParams::apply(manager).force();
        deployments.patch(&name, &parameters, &Patch::Apply(&object)).await.unwrap();
        eventually(&format!("pods of {name}"), SOON, || async {
            let status = deployments.get(&name).await.unwrap().status.unwrap_or_default();
            let (wanted, ready) = (status.replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
            if wanted > 0 && wanted == ready { Ok(()) } else { Err(format!("{ready} of {wanted}")) }
        })
        .await;
    }

    fn install(&self, files: &[&str]) {
        for file in files {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/autoscaler").join(file);
            let file = file.display().to_string();
            self.api_server.kubectl(&["--namespace", OWN, "apply", "--server-side", "--filename", &file]);
        }
    }
}

async fn doctor_of_a_cluster(folder: &Path, url: &str) {
    let cluster = Cluster::start().await;
    let kubeconfig = Some(cluster.kubeconfig.as_path());
    let policy = |name: &str, target: &str| {
        write_policy(folder, name, url, |policy| policy["spec"]["scaleTargetRef"]["name"] = json!(target));
    };
    let controller = format!("system:serviceaccount:{OWN}:milvus-autoscaler");

    let failed = failures(folder, kubeconfig, &["policy.yaml"]).await;
    assert_eq!(failed, ["definition", "target"], "nothing is installed yet");

    cluster.install(&["crd.yaml", "rbac.yaml"]);
    cluster.api_server.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/milvusautoscalers.milvus-autoscaler.io",
    ]);
    cluster.deploy(deployment("querynode"), "installer").await;
    let mut proxy = deployment("proxy");
    proxy["spec"]["template"]["metadata"]["labels"]["component"] = json!("proxy");
    cluster.deploy(proxy.clone(), "installer").await;
    let good = ["policy.yaml", "--as", controller.as_str()];
    assert!(failures(folder, kubeconfig, &good).await.is_empty());

    // Without the rights of the controller.
    let stranger = format!("system:serviceaccount:{NAMESPACE}:default");
    let failed = failures(folder, kubeconfig, &["policy.yaml", "--as", &stranger]).await;
    assert!(
        failed.contains(&"permissions".to_owned()) && failed.contains(&"target".to_owned()),
        "{failed:?}"
    );

    // Killed in the middle of a drain, and without limits.
    let mut bare = deployment("bare");
    bare["spec"]["template"]["spec"] = json!({"containers": [{"name": "querynode", "image": "milvus"}]});
    cluster.deploy(bare, "installer").await;
    policy("bare.yaml", "bare");
    let failed = failures(folder, kubeconfig, &["bare.yaml"]).await;
    assert_eq!(failed, ["memory-limit", "grace-period"], "a given capacity needs no CPU limit");

    // Argo CD keeps the number.
    let mut kept = deployment("kept");
    kept["spec"]["replicas"] = json!(1);
    cluster.deploy(kept, "argocd-controller").await;
    policy("kept.yaml", "kept");
    assert_eq!(failures(folder, kubeconfig, &["kept.yaml"]).await, ["other-writers"]);

    // What recommend sees is the cluster, and the decision the same.
    let arguments = ["recommend", "--policy", "policy.yaml", "--format", "json"];
    let report = printed(&autoscaler(folder, kubeconfig, &arguments).await);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["currentReplicasFrom"], "as the cluster says");
    assert_eq!(report["status"]["target"]["name"], "querynode");
    assert_eq!(report["status"]["capacity"]["origin"], "Given");
    assert!(report["status"]["memory"]["residentBytes"].as_i64().unwrap() > 1 << 20, "{report:#}");

    // Without a given capacity, what a QueryNode carries comes from its utilisation and its CPU limit.
    write_policy(folder, "learned.yaml", url, |policy| policy["spec"]["capacity"] = Value::Null);
    let arguments = ["recommend", "--policy", "learned.yaml", "--format", "json"];
    let report = printed(&autoscaler(folder, kubeconfig, &arguments).await);
    let report: Value = serde_json::from_str(&report).unwrap();
    let capacity = &report["status"]["capacity"];
    assert_eq!(capacity["origin"], "Learned", "{report:#}");
    assert!((20.0..2000.0).contains(&capacity["qpsPerReplica"].as_f64().unwrap()), "{report:#}");
    let table = printed(&autoscaler(folder, kubeconfig, &arguments[..3]).await);
    assert!(table.contains("learned, confidence"), "{table}");

    // A second proxy that nobody scrapes.
    proxy["spec"]["replicas"] = json!(2);
    cluster.deploy(proxy, "installer").await;
    eventually("two proxies", SOON, || async {
        let failed = failures(folder, kubeconfig, &good).await;
        if failed == ["demand", "proxies"] { Ok(()) } else { Err(format!("{failed:?}")) }
    })
    .await;
}

/// Over TLS, and for one user alone: nothing is had without both.
#[tokio::test(flavor = "multi_thread")]
async fn a_secured_prometheus_answers_those_who_log_in() {
    let folder = Folder::new("cli-secured");
    // An hour of 50 to 109 queries a second, a minute's step, until now.
    let now = Timestamp::now().as_second() / 60 * 60;
    let mut past = String::from("# TYPE demand gauge\n");
    for minute in 0..=60 {
        writeln!(past, "demand {} {}", 50 + minute % 60, now - 3600 + 60 * minute).unwrap();
    }
    past.push_str("# EOF\n");
    let prometheus = Prometheus::start_secured(&past).await;
    write_policy(folder.path(), "policy.yaml", &prometheus.url(), |policy| {
        policy["spec"]["demand"] = json!({"query": "demand"});
    });
    let (name, password) = USER;
    fs::write(folder.path().join("password"), format!("{password}\n")).unwrap();
    fs::write(folder.path().join("wrong"), "wr0ng\n").unwrap();
    let ca = prometheus.ca_certificate().display().to_string();
    let record = |arguments: &[&str]| {
        let all: Vec<String> = ["record", "--policy", "policy.yaml", "--range", "30m", "-o", "load.csv"]
            .iter()
            .chain(arguments)
            .map(|argument| (*argument).to_owned())
            .collect();
        let folder = folder.path();
        async move {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            autoscaler(folder, None, &all).await
        }
    };
    let login = ["--username", name, "--password-file", "password"];
    for (arguments, part) in [
        (&login[..], "certificate"),
        (&["--ca-file", ca.as_str()], "401"),
        (&["--ca-file", ca.as_str(), "--username", name, "--password-file", "wrong"], "401"),
    ] {
        let refused = record(arguments).await;
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(message.contains(part) && !message.contains("wr0ng"), "{message}");
        assert!(!folder.path().join("load.csv").exists());
    }
    let recorded = record(&[&login[..], &["--ca-file", ca.as_str()]].concat()).await;
    assert_eq!(printed(&recorded), "");
    let trace = csv::read_file(&folder.path().join("load.csv")).unwrap();
    assert!((28..=30).contains(&trace.rows()), "{}", text(&recorded.stderr));
    let rates = trace.qps();
    assert!(rates.windows(2).all(|pair| (pair[1] - pair[0] - 1.0).abs() < 1e-9 || pair[1] < pair[0]));
}
