//! Shows that the real parts do what the other real tests rely on.
//!
//! `tests/real/setup && cargo test --test real_kubernetes_smoke`
#![allow(clippy::unwrap_used)]

mod support;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use std::fmt::Write;
use std::time::{Duration, Instant};
use support::kubelet::{Behaviour, Kubelet};
use support::kubernetes::{Kubernetes, client};
use support::milvus::Milvus;
use support::prometheus::{Prometheus, scrape};
use support::resource_metrics::ResourceMetrics;
use support::{equal, eventually};

const SOON: Duration = Duration::from_secs(30);
const QUICK: Behaviour =
    Behaviour { ready_after: Some(Duration::from_millis(200)), drain: Duration::from_millis(200) };

async fn deploy(client: &Client, namespace: &str, replicas: i32) -> Api<Deployment> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "querynode"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "querynode"}}, "template": {
            "metadata": {"labels": {"app": "querynode"}},
            "spec": {"containers": [{"name": "querynode", "image": "milvus",
                "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}}]}}}});
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    deployments
}

async fn ready(deployments: &Api<Deployment>) -> Result<i32, String> {
    let deployment = deployments.get("querynode").await.map_err(|error| error.to_string())?;
    Ok(deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0))
}

async fn wait_for(deployments: &Api<Deployment>, replicas: i32) {
    eventually(&format!("{replicas} ready replicas"), SOON, || async {
        equal(ready(deployments).await?, &replicas)
    })
    .await;
}

async fn scale(deployments: &Api<Deployment>, replicas: i32) {
    let patch = json!({"spec": {"replicas": replicas}});
    deployments.patch_scale("querynode", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test]
async fn the_real_controllers_follow_the_scale_subresource() {
    let began = Instant::now();
    let mut cluster = Kubernetes::start().await;
    eprintln!("cluster ready after {:?}", began.elapsed());
    let kubelet = Kubelet::start(&cluster, QUICK);
    let client = cluster.client().await;
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let deployments = deploy(&client, "default", 1).await;
    wait_for(&deployments, 1).await;

    scale(&deployments, 4).await;
    wait_for(&deployments, 4).await;
    assert_eq!(kubelet.started(), 4);

    // A drain takes its time: the pods stay, and no longer count as replicas.
    kubelet.set(Behaviour { drain: Duration::from_secs(2), ..QUICK });
    let began = Instant::now();
    scale(&deployments, 2).await;
    wait_for(&deployments, 2).await;
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 4);
    eventually("the drained pods to be gone", SOON, || async {
        equal(pods.list(&ListParams::default()).await.unwrap().items.len(), &2)
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!((kubelet.drained(), kubelet.killed()), (2, 0));

    // A pod that finds no room stays Pending.
    kubelet.set(Behaviour { ready_after: None, ..QUICK });
    scale(&deployments, 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ready(&deployments).await.unwrap(), 2);

    // Who wrote what is in the audit log.
    let writes = cluster.writes("deployments");
    let scales = writes.iter().filter(|(user, verb, of)| user == "admin" && verb == "patch" && of == "scale");
    assert_eq!(scales.count(), 3, "{writes:?}");
    let patched = cluster.audit().into_iter().find(|event| event["objectRef"]["subresource"] == "scale");
    assert_eq!(patched.unwrap()["requestObject"]["spec"]["replicas"], 4);
    assert!(cluster.writes("replicasets").iter().any(|(user, ..)| user.ends_with(":deployment-controller")));

    // The API server goes and comes back, with its data, and all go on.
    cluster.stop_api_server();
    assert!(deployments.get("querynode").await.is_err());
    cluster.start_api_server().await;
    kubelet.set(QUICK);
    scale(&deployments, 5).await;
    eventually("replicas after the restart", SOON, || async {
        let status = deployments.get("querynode").await.map_err(|error| error.to_string())?.status;
        equal(status.and_then(|status| status.replicas), &Some(5))
    })
    .await;
}

#[tokio::test]
async fn the_real_hpa_acts_on_real_metrics() {
    let cluster = Kubernetes::start().await;
    let _kubelet = Kubelet::start(&cluster, QUICK);
    let metrics = ResourceMetrics::start(&cluster).await;
    let client = cluster.client().await;
    cluster.namespace("milvus").await;
    let deployments = deploy(&client, "milvus", 1).await;
    // 300 of 500 requested millicores: 60 %.
    metrics.set("milvus", "app=querynode", 300);
    wait_for(&deployments, 1).await;

    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "milvus");
    let hpa = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "querynode"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "querynode"},
            "minReplicas": 1, "maxReplicas": 10,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 2}},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 60}}}]}});
    hpas.create(&PostParams::default(), &serde_json::from_value(hpa).unwrap()).await.unwrap();
    eventually("the HPA to see a utilisation of 60 %", SOON, || async {
        let status = hpas.get("querynode").await.map_err(|error| error.to_string())?.status;
        let metric =
            status.and_then(|status| status.current_metrics).and_then(|metrics| metrics.into_iter().next());
        let metric = metric.and_then(|metric| metric.resource);
        equal(metric.and_then(|metric| metric.current.average_utilization), &Some(60))
    })
    .await;

    // Four times the load needs four times the replicas. One replica cannot use
    // more than its limit, so the HPA gets there in steps.
    metrics.set("milvus", "app=querynode", 1200);
    wait_for(&deployments, 4).await;
    let scales = cluster.writes("deployments");
    assert!(scales.iter().any(|(user, _, of)| user.ends_with(":horizontal-pod-autoscaler") && of == "scale"));

    // A bound is followed at once, up and down.
    let bound = |minimum: i32| Patch::Merge(json!({"spec": {"minReplicas": minimum}}));
    hpas.patch("querynode", &PatchParams::default(), &bound(7)).await.unwrap();
    wait_for(&deployments, 7).await;
    hpas.patch("querynode", &PatchParams::default(), &bound(1)).await.unwrap();
    metrics.set("milvus", "app=querynode", 300);
    wait_for(&deployments, 1).await;
}

