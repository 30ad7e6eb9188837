//! Whole cycles against an API server of a few lines: what happens when a process dies at any point of one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::RealTime;
use super::keeper::{Context, Keeper, Next};
use super::lease::Leadership;
use super::load::{Load, Loads};
use super::state::Store;
use crate::actuate::mock::{self, Answer, Call};
use crate::decide::Reason;
use crate::observe::observation::{Known, Observation, observation};
use crate::observe::prometheus::{Answer as Samples, Sample};
use crate::observe::queries::Queries;
use crate::policy::{ClusterPolicy, MilvusAutoscaler};
use crate::series::{Series, Step};
use crate::telemetry::Metrics;
use crate::units::Qps;

/// The load by the second: four replicas' worth from the first minute to the fifth, one's otherwise.
fn demand(at: Timestamp) -> f64 {
    if (60..300).contains(&at.duration_since(start()).as_secs()) { 390.0 } else { 90.0 }
}

/// The seconds of the cycles: around the rise, around the fall, and at last when the history is put away.
const CYCLES: [i64; 14] = [0, 30, 60, 90, 120, 300, 330, 480, 510, 540, 570, 600, 630, 660];

fn start() -> Timestamp {
    "2026-01-05T00:00:00Z".parse().unwrap()
}

/// A cluster, and the process that dies in it.
struct World {
    now: Timestamp,
    replicas: u32,
    /// The HPA of the Deployment, where there is one.
    hpa: Option<Value>,
    resource: Value,
    kept: Option<Value>,
    /// Whether what is kept cannot be read now.
    unreadable: bool,
    scaled: Vec<u64>,
    asked: usize,
    /// The request at which the process dies, and whether that request is still carried out.
    death: Option<(usize, bool)>,
}

type Shared = Arc<Mutex<World>>;

fn world(death: Option<(usize, bool)>) -> Shared {
    let resource = json!({
        "apiVersion": "milvus-autoscaler.io/v1alpha1", "kind": "MilvusAutoscaler",
        "metadata": {"name": "querynode", "namespace": "milvus", "generation": 1, "uid": "1"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "querynode"}, "minReplicas": 1, "maxReplicas": 9,
            "prometheus": {"url": "http://prometheus"}, "demand": {"query": "demand"},
            "capacity": {"qpsPerReplica": 100}, "leadTime": "1m",
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 120}},
        },
    });
    Arc::new(Mutex::new(World {
        now: start(),
        replicas: 1,
        hpa: None,
        resource,
        kept: None,
        unreadable: false,
        scaled: Vec::new(),
        asked: 0,
        death,
    }))
}

/// A client of the world, and what it says when the process has died.
fn client(world: &Shared) -> (Client, Arc<Notify>) {
    let (shared, end) = (Arc::clone(world), Arc::new(Notify::new()));
    let death = Arc::clone(&end);
    let (client, _) = mock::client(move |call| {
        let mut world = shared.lock().unwrap();
        world.asked += 1;
        match world.death {
            Some((request, carried_out)) if world.asked > request => {
                if carried_out && world.asked == request + 1 {
                    world.answer(call);
                }
                death.notify_one();
                None
            }
            _ => world.answer(call),
        }
    });
    (client, end)
}

