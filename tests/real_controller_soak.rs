//! A week of the customer service in accelerated time: the controller against a real API server with its real
//! controllers and a real Prometheus, minute by minute, must ask for what `simulate` asks for on the same load.
//!
//! Three things are bent, and nothing else: the controller's clock is the test's own; Prometheus is asked for the
//! moment of that clock (`time=`), through a relay; and pods are said to have been made at the moment of that clock at
//! which they were, as an API server stamps real time. Before each minute the cluster comes to rest, as in the plant.
//!
//! `tests/real/setup kubernetes prometheus && cargo test --test real_controller_soak -- --nocapture`
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, Uri};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use milvus_autoscaler::capacity::Capacity;
use milvus_autoscaler::controller::load::Servers;
use milvus_autoscaler::controller::{self, Clock, Options};
use milvus_autoscaler::observe::csv;
use milvus_autoscaler::policy::{MilvusAutoscaler, Policy};
use milvus_autoscaler::series::Step;
use milvus_autoscaler::simulate::strategy::StrategyKind;
use milvus_autoscaler::simulate::{Demand, Plant, Setup, simulate};
use milvus_autoscaler::units::{Qps, Replicas};
use serde_json::{Value, json};
use support::kubelet::{Behaviour, Kubelet};
use support::kubernetes::Kubernetes;
use support::prometheus::Prometheus;
use support::{eventually, free_port};
use tokio::sync::{oneshot, watch};

const DAYS: usize = 7;
const MINUTES: usize = DAYS * 1440;
const NAMESPACE: &str = "milvus";
const LEAD: SignedDuration = SignedDuration::from_mins(10);
const PER_REPLICA: f64 = 105.0;
const MAX: u32 = 20;
/// A cycle in the middle of a minute: the minute before is known then, as it is to a strategy at a step's start.
const PHASE: SignedDuration = SignedDuration::from_secs(30);
/// How much the process may grow after its first day.
const GROWTH: u64 = 32 << 20;

/// A clock that the test turns: whoever sleeps, sleeps until the next turn.
struct Turns {
    now: Mutex<Timestamp>,
    turn: watch::Sender<usize>,
    sleeps: watch::Sender<usize>,
}

impl Turns {
    fn new(now: Timestamp) -> Arc<Self> {
        let (turn, sleeps) = (watch::channel(0).0, watch::channel(0).0);
        Arc::new(Self { now: Mutex::new(now), turn, sleeps })
    }

    /// Makes it `now` and wakes the sleeper; returns when it sleeps again.
    async fn turn(&self, now: Timestamp) {
        let slept = *self.sleeps.borrow();
        *self.now.lock().unwrap() = now;
        self.turn.send_modify(|turn| *turn += 1);
        self.sleep_of(slept + 1).await;
    }

    async fn sleep_of(&self, number: usize) {
        let mut sleeps = self.sleeps.subscribe();
        let asleep = sleeps.wait_for(|sleeps| *sleeps >= number);
        tokio::time::timeout(Duration::from_secs(60), asleep).await.expect("a cycle ends").unwrap();
    }
}

impl Clock for Turns {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, _pause: Duration) -> BoxFuture<'static, ()> {
        let mut turn = self.turn.subscribe();
        let before = *turn.borrow();
        self.sleeps.send_modify(|sleeps| *sleeps += 1);
        async move {
            let _ = turn.wait_for(|turn| *turn > before).await;
        }
        .boxed()
    }
}

