//! `autoscaler recommend`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use kube::api::Api;
use kube::{Client as Kube, Config, ResourceExt};
use serde_json::json;

use super::cluster::{self, Cluster};
use super::prometheus::{Access, failure};
use super::values::Format;
use super::{Failure, values};
use crate::actuate::{Survey, bounded};
use crate::controller::load::OneServer;
use crate::controller::{Clock, RealTime, Rehearsal, rehearse};
use crate::observe::prometheus::Client;
use crate::observe::{Known, Queries};
use crate::policy::status::MilvusAutoscalerStatus;
use crate::policy::{ClusterPolicy, MilvusAutoscaler};
use crate::recommend::Recommendation;
use crate::telemetry::{self, LogFormat};
use crate::units::Replicas;

const EXAMPLES: &str = "\
Examples:
  What the controller would do now, and why:
    autoscaler recommend --policy policy.yaml
  Without a cluster, for the QueryNodes that Prometheus knows, or for three:
    autoscaler recommend --policy policy.yaml --prometheus http://localhost:9090
    autoscaler recommend --policy policy.yaml --prometheus http://localhost:9090 --current 3
  The status that the controller would write, for a program:
    autoscaler recommend --policy policy.yaml --format json | jq .status.desiredReplicas

This is one cycle of the controller that writes nothing: the same code, on the same data.
What it remembers of earlier cycles (stabilisation, rate limits, its own history) is known
where the policy is in the cluster.";

/// What the controller would do now, and why: one cycle that writes nothing
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "With --help: examples and details.")]
pub(super) struct Arguments {
    /// Policy (a MilvusAutoscaler) to decide by
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// Print lines for people or JSON for programs
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,

    /// QueryNodes that run now, so that no cluster is looked at [default: as the cluster says, or Prometheus]
    #[arg(long, value_name = "NUMBER", value_parser = values::replicas())]
    current: Option<u32>,

    /// Where the controller runs, and keeps its history
    #[arg(long, value_name = "NAMESPACE", default_value = "milvus-autoscaler")]
    own_namespace: String,

    #[command(flatten)]
    access: Access,
}

/// Rehearses a cycle and prints what it came to.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    telemetry::start_logs(LogFormat::Text);
    let (resource, policy) = ClusterPolicy::read_with_resource(&arguments.policy).map_err(Failure::input)?;
    let now = RealTime.now();
    let (status, seen) = super::runtime()?.block_on(decide(arguments, resource, &policy))?;
    let recommendation = Recommendation { at: now, policy: &policy, seen, status: &status };
    let text = match arguments.format {
        Format::Table => recommendation.render(),
        Format::Json => json(&recommendation)?,
    };
    super::print(&text)?;
    unanswered(&status)
}

fn json(recommendation: &Recommendation<'_>) -> Result<String, Failure> {
    let Recommendation { at, seen, status, .. } = recommendation;
    let report = json!({"at": at, "currentReplicasFrom": seen, "status": status});
    let text = serde_json::to_string_pretty(&report).context("the report").map_err(Failure::Outside)?;
    Ok(text + "\n")
}

/// A Prometheus that does not answer is a fault outside, though the controller has an answer to it: to hold.
fn unanswered(status: &MilvusAutoscalerStatus) -> Result<(), Failure> {
    let fresh = status.conditions.iter().find(|condition| condition.type_ == "MetricsFresh");
    match fresh {
        Some(fresh) if fresh.reason.starts_with("Prometheus") => {
            Err(Failure::Outside(anyhow!("{}", fresh.message)))
        }
        _ => Ok(()),
    }
}

/// The status that the controller would write, and how the replicas that run now are known.
async fn decide(
    arguments: &Arguments,
    mut resource: MilvusAutoscaler,
    policy: &ClusterPolicy,
) -> Result<(MilvusAutoscalerStatus, String), Failure> {
    let found = cluster::find(None).await;
    let client = arguments.access.of_policy(policy, found.as_ref().map_err(String::as_str)).await?;
    let cluster = found.as_ref().ok().filter(|_| arguments.current.is_none());
    let (survey, seen) = match (cluster, arguments.current) {
        (Some(cluster), _) => {
            remember(&mut resource, cluster).await;
            (None, "as the cluster says".to_owned())
        }
        (None, Some(current)) => (Some(Replicas(current)), "as --current says".to_owned()),
        (None, None) => {
            let scraped = scraped(&client, policy).await?;
            (Some(scraped), "as Prometheus scrapes; no cluster".to_owned())
        }
    };
    let rehearsal = Rehearsal {
        client: match cluster {
            Some(cluster) => cluster.client.clone(),
            None => nowhere()?,
        },
        resource,
        loads: Arc::new(OneServer(client)),
        own_namespace: arguments.own_namespace.clone(),
        survey: survey.map(|replicas| Survey::assumed(&policy.target, replicas)),
        clock: Arc::new(RealTime),
    };
    let status = rehearse(rehearsal).await.map_err(|reason| {
        let mend = "correct spec.scaleTargetRef, or give --current to leave the cluster out";
        Failure::Outside(anyhow!("{}: {}; {mend}", reason.code, reason.message))
    })?;
    Ok((status, seen))
}

/// Takes over the status and annotations that the policy has in the cluster, if it is there.
async fn remember(resource: &mut MilvusAutoscaler, cluster: &Cluster) {
    let namespace = resource.namespace().unwrap_or_else(|| cluster.namespace.clone());
    resource.metadata.namespace = Some(namespace.clone());
    let api: Api<MilvusAutoscaler> = Api::namespaced(cluster.client.clone(), &namespace);
    let name = resource.name_any();
    if name.is_empty() {
        return;
    }
    if let Ok(live) = bounded("MilvusAutoscaler", api.get(&name)).await {
        resource.status = live.status;
        resource.metadata.annotations = live.metadata.annotations;
    }
}

/// The QueryNodes that Prometheus scrapes.
async fn scraped(client: &Client, policy: &ClusterPolicy) -> Result<Replicas, Failure> {
    let queries = Queries::new(policy, None);
    let stale_after = policy.prometheus.stale_after;
    let observation = client.observe(&queries, stale_after, &Known::default()).await.map_err(failure)?;
    match u32::try_from(observation.query_nodes.len()) {
        Ok(count) if count > 0 => Ok(Replicas(count)),
        _ => Err(Failure::Outside(anyhow!(
            "Prometheus at {} scrapes no QueryNode with the labels {{{}}}: check spec.prometheus.matchers, set \
             KUBECONFIG, or say with --current how many run",
            client.url(),
            queries.selector()
        ))),
    }
}

/// A client that is never asked: a rehearsal with a survey looks at no cluster.
fn nowhere() -> Result<Kube, Failure> {
    let address = "http://no-cluster.invalid".parse().context("an address").map_err(Failure::Outside)?;
    Kube::try_from(Config::new(address)).context("a client").map_err(Failure::Outside)
}
