//! Plays scheduler and kubelet: pods are bound to a node at once, become Ready
//! after a chosen time, and when deleted stay for the time that their drain
//! takes, but no longer than their grace period.

use super::background::Background;
use super::kubernetes::{Kubernetes, client};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const NODE: &str = "simulated";

/// How pods behave from now on.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// From the pod's creation until it is Ready; `None`: it stays Pending, as
    /// when no node has room.
    pub ready_after: Option<Duration>,
    /// From its deletion until its processes have ended by themselves.
    pub drain: Duration,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    drained: AtomicU64,
    killed: AtomicU64,
}

pub struct Kubelet {
    behaviour: Arc<Mutex<Behaviour>>,
    counters: Arc<Counters>,
    _work: Background,
}

impl Kubelet {
    pub fn start(cluster: &Kubernetes, behaviour: Behaviour) -> Self {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let counters = Arc::new(Counters::default());
        let kubeconfig = cluster.kubeconfig();
        let (shared, counts) = (Arc::clone(&behaviour), Arc::clone(&counters));
        let work = Background::spawn("kubelet", move || async move {
            run(client(&kubeconfig).await, shared, counts).await;
        });
        Self { behaviour, counters, _work: work }
    }

    /// For pods that are created, or deleted, from now on.
    pub fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Pods that became Ready.
    pub fn started(&self) -> u64 {
        self.counters.started.load(Ordering::Relaxed)
    }

    /// Pods that ended by themselves after their deletion.
    pub fn drained(&self) -> u64 {
        self.counters.drained.load(Ordering::Relaxed)
    }

    /// Pods whose grace period was shorter than their drain.
    pub fn killed(&self) -> u64 {
        self.counters.killed.load(Ordering::Relaxed)
    }
}

async fn run(client: Client, behaviour: Arc<Mutex<Behaviour>>, counters: Arc<Counters>) {
    // The pods must be on a node for their deletion to take its time.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let nodes: Api<Node> = Api::all(client.clone());
    drop(nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await);

    let pods: Api<Pod> = Api::all(client.clone());
    let mut watched = Box::pin(watcher(pods, watcher::Config::default()).default_backoff().applied_objects());
    let (mut starting, mut ending) = (HashSet::new(), HashSet::new());
    let mut tasks = JoinSet::new();
    loop {
        let pod = match watched.try_next().await {
            Ok(Some(pod)) => pod,
            Ok(None) => return,
            // The watcher starts again by itself, after a pause.
            Err(_) => continue,
        };
        let (Some(uid), Some(namespace)) = (pod.uid(), pod.namespace()) else { continue };
        let now = *behaviour.lock().unwrap();
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        if pod.metadata.deletion_timestamp.is_some() {
            if ending.insert(uid) {
                tasks.spawn(end(api, pod, now.drain, Arc::clone(&counters)));
            }
        } else if let Some(after) = now.ready_after
            && phase(&pod) == Some("Pending")
            && starting.insert(uid)
        {
            tasks.spawn(begin(api, pod, after, Arc::clone(&counters)));
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.phase.as_deref())
}

/// Until it succeeds or the pod is gone: the API server may be away for a while.
async fn persist<T, F>(mut request: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = kube::Result<T>>,
{
    loop {
        match request().await {
            Ok(answer) => return Some(answer),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => return None,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn begin(api: Api<Pod>, pod: Pod, after: Duration, counters: Arc<Counters>) {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
        let binding = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}});
        let post = PostParams::default();
        persist(|| api.create_subresource::<_, Value>("binding", &name, &post, &binding)).await;
    }
    let created = pod.metadata.creation_timestamp.as_ref().map_or_else(Timestamp::now, |time| time.0);
    let age = Duration::try_from(Timestamp::now().duration_since(created)).unwrap_or_default();
    tokio::time::sleep(after.saturating_sub(age)).await;
    let status = Patch::Strategic(running(&pod));
    let patch = PatchParams::default();
    if persist(|| api.patch_status(&name, &patch, &status)).await.is_some() {
        counters.started.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a kubelet says of a pod that runs and is Ready. Its address is one that
/// nothing has: the processes are not there.
fn running(pod: &Pod) -> Value {
    static ADDRESS: AtomicU64 = AtomicU64::new(0);
    let number = ADDRESS.fetch_add(1, Ordering::Relaxed);
    let address = format!("10.244.{}.{}", number / 250 % 250, number % 250 + 1);
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let conditions: Vec<_> = ["Initialized", "ContainersReady", "Ready"]
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}))
        .to_vec();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({"name": container.name, "image": container.image, "imageID": "", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}}})
    });
    json!({"metadata": {"uid": pod.uid()}, "status": {
        "phase": "Running", "startTime": now, "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions, "containerStatuses": containers.collect::<Vec<_>>()}})
}

async fn end(api: Api<Pod>, pod: Pod, drain: Duration, counters: Arc<Counters>) {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    // A pod that never ran has nothing to drain.
    let drain = if phase(&pod) == Some("Running") { drain } else { Duration::ZERO };
    tokio::time::sleep(drain.min(grace)).await;
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.uid(), ..Preconditions::default() }),
        ..DeleteParams::default()
    };
    let name = pod.name_any();
    if persist(|| api.delete(&name, &parameters)).await.is_some() {
        let counter = if drain > grace { &counters.killed } else { &counters.drained };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
