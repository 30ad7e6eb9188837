//! The controller, as the binary and with the Role that ships, against a real API server with its real controllers.
//!
//! `tests/real/setup kubernetes && cargo test --test real_kubernetes_controller`
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

mod stub;
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use milvus_autoscaler::policy::MilvusAutoscaler;
use serde_json::{Value, json};
use stub::{Answer, PrometheusStub};
use support::background::Background;
use support::faults::{Fault, Faults};
use support::kubelet::{Behaviour, Kubelet};
use support::kubernetes::{Kubernetes, Options};
use support::process::Process;
use support::prometheus::{Prometheus, scrape};
use support::resource_metrics::ResourceMetrics;
use support::{equal, eventually, free_port};

const SOON: Duration = Duration::from_secs(30);
const QUICK: Behaviour =
    Behaviour { ready_after: Some(Duration::from_millis(200)), drain: Duration::from_millis(200) };
const OWN: &str = "milvus-autoscaler";
const NAMESPACE: &str = "milvus";

/// A cluster with the autoscaler's definition and Role, a kubelet, a Prometheus.
struct Scene {
    cluster: Kubernetes,
    client: Client,
    _kubelet: Kubelet,
    prometheus: PrometheusStub,
    kubeconfig: PathBuf,
}

impl Scene {
    async fn set(demand: f64) -> Self {
        let cluster = Kubernetes::start_with(Options { audit_reads: true, ..Options::default() }).await;
        let kubelet = Kubelet::start(&cluster, QUICK);
        let client = cluster.client().await;
        cluster.namespace(NAMESPACE).await;
        cluster.namespace(OWN).await;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/autoscaler");
        for file in ["crd.yaml", "rbac.yaml"] {
            let file = shipped.join(file).display().to_string();
            cluster.kubectl(&["--namespace", OWN, "apply", "--server-side", "--filename", &file]);
        }
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/milvusautoscalers.milvus-autoscaler.io",
        ]);
        let kubeconfig = cluster.kubeconfig_of(OWN, "milvus-autoscaler").await;
        let prometheus = PrometheusStub::start(demand).await;
        Self { cluster, client, _kubelet: kubelet, prometheus, kubeconfig }
    }

    /// A controller with the rights that the Role gives.
    fn controller(&self, name: &str) -> Controller {
        self.controller_by(name, &self.kubeconfig)
    }

    fn controller_by(&self, name: &str, kubeconfig: &Path) -> Controller {
        let port = free_port();
        let arguments = [
            "run".to_owned(),
            "--interval=1s".into(),
            format!("--listen=127.0.0.1:{port}"),
            format!("--own-namespace={OWN}"),
            format!("--identity={name}"),
        ];
        let kubeconfig = kubeconfig.display().to_string();
        let environment = [("KUBECONFIG", kubeconfig.as_str()), ("RUST_LOG", "debug")];
        let program = Path::new(env!("CARGO_BIN_EXE_autoscaler"));
        let process = Process::start(name, self.cluster.folder(), program, &arguments, &environment);
        Controller { _process: process, port }
    }

    fn policies(&self) -> Api<MilvusAutoscaler> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// A policy for the Deployment `querynode`: 100 QPS a replica.
    async fn policy(&self, change: impl FnOnce(&mut Value)) {
        let mut policy = json!({
            "apiVersion": "milvus-autoscaler.io/v1alpha1", "kind": "MilvusAutoscaler",
            "metadata": {"name": "querynode"},
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "querynode"},
                "minReplicas": 1, "maxReplicas": 8,
                "prometheus": {"url": self.prometheus.url(), "timeout": "2s"},
                "demand": {"query": "demand"},
                "capacity": {"qpsPerReplica": 100},
                "leadTime": "1m",
                "forecast": {"history": "1d"},
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
            },
        });
        change(&mut policy);
        let policy = serde_json::from_value(policy).unwrap();
        self.policies().create(&PostParams::default(), &policy).await.unwrap();
    }

    async fn deployment(&self, replicas: i32) -> Api<Deployment> {
        self.deployment_named("querynode", replicas).await
    }

    async fn deployment_named(&self, name: &str, replicas: i32) -> Api<Deployment> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name, "app.kubernetes.io/instance": "one", "component": name}},
                "spec": {"containers": [{"name": "milvus", "image": "milvus",
                    "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}}]}}}});
        deployments
            .create(&PostParams::default(), &serde_json::from_value(deployment).unwrap())
            .await
            .unwrap();
        deployments
    }

    async fn status(&self) -> Result<Value, String> {
        let policy = self.policies().get("querynode").await.map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(policy.status.ok_or("no status")?).unwrap())
    }

    /// Waits until a condition has this status and reason.
    async fn condition(&self, type_: &str, status: &str, reason: &str) {
        eventually(&format!("{type_}={status}, {reason}"), SOON, || async {
            let all = self.status().await?;
            let conditions = all["conditions"].as_array().cloned().unwrap_or_default();
            let one = conditions.iter().find(|condition| condition["type"] == type_).cloned();
            let one = one.ok_or_else(|| all.to_string())?;
            if one["status"] == status && one["reason"] == reason { Ok(()) } else { Err(all.to_string()) }
        })
        .await;
    }

    /// What the controller asked the API server for, in order.
    fn requests(&self) -> impl Iterator<Item = Value> {
        let ours = format!("system:serviceaccount:{OWN}:milvus-autoscaler");
        self.cluster.audit().into_iter().filter(move |event| event["user"]["username"] == ours.as_str())
    }

    /// The Role that ships is enough, and nothing was asked for that it does not give.
    fn assert_permitted(&self) {
        let refused: Vec<Value> =
            self.requests().filter(|event| event["responseStatus"]["code"] == 403).collect();
        assert!(refused.is_empty(), "{refused:#?}");
        assert!(self.requests().any(|event| event["verb"] == "get"), "reads are in the audit log");
    }

    /// The reasons of events about policies.
    async fn events(&self) -> Vec<String> {
        let events: Api<k8s_openapi::api::events::v1::Event> =
            Api::namespaced(self.client.clone(), NAMESPACE);
        let list = events.list(&ListParams::default()).await.unwrap().items;
        list.into_iter()
            .filter(|event| {
                event
                    .regarding
                    .as_ref()
                    .is_some_and(|about| about.kind.as_deref() == Some("MilvusAutoscaler"))
            })
            .filter_map(|event| event.reason)
            .collect()
    }

    /// Replica counts that the controller asked for, in order.
    fn scales(&self) -> Vec<i64> {
        let events = self.requests().filter(|event| event["objectRef"]["subresource"] == "scale");
        events.filter_map(|event| event["requestObject"]["spec"]["replicas"].as_i64()).collect()
    }
}

