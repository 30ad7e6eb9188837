//! Loads that are described instead of recorded: a small YAML file from which a trace is made, always the same.

mod generate;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use jiff::civil::{Date, DateTime, Time};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::observe::{Fault, Trace};
use crate::policy::text::{DurationText, TimeZoneText};
use crate::policy::{API_VERSION, KIND, Policy, PolicyError};
use crate::series::Step;

/// A described load.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// What it is, for people.
    pub description: String,
    /// What the noise is made from; another seed gives another load of the same kind.
    pub seed: u64,
    /// The first day.
    pub start: Date,
    /// How many days it lasts.
    pub days: u16,
    /// The distance of rows, from 1 s to 1 h.
    #[serde(default = "minute")]
    pub step: DurationText,
    /// The time zone of all times here.
    #[serde(default = "utc")]
    pub time_zone: TimeZoneText,
    /// The load of a weekday, by the clock; smooth between its points.
    pub weekday: Vec<Point>,
    /// The load of Saturday and Sunday; that of a weekday if not given.
    #[serde(default)]
    pub weekend: Vec<Point>,
    /// Weekdays with the load of a weekend.
    #[serde(default)]
    pub holidays: Vec<Date>,
    /// The share by which the load of the first week grows with each week.
    #[serde(default)]
    pub growth_per_week: f64,
    /// What makes it irregular.
    #[serde(default)]
    pub noise: Noise,
    /// Times with a multiple of the usual load.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// Times without data.
    #[serde(default)]
    pub outages: Vec<Outage>,
    /// The `spec` of a policy for this load.
    #[serde(default)]
    pub policy: Option<Value>,
}

/// A load at a time of day.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The time by the clock.
    pub at: Time,
    /// Queries a second.
    pub qps: f64,
}

/// What makes a load irregular, as shares of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Noise {
    /// Standard deviation from row to row.
    pub fast: f64,
    /// Standard deviation of what comes and goes within a quarter of an hour.
    pub slow: f64,
    /// Standard deviation from day to day.
    pub daily: f64,
    /// Standard deviation in minutes of how early or late a day is.
    pub shift_minutes: f64,
}

/// A time with a multiple of the usual load.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// When it starts.
    pub from: DateTime,
    /// When it is over.
    pub to: DateTime,
    /// The multiple.
    pub factor: f64,
    /// How long it takes to come, and to go; none if it is sudden.
    #[serde(default = "at_once")]
    pub ramp: DurationText,
}

/// A time without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// When it starts.
    pub from: DateTime,
    /// When it is over.
    pub to: DateTime,
}

fn minute() -> DurationText {
    "1m".into()
}

fn utc() -> TimeZoneText {
    "UTC".into()
}

fn at_once() -> DurationText {
    "0s".into()
}

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no scenario.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong and where.
        message: String,
    },
    /// Its policy cannot be used.
    #[error("{path}: the policy: {error}")]
    Policy {
        /// The file.
        path: String,
        /// Why.
        error: PolicyError,
    },
}

impl Scenario {
    /// The largest file that is read as a scenario.
    const LARGEST_FILE: u64 = 1 << 20;

