//! What the controller would do now, as lines for people: the status of a rehearsed cycle.

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::policy::status::{
    Action, CapacityStatus, DecisionStatus, LeadTimeStatus, MilvusAutoscalerStatus, Origin,
};
use crate::policy::text::duration_text;
use crate::policy::{ClusterPolicy, Mode};
use crate::text::wrapped;
use crate::units::Qps;

/// Columns of a line's title.
const TITLE: usize = 12;

/// What the controller would do, and what that was found with.
#[derive(Debug, Clone)]
pub struct Recommendation<'a> {
    /// When.
    pub at: Timestamp,
    /// The policy.
    pub policy: &'a ClusterPolicy,
    /// How the replicas that run now are known.
    pub seen: String,
    /// The status that the controller would write.
    pub status: &'a MilvusAutoscalerStatus,
}

impl Recommendation<'_> {
    /// It in lines of 80 columns at most unless a word is longer; times are in the policy's time zone.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = Page(String::new());
        self.head(&mut page);
        if let Some(decision) = &self.status.decision {
            self.decision(decision, &mut page);
        }
        self.limits(&mut page);
        self.plan(&mut page);
        self.troubles(&mut page);
        page.0
    }

    fn head(&self, page: &mut Page) {
        let policy = &self.policy.policy;
        let name = match (&policy.namespace, policy.name.as_str()) {
            (Some(namespace), name) => format!("{namespace}/{name}"),
            (None, name) => name.to_owned(),
        };
        page.line("Policy", &format!("{name}, {}, {}", mode(policy.mode), self.time(self.at, true)));
        let status = self.status;
        if let Some(target) = &status.target {
            let (now, ready) = (status.current_replicas.unwrap_or(0), status.ready_replicas.unwrap_or(0));
            page.line(
                "Target",
                &format!(
                    "{} of {} {}: {now}, {ready} ready ({})",
                    target.field, target.kind, target.name, self.seen
                ),
            );
        }
        let (now, desired) = (status.current_replicas, status.desired_replicas);
        if let (Some(now), Some(desired), Some(decision)) = (now, desired, &status.decision) {
            let change = match decision.action {
                Action::ScaleUp => format!("scale up: {now} → {desired} replicas"),
                Action::ScaleDown => format!("scale down: {now} → {desired} replicas"),
                Action::Hold => format!("hold at {desired} replicas"),
            };
            page.gap();
            page.line("Would", &format!("{change} ({})", decision.reason));
            page.line("Why", &decision.message);
        }
    }

    fn decision(&self, decision: &DecisionStatus, page: &mut Page) {
        page.gap();
        let mut title = "Proposals";
        for proposal in &decision.proposals {
            let replicas = proposal.replicas.map_or_else(|| "–".to_owned(), |replicas| replicas.to_string());
            let cells = format!("{:<10}{replicas:>4}  ", proposal.signal);
            page.cells(title, &cells, &proposal.message);
            title = "";
        }
        if decision.proposals.is_empty() {
            page.line(title, "none: there is nothing to go by");
        }
        let mut title = "Limits";
        for limit in &decision.limits {
            page.line(title, &format!("{}: {}", limit.reason, limit.message));
            title = "";
        }
        if decision.limits.is_empty() {
            page.line(title, "none applies");
        }
        page.gap();
        page.line(
            "Demand",
            &decision.demand_qps.map_or_else(|| "not known".to_owned(), |qps| format!("{} now", rate(qps))),
        );
        let quantiles = decision.forecast_qps.iter().filter_map(|(quantile, qps)| {
            let share: f64 = quantile.parse().ok()?;
            Some(format!("p{:.0} {}", share * 100.0, rate(*qps)))
        });
        let quantiles = quantiles.collect::<Vec<_>>().join(", ");
        let lead = self.status.lead_time.as_ref().map_or(String::new(), |lead| lead.value.0.clone());
        page.line(
            "Forecast",
            &if quantiles.is_empty() {
                "none".to_owned()
            } else {
                format!("peak of the next {lead}: {quantiles}")
            },
        );
        if let Some(accuracy) = self.accuracy() {
            page.line("", &accuracy);
        }
    }

    fn accuracy(&self) -> Option<String> {
        let forecast = self.status.forecast.as_ref()?;
        let samples = forecast.history_samples.filter(|samples| *samples > 0)?;
        let from = forecast.history_from.as_ref().map_or(String::new(), |from| self.time(from.0, true));
        let mut text = format!("from {} since {from}", duration_text(SignedDuration::from_mins(samples)));
        if let (Some(error), Some(covered)) = (forecast.error_ratio, forecast.coverage.get("0.99")) {
            let _ = write!(
                text,
                "; error {:.1} % of the load, {:.1} % stayed below the 99 % quantile",
                error * 100.0,
                covered * 100.0
            );
        }
        Some(text)
    }

    fn limits(&self, page: &mut Page) {
        let status = self.status;
        let carried = status.decision.as_ref().and_then(|decision| decision.capacity_qps);
        page.line("Capacity", &capacity(status.capacity.as_ref(), carried, status.ready_replicas));
        if let Some(lead) = &status.lead_time {
            page.line("Lead time", &lead_time(lead));
        }
        if let Some(bounds) = &status.bounds {
            let mut text = format!("{} to {} replicas", bounds.min_replicas, bounds.max_replicas);
            if let Some(floor) = bounds.floor_replicas {
                let _ = write!(text, ", {floor} at least for what is in memory");
            }
            if !bounds.active_schedules.is_empty() {
                let _ = write!(text, ", by the schedules {}", bounds.active_schedules.join(", "));
            }
            page.line("Bounds", &text);
        }
    }

    fn plan(&self, page: &mut Page) {
        page.gap();
        let mut title = "Next";
        let mut before = self.status.desired_replicas;
        for change in &self.status.planned_changes {
            let from = before.map_or(String::new(), |before| format!("{before} → "));
            let time = self.time(change.time.0, false);
            let replicas = change.replicas;
            let change = format!("{from}{replicas} replicas ({})", change.reason);
            page.cells(title, &format!("{time}  "), &change);
            (title, before) = ("", Some(replicas));
        }
        if self.status.planned_changes.is_empty() {
            page.line(title, "no change is planned");
        }
    }

    /// What the controller would complain of.
    fn troubles(&self, page: &mut Page) {
        let wrong = self.status.conditions.iter().filter(|condition| match condition.type_.as_str() {
            "Ready" | "MetricsFresh" | "ForecastReady" => condition.status != "True",
            "Paused" => condition.status == "True",
            _ => false,
        });
        let mut title = "Attention";
        for condition in wrong {
            if !title.is_empty() {
                page.gap();
            }
            page.line(title, &format!("{}: {}", condition.reason, condition.message));
            title = "";
        }
    }

    fn time(&self, at: Timestamp, dated: bool) -> String {
        let zone: &TimeZone = self.policy.policy.calendar.zone();
        let local = at.to_zoned(zone.clone());
        let format = if dated { "%Y-%m-%d %H:%M %Z" } else { "%a %H:%M %Z" };
        local.strftime(format).to_string()
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Active => "mode Active",
        Mode::Preview => "mode Preview (which writes nothing)",
    }
}

