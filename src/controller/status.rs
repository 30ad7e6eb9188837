//! What a cycle comes to, as the status that people see.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::clock;
use crate::decide::behavior::LimitKind;
use crate::decide::{Decision, Outcome, Plan, Reason};
use crate::forecast::{Accuracy, Forecast, REPORTED};
use crate::policy::status::{
    Action, DecisionStatus, ForecastStatus, MilvusAutoscalerStatus, PlannedChange, ReasonStatus,
    SignalProposal,
};
use crate::units::{Qps, Replicas};

/// The types of condition, in the order in which they are shown.
pub(super) const READY: &str = "Ready";
/// See [`READY`].
pub(super) const FORECAST_READY: &str = "ForecastReady";
/// See [`READY`].
pub(super) const METRICS_FRESH: &str = "MetricsFresh";
/// See [`READY`].
pub(super) const LIMITED: &str = "Limited";
/// See [`READY`].
pub(super) const PAUSED: &str = "Paused";

/// What a condition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    True,
    False,
    Unknown,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Sets a condition; its time of transition changes only when its verdict does.
pub(super) fn set_condition(
    status: &mut MilvusAutoscalerStatus,
    type_: &str,
    verdict: Verdict,
    reason: &Reason,
    now: Timestamp,
) {
    let old = status.conditions.iter().position(|condition| condition.type_ == type_);
    let old = old.map(|index| status.conditions.remove(index));
    let since = old.filter(|old| old.status == verdict.as_str()).map(|old| old.last_transition_time);
    status.conditions.push(Condition {
        type_: type_.to_owned(),
        status: verdict.as_str().to_owned(),
        reason: reason.code.to_owned(),
        message: reason.message.clone().into_owned(),
        last_transition_time: since.unwrap_or_else(|| seconds(now)),
        observed_generation: status.observed_generation,
    });
    let order = [READY, FORECAST_READY, METRICS_FRESH, LIMITED, PAUSED];
    status.conditions.sort_by_key(|condition| order.iter().position(|type_| *type_ == condition.type_));
}

/// What a condition says, by its type.
pub(super) fn condition<'a>(status: &'a MilvusAutoscalerStatus, type_: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// A moment in whole seconds, as the API server stores it.
pub(super) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// A number of replicas as resources hold it.
pub(super) fn count(replicas: Replicas) -> i32 {
    i32::try_from(replicas.0).unwrap_or(i32::MAX)
}

/// The limits that changed a number, among the reasons for it.
pub(super) fn limits(reasons: &[Reason]) -> impl Iterator<Item = &Reason> {
    const LIMITS: [LimitKind; 5] = [
        LimitKind::Stabilized,
        LimitKind::ScaleUpLimit,
        LimitKind::ScaleDownLimit,
        LimitKind::TooFewReplicas,
        LimitKind::TooManyReplicas,
    ];
    reasons.iter().filter(|reason| LIMITS.iter().any(|limit| limit.code() == reason.code))
}

/// The reasons of a decision.
pub(super) fn reasons(decision: &Decision) -> &[Reason] {
    match decision {
        Decision::Hold { reason } => std::slice::from_ref(reason),
        Decision::ScaleTo { reasons, .. } => reasons,
    }
}

/// What a decision does to `current` replicas.
pub(super) fn action(decision: &Decision, current: Replicas) -> Action {
    match decision {
        Decision::Hold { .. } => Action::Hold,
        Decision::ScaleTo { replicas, .. } if *replicas > current => Action::ScaleUp,
        Decision::ScaleTo { .. } => Action::ScaleDown,
    }
}