impl World {
    fn answer(&mut self, call: &Call) -> Answer {
        let resource = call.path.rsplit('/').next().unwrap_or_default();
        match (call.method.as_str(), resource) {
            _ if call.path.contains("/events") => Some((201, call.body.clone())),
            ("GET", "pods") => mock::pods(self.replicas),
            ("GET", "horizontalpodautoscalers") => mock::list(self.hpa.as_slice()),
            ("GET", "hpa") => self.hpa.clone().map(|hpa| (200, hpa)),
            ("GET", "querynode") => Some((200, mock::deployment(self.replicas))),
            ("GET", _) if self.unreadable => mock::failure(500),
            ("GET", _) => self.kept.clone().map_or_else(|| mock::failure(404), |kept| Some((200, kept))),
            ("PATCH", "scale") => {
                let replicas = call.body["spec"]["replicas"].as_u64().unwrap();
                self.scaled.push(replicas);
                self.replicas = u32::try_from(replicas).unwrap();
                Some((200, json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {}})))
            }
            ("PATCH", "status") => {
                self.resource["status"] = call.body["status"].clone();
                Some((200, self.resource.clone()))
            }
            ("PATCH", "hpa") => {
                let hpa = self.hpa.as_mut().unwrap();
                // What is not applied again goes; only the autoscaler annotates here.
                hpa["metadata"]["annotations"] = call.body["metadata"]["annotations"].clone();
                for (field, value) in call.body["spec"].as_object().unwrap() {
                    hpa["spec"][field] = value.clone();
                }
                Some((200, hpa.clone()))
            }
            ("PATCH", "querynode") => {
                self.resource["metadata"]["finalizers"] = call.body["metadata"]["finalizers"].clone();
                Some((200, self.resource.clone()))
            }
            ("PATCH", _) => {
                self.kept = Some(call.body.clone());
                Some((200, call.body.clone()))
            }
            (method, path) => panic!("{method} {path} is not expected"),
        }
    }

    fn is_learned(&self) -> bool {
        self.forecast_ready()["status"] == "True"
    }

    /// The condition `ForecastReady`.
    fn forecast_ready(&self) -> Value {
        let conditions = self.resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == "ForecastReady").unwrap_or_default()
    }
}

/// The load of the world's moment.
struct Told {
    world: Shared,
    queries: Queries,
}

impl Load for Told {
    fn observe(&self, known: Known) -> BoxFuture<'_, Result<Observation, Reason>> {
        let at = self.world.lock().unwrap().now;
        let own = Sample { labels: [].into(), at, value: demand(at) };
        let (none, own) =
            (Samples { samples: vec![], warning: None }, Samples { samples: vec![own], warning: None });
        let seen = observation(at, &none, Some(&own), &self.queries, SignedDuration::from_mins(2), &known);
        async { Ok(seen) }.boxed()
    }

    fn history(&self, from: Timestamp, now: Timestamp) -> BoxFuture<'_, Result<Series, Reason>> {
        let from = from.max(start() - SignedDuration::from_hours(2));
        let mut series = Series::new(from, Step::MINUTE);
        for second in (from.as_second()..now.as_second()).step_by(60).skip_while(|at| at % 60 != 0) {
            series.push(Qps::new(demand(Timestamp::from_second(second).unwrap())).ok());
        }
        async { Ok(series) }.boxed()
    }
}

struct Worlds(Shared);

impl Loads for Worlds {
    fn connect<'a>(
        &'a self,
        _: &'a Client,
        namespace: &'a str,
        policy: &'a ClusterPolicy,
    ) -> BoxFuture<'a, Result<Box<dyn Load>, Reason>> {
        let told = Told { world: Arc::clone(&self.0), queries: Queries::new(policy, Some(namespace)) };
        async { Ok(Box::new(told) as Box<dyn Load>) }.boxed()
    }
}

/// A process that has just started.
fn process(world: &Shared) -> (Keeper, Arc<Notify>) {
    let (client, died) = client(world);
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    let context = Context {
        store: Store::new(client.clone(), "own".to_owned()),
        metrics: Arc::new(Metrics::new()),
        leadership: Leadership::always(),
        recorder: Recorder::new(client.clone(), reporter),
        loads: Arc::new(Worlds(Arc::clone(world))),
        clock: Arc::new(RealTime),
        fits: Arc::new(Semaphore::new(1)),
        client,
    };
    (Keeper::new(Arc::new(context), policy(world)), died)
}

