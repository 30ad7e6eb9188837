//! One policy, kept: its state, and its cycle.
//!
//! A cycle has five phases, top to bottom in [`Keeper::cycle`]: **observe** the target and the load, **learn** from
//! what was seen, **decide** with the pure core, **actuate** where that changes anything (`keeper/lever.rs`), and
//! **tell** in status, events and metrics (`keeper/tell.rs`). Only observe, actuate and tell need a client; only the
//! leader writes.

mod lever;
mod tell;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::Recorder;
use kube::{Client, ResourceExt};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::clock::Clock;
use super::history::History;
use super::learner::Learner;
use super::lease::Leadership;
use super::load::{Load, Loads};
use super::outlook::{Outlook, Purpose};
use super::pause::pause;
use super::publish::Publisher;
use super::sighting::{Sighting, pressure};
use super::state::{Kept, Remembered, Store};
use super::status;
use crate::actuate::{self, Fault, Survey};
use crate::capacity::Capacity;
use crate::decide::{Decision, Fleet, Outcome, Reason, Rules, Situation, decide};
use crate::forecast::Forecast;
use crate::observe::Known;
use crate::policy::status::MilvusAutoscalerStatus;
use crate::policy::{ClusterPolicy, MilvusAutoscaler, Policy, Terms};
use crate::telemetry::{Metrics, Object};
use crate::units::{Qps, Replicas};

/// How long one observation of Prometheus may hold up a cycle.
const OBSERVING: Duration = Duration::from_secs(12);
/// How often the history is put away.
const KEEPING: SignedDuration = SignedDuration::from_mins(10);
/// A minute, in which plans are made.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// What all keepers share.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) store: Store,
    pub(super) metrics: Arc<Metrics>,
    pub(super) leadership: Leadership,
    pub(super) recorder: Recorder,
    pub(super) loads: Arc<dyn Loads>,
    pub(super) clock: Arc<dyn Clock>,
    /// How many histories are read at once.
    pub(super) fits: Arc<Semaphore>,
}

/// When the next cycle should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At its usual time.
    Regular,
    /// Soon: something failed that may succeed in a moment.
    Soon,
    /// Never: the policy is gone.
    Gone,
}

/// A policy in use, with its connection to Prometheus.
struct InUse {
    policy: Arc<ClusterPolicy>,
    generation: Option<i64>,
    load: Result<Arc<dyn Load>, Reason>,
    connected_at: Timestamp,
}

/// Keeps one policy.
pub(super) struct Keeper {
    context: Arc<Context>,
    object: Object,
    resource: Arc<MilvusAutoscaler>,
    in_use: Option<InUse>,
    learner: Learner,
    outlook: Option<Outlook>,
    /// Why what an earlier run has kept is not known yet.
    unread: Option<Reason>,
    remembered: Remembered,
    publisher: Publisher,
    saved: f64,
    cycled_at: Option<Timestamp>,
    kept_at: Timestamp,
    /// Cycles in a row with latency above its target.
    latency_high_for: u32,
    /// What this process asked for last, to notice others who ask too.
    asked: Option<Replicas>,
}

/// What was decided in one cycle.
struct Verdicts {
    outcome: Outcome,
    rules: Rules,
    /// The fewest replicas, by policy and active schedules.
    min: Replicas,
    forecast: Option<Forecast>,
    /// What memory and in-memory replicas need.
    floor: Option<Replicas>,
    active: Vec<String>,
    capacity: Result<Capacity, Reason>,
    /// Whether capacity is known well enough to judge the past by it.
    sure: bool,
    lead: SignedDuration,
}

impl Keeper {
    pub(super) fn new(context: Arc<Context>, resource: Arc<MilvusAutoscaler>) -> Self {
        let object =
            Object { namespace: resource.namespace().unwrap_or_default(), name: resource.name_any() };
        context.metrics.begin(&object);
        let status = resource.status.clone().unwrap_or_default();
        Self {
            context,
            object,
            in_use: None,
            learner: Learner::default(),
            outlook: None,
            unread: None,
            remembered: Remembered::default(),
            saved: status.saved_replica_hours.unwrap_or(0.0),
            publisher: Publisher::default(),
            cycled_at: None,
            kept_at: Timestamp::MIN,
            latency_high_for: 0,
            asked: None,
            resource,
        }
    }

    /// Takes a new version of the resource. Whether what it asks for has changed.
    pub(super) fn update(&mut self, resource: Arc<MilvusAutoscaler>) -> bool {
        let meaning = |resource: &MilvusAutoscaler| {
            let metadata = &resource.metadata;
            (metadata.generation, metadata.deletion_timestamp.is_some(), metadata.annotations.clone())
        };
        let changed = meaning(&self.resource) != meaning(&resource);
        self.resource = resource;
        changed
    }