struct Controller {
    _process: Process,
    port: u16,
}

impl Controller {
    async fn page(&self, path: &str) -> Result<String, String> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(answer.status().to_string());
        }
        answer.text().await.map_err(|error| error.to_string())
    }

    async fn metric(&self, line: &str) {
        eventually(line, SOON, || async {
            let page = self.page("/metrics").await?;
            if page.lines().any(|seen| seen.starts_with(line)) { Ok(()) } else { Err(page) }
        })
        .await;
    }
}

async fn replicas(deployments: &Api<Deployment>) -> Result<i32, String> {
    let deployment = deployments.get("querynode").await.map_err(|error| error.to_string())?;
    Ok(deployment.spec.and_then(|spec| spec.replicas).unwrap_or(0))
}

async fn wait_for(deployments: &Api<Deployment>, wanted: i32, limit: Duration) {
    eventually(&format!("{wanted} replicas"), limit, || async {
        equal(replicas(deployments).await?, &wanted)
    })
    .await;
}

#[tokio::test]
async fn a_deployment_follows_a_rising_and_falling_load() {
    let scene = Scene::set(150.0).await;
    let deployments = scene.deployment(2).await;
    scene.policy(|_| {}).await;
    let controller = scene.controller("first");
    scene.condition("Ready", "True", "Scaling").await;
    scene.condition("ForecastReady", "True", "Learned").await;
    scene.condition("MetricsFresh", "True", "Fresh").await;

    scene.prometheus.set(Answer::Demand(450.0));
    wait_for(&deployments, 5, SOON).await;
    scene.prometheus.set(Answer::Demand(150.0));
    wait_for(&deployments, 2, 3 * SOON).await;
    assert_eq!(scene.scales().first(), Some(&5));

    controller.metric("milvus_autoscaler_leader 1").await;
    controller
        .metric(r#"milvus_autoscaler_replicas{namespace="milvus",name="querynode",kind="desired"} 2"#)
        .await;
    let events =
        scene.cluster.kubectl(&["--namespace", NAMESPACE, "get", "events.events.k8s.io", "--output=json"]);
    assert!(events.contains("ScaledUp") && events.contains("ScaledDown"), "{events}");
    // What dashboards and alerts rest on.
    let page = controller.page("/metrics").await.unwrap();
    let object = r#"namespace="milvus",name="querynode""#;
    for line in [
        format!("milvus_autoscaler_demand_qps{{{object}}} 150"),
        format!(r#"milvus_autoscaler_forecast_qps{{{object},quantile="0.99"}} "#),
        format!("milvus_autoscaler_capacity_qps{{{object}}} "),
        format!("milvus_autoscaler_lead_time_seconds{{{object}}} 60"),
        format!("milvus_autoscaler_metric_age_seconds{{{object}}} "),
        format!(r#"milvus_autoscaler_decisions_total{{{object},direction="up""#),
        format!(r#"milvus_autoscaler_decisions_total{{{object},direction="down""#),
        format!(r#"milvus_autoscaler_decisions_total{{{object},direction="hold""#),
        "milvus_autoscaler_reconcile_duration_seconds_bucket{le=".to_owned(),
        "milvus_autoscaler_prometheus_query_duration_seconds_bucket{le=".to_owned(),
        format!("milvus_autoscaler_saved_replica_hours_total{{{object}}} "),
    ] {
        assert!(page.lines().any(|seen| seen.starts_with(&line)), "{line} is not in {page}");
    }
    scene.assert_permitted();
    // Only replicas were written, under a name of our own.
    let managers = deployments.get("querynode").await.unwrap().metadata.managed_fields.unwrap();
    let ours = managers.iter().find(|entry| entry.manager.as_deref() == Some("milvus-autoscaler")).unwrap();
    assert_eq!(ours.fields_v1.as_ref().unwrap().0, json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn a_scale_in_leaves_each_in_memory_replica_a_query_node() {
    let scene = Scene::set(150.0).await;
    scene.prometheus.set(Answer::Demand(780.0));
    let deployments = scene.deployment(8).await;
    scene.policy(|_| {}).await;
    // As an earlier controller has seen it.
    let seen = json!({"status": {"memory": {"inMemoryReplicas": 2}}});
    scene.policies().patch_status("querynode", &PatchParams::default(), &Patch::Merge(&seen)).await.unwrap();
    let controller = scene.controller("first");
    scene.condition("MetricsFresh", "True", "Fresh").await;
    scene.prometheus.set(Answer::Demand(150.0));
    wait_for(&deployments, 2, 3 * SOON).await;
    let fleets: Vec<i64> = std::iter::once(8).chain(scene.scales()).collect();
    for step in fleets.windows(2) {
        let each = step[0] / 2;
        assert!(step[0] - step[1] <= (each - 1).max(1), "{each} QueryNodes in each of two: {fleets:?}");
    }
    let page = controller.page("/metrics").await.unwrap();
    assert!(page.contains("DrainInSteps"), "{fleets:?}, {page}");
}

async fn hpa(scene: &Scene, name: &str, owner: Option<Value>) -> Api<HorizontalPodAutoscaler> {
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let mut hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "querynode"},
            "minReplicas": 1, "maxReplicas": 4,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 60}}}]}});
    if let Some(owner) = owner {
        hpa["metadata"]["ownerReferences"] = json!([owner]);
    }
    hpas.create(&PostParams::default(), &serde_json::from_value(hpa).unwrap()).await.unwrap();
    hpas
}

