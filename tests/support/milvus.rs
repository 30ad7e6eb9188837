//! A real Milvus 2.3.5, standalone, and real searches.

use super::process::Process;
use super::{Folder, part, script};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub struct Milvus {
    process: Process,
    folder: Folder,
    ready: Value,
}

impl Milvus {
    pub async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// With keys of `milvus.yaml` set, and an environment (`GOMAXPROCS`, …).
    pub async fn start_with(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let python = python();
        let folder = Folder::new("milvus");
        let mut arguments = vec![
            script("milvus-up").display().to_string(),
            "--dir".into(),
            folder.path().join("milvus").display().to_string(),
        ];
        for (key, value) in settings {
            arguments.extend(["--set".into(), format!("{key}={value}")]);
        }
        let mut process = Process::start("milvus", folder.path(), &python, &arguments, environment);
        let deadline = Instant::now() + Duration::from_secs(120);
        let ready = loop {
            process.assert_running();
            if let Some(line) = process.output().lines().next() {
                break serde_json::from_str(line).unwrap();
            }
            assert!(Instant::now() < deadline, "Milvus is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Self { process, folder, ready }
    }

    /// Where clients connect to.
    pub fn address(&self) -> &str {
        self.ready["address"].as_str().unwrap()
    }

    /// Where `/metrics` is served.
    pub fn metrics(&self) -> &str {
        self.ready["metrics"].as_str().unwrap()
    }

    /// Searches by a plan, `SECONDS:QPS,…`; `arguments` are `search-load`'s.
    pub fn search(&self, plan: &str, arguments: &[&str]) -> SearchLoad {
        let script = script("search-load").display().to_string();
        let mut all = vec![script.as_str(), "--address", self.address(), "--plan", plan];
        all.extend(arguments);
        SearchLoad { process: Process::start("search-load", self.folder.path(), &python(), &all, &[]) }
    }
}

fn python() -> PathBuf {
    part("MILVUS_PYTHON", "milvus/bin/python", "milvus")
}

/// What one second of a load came to.
// The field is called as in search-load's output.
#[allow(clippy::struct_field_names)]
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Second {
    pub second: u32,
    pub target_qps: f64,
    pub qps: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub errors: u32,
    pub late: u32,
}

/// A load under way; it ends with its plan, or when dropped.
pub struct SearchLoad {
    process: Process,
}

impl SearchLoad {
    pub fn seconds(&self) -> Vec<Second> {
        self.process.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the collection is loaded and the first second is over.
    pub async fn running(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while self.seconds().is_empty() {
            self.process.assert_running();
            assert!(Instant::now() < deadline, "no search after three minutes");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for the end of the plan.
    pub async fn finish(mut self) -> Vec<Second> {
        while self.process.ended().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(self.process.ended().unwrap().success(), "search-load failed: {}", self.process.log());
        self.seconds()
    }
}
