//! Every query of the dashboards and every rule, on a real Prometheus that scrapes a real Milvus and the real
//! autoscaler, which keeps a Deployment of a real Kubernetes.
//!
//! `tests/real/setup && cargo test --test real_dashboards`
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod support;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use milvus_autoscaler::policy::MilvusAutoscaler;
use serde_json::json;
use support::kubelet::{Behaviour, Kubelet};
use support::kubernetes::Kubernetes;
use support::milvus::Milvus;
use support::process::Process;
use support::prometheus::{Prometheus, scrape};
use support::{eventually, free_port};

const QUICK: Behaviour =
    Behaviour { ready_after: Some(Duration::from_millis(200)), drain: Duration::from_millis(200) };
const OWN: &str = "milvus-autoscaler";
const TARGETS: [(&str, &str); 2] = [("milvus", "search"), ("shop", "images")];

/// The window is short, so that demand changes as the load does.
const DEMAND: &str = r#"sum(rate(milvus_proxy_req_count{function_name="Search",status="total"}[10s]))"#;

/// A Deployment of this name and its policy, at 20 QPS a replica.
async fn target(client: &Client, namespace: &str, name: &str, prometheus: &str) {
    let labels = json!({"app": name});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "querynode", "image": "milvus",
                "resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}]}}}});
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    let policy = json!({"apiVersion": "milvus-autoscaler.io/v1alpha1", "kind": "MilvusAutoscaler",
        "metadata": {"name": name}, "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": name}, "minReplicas": 1, "maxReplicas": 8,
            "prometheus": {"url": prometheus, "matchers": {"namespace": "milvus"}}, "demand": {"query": DEMAND},
            "capacity": {"qpsPerReplica": 20}, "leadTime": "1m", "forecast": {"history": "1d"},
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}}}});
    let policies: Api<MilvusAutoscaler> = Api::namespaced(client.clone(), namespace);
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
}

/// Sets the replicas to too few and to too many in turn, so that the autoscaler makes changes of both kinds whenever the
/// queries are asked.
async fn meddle(client: Client, namespace: &'static str, name: &'static str) {
    let deployments: Api<Deployment> = Api::namespaced(client, namespace);
    for replicas in [1, 8].into_iter().cycle() {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Six hours of a steady load, for the forecast to be judged by.
fn past() -> String {
    let now = jiff::Timestamp::now().as_second();
    let (step, rate) = (4, 45);
    let mut text = String::from("# TYPE milvus_proxy_req_count unknown\n");
    for count in 0..6 * 3600 / step {
        let time = now - 6 * 3600 + count * step;
        let total = count * step * rate;
        let labels =
            r#"namespace="milvus",pod="milvus-standalone-past",function_name="Search",status="total""#;
        writeln!(text, "milvus_proxy_req_count{{{labels}}} {total} {time}").unwrap();
    }
    text + "# EOF\n"
}

async fn metrics(port: u16) -> Result<String, String> {
    let page = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await;
    page.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_finds_the_real_autoscaler() {
    let cluster = Kubernetes::start().await;
    let _kubelet = Kubelet::start(&cluster, QUICK);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/autoscaler");
    cluster.namespace(OWN).await;
    for file in ["crd.yaml", "rbac.yaml"] {
        let file = shipped.join(file).display().to_string();
        cluster.kubectl(&["--namespace", OWN, "apply", "--server-side", "--filename", &file]);
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/milvusautoscalers.milvus-autoscaler.io"]);
    let milvus = Milvus::start().await;
    let labels = [("namespace", "milvus"), ("pod", "milvus-standalone-0")];
    let prometheus =
        Prometheus::start_with(&scrape(&[(milvus.metrics(), &labels)]), Some(&past()), &[]).await;
    let mut load = milvus.search(&["12:15", "12:75"].repeat(15).join(","), &[]);
    load.running().await;
    let client = cluster.client().await;
    for (namespace, name) in TARGETS {
        cluster.namespace(namespace).await;
        target(&client, namespace, name, &prometheus.url()).await;
        tokio::spawn(meddle(client.clone(), namespace, name));
    }

    let port = free_port();
    let kubeconfig = cluster.kubeconfig_of(OWN, "milvus-autoscaler").await.display().to_string();
    let arguments = [
        "run".to_owned(),
        "--interval=1s".into(),
        format!("--listen=127.0.0.1:{port}"),
        format!("--own-namespace={OWN}"),
        "--identity=only".into(),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_autoscaler"));
    let environment = [("KUBECONFIG", kubeconfig.as_str())];
    let _autoscaler = Process::start("autoscaler", cluster.folder(), program, &arguments, &environment);
    eventually("metrics of both policies", Duration::from_secs(60), || async {
        let page = metrics(port).await?;
        let shown = |name: &str| page.contains(&format!(r#"name="{name}",kind="desired""#));
        if TARGETS.iter().all(|(_, name)| shown(name)) { Ok(()) } else { Err(page) }
    })
    .await;

    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboards/real");
    let arguments = [
        format!("--milvus=http://{}/metrics", milvus.metrics()),
        format!("--autoscaler=http://127.0.0.1:{port}/metrics"),
    ];
    let check = tokio::task::spawn_blocking(move || Command::new(check).args(arguments).status().unwrap());
    assert!(check.await.unwrap().success(), "tests/dashboards/real --autoscaler failed; its output is above");
}
