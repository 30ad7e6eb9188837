//! One controller and 1, 10, 100, 1,000 policies: how late its cycles are, what memory and CPU it takes.
//!
//! Each policy has a Deployment with a pod, on a real API server with its real controllers, and four weeks of history
//! to learn, from a Prometheus of a few lines. Lateness is seen from outside: a policy's cycle asks for its demand, and
//! it is due one interval after the one before; what its earliest cycle of the window lost is not seen.
//!
//! `tests/real/setup kubernetes && cargo test --release --test benchmark_controller -- --nocapture`
//! With `AUTOSCALER=FILE` another binary is measured.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::routing::any;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use milvus_autoscaler::policy::MilvusAutoscaler;
use serde_json::json;
use support::kubelet::{Behaviour, Kubelet};
use support::kubernetes::Kubernetes;
use support::process::Process;
use support::{eventually, free_port};

const SIZES: [usize; 4] = [1, 10, 100, 1000];
const NAMESPACES: usize = 10;
const OWN: &str = "milvus-autoscaler";
const INTERVAL: Duration = Duration::from_secs(30);
/// Cycles of each policy that are measured; of one alone for five minutes, as what it takes is so little.
const CYCLES: u32 = 4;
const IDLE_CYCLES: u32 = 10;
const MIB: u64 = 1 << 20;

/// When each policy asked for its demand.
type Asked = Arc<Mutex<HashMap<String, Vec<Instant>>>>;

/// A Prometheus whose load has a day and a night; other series it does not have.
async fn prometheus(asked: &Asked) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/api/v1/query", any(instant))
        .route("/api/v1/query_range", any(range))
        .with_state(Arc::clone(asked));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn demand(second: i64) -> f64 {
    let day = second as f64 / 86_400.0 * std::f64::consts::TAU;
    // Not the same in any two minutes, and always within one replica.
    60.0 + 30.0 * day.sin() + (second / 60 * 7919 % 101) as f64 / 50.0
}

fn parameter(uri: &Uri, body: &str, name: &str) -> String {
    let query = uri.query().unwrap_or_default();
    let url = reqwest::Url::parse(&format!("http://prometheus/?{query}&{body}")).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

type Page = ([(&'static str, &'static str); 1], String);

fn page(kind: &str, result: &str) -> Page {
    let text = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[{result}]}}}}"#);
    ([("content-type", "application/json")], text)
}

async fn instant(State(asked): State<Asked>, uri: Uri, body: String) -> Page {
    let query = parameter(&uri, &body, "query");
    let now = jiff::Timestamp::now().as_second();
    let value = match query.as_str() {
        "vector(1)" => 1.0,
        query if query.starts_with("demand_") => {
            asked.lock().unwrap().entry(query.to_owned()).or_default().push(Instant::now());
            demand(now)
        }
        _ => return page("vector", ""),
    };
    page("vector", &format!(r#"{{"metric":{{}},"value":[{now},"{value}"]}}"#))
}

async fn range(uri: Uri, body: String) -> Page {
    let second = |name: &str| {
        #[allow(clippy::cast_possible_truncation)]
        let second = parameter(&uri, &body, name).parse::<f64>().unwrap() as i64;
        second
    };
    let mut values = String::new();
    for at in (second("start")..=second("end")).step_by(60) {
        write!(values, r#"[{at},"{:.2}"],"#, demand(at)).unwrap();
    }
    let values = values.trim_end_matches(',');
    page("matrix", &format!(r#"{{"metric":{{}},"values":[{values}]}}"#))
}

fn namespace(number: usize) -> String {
    format!("milvus-{}", number % NAMESPACES)
}

async fn create(client: &Client, url: &str, number: usize) {
    let (name, namespace) = (format!("querynode-{number}"), namespace(number));
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "querynode", "image": "milvus"}]}}}});
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment).unwrap()).await.unwrap();
    let policy = json!({"apiVersion": "milvus-autoscaler.io/v1alpha1", "kind": "MilvusAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": name}, "minReplicas": 1, "maxReplicas": 20,
            "prometheus": {"url": url}, "demand": {"query": format!("demand_{number}")},
            "capacity": {"qpsPerReplica": 100}, "leadTime": "10m"}});
    let policies: Api<MilvusAutoscaler> = Api::namespaced(client.clone(), &namespace);
    policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
}

/// How many policies have learned their history.
async fn learned(client: &Client) -> usize {
    let policies: Api<MilvusAutoscaler> = Api::all(client.clone());
    let all = policies.list(&ListParams::default()).await.unwrap().items;
    let is_learned = |policy: &&MilvusAutoscaler| {
        policy
            .status
            .iter()
            .flat_map(|status| &status.conditions)
            .any(|condition| condition.type_ == "ForecastReady" && condition.status == "True")
    };
    all.iter().filter(is_learned).count()
}

