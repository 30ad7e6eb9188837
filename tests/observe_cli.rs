//! The commands that ask Prometheus: what they print and write, and what they say when it does not answer.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::disallowed_methods, reason = "a server has a clock")]

mod stub;

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use milvus_autoscaler::observe::csv;
use serde_json::{Value, json};
use stub::{Answer, PrometheusStub};
use tempfile::TempDir;
use wiremock::matchers::{body_string_contains, header, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// 2026-03-01, the server's now.
const NOW: i64 = 1_772_323_200;
/// The minutes without samples, counted back from now.
const GAP: std::ops::Range<i64> = 60..90;

/// Answers as a Prometheus would whose load is 100 queries a second, but for a gap.
#[derive(Clone, Copy)]
struct Load;

fn parameter(request: &Request, name: &str) -> String {
    let body = String::from_utf8_lossy(&request.body);
    let query = format!("http://prometheus/?{}&{body}", request.url.query().unwrap_or_default());
    let url = reqwest::Url::parse(&query).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn success(kind: &str, result: &Value) -> ResponseTemplate {
    let body = json!({"status": "success", "data": {"resultType": kind, "result": result}});
    ResponseTemplate::new(200).set_body_json(body)
}

impl Respond for Load {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        if request.url.path().ends_with("/query") {
            return success("vector", &json!([{"metric": {}, "value": [NOW, "1"]}]));
        }
        let query = parameter(request, "query");
        let number = |name: &str| parameter(request, name).parse::<f64>().unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (start, end, step) = (number("start") as i64, number("end") as i64, number("step") as usize);
        assert!((end - start) / i64::try_from(step).unwrap() < 11_000, "more than a Prometheus answers");
        let value = if query.contains("sq_latency") { "NaN" } else { "100" };
        let known = |at: &i64| !GAP.contains(&((NOW - at) / 60));
        let values: Vec<Value> =
            (start..=end).step_by(step).filter(known).map(|at| json!([at, value])).collect();
        success("matrix", &json!([{"metric": {}, "values": values}]))
    }
}

async fn prometheus() -> MockServer {
    let server = MockServer::start().await;
    Mock::given(path("/api/v1/query")).respond_with(Load).mount(&server).await;
    Mock::given(path("/api/v1/query_range")).respond_with(Load).mount(&server).await;
    server
}

/// A folder with a policy for the Prometheus at `url`.
fn with_policy(url: &str, more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let policy = format!(
        "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nmetadata: {{name: search}}\nspec:\n  \
         scaleTargetRef: {{kind: Deployment, name: milvus-querynode}}\n  minReplicas: 1\n  maxReplicas: 20\n  \
         capacity: {{qpsPerReplica: 30}}\n  leadTime: 10m\n  \
         prometheus: {{url: '{url}', timeout: 2s{more}}}\n"
    );
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    folder
}

fn autoscaler(folder: &Path, command: &str) -> Command {
    let mut autoscaler = Command::cargo_bin("autoscaler").unwrap();
    autoscaler.current_dir(folder).arg(command);
    autoscaler.env("KUBECONFIG", folder.join("absent")).env("HOME", folder);
    for variable in
        ["PROMETHEUS_TOKEN", "PROMETHEUS_USERNAME", "PROMETHEUS_PASSWORD", "KUBERNETES_SERVICE_HOST"]
    {
        autoscaler.env_remove(variable);
    }
    autoscaler
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs a command beside the server, which shares this test's runtime.
async fn run(mut command: Command) -> Ran {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let ran = Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn record_writes_a_trace_with_its_gaps() {
    let server = prometheus().await;
    let folder = with_policy(&server.uri(), "");
    let mut command = autoscaler(folder.path(), "record");
    command.args(["--policy", "policy.yaml", "--range", "14d", "-o", "load.csv"]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("load.csv: 20130 rows of 1m, 1 gap of 30m, 2026-02-"), "{}", ran.stderr);
    assert_eq!(files(folder.path()), ["load.csv", "policy.yaml"]);

    let trace = csv::read_file(&folder.path().join("load.csv")).unwrap();
    // A whole fortnight of minutes in pieces, but for those without samples.
    assert_eq!(trace.rows(), 14 * 1440 - 30);
    assert_eq!(trace.gaps().count(), 1);
    assert!(trace.iter().all(|row| row.nq_per_second == Some(100.0) && row.p99_ms.is_none()));
    assert!(trace.qps().iter().all(|qps| (qps - 100.0).abs() < 1e-9));
}

#[tokio::test(flavor = "multi_thread")]
async fn record_writes_to_stdout_where_no_file_is_named() {
    let server = prometheus().await;
    let folder = with_policy(&server.uri(), "");
    for out in [&[][..], &["-o", "-"]] {
        let mut command = autoscaler(folder.path(), "record");
        command.args(["--policy", "policy.yaml", "--range", "3h", "--step", "5m"]).args(out);
        let ran = run(command).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.starts_with("timestamp,qps,nq_per_second\n"), "{}", ran.stdout);
        let trace = csv::read(ran.stdout.as_bytes(), "stdout").unwrap();
        assert_eq!(trace.step().seconds(), 300);
        assert_eq!(files(folder.path()), ["policy.yaml"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_written_to_and_stays_what_it_is() {
    let server = prometheus().await;
    let folder = with_policy(&server.uri(), "");
    fs::write(folder.path().join("old.csv"), "old").unwrap();
    std::os::unix::fs::symlink("old.csv", folder.path().join("link.csv")).unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.path().join("null")).unwrap();
    for out in ["null", "link.csv"] {
        let mut command = autoscaler(folder.path(), "record");
        command.args(["--policy", "policy.yaml", "--range", "3h", "-o", out]);
        assert_eq!(run(command).await.code, Some(0));
        assert!(folder.path().join(out).is_symlink(), "{out}");
    }
    assert!(csv::read_file(&folder.path().join("old.csv")).is_ok());
    let mut command = autoscaler(folder.path(), "record");
    command.args(["--policy", "policy.yaml", "-o", "."]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("is a folder; name a file"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_prometheus_does_not_answer() {
    let folder = with_policy("http://127.0.0.1:9", "");
    fs::write(folder.path().join("load.csv"), "before").unwrap();
    let mut command = autoscaler(folder.path(), "record");
    command.args(["--policy", "policy.yaml", "-o", "load.csv"]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    for part in ["http://127.0.0.1:9", "no connection", "check spec.prometheus.url"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(fs::read_to_string(folder.path().join("load.csv")).unwrap(), "before");
    assert_eq!(files(folder.path()), ["load.csv", "policy.yaml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_load_is_named_with_the_query() {
    let server = MockServer::start().await;
    let now = success("vector", &json!([{"metric": {}, "value": [NOW, "1"]}]));
    Mock::given(path("/api/v1/query")).respond_with(now).mount(&server).await;
    let nothing = success("matrix", &json!([]));
    Mock::given(path("/api/v1/query_range")).respond_with(nothing).mount(&server).await;
    let folder = with_policy(&server.uri(), "");
    let mut command = autoscaler(folder.path(), "record");
    command.args(["--policy", "policy.yaml", "--range", "1h"]);
    let ran = run(command).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("milvus_proxy_req_count") && ran.stderr.contains("matchers"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_policy_is_refused_with_its_line() {
    let folder = with_policy("http://p", "");
    let text = fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
    fs::write(folder.path().join("bad.yaml"), text.replace("minReplicas: 1", "minReplicas: one")).unwrap();
    for command in ["record", "doctor", "recommend"] {
        let mut command = autoscaler(folder.path(), command);
        command.args(["--policy", "bad.yaml"]);
        let ran = run(command).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("bad.yaml:6:16: spec.minReplicas"), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_what_fails_and_skips_the_cluster_that_is_not_there() {
    let server = MockServer::start().await;
    let kind = |name: &str| {
        let known = success("vector", &json!([{"metric": {}, "value": [NOW, "1"]}]));
        Mock::given(path("/api/v1/query")).and(body_string_contains(name)).respond_with(known)
    };
    kind("vector%281%29").mount(&server).await;
    Mock::given(path("/api/v1/query")).respond_with(success("vector", &json!([]))).mount(&server).await;
    Mock::given(path("/api/v1/query_range")).respond_with(success("matrix", &json!([]))).mount(&server).await;
    let folder = with_policy(&server.uri(), "");
    let mut command = autoscaler(folder.path(), "doctor");
    command.args(["--policy", "policy.yaml", "--format", "json"]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("checks failed"), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let verdict = |area: &str, name: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["area"] == area && check["name"] == name).unwrap()["verdict"].clone()
    };
    assert_eq!(verdict("Prometheus", "reachable"), "pass");
    assert_eq!(verdict("Prometheus", "milvus"), "fail");
    assert_eq!(verdict("Prometheus", "demand"), "fail");
    assert_eq!(verdict("Cluster", "permissions"), "skip");

    let folder = with_policy("http://127.0.0.1:9", "");
    let mut command = autoscaler(folder.path(), "doctor");
    command.args(["--policy", "policy.yaml"]);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("FAIL reachable      Prometheus at http://127.0.0.1:9:"), "{}", ran.stdout);
    assert!(ran.stdout.contains("not checked: no cluster"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn recommend_decides_by_the_load_and_says_why() {
    let stub = PrometheusStub::start(310.0).await;
    let folder = with_policy(stub.url(), "");
    let policy = fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
    let own_query = policy + "  demand: {query: demand}\n";
    fs::write(folder.path().join("policy.yaml"), own_query.clone()).unwrap();
    let unknown = own_query.replace("  capacity: {qpsPerReplica: 30}\n", "");
    fs::write(folder.path().join("unknown.yaml"), unknown).unwrap();
    let recommend = |arguments: &[&str]| {
        let mut command = autoscaler(folder.path(), "recommend");
        command.args(arguments);
        run(command)
    };
    // The load has been the same for four weeks: 310 QPS are 11 replicas of 30.
    let ran = recommend(&["--policy", "policy.yaml", "--current", "4", "--format", "json"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let status = &report["status"];
    assert_eq!(status["currentReplicas"], 4);
    assert_eq!(status["decision"]["action"], "ScaleUp");
    assert_eq!(status["desiredReplicas"], 11);
    assert!(status["forecast"]["historySamples"].as_u64().unwrap() > 40_000, "{status:#}");

    let ran = recommend(&["--policy", "policy.yaml", "--current", "11"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.contains("Would       hold at 11 replicas"), "{}", ran.stdout);
    assert!(ran.stdout.contains("310 QPS now"), "{}", ran.stdout);

    // Prometheus knows of no QueryNode, and there is no cluster.
    let ran = recommend(&["--policy", "policy.yaml"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("--current"), "{}", ran.stderr);

    let ran = recommend(&["--policy", "unknown.yaml", "--current", "3"]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("hold at 3 replicas (CapacityUnknown)"), "{}", ran.stdout);

    // Without an answer the controller holds, and the fault outside is told.
    stub.set(Answer::Broken);
    let ran = recommend(&["--policy", "policy.yaml", "--current", "3"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("hold at 3 replicas (MetricsMissing)"), "{}", ran.stdout);
    assert!(ran.stderr.contains("check the server"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_files_and_variables_and_are_not_shown() {
    let server = MockServer::start().await;
    let logins = [("authorization", "Bearer s3cret"), ("authorization", "Basic YWRhOnMzY3JldA==")];
    for (name, value) in logins {
        Mock::given(header(name, value)).respond_with(Load).mount(&server).await;
    }
    Mock::given(path("/api/v1/query")).respond_with(ResponseTemplate::new(401)).mount(&server).await;
    let folder = with_policy(&server.uri(), ", bearerTokenSecretRef: {name: login, key: token}");
    fs::write(folder.path().join("token"), "s3cret\n").unwrap();
    fs::write(folder.path().join("wrong"), "wr0ng\n").unwrap();
    let record = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = autoscaler(folder.path(), "record");
        command.args(["--policy", "policy.yaml", "--range", "1h"]).args(arguments).envs(variable);
        run(command)
    };
    for ran in [
        record(&["--token-file", "token"], None).await,
        record(&[], Some(("PROMETHEUS_TOKEN", "s3cret"))).await,
        record(&["--username", "ada", "--password-file", "token"], None).await,
        record(&["--username", "ada"], Some(("PROMETHEUS_PASSWORD", "s3cret"))).await,
    ] {
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let without = record(&[], None).await;
    assert_eq!(without.code, Some(1));
    for part in ["Secret `login`", "no kubeconfig", "--token-file"] {
        assert!(without.stderr.contains(part), "{}", without.stderr);
    }
    let wrong = record(&["--token-file", "wrong"], None).await;
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("401") && !wrong.stderr.contains("wr0ng"), "{}", wrong.stderr);
    for arguments in [
        &["--prometheus", "http://ada:s3cret@localhost"][..],
        &["--username", "ada"],
        &["--token-file", "absent"],
    ] {
        let refused = record(arguments, None).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_takes_its_load_from_prometheus() {
    let server = prometheus().await;
    let folder = with_policy("http://elsewhere", ", matchers: {namespace: milvus}");
    let url = server.uri();
    let simulate = |arguments: &[&str]| {
        let mut command = autoscaler(folder.path(), "simulate");
        command.args(["--strategies", "hpa,oracle", "--format", "json", "--range", "2d"]).args(arguments);
        run(command)
    };
    let queries = [&["--query", "sum(my_demand)"][..], &["--policy", "policy.yaml"], &[]];
    for query in queries {
        let ran = simulate(&[&["--prometheus", url.as_str()], query].concat()).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stderr);
        let summary: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(summary["trace"]["rows"], 2 * 1440 - 30);
        assert_eq!(summary["trace"]["path"], url);
        assert_eq!(summary["trace"]["gaps"], 1);
    }
    let asked = server.received_requests().await.unwrap();
    let asked: Vec<_> = asked.iter().map(|request| parameter(request, "query")).collect();
    for query in ["sum(my_demand)", r#"status="total",namespace="milvus""#, r#"status="total"}"#] {
        assert!(asked.iter().any(|asked| asked.contains(query)), "{query}: {asked:?}");
    }
    for (arguments, code) in [
        (&["--prometheus", "http://127.0.0.1:9", "--query", "x"][..], 1),
        (&["--prometheus", "localhost:9090"], 2),
        (&["--query", "x"], 2),
        (&["--prometheus", url.as_str(), "--trace", "load.csv"], 2),
    ] {
        let ran = simulate(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
    }
}
