//! The pods of a workload: which serve, start, end.

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, ListParams};

use super::{Fault, bounded};

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

/// The pods that a selector selects, oldest first, without those that are done.
pub(super) async fn list(client: &Client, namespace: &str, selector: &str) -> Result<Vec<Pod>, Fault> {
    let api: Api<v1::Pod> = Api::namespaced(client.clone(), namespace);
    // From the API server's cache, which is never older than a moment.
    let parameters = ListParams::default().labels(selector).match_any();
    let list = bounded(&format!("pods {selector} in {namespace}"), api.list(&parameters)).await?;
    let mut pods: Vec<Pod> = list.items.iter().filter_map(of_pod).collect();
    pods.sort_by_key(|pod| pod.created);
    Ok(pods)
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