/// How late each cycle was, in seconds, sorted: against the policy's earliest in the window.
fn lateness(asked: &Asked, since: Instant) -> Vec<f64> {
    let mut late = Vec::new();
    for times in asked.lock().unwrap().values() {
        let since_start: Vec<f64> = times
            .iter()
            .filter_map(|at| at.checked_duration_since(since))
            .enumerate()
            .map(|(cycle, at)| at.as_secs_f64() - cycle as f64 * INTERVAL.as_secs_f64())
            .collect();
        let due = since_start.iter().copied().fold(f64::INFINITY, f64::min);
        late.extend(since_start.iter().map(|at| at - due));
    }
    late.sort_by(f64::total_cmp);
    late
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let place = (share * (sorted.len() - 1) as f64).round() as usize;
    sorted[place]
}

struct Row {
    policies: usize,
    learning: Duration,
    cycles: usize,
    late: [f64; 3],
    /// CPU time of the controller over the time measured.
    cpu: f64,
    resident: u64,
    /// What else ran on this machine's cores meanwhile, as a share of them; the API server and etcd included.
    others: f64,
}

/// CPU time that all processes of this machine have used so far.
fn busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let ticks = stat.lines().next().unwrap().split_whitespace().skip(1);
    let ticks: Vec<u64> = ticks.map(|number| number.parse().unwrap()).collect();
    // user, nice, system, then idle and waiting, then interrupts.
    Duration::from_millis(10 * (ticks[..3].iter().sum::<u64>() + ticks[5..7].iter().sum::<u64>()))
}

fn start(cluster: &Kubernetes, kubeconfig: &Path) -> Process {
    let program =
        std::env::var_os("AUTOSCALER").map_or_else(|| env!("CARGO_BIN_EXE_autoscaler").into(), PathBuf::from);
    let arguments = [
        "run".to_owned(),
        format!("--interval={}s", INTERVAL.as_secs()),
        format!("--listen=127.0.0.1:{}", free_port()),
        format!("--own-namespace={OWN}"),
    ];
    let kubeconfig = kubeconfig.display().to_string();
    Process::start("controller", cluster.folder(), &program, &arguments, &[("KUBECONFIG", &kubeconfig)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_policies_are_kept_in_time() {
    let cluster = Kubernetes::start().await;
    let quick = Behaviour { ready_after: Some(Duration::ZERO), drain: Duration::ZERO };
    let _kubelet = Kubelet::start(&cluster, quick);
    cluster.namespace(OWN).await;
    for number in 0..NAMESPACES {
        cluster.namespace(&namespace(number)).await;
    }
    for file in ["crd.yaml", "rbac.yaml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/autoscaler").join(file);
        cluster.kubectl(&["-n", OWN, "apply", "--server-side", "--filename", &file.display().to_string()]);
    }
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/milvusautoscalers.milvus-autoscaler.io"]);
    let (client, asked) = (cluster.client().await, Asked::default());
    let url = prometheus(&asked).await;
    let mut controller = start(&cluster, &cluster.kubeconfig_of(OWN, OWN).await);

    let mut rows: Vec<Row> = Vec::new();
    for policies in SIZES {
        let began = Instant::now();
        let known = rows.last().map_or(0, |row| row.policies);
        stream::iter(known..policies).for_each_concurrent(8, |number| create(&client, &url, number)).await;
        eventually(&format!("{policies} policies to learn"), Duration::from_secs(1800), || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let learned = learned(&client).await;
            if learned == policies { Ok(()) } else { Err(format!("{learned} have")) }
        })
        .await;
        let learning = began.elapsed();
        let (since, cpu, busy) = (Instant::now(), controller.cpu_time(), busy());
        tokio::time::sleep(INTERVAL * if policies == 1 { IDLE_CYCLES } else { CYCLES }).await;
        controller.assert_running();
        let late = lateness(&asked, since);
        let took = controller.cpu_time().saturating_sub(cpu).as_secs_f64();
        let seconds = since.elapsed().as_secs_f64();
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        rows.push(Row {
            policies,
            learning,
            cycles: late.len(),
            late: [quantile(&late, 0.5), quantile(&late, 0.99), quantile(&late, 1.0)],
            cpu: took / seconds,
            resident: controller.resident_bytes(),
            others: (self::busy().saturating_sub(busy).as_secs_f64() - took) / (seconds * cores),
        });
        print(rows.last().unwrap());
    }
    println!(
        "| policies | learned within | cycles | late: median | 99 % | most | of a core | resident | others |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    rows.iter().for_each(print);
    let (idle, full) = (&rows[0], &rows[rows.len() - 1]);
    assert!(idle.cpu < 0.01, "idle: {:.2} % of a core", 100.0 * idle.cpu);
    assert!(idle.resident < 40 * MIB, "idle: {} MiB", idle.resident / MIB);
    assert!(full.cycles >= full.policies * (CYCLES as usize - 1), "{} cycles", full.cycles);
    assert!(full.late[0] < 1.0 && full.late[1] < 5.0, "late: {:?}", full.late);
    assert!(full.resident < 512 * MIB, "{} MiB", full.resident / MIB);
}

fn print(row: &Row) {
    println!(
        "| {} | {:.0} s | {} | {:.2} s | {:.2} s | {:.2} s | {:.2} % | {:.0} MiB | {:.0} % |",
        row.policies,
        row.learning.as_secs_f64(),
        row.cycles,
        row.late[0],
        row.late[1],
        row.late[2],
        100.0 * row.cpu,
        row.resident as f64 / MIB as f64,
        100.0 * row.others
    );
}