async fn bounds(hpas: &Api<HorizontalPodAutoscaler>, name: &str) -> Result<(i32, i32), String> {
    let spec = hpas.get(name).await.map_err(|error| error.to_string())?.spec.unwrap();
    Ok((spec.min_replicas.unwrap_or(1), spec.max_replicas))
}

#[tokio::test]
async fn an_hpa_gets_its_bounds_ahead_and_scales_itself_and_gets_them_back() {
    let scene = Scene::set(150.0).await;
    let deployments = scene.deployment(1).await;
    let metrics = ResourceMetrics::start(&scene.cluster).await;
    metrics.set(NAMESPACE, "app=querynode", 100);
    let hpas = hpa(&scene, "any-name", None).await;
    let before = hpas.get("any-name").await.unwrap();
    scene.policy(|_| {}).await;
    let _controller = scene.controller("first");
    // It is found by its target; 150 QPS need 2, and the HPA does the scaling.
    wait_for(&deployments, 2, SOON).await;
    assert_eq!(bounds(&hpas, "any-name").await, Ok((2, 4)));
    // More than its maximum are needed.
    scene.prometheus.set(Answer::Demand(650.0));
    wait_for(&deployments, 7, SOON).await;
    assert_eq!(bounds(&hpas, "any-name").await, Ok((7, 7)));
    assert_eq!(scene.scales(), Vec::<i64>::new(), "replicas are the HPA's business");
    let status = scene.status().await.unwrap();
    assert_eq!(status["target"]["kind"], "HorizontalPodAutoscaler");
    assert_eq!(status["originalBounds"]["maxReplicas"], 4);
    // The load falls, and the HPA follows.
    scene.prometheus.set(Answer::Demand(150.0));
    wait_for(&deployments, 2, 3 * SOON).await;
    eventually("the maximum back", SOON, || async { equal(bounds(&hpas, "any-name").await?, &(2, 4)) }).await;
    // Deleting the policy restores the HPA as it was.
    scene.policies().delete("querynode", &DeleteParams::default()).await.unwrap();
    eventually("the policy gone", SOON, || async {
        equal(scene.policies().get_opt("querynode").await.unwrap().is_none(), &true)
    })
    .await;
    let after = hpas.get("any-name").await.unwrap();
    assert_eq!((before.spec, before.metadata.annotations), (after.spec, after.metadata.annotations));
}

/// Uninstalled before its policies, which then wait: installed again, it finishes.
#[tokio::test]
async fn a_policy_deleted_without_a_controller_is_finished_by_the_next() {
    let scene = Scene::set(150.0).await;
    scene.deployment(1).await;
    let hpas = hpa(&scene, "any-name", None).await;
    let before = hpas.get("any-name").await.unwrap();
    scene.policy(|_| {}).await;
    let uninstalled = scene.controller("first");
    eventually("a floor", SOON, || async { equal(bounds(&hpas, "any-name").await?, &(2, 4)) }).await;
    drop(uninstalled);
    scene.policies().delete("querynode", &DeleteParams::default()).await.unwrap();
    let waits = scene.policies().get("querynode").await.unwrap();
    assert!(waits.metadata.deletion_timestamp.is_some());
    let _again = scene.controller("second");
    eventually("the policy gone", 2 * SOON, || async {
        equal(scene.policies().get_opt("querynode").await.unwrap().is_none(), &true)
    })
    .await;
    let after = hpas.get("any-name").await.unwrap();
    assert_eq!((before.spec, before.metadata.annotations), (after.spec, after.metadata.annotations));
}