#[tokio::test]
async fn a_service_account_has_only_its_own_rights() {
    let cluster = Kubernetes::start().await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client().await);
    accounts
        .create(
            &PostParams::default(),
            &serde_json::from_value(json!({"metadata": {"name": "bare"}})).unwrap(),
        )
        .await
        .unwrap();
    let bare = client(&cluster.kubeconfig_of("default", "bare").await).await;
    let pods: Api<Pod> = Api::default_namespaced(bare);
    let refused = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("system:serviceaccount:default:bare"), "{refused}");
    assert!(cluster.kubectl(&["get", "namespaces"]).contains("kube-system"));
}

#[tokio::test]
async fn a_real_prometheus_sees_real_searches_on_a_real_milvus() {
    let began = Instant::now();
    let milvus = Milvus::start().await;
    eprintln!("Milvus ready after {:?}", began.elapsed());
    let labels =
        [("namespace", "milvus"), ("pod", "milvus-standalone-0"), ("app_kubernetes_io_instance", "milvus")];
    let mut prometheus = Prometheus::start(&scrape(&[(milvus.metrics(), &labels)])).await;
    let count = r#"sum(milvus_proxy_req_count{namespace="milvus",function_name="Search",status="success"})"#;

    let mut load = milvus.search("20:40", &[]);
    load.running().await;
    let rate = r#"sum(rate(milvus_proxy_req_count{namespace="milvus",function_name="Search",status="success"}[10s]))"#;
    eventually("the rate of the load in Prometheus", SOON, || async {
        let rate = prometheus.value(rate).await;
        rate.filter(|rate| (35.0..45.0).contains(rate)).ok_or_else(|| format!("{rate:?}"))
    })
    .await;
    let before = prometheus.value(count).await.unwrap();
    let seconds = load.finish().await;
    eprintln!("last second of the load: {:?}", seconds.last());
    assert_eq!(seconds.len(), 20);
    assert_eq!(seconds.iter().map(|second| second.errors).sum::<u32>(), 0);
    let searches = seconds.iter().map(|second| second.qps).sum::<f64>();
    eventually("every search in Prometheus", SOON, || async {
        let seen = prometheus.value(count).await;
        // A busy machine answers some searches after the second in which the client would have counted them.
        seen.filter(|&seen| seen > before && seen > searches - 0.5)
            .ok_or_else(|| format!("{seen:?} of {searches}"))
    })
    .await;

    // It keeps its data over a kill.
    prometheus.stop();
    prometheus.run().await;
    assert!(
        prometheus.value(&format!("max_over_time({count}[1m:1s])")).await.is_some_and(|seen| seen >= before)
    );
}

#[tokio::test]
async fn a_real_prometheus_can_be_given_a_past() {
    // An hour of 2023, a sample each minute.
    let start = 1_700_000_000;
    let mut past = String::from("# TYPE load gauge\n");
    for minute in 0..60 {
        writeln!(past, "load{{pod=\"a\"}} {minute} {}", start + 60 * minute).unwrap();
    }
    past.push_str("# EOF\n");
    let prometheus = Prometheus::start_with(&scrape(&[]), Some(&past), &[]).await;
    let last = prometheus.value(&format!("load @ {}", start + 59 * 60)).await;
    assert_eq!(last, Some(59.0));
}

/// For work by hand: everything is started, and stays until Ctrl-C.
#[tokio::test]
#[ignore = "runs until it is interrupted"]
async fn stay_up() {
    let cluster = Kubernetes::start().await;
    let _kubelet = Kubelet::start(&cluster, QUICK);
    let _metrics = ResourceMetrics::start(&cluster).await;
    let milvus = Milvus::start().await;
    let prometheus = Prometheus::start(&scrape(&[(milvus.metrics(), &[("namespace", "default")])])).await;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("export PROMETHEUS={}", prometheus.url());
    println!("export MILVUS={} MILVUS_METRICS={}", milvus.address(), milvus.metrics());
    tokio::signal::ctrl_c().await.unwrap();
}