/// The decision for the status. `before` is the one so far, which tells since when it has been this one.
pub(super) fn decision(
    outcome: &Outcome,
    current: Replicas,
    demand: Option<Qps>,
    capacity: Option<Qps>,
    forecast: Option<&Forecast>,
    before: Option<&DecisionStatus>,
    now: Timestamp,
) -> DecisionStatus {
    let reasons = reasons(&outcome.decision);
    let action = action(&outcome.decision, current);
    let replicas = Some(count(outcome.desired));
    let reason = reasons.last().map_or("Steady", |reason| reason.code).to_owned();
    let same = before.filter(|old| old.action == action && old.replicas == replicas && old.reason == reason);
    let to_status = |reason: &Reason| ReasonStatus {
        reason: reason.code.to_owned(),
        message: reason.message.clone().into_owned(),
    };
    DecisionStatus {
        action,
        replicas,
        message: reasons.iter().map(|reason| reason.message.as_ref()).collect::<Vec<_>>().join(" "),
        since: same.and_then(|old| old.since.clone()).or_else(|| Some(seconds(now))),
        proposals: outcome.proposals.iter().map(|(signal, replicas)| proposal(signal, *replicas)).collect(),
        limits: limits(reasons).map(to_status).collect(),
        demand_qps: demand.map(|qps| rounded(qps.get())),
        capacity_qps: capacity.map(|qps| rounded(qps.get())),
        forecast_qps: forecast.map(quantiles).unwrap_or_default(),
        reason,
    }
}

fn proposal(signal: &str, replicas: Replicas) -> SignalProposal {
    let (name, sentence) = match signal {
        "forecast" => ("Forecast", "the plan for the demand to come"),
        "demand" => ("Demand", "the demand now"),
        "pressure" => ("Pressure", "latency and queues"),
        "floor" => ("Floor", "memory, in-memory replicas and schedules"),
        other => (other, "this signal"),
    };
    let message = format!("{replicas} replicas for {sentence}");
    SignalProposal { signal: name.to_owned(), replicas: Some(count(replicas)), message }
}

fn quantiles(forecast: &Forecast) -> BTreeMap<String, f64> {
    REPORTED.iter().zip(forecast.peak).map(|(p, qps)| (p.to_string(), rounded(qps.get()))).collect()
}

/// Four digits, so that a status does not change with every breath.
fn rounded(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(3.0 - value.log10().floor());
    (value * scale).round() / scale
}

/// The next changes of a plan made at `now`, soonest first, each when it will be asked for.
pub(super) fn planned(plan: &Plan, forecast: &Forecast, now: Timestamp, most: usize) -> Vec<PlannedChange> {
    let lead = forecast.stages.get(forecast.lead_stage).map_or(0, |stage| stage.ahead);
    let mut changes = Vec::new();
    let mut before = plan.now;
    for (stage, replicas) in forecast.stages.iter().zip(&plan.path).skip(forecast.lead_stage) {
        if *replicas == before {
            continue;
        }
        let (ahead, reason) = if *replicas > before {
            (stage.ahead.saturating_sub(lead), "ForecastRise")
        } else {
            (stage.ahead, "ForecastFall")
        };
        let time = seconds(clock::minute_of(clock::after_minutes(now, ahead)));
        changes.push(PlannedChange { time, replicas: count(*replicas), reason: reason.to_owned() });
        before = *replicas;
    }
    changes.sort_by_key(|change| change.time.0);
    changes.truncate(most);
    changes
}

/// How good the forecast is.
pub(super) fn forecast(
    accuracy: Option<Accuracy>,
    from: Option<Timestamp>,
    samples: usize,
    lead: SignedDuration,
) -> ForecastStatus {
    let by_quantile = |values: [f64; 3]| {
        REPORTED
            .iter()
            .zip(values)
            .map(|(p, value)| (p.to_string(), rounded(value)))
            .collect::<BTreeMap<_, _>>()
    };
    ForecastStatus {
        history_from: from.map(seconds),
        history_samples: i64::try_from(samples).ok(),
        horizon_seconds: Some(lead.as_secs()),
        error_ratio: accuracy.map(|accuracy| rounded(accuracy.wape)),
        coverage: accuracy.map(|accuracy| by_quantile(accuracy.coverage)).unwrap_or_default(),
        pinball_loss: accuracy.map(|accuracy| by_quantile(accuracy.pinball)).unwrap_or_default(),
        method_weights: BTreeMap::new(),
        checked: accuracy.and_then(|accuracy| i64::try_from(accuracy.outcomes).ok()),
    }
}