#[tokio::test]
async fn preview_writes_nothing_but_its_status() {
    let scene = Scene::set(450.0).await;
    let deployments = scene.deployment(1).await;
    let hpas = hpa(&scene, "querynode", None).await;
    scene.policy(|policy| policy["spec"]["mode"] = json!("Preview")).await;
    let _controller = scene.controller("first");
    scene.condition("Ready", "True", "Preview").await;
    eventually("what it would do", SOON, || async {
        let status = scene.status().await?;
        equal(status["desiredReplicas"].as_i64(), &Some(5))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bounds(&hpas, "querynode").await, Ok((1, 4)));
    assert_eq!(replicas(&deployments).await, Ok(1));
    let ours = format!("system:serviceaccount:{OWN}:milvus-autoscaler");
    for resource in ["deployments", "horizontalpodautoscalers"] {
        assert!(!scene.cluster.writes(resource).iter().any(|(user, ..)| *user == ours), "{resource}");
    }
    let writes = scene.cluster.writes("milvusautoscalers");
    assert!(
        writes.iter().filter(|(user, ..)| *user == ours).all(|(_, _, subresource)| subresource == "status"),
        "{writes:?}"
    );
}

#[tokio::test]
async fn no_answer_of_prometheus_takes_anything_away() {
    let scene = Scene::set(450.0).await;
    let deployments = scene.deployment(1).await;
    scene.policy(|_| {}).await;
    let controller = scene.controller("first");
    wait_for(&deployments, 5, SOON).await;
    scene.condition("MetricsFresh", "True", "Fresh").await;
    for (answer, reason) in [
        (Answer::Empty, "MetricsMissing"),
        (Answer::Text("NaN"), "MetricsMissing"),
        (Answer::Text("+Inf"), "MetricsMissing"),
        (Answer::Broken, "PrometheusUnavailable"),
        (Answer::Silence, "PrometheusTimeout"),
    ] {
        scene.prometheus.set(answer.clone());
        scene.condition("MetricsFresh", "False", reason).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(replicas(&deployments).await, Ok(5), "{answer:?}");
    }
    controller
        .metric(
            r#"milvus_autoscaler_reconcile_errors_total{namespace="milvus",name="querynode",kind="metrics"}"#,
        )
        .await;
    // Where there is no demand, no number stands for it.
    let page = controller.page("/metrics").await.unwrap();
    assert!(
        !page.contains("milvus_autoscaler_demand_qps{") && !page.contains("_metric_age_seconds{"),
        "{page}"
    );
    scene.prometheus.set(Answer::Demand(550.0));
    scene.condition("MetricsFresh", "True", "Fresh").await;
    wait_for(&deployments, 6, SOON).await;
    // A clock that is a day off, either way, changes nothing.
    for skew in [86_400, -86_400] {
        scene.prometheus.set_skew(skew);
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.condition("MetricsFresh", "True", "Fresh").await;
        assert_eq!(replicas(&deployments).await, Ok(6), "{skew} s off");
    }
    scene.prometheus.set_skew(0);
    // Slow, but within its time: its answers count.
    scene.prometheus.set_delay(Duration::from_millis(1200));
    scene.prometheus.set(Answer::Demand(650.0));
    wait_for(&deployments, 7, SOON).await;
    scene.condition("MetricsFresh", "True", "Fresh").await;
    scene.prometheus.set_delay(Duration::ZERO);
    assert!(scene.scales().is_sorted(), "{:?}", scene.scales());
    // Suddenly nothing, though the past says otherwise.
    scene.prometheus.set(Answer::Demand(0.0));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let held = replicas(&deployments).await.unwrap();
    assert!(held >= 5, "{held}");
}

#[tokio::test]
async fn two_controllers_write_as_one_and_the_second_takes_over() {
    let scene = Scene::set(150.0).await;
    let deployments = scene.deployment(1).await;
    scene.policy(|_| {}).await;
    let first = scene.controller("first");
    wait_for(&deployments, 2, SOON).await;
    let second = scene.controller("second");
    second.metric(r#"milvus_autoscaler_demand_qps{namespace="milvus",name="querynode"} 150"#).await;
    second.metric("milvus_autoscaler_leader 0").await;
    scene.prometheus.set(Answer::Demand(250.0));
    wait_for(&deployments, 3, SOON).await;
    // Killed, without a farewell.
    drop(first);
    let killed = Instant::now();
    scene.prometheus.set(Answer::Demand(350.0));
    wait_for(&deployments, 4, SOON).await;
    let took = killed.elapsed();
    eprintln!("take-over within {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.scales(), [2, 3, 4], "every change is written once");
}

#[tokio::test]
async fn a_broken_policy_harms_no_other_and_a_pause_is_kept() {
    let scene = Scene::set(150.0).await;
    let deployments = scene.deployment(1).await;
    scene
        .policy(|policy| {
            policy["metadata"]["name"] = json!("broken");
            policy["spec"]["scaleTargetRef"]["name"] = json!("nobody");
            policy["spec"]["prometheus"]["url"] = json!("http://127.0.0.1:1");
        })
        .await;
    for number in 1..50 {
        let name = format!("good-{number}");
        scene.deployment_named(&name, 1).await;
        scene
            .policy(|policy| {
                policy["metadata"]["name"] = json!(name);
                policy["spec"]["scaleTargetRef"]["name"] = json!(name);
            })
            .await;
    }
    scene.policy(|_| {}).await;
    let _controller = scene.controller("first");
    wait_for(&deployments, 2, SOON).await;
    eventually("the 50 good ones to be kept", 2 * SOON, || async {
        let all = deployments.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let kept = all.iter().filter(|one| one.spec.as_ref().and_then(|spec| spec.replicas) == Some(2));
        equal(kept.count(), &50)
    })
    .await;
    eventually("the broken one to say so", SOON, || async {
        let broken = scene.policies().get("broken").await.map_err(|error| error.to_string())?;
        let status = serde_json::to_value(broken.status).unwrap();
        let reasons: Vec<_> =
            status["conditions"].as_array().into_iter().flatten().map(|c| c["reason"].clone()).collect();
        if reasons.contains(&json!("TargetNotFound")) && reasons.contains(&json!("PrometheusUnreachable")) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    // Paused, nothing is written, and a word later all goes on.
    let annotate = |until: Value| {
        Patch::Merge(json!({"metadata": {"annotations": {"milvus-autoscaler.io/paused-until": until}}}))
    };
    let until = annotate(json!("2999-01-01T00:00:00Z"));
    scene.policies().patch("querynode", &PatchParams::default(), &until).await.unwrap();
    scene.condition("Paused", "True", "PausedByAnnotation").await;
    scene.prometheus.set(Answer::Demand(350.0));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(replicas(&deployments).await, Ok(2));
    // A pause ends when it says.
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let soon = annotate(json!(soon.to_string()));
    scene.policies().patch("querynode", &PatchParams::default(), &soon).await.unwrap();
    wait_for(&deployments, 4, SOON).await;
    scene.condition("Paused", "False", "NotPaused").await;
    // An edit counts at once.
    let edit = Patch::Merge(json!({"spec": {"minReplicas": 6}}));
    scene.policies().patch("querynode", &PatchParams::default(), &edit).await.unwrap();
    wait_for(&deployments, 6, SOON).await;
    scene.assert_permitted();
}

#[tokio::test]
async fn the_api_server_may_go_hang_and_come_back() {
    let mut scene = Scene::set(150.0).await;
    let deployments = scene.deployment(1).await;
    scene.policy(|_| {}).await;
    let controller = scene.controller("first");
    wait_for(&deployments, 2, SOON).await;
    scene.cluster.stop_api_server();
    let gone = Instant::now();
    scene.prometheus.set(Answer::Demand(350.0));
    // It is seen while it lasts, where it can be.
    controller.metric("milvus_autoscaler_leader 0").await;
    controller.metric(&error_metric("unreachable")).await;
    tokio::time::sleep(Duration::from_secs(60).saturating_sub(gone.elapsed())).await;
    assert_eq!(controller.page("/healthz").await, Ok("ok".to_owned()));
    scene.cluster.start_api_server().await;
    wait_for(&deployments, 4, SOON).await;
    scene.condition("Ready", "True", "Scaling").await;
    scene.cluster.pause_api_server();
    scene.prometheus.set(Answer::Demand(450.0));
    controller.metric(&error_metric("timeout")).await;
    scene.cluster.resume_api_server();
    wait_for(&deployments, 5, SOON).await;
    assert_eq!(scene.scales(), [2, 4, 5], "each is asked for once, and nothing was taken away");
}

/// The beginning of the line of `/metrics` that counts errors of a kind.
fn error_metric(kind: &str) -> String {
    format!(
        r#"milvus_autoscaler_reconcile_errors_total{{namespace="{NAMESPACE}",name="querynode",kind="{kind}"}}"#
    )
}

/// Each fault strikes while more is needed: it is told, nothing is taken away, and afterwards the number that is needed
/// is asked for once.
#[tokio::test]
async fn no_fault_of_a_write_is_kept_quiet_or_written_twice() {
    let scene = Scene::set(50.0).await;
    let faults = Faults::start(&scene.cluster);
    let deployments = scene.deployment(1).await;
    scene.policy(|_| {}).await;
    let controller = scene.controller_by("first", &faults.kubeconfig(&scene.kubeconfig));
    scene.condition("Ready", "True", "Scaling").await;
    for (step, (fault, reason, kind)) in [
        (Fault::Status(429), "Throttled", "throttled"),
        (Fault::Status(500), "ApiServerUnreachable", "unreachable"),
        (Fault::Status(409), "Conflict", "conflict"),
        (Fault::Reset, "ApiServerUnreachable", "unreachable"),
        (Fault::Slow(Duration::from_secs(30)), "Timeout", "timeout"),
    ]
    .into_iter()
    .enumerate()
    {
        let replicas_before = i32::try_from(step).unwrap() + 1;
        faults.inject("PATCH", "/deployments/querynode/scale", fault);
        scene.prometheus.set(Answer::Demand(f64::from(replicas_before) * 100.0 + 50.0));
        scene.condition("Ready", "False", reason).await;
        controller.metric(&error_metric(kind)).await;
        assert_eq!(replicas(&deployments).await, Ok(replicas_before), "{fault:?}");
        faults.clear();
        wait_for(&deployments, replicas_before + 1, SOON).await;
        scene.condition("Ready", "True", "Scaling").await;
    }
    assert_eq!(scene.scales(), [2, 3, 4, 5, 6], "each is asked for once");
    // It was carried out, and nobody heard so.
    faults.inject("PATCH", "/deployments/querynode/scale", Fault::LostAnswer);
    scene.prometheus.set(Answer::Demand(650.0));
    wait_for(&deployments, 7, SOON).await;
    eventually("the answer to be lost", SOON, || async { equal(faults.struck(), &1) }).await;
    scene.condition("Ready", "True", "Scaling").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((scene.scales(), faults.struck()), (vec![2, 3, 4, 5, 6, 7], 1));
    scene.assert_permitted();
}

#[tokio::test]
async fn whoever_cannot_read_or_renew_its_lease_takes_nothing_away_and_goes_on_later() {
    let scene = Scene::set(350.0).await;
    let faults = Faults::start(&scene.cluster);
    let deployments = scene.deployment(1).await;
    scene.policy(|_| {}).await;
    let controller = scene.controller_by("first", &faults.kubeconfig(&scene.kubeconfig));
    wait_for(&deployments, 4, SOON).await;
    // What the target looks like is not known: even a load that falls changes nothing.
    scene.prometheus.set_past(50.0);
    for (path, reason) in [("/deployments/querynode", "ApiServerUnreachable"), ("/pods", "Throttled")] {
        let fault = if reason == "Throttled" { Fault::Status(429) } else { Fault::Status(500) };
        faults.inject("GET", path, fault);
        scene.prometheus.set(Answer::Demand(50.0));
        scene.condition("Ready", "False", reason).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(replicas(&deployments).await, Ok(4), "{path}");
        scene.prometheus.set(Answer::Demand(350.0));
        faults.clear();
        scene.condition("Ready", "True", "Scaling").await;
    }
    // Its Lease cannot be renewed: it stops writing, and begins again.
    faults.inject("PUT", "/leases/", Fault::Status(500));
    controller.metric("milvus_autoscaler_leader 0").await;
    scene.prometheus.set(Answer::Demand(550.0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(replicas(&deployments).await, Ok(4), "only a leader writes");
    faults.clear();
    wait_for(&deployments, 6, SOON).await;
    controller.metric("milvus_autoscaler_leader 1").await;
    assert_eq!(scene.scales(), [4, 6]);
}

/// A definition that takes anything, as the tests need no more of the operator's and of KEDA's.
fn define(scene: &Scene, group: &str, version: &str, kind: &str, plural: &str) {
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let file = scene.cluster.folder().join(format!("{plural}.json"));
    std::fs::write(&file, crd.to_string()).unwrap();
    scene.cluster.kubectl(&["apply", "--filename", &file.display().to_string()]);
    scene.cluster.kubectl(&["wait", "--for=condition=Established", &format!("crd/{plural}.{group}")]);
}

fn objects(scene: &Scene, group: &str, version: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, version, kind);
    let resource = ApiResource::from_gvk_with_plural(&kind, plural);
    Api::namespaced_with(scene.client.clone(), NAMESPACE, &resource)
}

async fn field(api: &Api<DynamicObject>, name: &str, path: &str, wanted: Value) {
    eventually(&format!("{path} of {name} to be {wanted}"), 3 * SOON, || async {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        equal(object.data.pointer(path).cloned().unwrap_or(Value::Null), &wanted)
    })
    .await;
}

#[tokio::test]
async fn a_scaled_object_gets_its_bounds_and_gets_them_back() {
    let scene = Scene::set(150.0).await;
    scene.deployment(1).await;
    define(&scene, "keda.sh", "v1alpha1", "ScaledObject", "scaledobjects");
    let api = objects(&scene, "keda.sh", "v1alpha1", "ScaledObject", "scaledobjects");
    let object = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "querynode"},
        "spec": {"scaleTargetRef": {"name": "querynode"}, "minReplicaCount": 1, "triggers": []}});
    let object = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let owner = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "querynode",
        "uid": object.metadata.uid, "controller": true});
    let hpas = hpa(&scene, "keda-hpa-querynode", Some(owner)).await;
    scene.policy(|_| {}).await;
    let _controller = scene.controller("first");
    field(&api, "querynode", "/spec/minReplicaCount", json!(2)).await;
    scene.prometheus.set(Answer::Demand(450.0));
    field(&api, "querynode", "/spec/minReplicaCount", json!(5)).await;
    assert_eq!(bounds(&hpas, "keda-hpa-querynode").await, Ok((1, 4)), "the HPA is KEDA's business");
    scene.policies().delete("querynode", &DeleteParams::default()).await.unwrap();
    field(&api, "querynode", "/spec/minReplicaCount", json!(1)).await;
    let after = api.get("querynode").await.unwrap();
    assert_eq!((after.data["spec"].clone(), after.metadata.annotations), (object.data["spec"].clone(), None));
}

#[tokio::test]
async fn a_milvus_of_the_operator_follows_in_each_of_its_forms() {
    let scene = Scene::set(150.0).await;
    define(&scene, "milvus.io", "v1beta1", "Milvus", "milvuses");
    let api = objects(&scene, "milvus.io", "v1beta1", "Milvus", "milvuses");
    let milvus = json!({"apiVersion": "milvus.io/v1beta1", "kind": "Milvus",
        "metadata": {"name": "one", "annotations": {"milvus.io/querynode-current-group-id": "1"}},
        "spec": {"components": {"image": "milvus", "queryNode": {"replicas": 1, "port": 21123}}}});
    api.create(&PostParams::default(), &serde_json::from_value(milvus).unwrap()).await.unwrap();
    scene.policy(|policy| policy["spec"]["scaleTargetRef"] = json!({"kind": "Milvus", "name": "one"})).await;
    let _controller = scene.controller("first");
    let query_node = "/spec/components/queryNode";
    let patch = |patch: Value| {
        let api = api.clone();
        async move { api.patch("one", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap() }
    };
    // Plain, up and down; the port beside it stays.
    field(&api, "one", query_node, json!({"replicas": 2, "port": 21123})).await;
    scene.prometheus.set(Answer::Demand(450.0));
    field(&api, "one", query_node, json!({"replicas": 5, "port": 21123})).await;
    scene.prometheus.set(Answer::Demand(150.0));
    field(&api, "one", query_node, json!({"replicas": 2, "port": 21123})).await;
    // During a rollout nothing is written.
    patch(json!({"metadata": {"labels": {"milvus.io/querynode-rolling-id": "7"}}})).await;
    scene.condition("Ready", "False", "RolloutInProgress").await;
    scene.prometheus.set(Answer::Demand(350.0));
    tokio::time::sleep(Duration::from_secs(4)).await;
    field(&api, "one", query_node, json!({"replicas": 2, "port": 21123})).await;
    patch(json!({"metadata": {"labels": {"milvus.io/querynode-rolling-id": null}}})).await;
    field(&api, "one", query_node, json!({"replicas": 4, "port": 21123})).await;
    // Groups: the only one is meant, and another beside it is left alone.
    patch(json!({"spec": {"components": {"queryNode": {"groups": [{"name": "a", "replicas": 1, "x": 1}]}}}}))
        .await;
    field(&api, "one", "/spec/components/queryNode/groups", json!([{"name": "a", "replicas": 4, "x": 1}]))
        .await;
    let group = Patch::Merge(json!({"spec": {"scaleTargetRef": {"queryNodeGroup": "b"}}}));
    scene.policies().patch("querynode", &PatchParams::default(), &group).await.unwrap();
    patch(json!({"spec": {"components": {"queryNode": {"groups": [
        {"name": "a", "replicas": 1}, {"name": "b", "replicas": 1}]}}}}))
    .await;
    let both = json!([{"name": "a", "replicas": 1}, {"name": "b", "replicas": 4}]);
    field(&api, "one", "/spec/components/queryNode/groups", both).await;
    // Scaled from outside: the active one of its Deployments.
    let group = Patch::Merge(json!({"spec": {"scaleTargetRef": {"queryNodeGroup": null}}}));
    scene.policies().patch("querynode", &PatchParams::default(), &group).await.unwrap();
    patch(json!({"spec": {"components": {"queryNode": {"groups": null, "replicas": -1}}}})).await;
    let deployments = scene.deployment_named("one-milvus-querynode-1", 1).await;
    eventually("the active Deployment to follow", SOON, || async {
        let deployment =
            deployments.get("one-milvus-querynode-1").await.map_err(|error| error.to_string())?;
        equal(deployment.spec.and_then(|spec| spec.replicas), &Some(4))
    })
    .await;
    field(&api, "one", "/spec/components/queryNode/replicas", json!(-1)).await;
}

#[tokio::test]
async fn a_stateful_set_follows_and_another_writer_is_answered() {
    let scene = Scene::set(150.0).await;
    let sets: Api<StatefulSet> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "querynode"},
        "spec": {"replicas": 1, "serviceName": "querynode", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "querynode"}},
            "template": {"metadata": {"labels": {"app": "querynode"}},
                "spec": {"containers": [{"name": "querynode", "image": "milvus"}]}}}});
    sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
    scene.policy(|policy| policy["spec"]["scaleTargetRef"]["kind"] = json!("StatefulSet")).await;
    let _controller = scene.controller("first");
    let wait = async |wanted: i32| {
        eventually(&format!("{wanted} replicas"), 3 * SOON, || async {
            let set = sets.get("querynode").await.map_err(|error| error.to_string())?;
            equal(set.spec.and_then(|spec| spec.replicas), &Some(wanted))
        })
        .await;
    };
    wait(2).await;
    scene.prometheus.set(Answer::Demand(450.0));
    wait(5).await;
    // Somebody else takes replicas away that are needed: they come back.
    let fewer = Patch::Merge(json!({"spec": {"replicas": 1}}));
    sets.patch_scale("querynode", &PatchParams::default(), &fewer).await.unwrap();
    wait(5).await;
    // Again and again: each is answered once a cycle, and people are told.
    let before = scene.scales().len();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(6) {
        sets.patch_scale("querynode", &PatchParams::default(), &fewer).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answers = scene.scales().len() - before;
    assert!(answers <= 8, "{answers} writes in 6 cycles");
    eventually("an event", SOON, || async {
        let events = scene.events().await;
        if events.iter().any(|reason| reason == "ReplicasContested") {
            Ok(())
        } else {
            Err(format!("{events:?}"))
        }
    })
    .await;
    wait(5).await;
    scene.prometheus.set(Answer::Demand(150.0));
    wait(2).await;
    scene.assert_permitted();
}

