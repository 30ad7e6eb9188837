//! The resource metrics API (`metrics.k8s.io`), for the real HPA: an aggregated
//! API server, reached through kube-apiserver as metrics-server is. A test says
//! how much CPU the pods of a label use together; Ready pods share it evenly,
//! each at most its limit, so that adding replicas lowers utilisation.

use super::background::Background;
use super::kubernetes::{Kubernetes, client};
use super::tls::Tls;
use super::{eventually, free_port};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::routing::get;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Namespace, label (`app=querynode`) → CPU in thousandths of a core.
type Loads = Arc<Mutex<BTreeMap<(String, String), u64>>>;

pub struct ResourceMetrics {
    loads: Loads,
    _work: Background,
}

impl ResourceMetrics {
    /// Returns when the API is served through kube-apiserver.
    pub async fn start(cluster: &Kubernetes) -> Self {
        let loads = Loads::default();
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (folder, kubeconfig) = (cluster.folder().to_owned(), cluster.kubeconfig());
        let shared = Arc::clone(&loads);
        let work = Background::spawn("resource-metrics", move || async move {
            let listener = Tls::bind(address, &folder).await;
            axum::serve(listener, routes(client(&kubeconfig).await, shared)).await.unwrap();
        });

        let client = cluster.client().await;
        register(&client, port).await;
        let services: Api<APIService> = Api::all(client);
        eventually("resource metrics through the API server", Duration::from_secs(60), || async {
            let service = services.get("v1beta1.metrics.k8s.io").await.map_err(|error| error.to_string())?;
            let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
            match conditions.iter().find(|condition| condition.type_ == "Available") {
                Some(condition) if condition.status == "True" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        Self { loads, _work: work }
    }

    /// The CPU, in thousandths of a core, that the pods of a namespace with a
    /// label (`app=querynode`) use together from now on. Pods for which nothing
    /// was said have no metrics.
    pub fn set(&self, namespace: &str, label: &str, millicores: u64) {
        self.loads.lock().unwrap().insert((namespace.into(), label.into()), millicores);
    }

    /// No more metrics for these pods.
    pub fn unset(&self, namespace: &str, label: &str) {
        self.loads.lock().unwrap().remove(&(namespace.into(), label.into()));
    }
}

/// A Service of type `ExternalName` may name an address, and the API server then
/// connects to it as it stands: no cluster network is needed.
async fn register(client: &Client, port: u16) {
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "resource-metrics", "namespace": "kube-system"},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1"}});
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
            "versionPriority": 100, "insecureSkipTLSVerify": true,
            "service": {"name": "resource-metrics", "namespace": "kube-system", "port": port}}});
    let services: Api<APIService> = Api::all(client.clone());
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
}

fn routes(client: Client, loads: Loads) -> Router {
    let version = json!({"groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1"});
    let group = json!({"kind": "APIGroup", "apiVersion": "v1", "name": "metrics.k8s.io",
        "versions": [version], "preferredVersion": version});
    let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]});
    let resources = json!({"kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": "metrics.k8s.io/v1beta1", "resources": [{"name": "pods", "singularName": "",
        "namespaced": true, "kind": "PodMetrics", "verbs": ["get", "list"]}]});
    let constant = |answer: Value| get(move || async move { json_answer(&answer) });
    Router::new()
        .route("/apis", constant(groups))
        .route("/apis/metrics.k8s.io", constant(group))
        .route("/apis/metrics.k8s.io/v1beta1", constant(resources))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", get(pods))
        .with_state((client, loads))
}

type JsonAnswer = ([(header::HeaderName, &'static str); 1], String);

fn json_answer(answer: &Value) -> JsonAnswer {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string())
}

async fn pods(
    State((client, loads)): State<(Client, Loads)>,
    Path(namespace): Path<String>,
    uri: Uri,
) -> Result<JsonAnswer, (StatusCode, String)> {
    let url = reqwest::Url::parse(&format!("https://localhost{uri}")).unwrap();
    let selector = url.query_pairs().find(|(key, _)| key == "labelSelector");
    let selector = selector.map(|(_, value)| value.into_owned()).unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let pods = api.list(&ListParams::default()).await;
    let pods = pods.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?.items;
    let ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let loads = loads.lock().unwrap().clone();
    let mut items = Vec::new();
    for ((_, label), millicores) in loads.iter().filter(|((place, _), _)| *place == namespace) {
        let sharing: Vec<_> = ready.iter().filter(|pod| has_label(pod, label)).collect();
        for pod in &sharing {
            if !selected(pod, &selector) {
                continue;
            }
            let share = (millicores / sharing.len() as u64).min(cpu_limit(pod));
            let containers: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).collect();
            let each = share / containers.len().max(1) as u64;
            let usage: Vec<_> = containers
                .iter()
                .map(|container| json!({"name": container.name, "usage": {"cpu": format!("{each}m"), "memory": "64Mi"}}))
                .collect();
            items.push(
                json!({"metadata": {"name": pod.name_any(), "namespace": namespace, "labels": pod.labels()},
                "timestamp": now, "window": "1s", "containers": usage}),
            );
        }
    }
    Ok(json_answer(&json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {}, "items": items})))
}

/// Selectors of equality, which is what a Deployment's `matchLabels` becomes.
fn selected(pod: &Pod, selector: &str) -> bool {
    selector.split(',').filter(|part| !part.is_empty()).all(|label| has_label(pod, label))
}

fn has_label(pod: &Pod, label: &str) -> bool {
    let (key, value) = label.split_once('=').unwrap_or((label, ""));
    pod.labels().get(key).is_some_and(|seen| seen == value)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// In thousandths of a core; without a limit, more than anything uses.
fn cpu_limit(pod: &Pod) -> u64 {
    let limits = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        let limit = container.resources.as_ref()?.limits.as_ref()?.get("cpu")?;
        match limit.0.strip_suffix('m') {
            Some(number) => number.parse().ok(),
            None => limit.0.parse().ok().map(|cores: u64| cores * 1000),
        }
    });
    limits.sum::<Option<u64>>().unwrap_or(u64::MAX)
}
