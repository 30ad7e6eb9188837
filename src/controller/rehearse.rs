//! One cycle of the controller that writes nothing: what it would do now, and why.

use std::sync::Arc;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::Semaphore;

use super::clock::Clock;
use super::keeper::{Context, Keeper};
use super::lease::Leadership;
use super::load::Loads;
use super::state::Store;
use crate::actuate::{MANAGER, Survey};
use crate::decide::Reason;
use crate::policy::MilvusAutoscaler;
use crate::policy::status::MilvusAutoscalerStatus;
use crate::telemetry::Metrics;

/// What a cycle is rehearsed with.
pub struct Rehearsal {
    /// The cluster; with a `survey` it is not asked.
    pub client: Client,
    /// The policy, with its status and annotations where it is in the cluster.
    pub resource: MilvusAutoscaler,
    /// Finds the load that the policy means.
    pub loads: Arc<dyn Loads>,
    /// Where the controller keeps its history.
    pub own_namespace: String,
    /// Stands for the target where there is no cluster to look at.
    pub survey: Option<Survey>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// The status that the controller would write now. As it never leads, nothing is written.
///
/// # Errors
/// If the policy cannot be used, or the target cannot be looked at.
pub async fn rehearse(rehearsal: Rehearsal) -> Result<MilvusAutoscalerStatus, Reason> {
    let Rehearsal { client, resource, loads, own_namespace, survey, clock } = rehearsal;
    let now = clock.now();
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
    let context = Context {
        store: Store::new(client.clone(), own_namespace),
        metrics: Arc::new(Metrics::new()),
        leadership: Leadership::default(),
        recorder: Recorder::new(client.clone(), reporter),
        loads,
        clock,
        fits: Arc::new(Semaphore::new(1)),
        client,
    };
    Keeper::new(Arc::new(context), Arc::new(resource)).rehearse(survey, now).await
}
