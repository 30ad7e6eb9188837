//! The loads in `simulations/`: each can be replayed, and its scores are the ones on record in `tests/goldens/`.
//! To record new ones, run this test with `UPDATE_GOLDENS=1` and read the difference.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use milvus_autoscaler::observe::csv;
use milvus_autoscaler::simulate::scenario::Scenario;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn scenarios() -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder("simulations"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

/// The table as it is printed for a scenario, from the repository's folder.
fn table(path: &Path) -> String {
    let output = Command::cargo_bin("autoscaler")
        .unwrap()
        .current_dir(folder(""))
        .args(["simulate", "--scenario"])
        .arg(Path::new("simulations").join(path.file_name().unwrap()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn scores_are_those_on_record() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut wrong = Vec::new();
    for path in scenarios() {
        let golden = folder("tests/goldens").join(stem(&path)).with_extension("txt");
        let table = table(&path);
        if update {
            fs::write(&golden, &table).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != table {
            wrong.push(format!("{} is no longer:\n{table}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_golden_has_its_scenario() {
    let known: Vec<_> = scenarios().iter().map(|path| stem(path).to_owned()).collect();
    assert!(known.len() >= 9);
    for golden in fs::read_dir(folder("tests/goldens")).unwrap() {
        let path = golden.unwrap().path();
        assert!(known.iter().any(|k| k == stem(&path)), "{} is left over", path.display());
    }
}

#[test]
fn the_committed_trace_is_what_its_scenario_makes() {
    let scenario = Scenario::read(&folder("simulations/customer-service.yaml")).unwrap();
    let mut made = Vec::new();
    csv::write(&scenario.trace("").unwrap(), &mut made).unwrap();
    let committed = fs::read(folder("simulations/customer-service.csv")).unwrap();
    assert!(
        made == committed,
        "make it again: autoscaler simulate --scenario simulations/customer-service.yaml \
         --write-trace simulations/customer-service.csv"
    );
}

#[test]
fn tables_fit_a_terminal() {
    for path in scenarios() {
        let golden = folder("tests/goldens").join(stem(&path)).with_extension("txt");
        for line in fs::read_to_string(&golden).unwrap().lines() {
            assert!(line.chars().count() <= 80, "{}: {line}", path.display());
            assert!(!line.ends_with(' '), "{}: {line:?}", path.display());
            assert!(!line.contains('\u{1b}'), "{}: {line:?}", path.display());
        }
    }
}

#[test]
fn the_readme_shows_the_scores_on_record() {
    let readme = fs::read_to_string(folder("README.md")).unwrap();
    let golden = |name: &str| fs::read_to_string(folder("tests/goldens").join(name)).unwrap();
    let customer_service = golden("customer-service.txt");
    for line in customer_service
        .lines()
        .filter(|line| line.split_whitespace().nth(2).is_some_and(|word| word.ends_with('×')))
    {
        assert!(readme.contains(line), "README.md lacks the line {line:?}");
    }
    for path in scenarios() {
        let name = stem(&path);
        let table = golden(&format!("{name}.txt"));
        let own = table.lines().find(|line| line.starts_with("predictive")).unwrap();
        let row = format!("| {name} | **{}** |", own.split_whitespace().last().unwrap());
        assert!(readme.contains(&row), "README.md lacks {row:?}");
    }
}