fn rate(qps: f64) -> Qps {
    Qps::clamped(qps)
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Given => "from the policy",
        Origin::Learned => "learned",
        Origin::Assumed => "assumed",
    }
}

fn capacity(capacity: Option<&CapacityStatus>, carried: Option<f64>, ready: Option<i32>) -> String {
    let Some(capacity) = capacity else { return "not known".to_owned() };
    let mut text = match (capacity.qps_per_replica, capacity.curve.as_slice()) {
        (Some(qps), _) => format!("{} a replica", rate(qps)),
        (None, points) => {
            let points = points.iter().map(|point| format!("{} at {}", rate(point.qps), point.replicas));
            points.collect::<Vec<_>>().join(", ")
        }
    };
    if let (Some(lower), Some(upper)) = (capacity.lower_qps_per_replica, capacity.upper_qps_per_replica) {
        let _ = write!(text, " ({} to {})", rate(lower), rate(upper));
    }
    let _ = write!(text, ", {}", origin(capacity.origin));
    if capacity.origin != Origin::Given {
        let _ = write!(text, ", confidence {:.0} %", capacity.confidence * 100.0);
    }
    if let (Some(carried), Some(ready)) = (carried, ready) {
        let _ = write!(text, "; {} with {ready} ready", rate(carried));
    }
    text
}

fn lead_time(lead: &LeadTimeStatus) -> String {
    let mut text = format!("{}, {}", lead.value.0, origin(lead.origin));
    if let (Some(lower), Some(upper)) = (&lead.lower, &lead.upper) {
        let _ = write!(text, ", {} to {} seen", lower.0, upper.0);
    }
    text
}

/// Lines with titles.
struct Page(String);

impl Page {
    fn line(&mut self, title: &str, text: &str) {
        self.cells(title, "", text);
    }

