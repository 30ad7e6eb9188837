//! What is learned of a real Milvus under real searches, by way of a real Prometheus, against the load at which its
//! latency really passes the target.
//!
//! `tests/real/setup && cargo test --test real_learn -- --nocapture`
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use jiff::SignedDuration;
use milvus_autoscaler::learn::capacity::at_once;
use milvus_autoscaler::learn::settling::Motion;
use milvus_autoscaler::learn::{CapacityLearner, MemoryLearner, Settling};
use milvus_autoscaler::observe::prometheus::{Client, Connection};
use milvus_autoscaler::observe::{Known, Observation, Queries};
use milvus_autoscaler::policy::ClusterPolicy;
use milvus_autoscaler::units::Replicas;
use std::time::Duration;
use support::milvus::{Milvus, SearchLoad};
use support::prometheus::{Prometheus, scrape};

/// Searches that cost milliseconds of one core, so that one client outruns the server.
const SEARCHES: [&str; 6] = ["--vectors", "60000", "--dim", "256", "--index", "FLAT"];
const ONE: Replicas = Replicas(1);
/// The window of rates, and a little.
const WINDOW: u32 = 11;

/// What the cluster would know: one core, as `GOMAXPROCS` says.
const KNOWN: Known = Known {
    ready_proxies: Some(1),
    ready_query_nodes: Some(1),
    cpu_limit: Some(1.0),
    memory_limit: Some(1_073_741_824.0),
};

struct Scene {
    milvus: Milvus,
    client: Client,
    queries: Queries,
    policy: ClusterPolicy,
    _prometheus: Prometheus,
}

impl Scene {
    async fn start() -> Self {
        let milvus = Milvus::start_with(&[], &[("GOMAXPROCS", "1")]).await;
        let labels = [("namespace", "milvus"), ("pod", "milvus-standalone-0")];
        let prometheus = Prometheus::start(&scrape(&[(milvus.metrics(), &labels)])).await;
        let policy = ClusterPolicy::from_yaml(&format!(
            "apiVersion: milvus-autoscaler.io/v1alpha1
kind: MilvusAutoscaler
metadata: {{name: search, namespace: milvus}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: querynode}}
  minReplicas: 1
  maxReplicas: 4
  prometheus: {{url: '{}', rateWindow: 10s}}
  slo: {{p99Latency: 50ms}}
",
            prometheus.url()
        ))
        .unwrap();
        let queries = Queries::new(&policy, None);
        let client = Client::new(&Connection::to(prometheus.url())).unwrap();
        Self { milvus, client, queries, policy, _prometheus: prometheus }
    }

    async fn observe(&self) -> Observation {
        self.client.observe(&self.queries, SignedDuration::from_secs(10), &KNOWN).await.unwrap()
    }

    /// Searches under way, `SECONDS:QPS,…`.
    async fn search(&self, plan: &str) -> SearchLoad {
        let mut load = self.milvus.search(plan, &SEARCHES);
        load.running().await;
        load
    }
}

/// Waits until this second of a load has come; its report follows three seconds after it.
async fn second(load: &SearchLoad, second: u32) {
    support::eventually("the load to go on", Duration::from_secs(60), || async {
        let last = load.seconds().last().map_or(0, |line| line.second);
        if last + 3 >= second { Ok(()) } else { Err(format!("second {last}")) }
    })
    .await;
}

/// A load under which the only node is about 45 % busy.
async fn medium_load(scene: &Scene) -> f64 {
    const TRIED: f64 = 30.0;
    let load = scene.search(&format!("{}:{TRIED}", WINDOW + 5)).await;
    second(&load, WINDOW + 2).await;
    let busy = scene.observe().await.utilization.value().unwrap();
    (TRIED * 0.45 / busy).clamp(10.0, 300.0).round()
}

/// The load around which p99 passes its target, from below; `guess` is near it.
async fn real_capacity(scene: &Scene, guess: f64) -> f64 {
    const SECONDS: u32 = WINDOW + 2;
    let target = scene.policy.policy.slo.p99_latency.unwrap();
    let loads =
        [0.35, 0.55, 0.75, 0.9, 1.1, 1.35, 1.65, 2.1, 2.6, 3.2].map(|share: f64| (share * guess).round());
    let plan = loads.map(|load| format!("{SECONDS}:{load}")).join(",");
    let load = scene.search(&plan).await;
    let mut kept = None;
    for (step, offered) in (1..).zip(loads) {
        second(&load, step * SECONDS - 1).await;
        let seen = scene.observe().await;
        let (p99, served) = (seen.p99.value().unwrap(), seen.served.value().unwrap().get());
        eprintln!(
            "offered {offered:.0}, served {served:.0} QPS: p99 {p99:?}, {:.0} % busy, queue {:?}",
            100.0 * seen.utilization.value().unwrap(),
            seen.queue_p99.value()
        );
        if p99 > target {
            let below: f64 = kept.expect("p99 is above its target under the least load already");
            return (below * served.max(below)).sqrt();
        }
        kept = Some(served);
    }
    panic!("p99 has not passed {target:?} at three times what was learned");
}

#[tokio::test]
async fn the_learned_capacity_is_near_the_load_at_which_latency_passes_its_target() {
    let scene = Scene::start().await;
    let policy = &scene.policy.policy;
    let medium = medium_load(&scene).await;
    let load = scene.search(&format!("{}:{medium}", WINDOW + 35)).await;
    second(&load, WINDOW + 2).await;
    let mut student = CapacityLearner::default();
    let (mut settling, mut memory) = (Settling::default(), MemoryLearner::default());
    let first = scene.observe().await;
    let once = at_once(&first, ONE, policy).unwrap();
    for step in 0..22 {
        let seen = scene.observe().await;
        settling.observe(&seen);
        memory.observe(&seen);
        // A look each 1.4 seconds stands for one each half minute, so that windows of minutes pass in seconds.
        let stretched = Observation { at: first.at + SignedDuration::from_secs(step * 30), ..seen };
        student.observe(&stretched, ONE, policy).unwrap();
        tokio::time::sleep(Duration::from_millis(1400)).await;
    }
    let last = scene.observe().await;
    settling.observe(&last);
    drop(load);

    assert!(matches!(settling.motion(last.at, ONE), Motion::Settled(_)), "{:?}", last.query_nodes);
    assert_eq!(
        memory.replicas(policy.memory_utilization),
        Some(ONE),
        "{:?}",
        memory.status(policy.memory_utilization)
    );
    let loaded = memory.status(policy.memory_utilization).in_memory_replicas;
    assert_eq!(loaded, Some(1), "the collection is loaded once: {:?} of it", last.copies);
    let estimate = student.estimate(policy, first.at + SignedDuration::from_secs(660)).unwrap();
    let learned = estimate.capacity.of(ONE).get();
    eprintln!(
        "at {medium} QPS: {:.0} % busy; learned {learned:.0} QPS with confidence {:.2} ({:.0} QPS at one look)",
        100.0 * last.utilization.value().unwrap(),
        estimate.confidence,
        once.capacity.of(ONE).get()
    );
    let real = real_capacity(&scene, learned).await;
    let ratio = learned / real;
    eprintln!("learned {learned:.0} QPS, p99 passes its target at {real:.0} QPS: ratio {ratio:.2}");
    // Too little costs money, too much costs searches: from one lightly loaded fleet size, caution comes first.
    assert!((0.3..1.5).contains(&ratio), "learned {learned}, really {real}");
}