/// A process that is killed with `kill -9` as soon as it has written, and another one after it.
#[tokio::test]
async fn a_death_right_after_a_write_causes_no_other() {
    let scene = Scene::set(150.0).await;
    let deployments = scene.deployment(1).await;
    scene.policy(|_| {}).await;
    for (number, (demand, wanted)) in [(150.0, 2), (450.0, 5)].into_iter().enumerate() {
        scene.prometheus.set(Answer::Demand(demand));
        scene.prometheus.set_past(demand);
        let controller = scene.controller(&format!("mortal-{number}"));
        eventually("the write", 2 * SOON, || async { equal(scene.scales().last().copied(), &Some(wanted)) })
            .await;
        drop(controller);
    }
    let last = scene.controller("last");
    last.metric("milvus_autoscaler_leader 1").await;
    scene.condition("ForecastReady", "True", "Learned").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((scene.scales(), replicas(&deployments).await), (vec![2, 5], Ok(5)));
    scene.assert_permitted();
}

/// A proxy that serves this many searches a second at a port, until it is dropped.
fn proxy(port: u16, qps: u32) -> Background {
    let began = Instant::now();
    let page = move || async move {
        let searches = f64::from(qps) * began.elapsed().as_secs_f64();
        let series = r#"milvus_proxy_req_count{function_name="Search",db_name="default",status="#;
        format!(
            "{series}\"total\"}} {searches}\n{series}\"success\"}} {searches}\n\
             process_resident_memory_bytes 1e8\n"
        )
    };
    let router = axum::Router::new().route("/metrics", axum::routing::get(page));
    Background::spawn("proxy", move || async move {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        axum::serve(listener, router).await.unwrap();
    })
}

