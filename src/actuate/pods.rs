//! The pods of a workload: which serve, start, end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, ListParams};

use super::{Fault, bounded, quantity};
use crate::observe::Known;

/// A pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod {
    /// When it was made.
    pub created: Timestamp,
    /// How far it is.
    pub state: PodState,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodState {
    /// Not Ready yet, or not any more.
    Starting,
    /// Ready.
    Ready,
    /// Being deleted: it drains.
    Ending,
}

/// The pods that a selector selects, oldest first, without those that are done; and what they tell of the Milvus.
pub(super) async fn list(
    client: &Client,
    namespace: &str,
    selector: &str,
) -> Result<(Vec<Pod>, Known), Fault> {
    let api: Api<v1::Pod> = Api::namespaced(client.clone(), namespace);
    // From the API server's cache, which is never older than a moment.
    let parameters = ListParams::default().labels(selector).match_any();
    let list = bounded(&format!("pods {selector} in {namespace}"), api.list(&parameters)).await?;
    let mut pods: Vec<Pod> = list.items.iter().filter_map(of_pod).collect();
    pods.sort_by_key(|pod| pod.created);
    let ready = pods.iter().filter(|pod| pod.state == PodState::Ready).count();
    let known = Known {
        ready_query_nodes: u32::try_from(ready).ok(),
        cpu_limit: least_limit(&list.items, "cpu"),
        memory_limit: least_limit(&list.items, "memory"),
        ..Known::default()
    };
    Ok((pods, known))
}

/// The least limit that any of the pods sets its QueryNode.
fn least_limit(pods: &[v1::Pod], resource: &str) -> Option<f64> {
    pods.iter().filter_map(|pod| limit(pod, resource)).reduce(f64::min)
}

/// The limit of the container that runs the QueryNode, not of those beside it.
fn limit(pod: &v1::Pod, resource: &str) -> Option<f64> {
    let containers = &pod.spec.as_ref()?.containers;
    let named = |part: &str| containers.iter().find(|container| container.name.contains(part));
    let only = || containers.first().filter(|_| containers.len() == 1);
    let container = named("querynode").or_else(|| named("milvus")).or_else(only)?;
    quantity::parse(&container.resources.as_ref()?.limits.as_ref()?.get(resource)?.0)
}

/// How many of the proxies that a selector selects are Ready; `None` where there are none to be found.
pub(super) async fn ready_proxies(
    client: &Client,
    namespace: &str,
    selector: Option<&str>,
) -> Result<Option<u32>, Fault> {
    let Some(selector) = selector else { return Ok(None) };
    let (pods, _) = list(client, namespace, selector).await?;
    let ready = pods.iter().filter(|pod| pod.state == PodState::Ready).count();
    Ok((!pods.is_empty()).then(|| u32::try_from(ready).unwrap_or(u32::MAX)))
}

fn of_pod(pod: &v1::Pod) -> Option<Pod> {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let ready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    let state = match () {
        () if pod.metadata.deletion_timestamp.is_some() => PodState::Ending,
        () if ready => PodState::Ready,
        () => PodState::Starting,
    };
    Some(Pod {
        created: pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0),
        state,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_limit_is_that_of_the_container_with_the_query_node() {
        let container =
            |name: &str, limits: serde_json::Value| json!({"name": name, "resources": {"limits": limits}});
        let pod = |containers: &[serde_json::Value]| -> v1::Pod {
            serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap()
        };
        let proxy = container("istio-proxy", json!({"cpu": "100m"}));
        let beside = pod(&[proxy.clone(), container("querynode", json!({"cpu": "4", "memory": "8Gi"}))]);
        let alone = pod(&[container("main", json!({"cpu": "2500m"}))]);
        assert_eq!(limit(&beside, "cpu"), Some(4.0));
        assert_eq!(limit(&beside, "memory"), Some(8.0 * 1_073_741_824.0));
        assert_eq!(limit(&alone, "cpu"), Some(2.5));
        assert_eq!(limit(&alone, "memory"), None);
        assert_eq!(limit(&pod(&[proxy, container("other", json!({"cpu": "4"}))]), "cpu"), None);
        assert_eq!(least_limit(&[beside, alone], "cpu"), Some(2.5));
        assert_eq!(least_limit(&[], "cpu"), None);
    }
}
