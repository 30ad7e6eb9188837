//! `autoscaler run`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{ArgAction, Args};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::controller::{self, Options, load};
use crate::policy::text::DurationText;
use crate::telemetry::{self, LogFormat};

const EXAMPLES: &str = "\
Examples:
  In a cluster, for every namespace:
    autoscaler run
  From outside, with the current kubeconfig, for one namespace, alone:
    autoscaler run --namespace milvus --no-leader-election --log-format text

RUST_LOG sets the level of the log: error, warn, info, debug.";

/// Run the controller, in a cluster or with a kubeconfig
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "With --help: examples.")]
pub(super) struct Arguments {
    /// Keep the policies of this namespace only; may be given several times [default: every namespace]
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,

    /// Time between two cycles of a policy
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = interval)]
    interval: Duration,

    /// Where metrics and health are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,

    /// Name of the Lease that makes one of several replicas the writer
    #[arg(long, value_name = "NAME", default_value = "milvus-autoscaler")]
    lease: String,

    /// Write without a Lease: for one process alone
    #[arg(long, action = ArgAction::SetTrue)]
    no_leader_election: bool,

    /// The controller's own namespace, for the Lease and the history [default: that of the kubeconfig]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    own_namespace: Option<String>,

    /// What tells this process from its siblings [default: the host's name]
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,

    /// How log lines are written
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    log_format: LogFormat,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = DurationText(text.to_owned()).parse()?;
    let interval = interval.unsigned_abs();
    if (Duration::from_secs(1)..=Duration::from_secs(300)).contains(&interval) {
        Ok(interval)
    } else {
        Err("must be from 1s to 5m".to_owned())
    }
}

/// Runs the controller until it is told to stop.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    telemetry::start_logs(arguments.log_format);
    super::runtime()?.block_on(control(arguments)).map_err(Failure::Outside)
}

async fn control(arguments: &Arguments) -> anyhow::Result<()> {
    // A second provider, as in tests, changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut config = Config::infer()
        .await
        .context("no cluster: set KUBECONFIG, or run in a pod with a service account")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // Retries are the cycles' own business: they are bounded, and know who leads.
    config.default_retry = false;
    let own_namespace = arguments.own_namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the cluster's configuration cannot be used")?;
    let options = Options {
        namespaces: arguments.namespaces.clone(),
        own_namespace,
        identity: identity(arguments.identity.as_deref()),
        lease: (!arguments.no_leader_election).then(|| arguments.lease.clone()),
        interval: arguments.interval,
        listen: arguments.listen,
        loads: Arc::new(load::Servers::default()),
        clock: Arc::new(controller::RealTime),
    };
    controller::run(client, options, told_to_stop()).await
}

/// A name that is this process's alone, even after a restart in the same pod.
fn identity(name: Option<&str>) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.map(str::to_owned).or_else(host).unwrap_or_else(|| "autoscaler".to_owned());
    format!("{}_{:08x}", name.trim(), rand::random::<u32>())
}

/// Resolves on SIGTERM or Ctrl-C.
async fn told_to_stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