#[tokio::test]
async fn whatever_a_real_prometheus_does_nothing_is_taken_away() {
    let scene = Scene::set(0.0).await;
    let deployments = scene.deployment(1).await;
    scene.deployment_named("proxy", 2).await;
    let (first, second) = (free_port(), free_port());
    let (_first, served) = (proxy(first, 225), proxy(second, 225));
    let labels = |pod: &'static str| [("namespace", NAMESPACE), ("pod", pod)];
    let address = |port: u16| format!("127.0.0.1:{port}");
    let targets = [(address(first), labels("proxy-a")), (address(second), labels("proxy-b"))];
    let configuration = scrape(&targets.each_ref().map(|(address, labels)| (address.as_str(), &labels[..])));
    let mut prometheus = Prometheus::start(&configuration).await;
    scene
        .policy(|policy| {
            policy["spec"]["demand"] = json!({});
            policy["spec"]["prometheus"] = json!({"url": prometheus.url(), "timeout": "2s",
                "rateWindow": "10s", "staleAfter": "30s"});
        })
        .await;
    let controller = scene.controller("first");
    wait_for(&deployments, 5, 2 * SOON).await;
    scene.condition("MetricsFresh", "True", "Fresh").await;
    let held = async |what: &str| {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = replicas(&deployments).await.unwrap();
        assert!(now >= 5, "{what}: {now}");
    };
    // Half the proxies are not scraped: what is left is no demand.
    drop(served);
    scene.condition("MetricsFresh", "False", "MetricsPartial").await;
    held("half the proxies").await;
    let page = controller.page("/metrics").await.unwrap();
    assert!(!page.contains("milvus_autoscaler_demand_qps{"), "{page}");
    let _second = proxy(second, 225);
    scene.condition("MetricsFresh", "True", "Fresh").await;
    // Hanging, then gone, then back with a gap in every counter.
    prometheus.pause();
    scene.condition("MetricsFresh", "False", "PrometheusTimeout").await;
    held("hanging").await;
    prometheus.resume();
    scene.condition("MetricsFresh", "True", "Fresh").await;
    prometheus.stop();
    scene.condition("MetricsFresh", "False", "PrometheusUnreachable").await;
    held("gone").await;
    prometheus.run().await;
    scene.condition("MetricsFresh", "True", "Fresh").await;
    held("back").await;
    controller
        .metric(
            r#"milvus_autoscaler_reconcile_errors_total{namespace="milvus",name="querynode",kind="metrics"}"#,
        )
        .await;
    assert!(scene.scales().is_sorted(), "{:?}", scene.scales());
    scene.assert_permitted();
}