    /// A line whose text begins with `cells`, below which nothing is written.
    fn cells(&mut self, title: &str, cells: &str, text: &str) {
        self.0 += &wrapped(&format!("{title:<TITLE$}{cells}"), text, TITLE + cells.chars().count());
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn policy(mode: &str) -> ClusterPolicy {
        ClusterPolicy::from_yaml(&format!(
            "apiVersion: milvus-autoscaler.io/v1alpha1\nkind: MilvusAutoscaler\nmetadata: {{name: search, namespace: \
             milvus}}\nspec:\n  mode: {mode}\n  scaleTargetRef: {{kind: Deployment, name: milvus-querynode}}\n  \
             minReplicas: 1\n  maxReplicas: 20\n  forecast: {{timeZone: Asia/Shanghai}}\n  \
             prometheus: {{url: 'http://prometheus.monitoring.svc:9090'}}\n"
        ))
        .unwrap()
    }

    fn golden(name: &str, mode: &str, status: &Value) {
        let status: MilvusAutoscalerStatus = serde_json::from_value(status.clone()).unwrap();
        let at = "2026-03-02T00:40:00Z".parse().unwrap();
        let seen = "as the cluster says".to_owned();
        let text = Recommendation { at, policy: &policy(mode), seen, status: &status }.render();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recommend").join(name);
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
    }

    fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": "2026-03-02T00:00:00Z"})
    }

    #[test]
    fn a_rise_ahead_is_told_with_its_numbers() {
        golden(
            "rise.txt",
            "Preview",
            &json!({
                "conditions": [
                    condition("Ready", "True", "Preview", "Nothing is written."),
                    condition("Limited", "True", "ScaleUpLimit", "4 pods a minute."),
                    condition("Paused", "True", "Paused", "Scaling is paused until 2026-03-02T02:00:00Z."),
                ],
                "currentReplicas": 3, "readyReplicas": 3, "desiredReplicas": 7,
                "target": {"kind": "Deployment", "name": "milvus-querynode", "field": "spec.replicas"},
                "decision": {
                    "action": "ScaleUp", "replicas": 7, "reason": "ScaleUpLimit",
                    "message": "Demand rises to 700 QPS (99 %: 790 QPS) before a replica added now is ready: the \
                                plan has 9 replicas. 7 replicas, as no more than 4 may be added in 60 s.",
                    "proposals": [
                        {"signal": "Forecast", "replicas": 9, "message": "9 replicas for the plan for the demand to come"},
                        {"signal": "Demand", "replicas": 3, "message": "3 replicas for the demand now"},
                    ],
                    "limits": [{"reason": "ScaleUpLimit", "message": "7 replicas, as no more than 4 may be added in 60 s."}],
                    "demandQps": 240.5, "capacityQps": 282.0,
                    "forecastQps": {"0.5": 700.0, "0.95": 750.0, "0.99": 790.0},
                },
                "plannedChanges": [
                    {"time": "2026-03-02T00:41:00Z", "replicas": 9, "reason": "ForecastRise"},
                    {"time": "2026-03-02T12:05:00Z", "replicas": 2, "reason": "ForecastFall"},
                ],
                "bounds": {"minReplicas": 2, "maxReplicas": 20, "floorReplicas": 2, "activeSchedules": ["weekday-floor"]},
                "capacity": {"origin": "Learned", "qpsPerReplica": 94.0, "lowerQpsPerReplica": 88.0,
                    "upperQpsPerReplica": 103.0, "confidence": 0.8},
                "leadTime": {"origin": "Learned", "value": "8m", "lower": "6m", "upper": "11m", "confidence": 0.7},
                "forecast": {"historyFrom": "2026-02-02T00:40:00Z", "historySamples": 40_320, "errorRatio": 0.043,
                    "coverage": {"0.99": 0.991}},
            }),
        );
    }

    #[test]
    fn a_hold_for_want_of_knowledge_says_what_is_missing() {
        let message = "What a QueryNode carries is not known yet: nothing is scaled but to the bounds. Set \
                       spec.capacity, or wait until it is learned.";
        let stale = "The newest sample of the demand is 600 s old.";
        golden(
            "unknown.txt",
            "Active",
            &json!({
                "conditions": [
                    condition("Ready", "False", "CapacityUnknown", message),
                    condition("MetricsFresh", "False", "MetricsStale", stale),
                ],
                "currentReplicas": 3, "readyReplicas": 2, "desiredReplicas": 3,
                "target": {"kind": "Milvus", "name": "my", "field": "spec.components.queryNode.replicas"},
                "decision": {"action": "Hold", "replicas": 3, "reason": "MetricsMissing", "message": stale},
                "bounds": {"minReplicas": 1, "maxReplicas": 20},
                "leadTime": {"origin": "Assumed", "value": "10m", "confidence": 0.0},
            }),
        );
    }
}
