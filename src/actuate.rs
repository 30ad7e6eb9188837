//! What is scaled, as it is now, and how it is changed.
//!
//! [`survey`] reads the target and finds the one place where replicas are asked for, its [`Lever`]: the scale
//! subresource of a Deployment or StatefulSet, the bounds of an HPA or of the KEDA ScaledObject behind it, or a field
//! of the Milvus operator's resource. [`Lever::set`] writes there, and only there.
//!
//! | file | what it does |
//! |---|---|
//! | `workload` | Deployments and StatefulSets: how far they are, and the scale subresource |
//! | `hpa` | bounds of an HPA by server-side apply; finding the HPA of a workload |
//! | `scaled_object` | bounds of a KEDA ScaledObject |
//! | `milvus` | the Milvus operator's resource: plain, external (−1), groups, rollouts |
//! | `pods` | which pods serve, load, drain |
//! | `quantity` | resource limits as they are written |
//! | `bounds` | original bounds, kept while they are overridden |

mod bounds;
mod hpa;
mod milvus;
mod pods;
mod quantity;
mod scaled_object;
mod workload;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;

pub use bounds::{Bounds, ORIGINAL_BOUNDS};
pub use pods::{Pod, PodState};

use crate::decide::Reason;
use crate::observe::Known;
use crate::policy::status::{OriginalBounds, TargetStatus};
use crate::policy::{Target, TargetKind};
use crate::units::Replicas;

/// The field manager of everything that is written.
pub const MANAGER: &str = "milvus-autoscaler";

/// How long one request to the API server may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why something in the cluster could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// A sentence that says what, where and what to do.
    pub message: String,
}

/// Kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// What the policy names is not there.
    NotFound,
    /// The permission is missing.
    Forbidden,
    /// Somebody else wrote at the same time.
    Conflict,
    /// The API server refuses the write as invalid.
    Invalid,
    /// The API server asks for patience.
    Throttled,
    /// No answer in time.
    Timeout,
    /// Anything else between here and the API server.
    Unreachable,
    /// The object is there, and is not of a form that can be scaled.
    Unsuitable,
}

impl FaultKind {
    /// A stable code, used in conditions.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "TargetNotFound",
            Self::Forbidden => "Forbidden",
            Self::Conflict => "Conflict",
            Self::Invalid => "Refused",
            Self::Throttled => "Throttled",
            Self::Timeout => "Timeout",
            Self::Unreachable => "ApiServerUnreachable",
            Self::Unsuitable => "TargetUnsuitable",
        }
    }

    /// A stable label for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Unsuitable => "unsuitable",
        }
    }
}

impl Fault {
    /// A fault of `kind`.
    #[must_use]
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What an error of the client means while `what` was read or written.
    #[must_use]
    pub fn from_kube(what: &str, error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::new(
                FaultKind::Unreachable,
                format!("{what}: no answer from the API server: {error}"),
            );
        };
        let kind = match status.code {
            404 => FaultKind::NotFound,
            401 | 403 => FaultKind::Forbidden,
            409 => FaultKind::Conflict,
            400 | 422 => FaultKind::Invalid,
            429 => FaultKind::Throttled,
            _ => FaultKind::Unreachable,
        };
        Self::new(kind, format!("{what}: {} ({})", status.message, status.code))
    }
}

/// The answer to a request, or the fault, within [`REQUEST_TIMEOUT`].
///
/// # Errors
/// If there is no answer in time, or it is an error.
pub async fn bounded<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Fault::from_kube(what, &error)),
        Err(_) => {
            let seconds = REQUEST_TIMEOUT.as_secs();
            let message = format!("{what}: no answer from the API server within {seconds} s");
            Err(Fault::new(FaultKind::Timeout, message))
        }
    }
}

