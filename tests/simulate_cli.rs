//! The command line of `autoscaler simulate`: what it prints and writes, and what it says of bad input.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

fn autoscaler(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("autoscaler").unwrap();
    command.current_dir(folder).arg("simulate");
    command
}

/// A folder with `load.csv`: three days in steps of ten minutes.
fn with_load() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = String::new();
    for t in 0..3 * 144 {
        writeln!(rows, "{},{}", 1_772_409_600 + t * 600, 20 + t % 144).unwrap();
    }
    fs::write(folder.path().join("load.csv"), format!("timestamp,qps\n{rows}")).unwrap();
    folder
}

/// Standard output of a run that must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that must fail for bad usage or input, without a word on standard output.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty());
    assert!(!message.contains("panicked"), "{message}");
    message
}

#[test]
fn the_summary_has_every_field_of_the_contract() {
    let folder = with_load();
    let text = output(autoscaler(folder.path()).args(["--trace", "load.csv", "--format", "json"]));
    let summary: Value = serde_json::from_str(&text).unwrap();
    for (section, fields) in [
        ("/trace", &["path", "rows", "start", "end", "step_seconds", "gaps", "mean_qps", "peak_qps"][..]),
        (
            "/plant",
            &[
                "step_seconds",
                "lead_time_seconds",
                "drain_seconds",
                "qps_per_replica",
                "min_replicas",
                "max_replicas",
            ],
        ),
        ("", &["scored_from", "strategies", "forecast", "elapsed_seconds"]),
        (
            "/strategies/0",
            &[
                "name",
                "replica_hours",
                "cost_vs_oracle",
                "saving_vs_static",
                "violation_ratio",
                "lost_ratio",
                "scale_events_per_day",
                "replicas_added_per_day",
                "peak_replicas",
                "slo_adjusted_cost",
            ],
        ),
    ] {
        let object = summary.pointer(section).unwrap().as_object().unwrap();
        for field in fields {
            assert!(object.contains_key(*field), "{section} lacks {field}");
        }
    }
    assert_eq!(summary["trace"]["rows"], 432);
    assert_eq!(summary["trace"]["start"], "2026-03-02T00:00:00Z");
    assert_eq!(summary["plant"]["lead_time_seconds"], 900);
}

#[test]
fn files_are_written_and_the_same_each_time() {
    let folder = with_load();
    let run = |out: &str| {
        output(autoscaler(folder.path()).args([
            "--trace",
            "load.csv",
            "--strategies",
            "hpa,oracle",
            "--out",
            out,
        ]));
        fs::read_to_string(folder.path().join(out).join("timeline.csv")).unwrap()
    };
    let timeline = run("a/b");
    assert_eq!(timeline, run("c"));
    let header = "timestamp,demand_qps,forecast_p50_qps,forecast_upper_qps,hpa_desired,hpa_ready,oracle_desired,\
                  oracle_ready";
    assert_eq!(timeline.lines().next().unwrap(), header);
    assert_eq!(timeline.lines().count(), 1 + 3 * 1440);
    assert!(timeline.lines().nth(1).unwrap().starts_with("2026-03-02T00:00:00Z,20,"));
    let without_elapsed = |out: &str| {
        let text = fs::read_to_string(folder.path().join(out).join("summary.json")).unwrap();
        text.lines().filter(|l| !l.contains("elapsed")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_elapsed("a/b"), without_elapsed("c"));
    let mut names: Vec<_> =
        fs::read_dir(folder.path().join("c")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["report.html", "summary.json", "timeline.csv"]);
    let report = |out: &str| fs::read_to_string(folder.path().join(out).join("report.html")).unwrap();
    assert_eq!(report("a/b"), report("c"));
}

#[test]
fn several_traces_have_a_folder_each() {
    let folder = with_load();
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::copy(folder.path().join("load.csv"), folder.path().join("other/load.csv")).unwrap();
    let text = output(autoscaler(folder.path()).args([
        "--trace",
        "load.csv",
        "--trace",
        "other/load.csv",
        "--out",
        "out",
        "--format",
        "json",
    ]));
    let summaries: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summaries.as_array().unwrap().len(), 2);
    for name in ["load", "load-2"] {
        assert!(folder.path().join("out").join(name).join("summary.json").is_file());
    }
}

#[test]
fn the_policy_is_used_and_options_outrank_it() {
    let folder = with_load();
    let policy = "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nspec:\n  minReplicas: 3\n  \
                  maxReplicas: 9\n  leadTime: 5m\n  capacity:\n    curve:\n    - {replicas: 1, qps: 20}\n    \
                  - {replicas: 4, qps: 60}\n";
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let text = output(autoscaler(folder.path()).args([
        "--trace",
        "load.csv",
        "--policy",
        "policy.yaml",
        "--max-replicas",
        "10",
        "--format",
        "json",
    ]));
    let plant = serde_json::from_str::<Value>(&text).unwrap()["plant"].clone();
    assert_eq!((&plant["min_replicas"], &plant["max_replicas"]), (&3.into(), &10.into()));
    assert_eq!(plant["lead_time_seconds"], 300);
    assert_eq!(plant["curve"].as_array().unwrap().len(), 10);
}

