//! What a cycle tells: status, conditions, events, metrics.

use jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::runtime::events::{Event, EventType};
use tracing::{debug, info, warn};

use super::super::outlook::Outlook;
use super::super::pause::{Pause, pause};
use super::super::sighting::Sighting;
use super::super::status::{self, Verdict};
use super::{Keeper, Next, Verdicts, last_reason};
use crate::actuate::{self, Fault, Survey};
use crate::decide::Reason;
use crate::policy::status::{Action, BoundsStatus, LastScale, MilvusAutoscalerStatus};
use crate::policy::{ClusterPolicy, Mode};
use crate::telemetry::{Direction, ReplicaKind};
use crate::units::{Qps, Replicas};

/// Planned changes that are shown.
const PLANNED: usize = 5;

impl Keeper {
    /// The status so far: as this process wrote it, or as it found it.
    pub(super) fn published(&self) -> MilvusAutoscalerStatus {
        self.publisher.last().or(self.resource.status.as_ref()).cloned().unwrap_or_default()
    }

    #[expect(clippy::too_many_arguments, reason = "a status is about all of a cycle")]
    pub(super) async fn tell(
        &mut self,
        policy: &ClusterPolicy,
        survey: &Survey,
        sighting: &Sighting,
        verdicts: &Verdicts,
        pause: Option<&Pause>,
        written: Result<Option<(Replicas, Replicas)>, Fault>,
        now: Timestamp,
    ) {
        self.count(survey, sighting, verdicts, now);
        if let Err(fault) = &written {
            self.context.metrics.count_error(&self.object, fault.kind.label());
        }
        let next = self.status(policy, survey, sighting, verdicts, pause, &written, now);
        self.publish(next, now).await;
    }

    /// What the cycle came to.
    #[expect(clippy::too_many_arguments, reason = "a status is about all of a cycle")]
    pub(super) fn status(
        &self,
        policy: &ClusterPolicy,
        survey: &Survey,
        sighting: &Sighting,
        verdicts: &Verdicts,
        pause: Option<&Pause>,
        written: &Result<Option<(Replicas, Replicas)>, Fault>,
        now: Timestamp,
    ) -> MilvusAutoscalerStatus {
        let mut next = self.published();
        next.observed_generation = self.resource.metadata.generation;
        let reason = last_reason(&verdicts.outcome.decision);
        if let Ok(Some((from, to))) = written {
            let time = status::seconds(now);
            next.last_scale_time = Some(time.clone());
            let (from, to) = (status::count(*from), status::count(*to));
            let (reason, message) = (reason.code.to_owned(), reason.message.clone().into_owned());
            next.last_scale = Some(LastScale { time, from, to, reason, message });
        }
        describe_fleet(&mut next, survey);
        self.describe_decision(&mut next, survey, sighting, verdicts, now);
        next.paused_until = pause.and_then(|pause| pause.until).map(status::seconds);
        let good = match written {
            Err(fault) => Err(Reason::new(fault.kind.code(), fault.message.clone())),
            Ok(_) => readiness(policy, survey, verdicts),
        };
        set_ready(&mut next, good, now);
        self.set_conditions(&mut next, sighting, verdicts, pause, now);
        next
    }

    fn describe_decision(
        &self,
        next: &mut MilvusAutoscalerStatus,
        survey: &Survey,
        sighting: &Sighting,
        verdicts: &Verdicts,
        now: Timestamp,
    ) {
        let outcome = &verdicts.outcome;
        let demand = sighting.demand.as_ref().ok().copied();
        let carried = verdicts.capacity.as_ref().ok().map(|capacity| capacity.of(survey.ready()));
        next.desired_replicas = Some(status::count(outcome.desired));
        let forecast = verdicts.forecast.as_ref();
        let before = next.decision.take();
        next.decision =
            Some(status::decision(outcome, survey.desired, demand, carried, forecast, before.as_ref(), now));
        next.planned_changes = match (&outcome.plan, forecast) {
            (Some(plan), Some(forecast)) => status::planned(plan, forecast, now, PLANNED),
            _ => Vec::new(),
        };
        next.bounds = Some(BoundsStatus {
            min_replicas: status::count(verdicts.min),
            max_replicas: status::count(verdicts.rules.max),
            floor_replicas: verdicts.floor.map(status::count),
            active_schedules: verdicts.active.clone(),
        });
        if let Some(in_use) = &self.in_use {
            self.learner.describe(next, &in_use.policy.policy, survey.ready(), now);
        }
        next.behavior = self.remembered.decisions.behavior().clone();
        if let Some(outlook) = &self.outlook {
            let (from, samples) = outlook.learned();
            next.forecast = Some(status::forecast(outlook.accuracy(), from, samples, verdicts.lead));
        }
        next.saved_replica_hours = Some((self.saved * 100.0).round() / 100.0);
    }