/// How often numbers that drift are written though nothing has happened.
const DRIFT: SignedDuration = SignedDuration::from_secs(60);

/// Whether `new` should be written over `old`, which was written at `at`: at once if something has happened, after a
/// while if only numbers have drifted, never if nothing has changed.
pub(super) fn is_news(
    old: Option<(&MilvusAutoscalerStatus, Timestamp)>,
    new: &MilvusAutoscalerStatus,
    now: Timestamp,
) -> bool {
    let Some((old, at)) = old else { return true };
    if old == new {
        return false;
    }
    essence(old) != essence(new) || now.duration_since(at) >= DRIFT
}

/// A status without the numbers that drift.
fn essence(status: &MilvusAutoscalerStatus) -> MilvusAutoscalerStatus {
    let mut status = status.clone();
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    if let Some(decision) = &mut status.decision {
        decision.message.clear();
        decision.since = None;
        decision.proposals.clear();
        decision.limits.clear();
        decision.demand_qps = None;
        decision.capacity_qps = None;
        decision.forecast_qps.clear();
    }
    status.planned_changes.clear();
    status.behavior.recommendations.clear();
    status.forecast = None;
    status.memory = None;
    status.capacity = None;
    status.saved_replica_hours = None;
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_transition_has_a_time_and_a_repetition_keeps_it() {
        let mut status = MilvusAutoscalerStatus::default();
        let reason = Reason::new("Stale", "old");
        set_condition(&mut status, METRICS_FRESH, Verdict::False, &reason, at(0));
        set_condition(&mut status, READY, Verdict::True, &Reason::new("Scaling", ""), at(0));
        set_condition(&mut status, METRICS_FRESH, Verdict::False, &Reason::new("Empty", "none"), at(30));
        assert_eq!(status.conditions.len(), 2);
        assert_eq!(status.conditions[0].type_, READY);
        let fresh = condition(&status, METRICS_FRESH).unwrap();
        assert_eq!((fresh.reason.as_str(), &fresh.last_transition_time), ("Empty", &seconds(at(0))));
        set_condition(&mut status, METRICS_FRESH, Verdict::True, &Reason::new("Fresh", ""), at(60));
        assert_eq!(condition(&status, METRICS_FRESH).unwrap().last_transition_time, seconds(at(60)));
    }

    #[test]
    fn nothing_new_is_not_written_and_drift_waits() {
        let mut old = MilvusAutoscalerStatus::default();
        set_condition(&mut old, READY, Verdict::True, &Reason::new("Scaling", "5 QPS"), at(0));
        assert!(is_news(None, &old, at(0)));
        assert!(!is_news(Some((&old, at(0))), &old, at(10_000)));
        let mut drifted = old.clone();
        drifted.conditions[0].message = "6 QPS".into();
        drifted.saved_replica_hours = Some(1.0);
        assert!(!is_news(Some((&old, at(0))), &drifted, at(59)));
        assert!(is_news(Some((&old, at(0))), &drifted, at(60)));
        let mut news = old.clone();
        news.current_replicas = Some(3);
        assert!(is_news(Some((&old, at(0))), &news, at(1)));
    }

    #[test]
    fn numbers_are_rounded_to_what_matters() {
        let pairs =
            [(123.456, 123.5), (0.001_234_56, 0.001_235), (99_999.0, 100_000.0), (0.0, 0.0), (f64::NAN, 0.0)];
        for (value, expected) in pairs {
            assert!((rounded(value) - expected).abs() < 1e-9, "{value}");
        }
    }
}