/// Lives through all cycles; whoever dies is followed by another at the next one.
async fn live(world: &Shared) {
    let mut one = process(world);
    let mut learning = true;
    for second in CYCLES {
        let now = start() + SignedDuration::from_secs(second);
        world.lock().unwrap().now = now;
        loop {
            let (keeper, died) = &mut one;
            let lived = tokio::select! {
                biased;
                () = died.notified() => false,
                next = Box::pin(keeper.cycle(now)) => { assert_eq!(next, Next::Regular); true }
            };
            if !lived {
                world.lock().unwrap().death = None;
                one = process(world);
                learning = true;
                break;
            }
            // Learning goes on beside the cycles, and takes the time that it takes.
            learning = learning && !world.lock().unwrap().is_learned();
            if !learning {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_request_causes_no_extra_scale_event() {
    let healthy = world(None);
    live(&healthy).await;
    let requests = healthy.lock().unwrap().asked;
    let wanted = healthy.lock().unwrap().scaled.clone();
    assert!(
        wanted.is_sorted_by(|a, b| a != b) && wanted.contains(&4) && wanted.last() < Some(&4),
        "{wanted:?}"
    );
    for request in 0..requests {
        for carried_out in [false, true] {
            let world = world(Some((request, carried_out)));
            live(&world).await;
            let world = world.lock().unwrap();
            assert!(world.death.is_none() || world.asked <= request);
            assert_eq!(world.scaled, wanted, "died at request {request}, carried out: {carried_out}");
        }
    }
}

/// The policy as it is now.
fn policy(world: &Shared) -> Arc<MilvusAutoscaler> {
    Arc::new(serde_json::from_value(world.lock().unwrap().resource.clone()).unwrap())
}

/// Cycles of one process while the load rises; whether it has lived.
async fn rise(world: &Shared) -> bool {
    let (mut keeper, died) = process(world);
    for second in [0, 60, 90] {
        let now = start() + SignedDuration::from_secs(second);
        world.lock().unwrap().now = now;
        keeper.update(policy(world));
        let lived = tokio::select! {
            biased;
            () = died.notified() => false,
            _ = Box::pin(keeper.cycle(now)) => true,
        };
        if !lived {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_deleted_after_a_death_at_any_request_leaves_the_hpa_as_it_was() {
    let original = mock::hpa("hpa", 1, 3);
    let with_hpa = |death| {
        let world = world(death);
        world.lock().unwrap().hpa = Some(original.clone());
        world
    };
    let healthy = with_hpa(None);
    assert!(rise(&healthy).await);
    let requests = healthy.lock().unwrap().asked;
    assert_ne!(healthy.lock().unwrap().hpa.as_ref().unwrap()["spec"], original["spec"]);
    for request in 0..requests {
        for carried_out in [false, true] {
            let world = with_hpa(Some((request, carried_out)));
            let lived = rise(&world).await;
            {
                let mut world = world.lock().unwrap();
                world.death = None;
                world.resource["metadata"]["deletionTimestamp"] = json!("2026-01-05T00:02:00Z");
                assert!(!lived || world.asked <= request);
            }
            let (mut next, _) = process(&world);
            assert_eq!(next.cycle(start()).await, Next::Gone);
            let world = world.lock().unwrap();
            let (hpa, context) = (world.hpa.as_ref().unwrap(), format!("died at {request}, {carried_out}"));
            assert_eq!(hpa["spec"], original["spec"], "{context}");
            assert_eq!(hpa["metadata"]["annotations"], Value::Null, "{context}");
            let finalizers = world.resource["metadata"]["finalizers"].as_array();
            assert!(finalizers.is_none_or(Vec::is_empty), "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_that_turns_to_another_target_gets_its_bounds_back_though_nothing_is_to_scale() {
    let world = world(None);
    world.lock().unwrap().hpa = Some(mock::hpa("hpa", 3, 4));
    let (mut keeper, _) = process(&world);
    cycles(&world, &mut keeper, -60..-59).await;
    learn(&world, &mut keeper).await;
    cycles(&world, &mut keeper, -59..-40).await;
    {
        let mut world = world.lock().unwrap();
        let hpa = world.hpa.as_mut().unwrap();
        hpa["spec"]["scaleTargetRef"]["name"] = json!("other");
        assert_eq!(hpa["spec"]["minReplicas"], 1);
        assert_eq!(world.resource["status"]["originalBounds"]["name"], "hpa");
    }
    cycles(&world, &mut keeper, -40..-39).await;
    let world = world.lock().unwrap();
    let hpa = world.hpa.as_ref().unwrap();
    assert_eq!(world.scaled, Vec::<u64>::new());
    assert_eq!((&hpa["spec"]["minReplicas"], &hpa["spec"]["maxReplicas"]), (&json!(3), &json!(4)));
    assert_eq!(hpa["metadata"]["annotations"], Value::Null);
    assert_eq!(world.resource["status"]["originalBounds"], Value::Null);
}

/// One cycle each half minute from one minute to another.
async fn cycles(world: &Shared, keeper: &mut Keeper, minutes: std::ops::Range<i64>) {
    for second in (minutes.start * 60..minutes.end * 60).step_by(30) {
        let now = start() + SignedDuration::from_secs(second);
        world.lock().unwrap().now = now;
        keeper.cycle(now).await;
    }
}

/// Cycles at one moment until the history is learned.
async fn learn(world: &Shared, keeper: &mut Keeper) {
    while !world.lock().unwrap().is_learned() {
        let now = world.lock().unwrap().now;
        keeper.cycle(now).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_and_cannot_be_read_is_not_replaced_and_nothing_is_taken_away_meanwhile() {
    let world = world(None);
    let kept = Some(json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "kept"}}));
    {
        let mut world = world.lock().unwrap();
        (world.replicas, world.unreadable) = (5, true);
        world.kept.clone_from(&kept);
    }
    let (mut keeper, _) = process(&world);
    cycles(&world, &mut keeper, -100..-70).await;
    {
        let mut world = world.lock().unwrap();
        assert_eq!((&world.scaled, &world.kept), (&vec![], &kept));
        let condition = world.forecast_ready();
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("Unknown"), &json!("ApiServerUnreachable"))
        );
        world.unreadable = false;
    }
    learn(&world, &mut keeper).await;
    cycles(&world, &mut keeper, -70..-40).await;
    let world = world.lock().unwrap();
    assert!(world.scaled.last() < Some(&5), "{:?}", world.scaled);
    assert!(world.kept.as_ref().is_some_and(|now| now["binaryData"].is_object()), "{:?}", world.kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_a_floor_that_decisions_name_as_in_simulations() {
    let world = world(None);
    world.lock().unwrap().resource["spec"]["schedules"] =
        json!([{"name": "first-half-hour", "start": "0 * * * *", "duration": "30m", "minReplicas": 3}]);
    let (mut keeper, _) = process(&world);
    cycles(&world, &mut keeper, -60..-59).await;
    learn(&world, &mut keeper).await;
    cycles(&world, &mut keeper, -59..-31).await;
    {
        let world = world.lock().unwrap();
        let status = &world.resource["status"];
        assert_eq!(world.scaled, [3]);
        assert_eq!(status["lastScale"]["reason"], "ScheduleFloor", "{status:#}");
        assert_eq!(
            status["bounds"],
            json!({"minReplicas": 3, "maxReplicas": 9, "activeSchedules": ["first-half-hour"]})
        );
    }
    cycles(&world, &mut keeper, -30..-5).await;
    let world = world.lock().unwrap();
    assert!(world.scaled.len() > 1 && world.scaled[1..].is_sorted_by(|a, b| a > b), "{:?}", world.scaled);
    assert_eq!(world.resource["status"]["bounds"], json!({"minReplicas": 1, "maxReplicas": 9}));
}