    fn set_conditions(
        &self,
        next: &mut MilvusAutoscalerStatus,
        sighting: &Sighting,
        verdicts: &Verdicts,
        pause: Option<&Pause>,
        now: Timestamp,
    ) {
        let (verdict, reason) = match (&verdicts.forecast, &verdicts.capacity, &self.outlook) {
            (Some(_), _, _) => (Verdict::True, Reason::new("Learned", "The demand ahead is forecast.")),
            (None, Err(unknown), Some(_)) => (Verdict::Unknown, unknown.clone()),
            (None, Ok(_), Some(outlook)) => (Verdict::False, outlook.missing()),
            (None, _, None) => {
                let reading = || Reason::new("ReadingHistory", "Nothing has been read yet.");
                (Verdict::Unknown, self.unread.clone().unwrap_or_else(reading))
            }
        };
        status::set_condition(next, status::FORECAST_READY, verdict, &reason, now);
        set_fresh(next, sighting, now);
        let reasons = status::reasons(&verdicts.outcome.decision);
        let limit = status::limits(reasons).last().cloned();
        let verdict = if limit.is_some() { Verdict::True } else { Verdict::False };
        let limit =
            limit.unwrap_or_else(|| Reason::new("WithinLimits", "No limit changes the number of replicas."));
        status::set_condition(next, status::LIMITED, verdict, &limit, now);
        set_paused(next, pause, now);
    }

    /// The numbers for `/metrics`.
    fn count(&mut self, survey: &Survey, sighting: &Sighting, verdicts: &Verdicts, now: Timestamp) {
        let (metrics, object) = (&self.context.metrics, &self.object);
        let outcome = &verdicts.outcome;
        let demand = sighting.demand.as_ref().ok().map(|demand| demand.get());
        metrics.set_demand(object, demand, sighting.age.map(SignedDuration::unsigned_abs));
        metrics.set_forecast(object, verdicts.forecast.as_ref().map(|forecast| forecast.peak.map(Qps::get)));
        let accuracy = self.outlook.as_ref().and_then(Outlook::accuracy);
        metrics.set_accuracy(object, accuracy.map(|accuracy| (accuracy.wape, accuracy.coverage)));
        let carried = verdicts.capacity.as_ref().ok().map(|capacity| capacity.of(survey.ready()).get());
        metrics.set_capacity(object, carried);
        metrics.set_lead_time(object, verdicts.lead.as_secs_f64());
        for (kind, replicas) in [
            (ReplicaKind::current, Some(survey.desired)),
            (ReplicaKind::ready, Some(survey.ready())),
            (ReplicaKind::desired, Some(outcome.desired)),
            (ReplicaKind::floor, verdicts.floor),
            (ReplicaKind::min, Some(verdicts.min)),
            (ReplicaKind::max, Some(verdicts.rules.max)),
        ] {
            metrics.set_replicas(object, kind, replicas.map(|replicas| replicas.0));
        }
        let direction = match status::action(&outcome.decision, survey.desired) {
            Action::ScaleUp => Direction::up,
            Action::ScaleDown => Direction::down,
            Action::Hold => Direction::hold,
        };
        metrics.count_decision(object, direction, last_reason(&outcome.decision).code);
        self.count_saved(survey, sighting, verdicts, now);
    }

    fn count_saved(&mut self, survey: &Survey, sighting: &Sighting, verdicts: &Verdicts, now: Timestamp) {
        let needed = match (&verdicts.capacity, &sighting.demand) {
            (Ok(capacity), Ok(demand)) if verdicts.sure => capacity.replicas_for(*demand, verdicts.rules.max),
            _ => Replicas(0),
        };
        let peak = self.remembered.peak_replicas.max(needed);
        self.remembered.peak_replicas = peak;
        let Some(before) = self.cycled_at else { return };
        let hours = now
            .duration_since(before)
            .clamp(SignedDuration::ZERO, SignedDuration::from_mins(2))
            .as_secs_f64()
            / 3600.0;
        let saved = hours * (peak.as_f64() - survey.desired.as_f64());
        self.saved += saved;
        self.context.metrics.add_saved(&self.object, saved);
    }

    /// Tells that the target could not be looked at.
    pub(super) async fn tell_fault(
        &mut self,
        fault: &Fault,
        sighting: &Sighting,
        policy: &ClusterPolicy,
        now: Timestamp,
    ) {
        self.context.metrics.count_error(&self.object, fault.kind.label());
        let demand = sighting.demand.as_ref().ok().map(|demand| demand.get());
        self.context.metrics.set_demand(&self.object, demand, sighting.age.map(SignedDuration::unsigned_abs));
        let reason = Reason::new(fault.kind.code(), fault.message.clone());
        let mut next = self.published();
        next.observed_generation = self.resource.metadata.generation;
        next.lead_time = Some(self.learner.lead_status(&policy.policy));
        set_ready(&mut next, Err(reason), now);
        set_fresh(&mut next, sighting, now);
        set_paused(&mut next, pause(&self.resource, now).as_ref(), now);
        self.publish(next, now).await;
    }