#[test]
fn vectors_are_demand_where_the_policy_says_so() {
    let folder = with_load();
    let policy = "{apiVersion: milvus-autoscaler.io/v1alpha1, kind: MilvusAutoscaler, \
                  spec: {minReplicas: 1, maxReplicas: 9, demand: {unit: nq}}}";
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let arguments = ["--policy", "policy.yaml", "--format", "json", "--trace"];
    let message = refusal(autoscaler(folder.path()).args(arguments).arg("load.csv"));
    assert!(message.contains("nq_per_second"), "{message}");
    fs::write(folder.path().join("nq.csv"), "timestamp,qps,nq_per_second\n0,1,10\n60,1,30\n").unwrap();
    let text = output(autoscaler(folder.path()).args(arguments).arg("nq.csv"));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["trace"]["peak_qps"], 30.0);
}

#[test]
fn colour_is_for_terminals() {
    let folder = with_load();
    let plain = output(autoscaler(folder.path()).args(["--trace", "load.csv"]));
    assert!(!plain.contains('\u{1b}'));
    assert!(plain.contains("assumed: bounds, capacity"));
}

#[test]
fn bad_usage_and_input_are_explained() {
    let folder = with_load();
    let file = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
    file("empty.csv", b"");
    file("binary.csv", b"\x1f\x8b\x08\0\0\0");
    file("negative.csv", b"timestamp,qps\n0,1\n60,-1\n");
    file("min.yaml", b"{apiVersion: milvus-autoscaler.io/v1alpha1, kind: MilvusAutoscaler, spec: {minReplicas: 5, maxReplicas: 2}}");
    file("zone.yaml", b"{apiVersion: milvus-autoscaler.io/v1alpha1, kind: MilvusAutoscaler, spec: {minReplicas: 1, maxReplicas: 2, forecast: {timeZone: Asia/Shangai}}}");
    file("field.yaml", b"{apiVersion: milvus-autoscaler.io/v1alpha1, kind: MilvusAutoscaler, spec: {minReplica: 1, maxReplicas: 2}}");
    file("scenario.yaml", b"description: none\n");
    let cases: [(&[&str], &str); 20] = [
        (&[], "--trace"),
        (&["--trace", "none.csv"], "none.csv: cannot be read"),
        (&["--trace", "."], "is a directory"),
        (&["--trace", "empty.csv"], "empty.csv: the file is empty"),
        (&["--trace", "binary.csv"], "binary.csv, line 1: not text"),
        (&["--trace", "negative.csv"], "negative.csv, line 3, field qps: -1 is not possible"),
        (&["--trace", "load.csv", "--strategies", "hpa,orcale"], "did you mean \"oracle\"?"),
        (&["--trace", "load.csv", "--strategies", ""], "unknown strategy"),
        (&["--trace", "load.csv", "--out", "load.csv"], "load.csv cannot be written"),
        (&["--trace", "load.csv", "--out", "/proc/none"], "/proc/none cannot be written"),
        (&["--trace", "load.csv", "--min-replicas", "0"], "--min-replicas"),
        (
            &["--trace", "load.csv", "--min-replicas", "9", "--max-replicas", "8"],
            "(9) are above the most (8)",
        ),
        (&["--trace", "load.csv", "--step", "0s"], "1s to 1h"),
        (&["--trace", "load.csv", "--lead-time", "15"], "--lead-time"),
        (&["--trace", "load.csv", "--slo-weight", "-1"], "--slo-weight"),
        (&["--trace", "load.csv", "--qps-per-replica", "nan"], "above 0"),
        (&["--trace", "load.csv", "--policy", "min.yaml"], "min.yaml:1:"),
        (&["--trace", "load.csv", "--policy", "zone.yaml"], "Asia/Shanghai"),
        (&["--trace", "load.csv", "--policy", "field.yaml"], "minReplicas"),
        (&["--scenario", "scenario.yaml"], "scenario.yaml: "),
    ];
    for (arguments, part) in cases {
        let message = refusal(autoscaler(folder.path()).args(arguments));
        assert!(message.contains(part), "{arguments:?}: {message}");
    }
}

#[test]
fn a_failed_run_leaves_no_results() {
    let folder = with_load();
    refusal(autoscaler(folder.path()).args(["--trace", "load.csv", "--trace", "none.csv", "--out", "out"]));
    let left = walk(&folder.path().join("out"));
    assert!(left.is_empty(), "{left:?}");
}

fn walk(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let below = |path: &std::path::PathBuf| {
        if path.is_dir() { walk(path) } else { vec![path.display().to_string()] }
    };
    paths.iter().flat_map(below).collect()
}

#[test]
fn help_has_examples() {
    let text = output(autoscaler(Path::new(".")).arg("--help"));
    assert!(text.contains("autoscaler simulate --trace load.csv"));
}
