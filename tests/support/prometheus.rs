//! A real Prometheus.

use super::kubernetes::certificates;
use super::process::Process;
use super::{Folder, crypto, free_port, part};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Who may ask a [`Prometheus::start_secured`].
pub const USER: (&str, &str) = ("ada", "s3cret");
/// The bcrypt hash of that password.
const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG";

pub struct Prometheus {
    process: Option<Process>,
    folder: Folder,
    port: u16,
    flags: Vec<String>,
    is_secured: bool,
}

impl Prometheus {
    /// With a configuration of its own form; see [`scrape`].
    pub async fn start(configuration: &str) -> Self {
        Self::start_with(configuration, None, &[]).await
    }

    /// With a past as well: samples in the `OpenMetrics` text format with
    /// timestamps (`load 3.5 1700000000`, last line `# EOF`), and further flags.
    pub async fn start_with(configuration: &str, past: Option<&str>, flags: &[&str]) -> Self {
        let mut prometheus = Self::prepared(configuration, past);
        prometheus.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        prometheus.run().await;
        prometheus
    }

    /// With a past, over TLS and for [`USER`] alone.
    pub async fn start_secured(past: &str) -> Self {
        let mut prometheus = Self::prepared("{}", Some(past));
        certificates(prometheus.folder.path());
        let (name, _) = USER;
        let web = format!(
            "tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n\
             basic_auth_users: {{{name}: '{HASH}'}}\n"
        );
        std::fs::write(prometheus.folder.path().join("web.yml"), web).unwrap();
        prometheus.flags.push("--web.config.file=web.yml".to_owned());
        prometheus.is_secured = true;
        prometheus.run().await;
        prometheus
    }

    fn prepared(configuration: &str, past: Option<&str>) -> Self {
        crypto();
        part("PROMETHEUS_BIN", "prometheus/usr/bin/prometheus", "prometheus");
        let folder = Folder::new("prometheus");
        std::fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
        if let Some(past) = past {
            let promtool = part("PROMTOOL_BIN", "prometheus/usr/bin/promtool", "prometheus");
            std::fs::write(folder.path().join("past.txt"), past).unwrap();
            let run = Command::new(promtool)
                .args(["tsdb", "create-blocks-from", "--quiet", "openmetrics", "past.txt", "data"])
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(run.status.success(), "promtool: {}", String::from_utf8_lossy(&run.stderr));
        }
        Self { process: None, folder, port: free_port(), flags: Vec::new(), is_secured: false }
    }

    pub fn url(&self) -> String {
        let scheme = if self.is_secured { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The certificate of the authority that signed a secured one's.
    pub fn ca_certificate(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("prometheus.yml")
    }

    /// Replaces the configuration while it runs.
    pub async fn reload(&mut self, configuration: &str) {
        std::fs::write(self.config_file(), configuration).unwrap();
        let answer = reqwest::Client::new().post(format!("{}/-/reload", self.url())).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "Prometheus refuses the configuration: {}",
            answer.text().await.unwrap()
        );
    }

    /// As `kill -9`; [`Self::run`] starts it again, on the same port and data.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Hangs: connections are taken and nothing is answered.
    pub fn pause(&mut self) {
        self.process.as_mut().unwrap().signal("STOP");
    }

    pub fn resume(&mut self) {
        self.process.as_mut().unwrap().signal("CONT");
    }

    /// Starts it again after [`Self::stop`]; ready when it returns.
    pub async fn run(&mut self) {
        let program = part("PROMETHEUS_BIN", "prometheus/usr/bin/prometheus", "prometheus");
        let mut arguments = vec![
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".into(),
            // A past that a test brings must not be too old to be kept.
            "--storage.tsdb.retention.time=100y".into(),
            format!("--web.listen-address=127.0.0.1:{}", self.port),
            "--web.enable-lifecycle".into(),
            "--web.enable-admin-api".into(),
            "--log.level=warn".into(),
        ];
        arguments.extend(self.flags.iter().cloned());
        let mut process = Process::start("prometheus", self.folder.path(), &program, &arguments, &[]);
        let ready = format!("{}/-/ready", self.url());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5));
        let client = if self.is_secured {
            let pem = std::fs::read(self.ca_certificate()).unwrap();
            client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).unwrap())
        } else {
            client
        };
        let (client, (name, password)) = (client.build().unwrap(), USER);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            process.assert_running();
            let answer = client.get(&ready).basic_auth(name, Some(password)).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            assert!(Instant::now() < deadline, "Prometheus is not ready: {answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.process = Some(process);
    }

    /// The result of an instant query, as the HTTP API gives it: a list of
    /// `{"metric": {…}, "value": [time, "number"]}`.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.url())).unwrap();
        url.query_pairs_mut().append_pair("query", query);
        let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The number that a query comes to, if it comes to just one.
    pub async fn value(&self, query: &str) -> Option<f64> {
        match self.query(query).await.as_slice() {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }
}

/// A configuration that scrapes addresses every second, each with labels as a
/// cluster's service discovery would give (`pod`, `namespace`, …).
pub fn scrape(targets: &[(&str, &[(&str, &str)])]) -> String {
    let targets: Vec<_> = targets
        .iter()
        .map(|(address, labels)| {
            let labels: serde_json::Map<_, _> =
                labels.iter().map(|&(name, value)| (name.to_owned(), Value::from(value))).collect();
            serde_json::json!({"targets": [address], "labels": labels})
        })
        .collect();
    // JSON is YAML.
    serde_json::json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": "test", "static_configs": targets}],
    })
    .to_string()
}