    /// Notes that a cycle did not end in time.
    pub(super) fn note_timeout(&self) {
        self.context.metrics.count_error(&self.object, "timeout");
        warn!(namespace = self.object.namespace, name = self.object.name, "a cycle did not end in time");
    }

    /// Takes everything about the policy out of the metrics.
    pub(super) fn forget(&self) {
        self.context.metrics.forget(&self.object);
    }

    /// One cycle.
    pub(super) async fn cycle(&mut self, now: Timestamp) -> Next {
        let began = Instant::now();
        if self.resource.metadata.deletion_timestamp.is_some() {
            return self.finish().await;
        }
        self.restore_state(now).await;
        self.follow_leader();
        let next = match self.policy(now).await {
            Ok(policy) => self.keep(&policy, now).await,
            Err(reason) => self.refuse(&reason, now).await,
        };
        self.cycled_at = Some(now);
        self.context.metrics.observe_cycle(began.elapsed());
        next
    }

    /// The phases of a cycle.
    async fn keep(&mut self, policy: &Arc<ClusterPolicy>, now: Timestamp) -> Next {
        let (survey, sighting) = self.observe(policy).await;
        self.learn(policy, survey.as_ref().ok(), &sighting, now).await;
        let (survey, mut next) = match survey {
            Ok(survey) => (survey, Next::Regular),
            Err(fault) => {
                self.tell_fault(&fault, &sighting, policy, now).await;
                return Next::Soon;
            }
        };
        let verdicts = self.decide(policy, &survey, &sighting, now);
        let pause = pause(&self.resource, now);
        let written = self.actuate(policy, &survey, &sighting, &verdicts, pause.as_ref(), now).await;
        if written.is_err() {
            next = Next::Soon;
        }
        self.tell(policy, &survey, &sighting, &verdicts, pause.as_ref(), written, now).await;
        self.put_away(now).await;
        next
    }

    /// A cycle that writes nothing: the status that it comes to. `survey` stands for the target where there is no
    /// cluster to look at.
    pub(super) async fn rehearse(
        &mut self,
        survey: Option<Survey>,
        now: Timestamp,
    ) -> Result<MilvusAutoscalerStatus, Reason> {
        // What an earlier run has kept is in the cluster.
        if survey.is_none() {
            self.restore_state(now).await;
        }
        self.outlook.get_or_insert_with(|| Outlook::new(History::new(now)));
        let policy = self.policy(now).await?;
        let (survey, sighting) = match survey {
            Some(survey) => (Ok(survey), self.sight(&policy.policy, Known::default()).await),
            None => self.observe(&policy).await,
        };
        let survey = survey.map_err(|fault| Reason::new(fault.kind.code(), fault.message))?;
        if let Some(observation) = &sighting.observation {
            self.learner.observe(&policy.policy, &survey, observation, now);
            self.learner.glimpse(&policy.policy, &survey, observation);
        }
        self.look_ahead(&policy, &sighting, now).await;
        if let Some(outlook) = &mut self.outlook {
            outlook.settle().await;
        }
        self.look_ahead(&policy, &sighting, now).await;
        // One look must do: latency that is high now is taken to have been high before.
        self.latency_high_for = 1;
        let verdicts = self.decide(&policy, &survey, &sighting, now);
        let pause = pause(&self.resource, now);
        Ok(self.status(&policy, &survey, &sighting, &verdicts, pause.as_ref(), &Ok(None), now))
    }

    // ── observe ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// The target, and then the load: what should be scraped is known from the target.
    async fn observe(&self, policy: &ClusterPolicy) -> (Result<Survey, Fault>, Sighting) {
        let namespace = &self.object.namespace;
        let survey =
            actuate::survey(&self.context.client, namespace, &policy.target, policy.hpa.as_deref()).await;
        let known = survey.as_ref().map(|survey| survey.known).unwrap_or_default();
        (survey, self.sight(&policy.policy, known).await)
    }