/// Like [`bounded`], and `None` for what is not there.
pub(crate) async fn found<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, Fault> {
    match bounded(what, request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Where replicas are asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Lever {
    /// The scale subresource of a workload.
    Scale(workload::Workload),
    /// The bounds of an HPA.
    Hpa(hpa::HpaBounds),
    /// The bounds of a KEDA ScaledObject.
    ScaledObject(scaled_object::ScaledObjectBounds),
    /// A field of the Milvus operator's resource.
    Milvus(milvus::MilvusField),
}

impl Lever {
    /// It for the status.
    #[must_use]
    pub fn status(&self) -> TargetStatus {
        let (kind, name, field) = match self {
            Self::Scale(workload) => (workload.kind.as_str(), &workload.name, "spec.replicas".to_owned()),
            Self::Hpa(hpa) => ("HorizontalPodAutoscaler", &hpa.name, "spec.minReplicas".to_owned()),
            Self::ScaledObject(object) => ("ScaledObject", &object.name, "spec.minReplicaCount".to_owned()),
            Self::Milvus(field) => ("Milvus", &field.name, field.path()),
        };
        TargetStatus { kind: kind.to_owned(), name: name.clone(), field }
    }

    /// What is asked for there now; the lower bound where bounds are set.
    #[must_use]
    pub fn current(&self) -> Replicas {
        match self {
            Self::Scale(workload) => workload.replicas,
            Self::Hpa(hpa) => hpa.bounds.live.min,
            Self::ScaledObject(object) => object.bounds.live.min,
            Self::Milvus(field) => field.replicas,
        }
    }

    /// The bounds that are overridden here, where there are any.
    #[must_use]
    pub fn bounds(&self) -> Option<&Bounds> {
        match self {
            Self::Hpa(hpa) => Some(&hpa.bounds),
            Self::ScaledObject(object) => Some(&object.bounds),
            Self::Scale(_) | Self::Milvus(_) => None,
        }
    }

    /// The original bounds here for the status, where bounds are set.
    #[must_use]
    pub fn original_bounds(&self) -> Option<OriginalBounds> {
        let original = self.bounds()?.original;
        let TargetStatus { kind, name, .. } = self.status();
        let count = |bound: Option<u32>| bound.and_then(|bound| i32::try_from(bound).ok());
        let (min_replicas, max_replicas) = (count(original.min_replicas), count(original.max_replicas));
        Some(OriginalBounds { kind, name, min_replicas, max_replicas })
    }

    /// Whether asking for `replicas` here would change anything.
    #[must_use]
    pub fn would_change(&self, replicas: Replicas) -> bool {
        match self.bounds() {
            Some(bounds) => bounds.wanted(replicas) != bounds.live,
            None => replicas != self.current(),
        }
    }

    /// Asks for `replicas`, and changes nothing else. To be called only if [`Lever::would_change`].
    ///
    /// # Errors
    /// If the API server refuses it or does not answer in time.
    pub async fn set(&self, client: &Client, namespace: &str, replicas: Replicas) -> Result<(), Fault> {
        match self {
            Self::Scale(workload) => workload.scale(client, namespace, replicas).await,
            Self::Hpa(hpa) => hpa.set(client, namespace, replicas).await,
            Self::ScaledObject(object) => object.set(client, namespace, replicas).await,
            Self::Milvus(field) => field.set(client, namespace, replicas).await,
        }
    }
}

/// The target as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Where replicas are asked for.
    pub lever: Lever,
    /// Replicas asked for, by whoever asks for most.
    pub desired: Replicas,
    /// Its pods that are not yet gone.
    pub pods: Vec<Pod>,
    /// Whether a rollout is in progress.
    pub rolling: bool,
    /// What its pods tell of the Milvus.
    pub known: Known,
    /// Why nothing may be written now, whatever is decided.
    pub frozen: Option<Reason>,
}

impl Survey {
    /// A target of which only its size is known, where there is no cluster to look at: all replicas serve.
    #[must_use]
    pub fn assumed(target: &Target, replicas: Replicas) -> Self {
        let name = target.name.clone();
        let workload = |kind| workload::Workload {
            kind,
            name: name.clone(),
            replicas,
            proxies: None,
            selector: String::new(),
            rolling: false,
        };
        let lever = match target.kind {
            TargetKind::Deployment => Lever::Scale(workload(workload::Kind::Deployment)),
            TargetKind::StatefulSet => Lever::Scale(workload(workload::Kind::StatefulSet)),
            TargetKind::Milvus => Lever::Milvus(milvus::MilvusField { name, group: None, replicas }),
        };
        let pod = Pod { created: Timestamp::MIN, state: PodState::Ready };
        Self {
            lever,
            desired: replicas,
            pods: vec![pod; replicas.0 as usize],
            rolling: false,
            known: Known::default(),
            frozen: None,
        }
    }

    /// Pods that are Ready.
    #[must_use]
    pub fn ready(&self) -> Replicas {
        self.count(PodState::Ready).min(self.desired)
    }

    /// Pods that are ending.
    #[must_use]
    pub fn draining(&self) -> Replicas {
        self.count(PodState::Ending)
    }

    fn count(&self, state: PodState) -> Replicas {
        let count = self.pods.iter().filter(|pod| pod.state == state).count();
        Replicas(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Replicas that help, and for each of the others in how many steps it will: a new replica helps only once
    /// segments have moved to it, a lead time after it was asked for.
    #[must_use]
    pub fn helping(
        &self,
        now: Timestamp,
        lead: SignedDuration,
        step: SignedDuration,
    ) -> (Replicas, Vec<usize>) {
        let mut waits: Vec<usize> = Vec::new();
        let mut helping = 0_u32;
        let mut known = 0_u32;
        for pod in self.pods.iter().filter(|pod| pod.state != PodState::Ending).take(self.desired.0 as usize)
        {
            known += 1;
            let rest = lead - now.duration_since(pod.created);
            if pod.state == PodState::Ready && rest <= SignedDuration::ZERO {
                helping += 1;
            } else {
                waits.push(steps(rest, step).max(1));
            }
        }
        let unborn = self.desired.0.saturating_sub(known) as usize;
        waits.extend(std::iter::repeat_n(steps(lead, step).max(1), unborn));
        waits.sort_unstable();
        (Replicas(helping), waits)
    }

    /// Why nothing may be taken away now.
    #[must_use]
    pub fn guards(&self, now: Timestamp, lead: SignedDuration) -> Vec<Reason> {
        let mut guards = Vec::new();
        if self.rolling {
            guards.push(Reason::new("RolloutInProgress", "A rollout is in progress: nothing is taken away."));
        }
        let draining = self.draining();
        if draining > Replicas(0) {
            let message =
                format!("{draining} QueryNodes are still draining: the next scale-in waits for them.");
            guards.push(Reason::new("Draining", message));
        }
        // Replicas that never become ready must not hold for ever.
        let patience = lead * 2;
        let coming = self.pods.iter().filter(|pod| pod.state == PodState::Starting);
        let coming = coming.filter(|pod| now.duration_since(pod.created) < patience).count();
        if coming > 0 {
            let message = format!("{coming} QueryNodes are not ready yet: nothing is taken away.");
            guards.push(Reason::new("TargetUnready", message));
        }
        guards
    }
}

/// Whole steps in `duration`, rounded up.
fn steps(duration: SignedDuration, step: SignedDuration) -> usize {
    let step = step.as_secs().max(1);
    usize::try_from((duration.as_secs().max(0) + step - 1) / step).unwrap_or(usize::MAX)
}

/// Reads the target and finds where its replicas are asked for.
///
/// # Errors
/// If the target is not there, cannot be read, or cannot be scaled.
pub async fn survey(
    client: &Client,
    namespace: &str,
    target: &Target,
    hpa: Option<&str>,
) -> Result<Survey, Fault> {
    match target.kind {
        TargetKind::Deployment => {
            of_workload(client, namespace, workload::Kind::Deployment, &target.name, hpa).await
        }
        TargetKind::StatefulSet => {
            of_workload(client, namespace, workload::Kind::StatefulSet, &target.name, hpa).await
        }
        TargetKind::Milvus => {
            milvus::survey(client, namespace, &target.name, target.query_node_group.as_deref(), hpa).await
        }
    }
}

/// The survey of a workload that nobody but an autoscaler owns.
async fn of_workload(
    client: &Client,
    namespace: &str,
    kind: workload::Kind,
    name: &str,
    hpa: Option<&str>,
) -> Result<Survey, Fault> {
    let workload = workload::read(client, namespace, kind, name).await?;
    let (pods, known) = pods::list(client, namespace, &workload.selector).await?;
    let ready_proxies = pods::ready_proxies(client, namespace, workload.proxies.as_deref()).await?;
    let autoscaler = hpa::find(client, namespace, &workload, hpa).await?;
    let frozen = (workload.replicas == Replicas(0)).then(|| {
        let message = format!(
            "{} {name} was scaled to 0, which switches autoscaling off: scale it to 1 or more to switch it on.",
            kind.as_str()
        );
        Reason::new("TargetAtZero", message)
    });
    let (desired, rolling) = (workload.replicas, workload.rolling);
    let lever = match autoscaler {
        Some(hpa) => hpa.lever(client, namespace).await?,
        None => Lever::Scale(workload),
    };
    let desired = if lever.bounds().is_some() { desired.max(lever.current()) } else { desired };
    let known = Known { ready_proxies, ..known };
    Ok(Survey { lever, desired, pods, rolling, known, frozen })
}

/// Gives an HPA or ScaledObject its original bounds back. Whether there was anything to give back.
///
/// # Errors
/// If it cannot be read or written.
pub async fn restore(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<bool, Fault> {
    match kind {
        "ScaledObject" => scaled_object::restore(client, namespace, name).await,
        _ => hpa::restore(client, namespace, name).await,
    }
}

#[cfg(test)]
pub(crate) mod mock;
#[cfg(test)]
mod tests;