/// Relays queries to `prometheus`, each for the moment of `clock`.
async fn relay(prometheus: String, clock: Arc<Turns>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shared = Arc::new((prometheus, clock, reqwest::Client::new()));
    let router = Router::new().fallback(pass_on).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

type Relay = Arc<(String, Arc<Turns>, reqwest::Client)>;

async fn pass_on(State(relay): State<Relay>, uri: Uri, body: Bytes) -> (StatusCode, Bytes) {
    let (prometheus, clock, client) = &*relay;
    let mut form = String::from_utf8(body.to_vec()).unwrap();
    if uri.path() == "/api/v1/query" {
        write!(form, "&time={}", clock.now().as_second()).unwrap();
    }
    let request = client.post(format!("{prometheus}{}", uri.path()));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer = request.send().await.unwrap();
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
    (status, answer.bytes().await.unwrap())
}

/// When each pod was made, by the test's clock.
type Births = Arc<Mutex<BTreeMap<String, Timestamp>>>;

/// A client that sees pods made when `births` says.
fn with_births(client: &Client, births: &Births) -> Client {
    let (client, births) = (client.clone(), Arc::clone(births));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, births) = (client.clone(), Arc::clone(&births));
        async move {
            let pods = request.uri().path().ends_with("/pods");
            let response = client.send(request).await?;
            if !pods {
                return Ok::<_, kube::Error>(response);
            }
            let (head, body) = response.into_parts();
            let mut list: Value = serde_json::from_slice(&body.collect_bytes().await?).unwrap();
            let births = births.lock().unwrap().clone();
            for pod in list["items"].as_array_mut().into_iter().flatten() {
                let metadata = &mut pod["metadata"];
                if let Some(born) = metadata["uid"].as_str().and_then(|uid| births.get(uid)) {
                    metadata["creationTimestamp"] = json!(born.to_string());
                }
            }
            Ok(Response::from_parts(head, Body::from(list.to_string().into_bytes())))
        }
    });
    Client::new(service, NAMESPACE)
}

/// The cluster with one Deployment.
struct Fleet {
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    births: Births,
}

impl Fleet {
    /// A Deployment whose pods were all made at `born`.
    async fn new(client: &Client, replicas: Replicas, born: Timestamp) -> Self {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "querynode"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "querynode"}}, "template": {
                "metadata": {"labels": {"app": "querynode"}},
                "spec": {"containers": [{"name": "querynode", "image": "milvus"}]}}}});
        let fleet = Self {
            deployments: Api::namespaced(client.clone(), NAMESPACE),
            pods: Api::namespaced(client.clone(), NAMESPACE),
            births: Births::default(),
        };
        let deployment = serde_json::from_value(deployment).unwrap();
        fleet.deployments.create(&PostParams::default(), &deployment).await.unwrap();
        fleet.rest(born, 0).await;
        fleet
    }

    async fn desired(&self) -> u32 {
        let spec = self.deployments.get("querynode").await.unwrap().spec.unwrap();
        u32::try_from(spec.replicas.unwrap()).unwrap()
    }

    /// Waits until every replica is ready and none is left over; those that are new were made at `now`, and will be
    /// the first to go, as in the plant.
    async fn rest(&self, now: Timestamp, minute: usize) {
        let pods = eventually("the fleet at rest", Duration::from_secs(60), || self.at_rest()).await;
        for pod in pods {
            if self.births.lock().unwrap().contains_key(&pod.uid().unwrap()) {
                continue;
            }
            self.births.lock().unwrap().insert(pod.uid().unwrap(), now);
            let cost = format!("-{minute}");
            let cost =
                json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}});
            let patch = PatchParams::default();
            self.pods.patch(&pod.name_any(), &patch, &Patch::Merge(cost)).await.unwrap();
        }
    }

    async fn at_rest(&self) -> Result<Vec<Pod>, String> {
        let deployment = self.deployments.get("querynode").await.map_err(|error| error.to_string())?;
        let status = deployment.status.unwrap_or_default();
        let wanted = deployment.spec.unwrap().replicas;
        let pods = self.pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
        let is_seen = status.observed_generation == deployment.metadata.generation;
        let rests = is_seen
            && status.ready_replicas == wanted
            && status.replicas == wanted
            && status.updated_replicas == wanted
            && pods.len() == staying
            && i32::try_from(staying).ok() == wanted;
        if rests { Ok(pods) } else { Err(format!("{wanted:?} wanted, {} pods, {status:?}", pods.len())) }
    }
}

/// The policy, for `simulate` and for the controller.
fn policy(prometheus: &str) -> Value {
    json!({
        "apiVersion": "milvus-autoscaler.io/v1alpha1", "kind": "MilvusAutoscaler",
        "metadata": {"name": "querynode"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "querynode"},
            "minReplicas": 1, "maxReplicas": MAX,
            "prometheus": {"url": prometheus},
            "demand": {"query": "demand"},
            "capacity": {"qpsPerReplica": PER_REPLICA},
            "leadTime": "10m",
        },
    })
}

