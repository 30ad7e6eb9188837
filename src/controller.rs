//! The controller: watches policies and keeps each one's target ahead of its load.
//!
//! One task watches the policies, one keeps each of them ([`keeper`]), one takes part in the election ([`lease`]),
//! one serves metrics and health. A policy's fault stays in its own task.

mod clock;
mod finalizer;
mod history;
mod keeper;
mod learner;
pub mod lease;
pub mod load;
mod outlook;
mod pause;
mod publish;
mod rehearse;
mod sighting;
mod state;
mod status;
mod supervise;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::info;

pub use clock::{Clock, RealTime};
pub use finalizer::FINALIZER;
pub use pause::{PAUSED_UNTIL, Pause, pause};
pub use rehearse::{Rehearsal, rehearse};

use self::keeper::Context;
use self::lease::{Candidate, Leadership};
use self::load::Loads;
use self::state::Store;
use crate::actuate::MANAGER;
use crate::telemetry::{self, Health, Metrics};

/// How many histories are read and learned at once.
const FITS: usize = 2;

/// How a controller runs.
pub struct Options {
    /// The namespaces whose policies it keeps; none: all.
    pub namespaces: Vec<String>,
    /// The controller's own namespace: the Lease and the history are there.
    pub own_namespace: String,
    /// What makes this process different from its siblings.
    pub identity: String,
    /// The Lease that makes one process the writer; `None`: it is alone.
    pub lease: Option<String>,
    /// Time between two cycles of one policy.
    pub interval: Duration,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Finds the load that a policy means.
    pub loads: Arc<dyn Loads>,
    /// The time that cycles live in.
    pub clock: Arc<dyn Clock>,
}

/// Runs until `shutdown`: then every policy's history is put away and the Lease is given back.
///
/// # Errors
/// If metrics cannot be served.
pub async fn run(
    client: Client,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!("cannot listen on {}: choose another address with --listen", options.listen)
    })?;
    let address = listener.local_addr().unwrap_or(options.listen);
    info!(%address, identity = options.identity, namespaces = ?options.namespaces, "started");

    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        shutdown.await;
        info!("stopping");
        stop.send_replace(true);
    });
    let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::default()));
    let pages = telemetry::router(Arc::clone(&metrics), Arc::clone(&health));
    // The pages stay until the work is done.
    let (done, work_done) = watch::channel(false);
    let server = tokio::spawn(telemetry::serve(listener, pages, until(work_done)));

    let (resigning, resign) = watch::channel(false);
    let (leadership, election) = elect(&client, &options, &metrics, until(resign));
    let context = Arc::new(Context {
        store: Store::new(client.clone(), options.own_namespace.clone()),
        recorder: Recorder::new(client.clone(), reporter(&options)),
        loads: Arc::clone(&options.loads),
        clock: Arc::clone(&options.clock),
        fits: Arc::new(Semaphore::new(FITS)),
        client,
        metrics,
        leadership,
    });
    supervise::supervise(&context, &options, &health, stopped).await;
    resigning.send_replace(true);
    if let Some(election) = election {
        drop(election.await);
    }
    done.send_replace(true);
    server.await.context("the server of metrics stopped")?.context("metrics cannot be served")
}

/// Resolves when the channel says so, or is gone.
async fn until(mut said: watch::Receiver<bool>) {
    drop(said.wait_for(|said| *said).await);
}

fn reporter(options: &Options) -> Reporter {
    Reporter { controller: MANAGER.to_owned(), instance: Some(options.identity.clone()) }
}

/// Takes part in the election, if there is one.
fn elect(
    client: &Client,
    options: &Options,
    metrics: &Arc<Metrics>,
    resign: impl Future<Output = ()> + Send + 'static,
) -> (Leadership, Option<tokio::task::JoinHandle<()>>) {
    let Some(lease) = &options.lease else {
        metrics.set_leader(true);
        return (Leadership::always(), None);
    };
    let candidate = Candidate::new(client, &options.own_namespace, lease, options.identity.clone());
    let leadership = candidate.leadership();
    let metrics = Arc::clone(metrics);
    let election = candidate.run(resign, move |leads| metrics.set_leader(leads));
    (leadership, Some(tokio::spawn(election)))
}

#[cfg(test)]
mod tests;