    /// Reads the scenario in a YAML file.
    ///
    /// # Errors
    /// If the file cannot be read or is no scenario.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(Self::LARGEST_FILE).read_to_string(&mut text))
            .map_err(|error| ScenarioError::Read { path: name.clone(), error })?;
        Self::from_yaml(&text).map_err(|message| ScenarioError::Invalid { path: name, message })
    }

    /// Reads a scenario from YAML.
    ///
    /// # Errors
    /// If the text is no scenario; the message says where.
    pub fn from_yaml(text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: 64, max_nodes: 100_000 },
            with_snippet: false,
        };
        let scenario: Self = serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The trace that it describes, named `name`.
    ///
    /// # Errors
    /// If what is left between outages is no trace.
    pub fn trace(&self, name: &str) -> Result<Trace, Fault> {
        generate::trace(self, name)
    }

    /// Its policy, if it has one.
    ///
    /// # Errors
    /// If the policy cannot be used; `path` is where the scenario comes from.
    pub fn policy(&self, path: &Path) -> Result<Option<Policy>, ScenarioError> {
        let Some(spec) = &self.policy else { return Ok(None) };
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let resource =
            json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec});
        Policy::from_yaml(&resource.to_string())
            .map(Some)
            .map_err(|error| ScenarioError::Policy { path: path.display().to_string(), error })
    }

    fn step(&self) -> Result<Step, String> {
        let length = self.step.parse()?;
        let seconds = u32::try_from(length.as_secs()).ok().filter(|s| (1..=3600).contains(s));
        let step = seconds.filter(|_| length.subsec_nanos() == 0).and_then(Step::from_seconds);
        step.ok_or_else(|| "step: it must be 1s to 1h, in whole seconds".to_owned())
    }

    fn check(&self) -> Result<(), String> {
        self.step()?;
        self.time_zone.parse().map_err(|e| format!("timeZone: {e}"))?;
        check_points("weekday", &self.weekday)?;
        if self.weekday.is_empty() {
            return Err("weekday: at least one point is needed".to_owned());
        }
        check_points("weekend", &self.weekend)?;
        if !(1..=3660).contains(&self.days) {
            return Err("days: 1 to 3660 are possible".to_owned());
        }
        let Noise { fast, slow, daily, shift_minutes } = self.noise;
        if ![fast, slow, daily, shift_minutes].iter().all(|n| (0.0..=1000.0).contains(n)) {
            return Err("noise: each must be between 0 and 1000".to_owned());
        }
        if !(-1.0..=1000.0).contains(&self.growth_per_week) {
            return Err("growthPerWeek: between -1 and 1000 is possible".to_owned());
        }
        for change in &self.changes {
            change.ramp.parse().map_err(|e| format!("changes: ramp: {e}"))?;
            if !(0.0..=1e6).contains(&change.factor) || change.from >= change.to {
                return Err("changes: factor must be 0 to 1000000, and from before to".to_owned());
            }
        }
        Ok(())
    }
}

fn check_points(name: &str, points: &[Point]) -> Result<(), String> {
    if !points.is_sorted_by(|a, b| a.at < b.at) {
        return Err(format!("{name}: the points must ascend in time"));
    }
    if !points.iter().all(|p| (0.0..=1e12).contains(&p.qps)) {
        return Err(format!("{name}: qps must be between 0 and 1e12"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        "description: d\nseed: 1\nstart: 2026-03-02\ndays: 1\nweekday: [{at: '00:00', qps: 5}]\n";

    #[test]
    fn what_is_no_scenario_is_refused() {
        Scenario::from_yaml(SMALL).unwrap();
        let cases = [
            ("weekdays: []\n", "weekdays"),
            ("step: 2h\n", "step"),
            ("timeZone: Asia/Shangai\n", "Asia/Shanghai"),
            ("noise: {fast: -1}\n", "noise"),
            ("weekend: [{at: '09:00', qps: 1}, {at: '08:00', qps: 1}]\n", "ascend"),
            ("weekend: [{at: '09:00', qps: .nan}]\n", "qps"),
            ("changes: [{from: 2026-03-02T10:00, to: 2026-03-02T09:00, factor: 2}]\n", "from before to"),
        ];
        for (more, part) in cases {
            let message = Scenario::from_yaml(&format!("{SMALL}{more}")).unwrap_err();
            assert!(message.contains(part), "{more}: {message}");
        }
    }

    #[test]
    fn the_policy_is_that_of_every_command() {
        let scenario = Scenario::from_yaml(&format!(
            "{SMALL}policy: {{minReplicas: 1, maxReplicas: 20, capacity: {{qpsPerReplica: 105}}}}\n"
        ));
        let policy = scenario.unwrap().policy(Path::new("a.yaml")).unwrap().unwrap();
        assert_eq!(policy.max_replicas.0, 20);
        let wrong =
            Scenario::from_yaml(&format!("{SMALL}policy: {{minReplicas: 3, maxReplicas: 2}}\n")).unwrap();
        assert!(wrong.policy(Path::new("a.yaml")).unwrap_err().to_string().contains("minReplicas"));
    }
}