    /// Tells that the policy cannot be used.
    pub(super) async fn refuse(&mut self, reason: &Reason, now: Timestamp) -> Next {
        self.context.metrics.count_error(&self.object, "invalid_policy");
        let mut next = self.published();
        next.observed_generation = self.resource.metadata.generation;
        set_ready(&mut next, Err(reason.clone()), now);
        self.publish(next, now).await;
        Next::Regular
    }

    /// Writes the status if it is news, with an event where a condition has changed.
    async fn publish(&mut self, next: MilvusAutoscalerStatus, now: Timestamp) {
        if !self.context.leadership.holds() {
            self.publisher.forget();
            return;
        }
        let before = self.published();
        match self.publisher.publish(&self.context.client, &self.object, &next, now).await {
            Ok(false) => {}
            Ok(true) => self.tell_transitions(&before, &next).await,
            Err(fault) => {
                self.context.metrics.count_error(&self.object, fault.kind.label());
                warn!(
                    namespace = self.object.namespace, name = self.object.name, error = %fault,
                    "the status could not be written"
                );
            }
        }
    }

    async fn tell_transitions(&self, before: &MilvusAutoscalerStatus, next: &MilvusAutoscalerStatus) {
        for type_ in [status::READY, status::METRICS_FRESH] {
            let (old, new) = (status::condition(before, type_), status::condition(next, type_));
            let Some(new) = new.filter(|new| old.is_none_or(|old| old.status != new.status)) else {
                continue;
            };
            // That all is well from the start is no event.
            if new.status == "True" && old.is_none() {
                continue;
            }
            let kind = if new.status == "True" { EventType::Normal } else { EventType::Warning };
            info!(
                namespace = self.object.namespace,
                name = self.object.name,
                condition = type_,
                status = new.status,
                reason = new.reason,
                message = new.message,
                "condition changed"
            );
            self.event(kind, &new.reason, &new.message).await;
        }
    }

    pub(super) async fn event(&self, type_: EventType, reason: &str, note: &str) {
        // The API server takes 1024 bytes.
        let note: String = note
            .chars()
            .take(1000)
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= 1000).then_some(c)
            })
            .collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Scale".to_owned(),
            secondary: None,
        };
        let reference = self.resource.object_ref(&());
        let publishing = self.context.recorder.publish(&event, &reference);
        if let Err(fault) = actuate::bounded("Event", publishing).await {
            debug!(error = %fault, "an event could not be written");
        }
    }
}

fn describe_fleet(next: &mut MilvusAutoscalerStatus, survey: &Survey) {
    next.current_replicas = Some(status::count(survey.desired));
    next.ready_replicas = Some(status::count(survey.ready()));
    next.target = Some(survey.lever.status());
    // What is noted stays: it is another object's, or that of a write that has come after this survey.
    if survey.lever.bounds().is_some_and(|bounds| bounds.overridden) && next.original_bounds.is_none() {
        next.original_bounds = survey.lever.original_bounds();
    }
}

fn readiness(policy: &ClusterPolicy, survey: &Survey, verdicts: &Verdicts) -> Result<Reason, Reason> {
    if let Some(frozen) = &survey.frozen {
        return Err(frozen.clone());
    }
    if let Err(unknown) = &verdicts.capacity {
        return Err(unknown.clone());
    }
    if policy.policy.mode == Mode::Preview {
        let message = "Everything is computed and reported, and nothing is written: the mode is Preview.";
        return Ok(Reason::new("Preview", message));
    }
    let target = survey.lever.status();
    let message = format!("{} {}, field {}, is kept.", target.kind, target.name, target.field);
    Ok(Reason::new("Scaling", message))
}

fn set_ready(next: &mut MilvusAutoscalerStatus, good: Result<Reason, Reason>, now: Timestamp) {
    let (verdict, reason) = match good {
        Ok(reason) => (Verdict::True, reason),
        Err(reason) => (Verdict::False, reason),
    };
    status::set_condition(next, status::READY, verdict, &reason, now);
}

fn set_fresh(next: &mut MilvusAutoscalerStatus, sighting: &Sighting, now: Timestamp) {
    let (verdict, reason) = match &sighting.demand {
        Ok(_) => (Verdict::True, Reason::new("Fresh", "Demand is measured.")),
        Err(reason) => (Verdict::False, reason.clone()),
    };
    status::set_condition(next, status::METRICS_FRESH, verdict, &reason, now);
}

fn set_paused(next: &mut MilvusAutoscalerStatus, pause: Option<&Pause>, now: Timestamp) {
    let (verdict, reason) = match pause {
        Some(pause) => (Verdict::True, pause.reason.clone()),
        None => (Verdict::False, Reason::new("NotPaused", "Scaling is not paused.")),
    };
    status::set_condition(next, status::PAUSED, verdict, &reason, now);
}