/// The week's load as `simulate` sees it, and what it asks for in each minute.
fn simulated() -> (Demand, Vec<Replicas>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations/customer-service.csv");
    let text = std::fs::read_to_string(file).unwrap();
    let week: Vec<&str> = text.lines().take(1 + MINUTES).collect();
    let trace = csv::read(week.join("\n").as_bytes(), "customer-service").unwrap();
    let demand = Demand::from_trace(&trace, Step::MINUTE).unwrap();
    let plant = Plant {
        step: Step::MINUTE,
        lead_time: LEAD,
        drain_time: SignedDuration::from_mins(2),
        capacity: Capacity::linear(Qps::new(PER_REPLICA).unwrap()).unwrap(),
        min: Replicas(1),
        max: Replicas(MAX),
    };
    let policy = Policy::from_yaml(&policy("http://prometheus").to_string()).unwrap();
    let strategies = vec![StrategyKind::Predictive];
    let setup = Setup { plant, warmup: None, slo_weight: 0.0, policy, strategies };
    let outcome = simulate(demand, &setup);
    let desired = outcome.replays[0].desired.clone();
    (outcome.demand, desired)
}

/// The load as samples: a minute's mean is known when it is over.
fn samples(demand: &Demand) -> String {
    let mut text = "# TYPE demand gauge\n".to_owned();
    for minute in 0..demand.len() {
        let over = demand.seen().time(minute + 1).as_second();
        writeln!(text, "demand {} {over}", demand.at(minute).get()).unwrap();
    }
    text + "# EOF\n"
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_is_decided_as_simulated() {
    let (demand, expected) = simulated();
    let start = demand.seen().start();
    let prometheus = Prometheus::start_with("{}", Some(&samples(&demand)), &[]).await;
    let cluster = Kubernetes::start().await;
    let quick = Behaviour { ready_after: Some(Duration::ZERO), drain: Duration::ZERO };
    let _kubelet = Kubelet::start(&cluster, quick);
    cluster.namespace(NAMESPACE).await;
    let crd = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/autoscaler/crd.yaml");
    cluster.kubectl(&["apply", "--server-side", "--filename", &crd.display().to_string()]);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/milvusautoscalers.milvus-autoscaler.io"]);
    let client = cluster.client().await;
    let first = Replicas::at_least(demand.at(0).get() / PER_REPLICA);
    let fleet = Fleet::new(&client, first, start - SignedDuration::from_hours(24)).await;

    let clock = Turns::new(start);
    let url = relay(prometheus.url(), Arc::clone(&clock)).await;
    let policies: Api<MilvusAutoscaler> = Api::namespaced(client.clone(), NAMESPACE);
    let resource = serde_json::from_value(policy(&url)).unwrap();
    policies.create(&PostParams::default(), &resource).await.unwrap();
    let options = Options {
        namespaces: vec![NAMESPACE.to_owned()],
        own_namespace: NAMESPACE.to_owned(),
        identity: "soak".to_owned(),
        lease: None,
        interval: Duration::from_secs(60),
        listen: format!("127.0.0.1:{}", free_port()).parse().unwrap(),
        loads: Arc::new(Servers::default()),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { drop(stopped.await) };
    let running = tokio::spawn(controller::run(with_births(&client, &fleet.births), options, shutdown));
    clock.sleep_of(1).await;

    let began = Instant::now();
    let (mut desired, mut scaled, mut after_a_day) = (first.0, 0, 0);
    for (minute, expected) in expected.iter().enumerate() {
        let now = start + SignedDuration::from_mins(i64::try_from(minute).unwrap()) + PHASE;
        clock.turn(now).await;
        if minute == 0 {
            // The history is read and learned beside the cycles; simulated, that takes no time.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let asked = fleet.desired().await;
        if asked != expected.0 {
            let status = policies.get("querynode").await.unwrap().status.unwrap();
            panic!("{now}: {asked} instead of the simulated {expected}; {:#}", json!(status));
        }
        if asked != desired {
            (desired, scaled) = (asked, scaled + 1);
            fleet.rest(now, minute).await;
        }
        if minute == 1440 {
            after_a_day = resident_bytes();
        }
    }
    let (took, at_the_end) = (began.elapsed(), resident_bytes());
    eprintln!(
        "{MINUTES} minutes in {:.0} s: {scaled} changes as simulated; {} MiB after a day, {} MiB at the end",
        took.as_secs_f64(),
        after_a_day >> 20,
        at_the_end >> 20
    );
    assert!(scaled >= 4 * DAYS / 7, "the load moves the fleet");
    assert!(at_the_end < after_a_day + GROWTH, "{after_a_day} bytes after a day, {at_the_end} at the end");
    drop(stop);
    running.await.unwrap().unwrap();
}
