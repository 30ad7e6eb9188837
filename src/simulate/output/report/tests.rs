use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::*;
use crate::capacity::Capacity;
use crate::observe::{Row, TraceBuilder};
use crate::policy::Policy;
use crate::series::Step;
use crate::simulate::{Demand, Plant, simulate};
use crate::units::{Qps, Replicas};

const EVIL: &str = "a&b/</script><script>alert('x')</script>{{data}}.csv";

fn trace(name: &str, rows: impl IntoIterator<Item = (i64, f64)>) -> Trace {
    let mut builder = TraceBuilder::default();
    for (minute, qps) in rows {
        let time = Timestamp::from_second(1_772_409_600 + minute * 60).unwrap();
        builder.push(Row { time, qps: Qps::new(qps).unwrap(), p99_ms: None, nq_per_second: None }).unwrap();
    }
    builder.finish(name).unwrap()
}

/// Two days that rise and fall, with four hours missing.
fn rows() -> impl Iterator<Item = (i64, f64)> {
    let load = |m: i64| f64::from(i32::try_from((m % 1440 - 720).abs()).unwrap());
    (0..2 * 1440).filter(|m| !(600..840).contains(m)).map(move |m| (m, load(m)))
}

fn setup(strategies: &[StrategyKind]) -> Setup {
    Setup {
        plant: Plant {
            step: Step::MINUTE,
            lead_time: SignedDuration::from_mins(10),
            drain_time: SignedDuration::from_mins(2),
            capacity: Capacity::Linear { per_replica: Qps::new(100.0).unwrap() },
            min: Replicas(1),
            max: Replicas(9),
        },
        policy: Policy::with_bounds(Replicas(1), Replicas(9)),
        warmup: None,
        slo_weight: 30.0,
        strategies: strategies.to_vec(),
    }
}

fn report(trace: &Trace, strategies: &[StrategyKind]) -> String {
    let setup = setup(strategies);
    let outcome = simulate(Demand::from_trace(trace, Step::MINUTE).unwrap(), &setup);
    render(trace, &setup, &outcome, &["bounds"])
}

fn data(html: &str) -> Value {
    let (_, rest) = html.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn names_stay_text() {
    let html = report(&trace(EVIL, rows()), &[StrategyKind::Predictive, StrategyKind::Hpa]);
    assert!(!html.contains("<script>alert"));
    assert_eq!(html.matches("</script>").count(), 2);
    assert_eq!(html.matches("{{").count(), html.matches("{{data}}").count());
    assert!(html.contains("a&amp;b/&lt;/script&gt;&lt;script&gt;alert(&#39;x&#39;)"));
}

#[test]
fn nothing_is_fetched() {
    let html = report(&trace("load.csv", rows()), &[StrategyKind::Hpa]);
    for part in ["http:", "https:", "src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!html.contains(part), "{part}");
    }
}

#[test]
fn all_that_the_charts_need_is_there() {
    let html = report(&trace("load.csv", rows()), &StrategyKind::ALL);
    let data = data(&html);
    assert_eq!((&data["points"], &data["per"], &data["scored"]), (&2880.into(), &1.into(), &1440.into()));
    let names: Vec<_> =
        data["strategies"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, StrategyKind::ALL.map(StrategyKind::name));
    for name in names {
        assert!(html.contains(&format!("data-strategy=\"{name}\"")));
    }
    let decisions = data["decisions"]["list"].as_array().unwrap();
    assert!(!decisions.is_empty());
    let (reasons, first) = (data["reasons"].as_array().unwrap(), &decisions[0]);
    assert!(first[3].as_array().unwrap().iter().all(|place| (0..reasons.len()).any(|i| *place == i)));
    // Runs: 600 known minutes, 240 unknown ones, 2040 known ones.
    assert_eq!(data["unknown"], "2ATwAfgP");
}

#[test]
fn a_load_of_nothing_and_one_beyond_all_measure_are_drawn() {
    for load in [0.0, 1e-300, 1e300] {
        let html = report(&trace("load.csv", (0..200).map(|m| (m, load))), &[StrategyKind::Static]);
        assert!(!html.contains("NaN%") && !html.contains("inf"));
        assert_eq!(data(&html)["decisions"]["total"], 0);
    }
}

#[test]
fn the_clock_is_that_of_the_policy() {
    let trace = trace("load.csv", (0..60 * 24 * 40).map(|m| (m, 5.0)));
    let mut setup = setup(&[StrategyKind::Static]);
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    setup.policy.calendar = crate::calendar::Calendar::new(zone, [jiff::civil::date(2026, 3, 6)], Vec::new());
    let outcome = simulate(Demand::from_trace(&trace, Step::MINUTE).unwrap(), &setup);
    let data = data(&render(&trace, &setup, &outcome, &[]));
    assert_eq!(data["zone"]["name"], "Europe/Berlin");
    assert_eq!(data["zone"]["offsets"], serde_json::json!([[1_772_409_600, 3600], [1_774_746_000, 7200]]));
    assert_eq!(data["spans"][0]["name"], "holiday");
}

#[test]
fn a_long_load_is_made_coarser() {
    let trace = trace("load.csv", (0..450_000).map(|m| (m, f64::from(u32::try_from(m % 97).unwrap()))));
    let html = report(&trace, &[StrategyKind::Static]);
    let data = data(&html);
    assert!(html.len() < 3_000_000);
    assert_eq!(data["per"].as_u64().unwrap() * data["points"].as_u64().unwrap(), 450_000);
    assert!(data["demand_low"].is_object());
}
