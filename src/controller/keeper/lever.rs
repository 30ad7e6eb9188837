//! The lever in the hands of a cycle: what it asks for there, and gives back.

use jiff::Timestamp;
use kube::runtime::events::EventType;
use tracing::{info, warn};

use super::super::finalizer;
use super::super::pause::Pause;
use super::super::sighting::Sighting;
use super::{Keeper, Next, Verdicts, last_reason};
use crate::actuate::{self, Fault, Lever, Survey};
use crate::policy::status::OriginalBounds;
use crate::policy::{ClusterPolicy, Mode};
use crate::units::Replicas;

impl Keeper {
    /// Asks for what was decided, if that changes anything and this process may. Replicas before and after, if it did.
    pub(super) async fn actuate(
        &mut self,
        policy: &ClusterPolicy,
        survey: &Survey,
        sighting: &Sighting,
        verdicts: &Verdicts,
        pause: Option<&Pause>,
        now: Timestamp,
    ) -> Result<Option<(Replicas, Replicas)>, Fault> {
        let replicas = wanted(survey, verdicts, sighting.demand.is_ok());
        let idle = policy.policy.mode == Mode::Preview || pause.is_some() || survey.frozen.is_some();
        if idle || !self.context.leadership.holds() {
            // What people do by hand meanwhile is theirs to do.
            self.asked = self.asked.filter(|_| !idle);
            return Ok(None);
        }
        self.notice_others(survey).await;
        self.give_back_others(survey, now).await?;
        if !survey.lever.would_change(replicas) {
            return Ok(None);
        }
        if let Some(original) = survey.lever.original_bounds() {
            finalizer::add(&self.context.client, &self.resource).await?;
            self.note_bounds(Some(original), now).await?;
        }
        if !self.context.leadership.holds() {
            return Ok(None);
        }
        let from = survey.lever.current();
        if let Err(fault) = survey.lever.set(&self.context.client, &self.object.namespace, replicas).await {
            self.event(EventType::Warning, "ScaleFailed", &fault.message).await;
            return Err(fault);
        }
        self.remembered.decisions.record_scale(&verdicts.rules, now, survey.desired, replicas);
        self.asked = Some(replicas);
        let reason = last_reason(&verdicts.outcome.decision);
        let target = survey.lever.status();
        info!(
            namespace = self.object.namespace, name = self.object.name, target = target.name, kind = target.kind,
            field = target.field, from = from.0, to = replicas.0, reason = reason.code, message = %reason.message,
            "scaled"
        );
        let event = if replicas > from { "ScaledUp" } else { "ScaledDown" };
        let note =
            format!("{} of {} from {from} to {replicas}: {}", target.field, target.name, reason.message);
        self.event(EventType::Normal, event, &note).await;
        Ok(Some((from, replicas)))
    }

    /// Tells that somebody else has changed what this process asked for last. A cycle writes once at most, so two
    /// who disagree cause no storm.
    async fn notice_others(&mut self, survey: &Survey) {
        let found = survey.lever.current();
        let Some(asked) = self.asked.filter(|asked| *asked != found) else { return };
        self.asked = Some(found);
        self.context.metrics.count_error(&self.object, "contested");
        let target = survey.lever.status();
        let note = format!(
            "{} of {} {} was set to {asked} and is {found} now: somebody else writes it too. \
             kubectl get --show-managed-fields tells who; let only one of them write.",
            target.field, target.kind, target.name
        );
        warn!(
            namespace = self.object.namespace,
            name = self.object.name,
            asked = asked.0,
            found = found.0,
            "contested"
        );
        self.event(EventType::Warning, "ReplicasContested", &note).await;
    }

    /// Restores bounds that are overridden in an object that is not the lever any more.
    async fn give_back_others(&mut self, survey: &Survey, now: Timestamp) -> Result<(), Fault> {
        let target = survey.lever.status();
        let Some(old) = self.published().original_bounds.filter(|old| !old.is_of(&target)) else {
            return Ok(());
        };
        actuate::restore(&self.context.client, &self.object.namespace, &old.kind, &old.name).await?;
        self.note_bounds(None, now).await
    }

    /// Keeps in the status which bounds are overridden. Written before the bounds are: whoever comes after a death
    /// right after that write finds here what to give back.
    async fn note_bounds(&mut self, original: Option<OriginalBounds>, now: Timestamp) -> Result<(), Fault> {
        let mut next = self.published();
        if next.original_bounds == original {
            return Ok(());
        }
        next.original_bounds = original;
        self.publisher.publish(&self.context.client, &self.object, &next, now).await.map(|_| ())
    }

    /// Leaves a policy that is being deleted: bounds go back to what they were.
    pub(super) async fn finish(&mut self) -> Next {
        if !finalizer::is_ours(&self.resource) {
            return Next::Gone;
        }
        if !self.context.leadership.holds() {
            return Next::Soon;
        }
        match self.give_everything_back().await {
            Ok(()) => Next::Gone,
            Err(fault) => {
                self.context.metrics.count_error(&self.object, fault.kind.label());
                warn!(
                    namespace = self.object.namespace, name = self.object.name, error = %fault,
                    "the original bounds could not be restored"
                );
                self.event(EventType::Warning, "RestoreFailed", &fault.message).await;
                Next::Soon
            }
        }
    }

    async fn give_everything_back(&self) -> Result<(), Fault> {
        let (client, namespace) = (&self.context.client, &self.object.namespace);
        if let Some(old) = self.published().original_bounds
            && actuate::restore(client, namespace, &old.kind, &old.name).await?
        {
            let note = format!("{} {} has its own bounds back", old.kind, old.name);
            info!(namespace, name = self.object.name, kind = old.kind, target = old.name, "bounds restored");
            self.event(EventType::Normal, "BoundsRestored", &note).await;
        }
        finalizer::remove(client, &self.resource).await
    }
}

/// What to ask for at the lever: what was decided. Without trustworthy demand, bounds are not lowered, and only raised
/// to what the policy, schedules and memory ask for: between its bounds an HPA goes on by what it measures itself.
fn wanted(survey: &Survey, verdicts: &Verdicts, trusted: bool) -> Replicas {
    let desired = verdicts.outcome.desired;
    match &survey.lever {
        Lever::Scale(_) | Lever::Milvus(_) => desired,
        Lever::Hpa(_) | Lever::ScaledObject(_) if trusted || desired > survey.desired => desired,
        Lever::Hpa(_) | Lever::ScaledObject(_) => {
            let least = verdicts.min.max(verdicts.floor.unwrap_or_default());
            survey.lever.current().max(least.min(verdicts.rules.max))
        }
    }
}