    async fn sight(&self, policy: &Policy, known: Known) -> Sighting {
        let Some(in_use) = &self.in_use else {
            return Sighting::none(Reason::new("PrometheusUnreachable", "There is no connection yet."));
        };
        let load = match &in_use.load {
            Ok(load) => load,
            Err(reason) => return Sighting::none(reason.clone()),
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(OBSERVING, load.observe(known)).await;
        self.context.metrics.observe_query(began.elapsed());
        let sighting = match answer {
            Ok(Ok(observation)) => Sighting::of(observation, policy),
            Ok(Err(reason)) => Sighting::none(reason),
            Err(_) => {
                let message = format!("Prometheus did not answer within {} s.", OBSERVING.as_secs());
                Sighting::none(Reason::new("PrometheusTimeout", message))
            }
        };
        if let Err(reason) = &sighting.demand {
            self.context.metrics.count_error(&self.object, "metrics");
            debug!(
                namespace = self.object.namespace,
                name = self.object.name,
                reason = reason.code,
                "no demand"
            );
        }
        sighting
    }

    /// What the resource says, and the connection that it needs; as before if nothing has changed.
    async fn policy(&mut self, now: Timestamp) -> Result<Arc<ClusterPolicy>, Reason> {
        let generation = self.resource.metadata.generation;
        let known = self.in_use.as_ref().filter(|in_use| in_use.generation == generation);
        // Secrets change without the policy changing, so a connection does not last for ever.
        let lasts = |in_use: &InUse| in_use.load.is_ok() && now.duration_since(in_use.connected_at) < KEEPING;
        if let Some(in_use) = known.filter(|in_use| lasts(in_use)) {
            return Ok(Arc::clone(&in_use.policy));
        }
        let policy = ClusterPolicy::from_resource(&self.resource).map_err(|error| {
            let message = error.to_string().replace("policy: ", "");
            Reason::new("InvalidPolicy", message)
        })?;
        let policy = Arc::new(policy);
        if let Some(before) = &self.in_use {
            self.learner.adapt(&before.policy, &policy);
        }
        let connecting = self.context.loads.connect(&self.context.client, &self.object.namespace, &policy);
        let load = match tokio::time::timeout(OBSERVING, connecting).await {
            Ok(load) => load.map(Arc::from),
            Err(_) => Err(Reason::new("PrometheusTimeout", "The connection could not be made in time.")),
        };
        self.in_use = Some(InUse { policy: Arc::clone(&policy), generation, load, connected_at: now });
        Ok(policy)
    }

    // ── learn ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// What the fleet shows of itself, and the load.
    async fn learn(
        &mut self,
        policy: &ClusterPolicy,
        survey: Option<&Survey>,
        sighting: &Sighting,
        now: Timestamp,
    ) {
        // Whoever does not write goes by what the writer has learned.
        if let (Some(survey), Some(observation)) = (survey, &sighting.observation)
            && self.context.leadership.holds()
        {
            self.learner.observe(&policy.policy, survey, observation, now);
        }
        self.look_ahead(policy, sighting, now).await;
    }

    async fn look_ahead(&mut self, policy: &ClusterPolicy, sighting: &Sighting, now: Timestamp) {
        let purpose = Purpose {
            lead: self.learner.lead_time(&policy.policy),
            calendar: Arc::new(policy.policy.calendar.clone()),
            history: policy.policy.history,
        };
        let load = self.in_use.as_ref().and_then(|in_use| in_use.load.as_ref().ok());
        let Some(outlook) = &mut self.outlook else { return };
        let learning = outlook.advance(load, purpose, sighting.demand.is_ok(), now, &self.context.fits);
        // What is not learned in time is a gap.
        let _ = tokio::time::timeout(OBSERVING, learning).await;
    }

    // ── decide ───────────────────────────────────────────────────────────────────────────────────────────────────

    fn decide(
        &mut self,
        policy: &ClusterPolicy,
        survey: &Survey,
        sighting: &Sighting,
        now: Timestamp,
    ) -> Verdicts {
        let policy = &policy.policy;
        let capacity = self.learner.capacity(policy, now);
        let lead = self.learner.lead_time(policy);
        let forecast = self.outlook.as_ref().and_then(Outlook::forecast).filter(|_| capacity.is_ok());
        // What is not known is not used: there is neither a forecast nor a demand then.
        let assumed = Capacity::Linear { per_replica: Qps::clamped(1.0) };
        let terms = policy.terms(capacity.clone().unwrap_or(assumed), now);
        let mut guards = survey.guards(now, lead);
        guards.extend(sighting.guards.iter().cloned());
        let observed = sighting.observation.as_ref().map(|observation| observation.at);
        guards.extend(observed.and_then(|observed| self.learner.guard(observed)));
        let mut floors = self.learner.floors(policy, survey.desired);
        let floor = floors.iter().map(|floor| floor.replicas).max();
        floors.extend(self.learner.drain_floor(survey.desired));
        floors.extend(terms.floor);
        guards.extend(survey.frozen.clone());
        let (ready, arrivals) = survey.helping(now, lead, MINUTE);
        let is_high = sighting.latency.is_some_and(|latency| latency > 1.0);
        self.latency_high_for = if is_high { self.latency_high_for.saturating_add(1) } else { 0 };
        let pressure = pressure(sighting.latency, self.latency_high_for, ready);
        let situation = Situation {
            now,
            demand: sighting.demand.as_ref().ok().copied().filter(|_| capacity.is_ok()),
            forecast: forecast.as_ref(),
            fleet: Fleet { desired: survey.desired, ready, arrivals: &arrivals },
            floors: &floors,
            guards: &guards,
            pressure: pressure.as_ref(),
        };
        let mut outcome = decide(&terms.rules, &mut self.remembered.decisions, &situation);
        explain(&mut outcome, survey, sighting, capacity.as_ref().err(), &guards);
        let sure = self.learner.is_sure(policy, now);
        let Terms { rules, min, active, .. } = terms;
        Verdicts { outcome, rules, min, forecast, floor, active, capacity, sure, lead }
    }

    // ── state ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Reads what an earlier run has kept, once. Until that has succeeded there is no forecast, so nothing is taken
    /// away, and nothing is put away, which would replace what could not be read.
    async fn restore_state(&mut self, now: Timestamp) {
        if self.outlook.is_some() {
            return;
        }
        let kept = match self.context.store.load(&self.object.namespace, &self.object.name).await {
            Ok(kept) => kept,
            Err(fault) => {
                self.context.metrics.count_error(&self.object, fault.kind.label());
                warn!(
                    namespace = self.object.namespace, name = self.object.name, error = %fault,
                    "the history kept by an earlier run could not be read"
                );
                let message = format!("What an earlier run has kept could not be read: {fault}");
                self.unread = Some(Reason::new(fault.kind.code(), message));
                return;
            }
        };
        self.unread = None;
        let (history, remembered) =
            kept.map_or((None, Remembered::default()), |kept| (kept.history, kept.memory));
        self.remembered = remembered;
        self.outlook = Some(Outlook::new(history.unwrap_or_else(|| History::new(now))));
        self.kept_at = now;
        self.take_behavior();
        self.take_learned();
    }

    /// Takes over what the status remembers: it is newer than what was put away.
    fn take_behavior(&mut self) {
        let Some(status) = &self.resource.status else { return };
        if !status.behavior.is_empty() {
            let memory = std::mem::take(&mut self.remembered.decisions);
            self.remembered.decisions = memory.with_behavior(status.behavior.clone());
        }
        self.saved = status.saved_replica_hours.unwrap_or(self.saved);
    }

    /// Takes over what the status has learned.
    fn take_learned(&mut self) {
        if let Some(status) = &self.resource.status {
            self.learner.restore(status);
        }
    }

    /// Whoever does not write goes by what the writer remembers, so that a take-over changes nothing.
    fn follow_leader(&mut self) {
        if !self.context.leadership.holds() {
            self.take_behavior();
            self.take_learned();
            self.asked = None;
        }
    }

    /// Puts history and memory away, now and then.
    async fn put_away(&mut self, now: Timestamp) {
        if now.duration_since(self.kept_at) >= KEEPING {
            self.kept_at = now;
            self.put_away_now().await;
        }
    }

    /// Puts history and memory away.
    pub(super) async fn put_away_now(&mut self) {
        if !self.context.leadership.holds() || self.resource.metadata.deletion_timestamp.is_some() {
            return;
        }
        let Some(outlook) = &self.outlook else { return };
        let kept = Kept { history: Some(outlook.history().clone()), memory: self.remembered.clone() };
        if let Err(fault) = self.context.store.save(&self.object.namespace, &self.object.name, &kept).await {
            self.context.metrics.count_error(&self.object, fault.kind.label());
            warn!(
                namespace = self.object.namespace, name = self.object.name, error = %fault,
                "the history could not be put away"
            );
        }
    }

    /// The policy that is kept.
    pub(super) fn object(&self) -> &Object {
        &self.object
    }
}

/// Gives a hold the reason that people need to hear first.
fn explain(
    outcome: &mut Outcome,
    survey: &Survey,
    sighting: &Sighting,
    unknown: Option<&Reason>,
    guards: &[Reason],
) {
    let Decision::Hold { reason } = &mut outcome.decision else { return };
    if let Some(frozen) = &survey.frozen {
        *reason = frozen.clone();
    } else if let Err(missing) = &sighting.demand {
        *reason = Reason::new("MetricsMissing", format!("Held at {}: {}", survey.desired, missing.message));
    } else if let Some(unknown) = unknown {
        *reason = unknown.clone();
    } else if reason.code == "Steady"
        && let Some(guard) = guards.first()
    {
        debug!(reason = guard.code, "steady, with a guard up");
    }
}

fn last_reason(decision: &Decision) -> Reason {
    let steady = || Reason::new("Steady", "The replicas fit.");
    status::reasons(decision).last().cloned().unwrap_or_else(steady)
}
