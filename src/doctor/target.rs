//! What is scaled: that it is there, bounds, limits, grace period, the operator's slots.

use serde_json::Value;

use super::rights::Asked;
use super::{CLUSTER, Check, Facts, at, counted};
use crate::actuate::{Fault, FaultKind, Lever, Survey};
use crate::policy::text::duration_text;
use crate::policy::{Policy, TargetKind};
use jiff::SignedDuration;

/// The checks, in their order.
pub(super) const NAMES: [&str; 6] =
    ["target", "bounds", "memory-limit", "cpu-limit", "grace-period", "operator-slot"];

/// How long a QueryNode may take to give its segments away (`queryNode.gracefulStopTimeout`), unless it is set.
const GRACEFUL_STOP: i64 = 1800;
/// Time to end after that.
const MARGIN: i64 = 60;
/// The API server's value where none is set.
const DEFAULT_GRACE: i64 = 30;
/// The annotation with the active Deployment's number, and the label with a Deployment's own.
const ACTIVE: &str = "milvus.io/querynode-current-group-id";
const SLOT: &str = "milvus.io/querynode-group-id";

/// What the cluster says.
#[derive(Debug, Clone)]
pub struct ClusterFacts {
    /// The version of the API server.
    pub version: String,
    /// The namespace of the policy.
    pub namespace: String,
    /// The target as it is.
    pub survey: Result<Survey, Fault>,
    /// The workload whose pods are QueryNodes, as it is stored.
    pub workload: Option<Value>,
    /// The HPA, ScaledObject or Milvus in which replicas are asked for, where that is not the workload.
    pub lever: Option<Value>,
    /// The Milvus of the operator, if the workload or the policy belongs to one.
    pub milvus: Option<Value>,
    /// The other one of the operator's two Deployments.
    pub other_slot: Option<Value>,
    /// Proxies that are Ready, if they were found.
    pub proxies_ready: Option<usize>,
    /// Whether the resource `MilvusAutoscaler` is known there; `None` if that cannot be told.
    pub has_definition: Option<bool>,
    /// Whose permissions were asked for.
    pub user: String,
    /// The permissions that were asked for.
    pub rights: Vec<Asked>,
}

impl ClusterFacts {
    /// The container that runs the QueryNode, not those beside it.
    fn container(&self) -> Option<&Value> {
        let containers = at(self.workload.as_ref()?, "spec.template.spec.containers")?.as_array()?;
        let named = |part: &str| {
            containers.iter().find(|one| one["name"].as_str().is_some_and(|name| name.contains(part)))
        };
        named("querynode").or_else(|| named("milvus")).or_else(|| containers.first())
    }
}

pub(super) fn checks(facts: &Facts, cluster: &ClusterFacts) -> Vec<Check> {
    let policy = &facts.policy.policy;
    let mut checks = Vec::new();
    if cluster.has_definition == Some(false) {
        checks.push(Check::fail(
            CLUSTER,
            "definition",
            "the resource MilvusAutoscaler is not known there",
            "autoscaler crd | kubectl apply --server-side -f -",
        ));
    }
    checks.push(target(cluster));
    checks.push(bounds(policy, cluster));
    checks.push(memory_limit(cluster));
    checks.push(cpu_limit(policy, cluster));
    checks.push(grace_period(cluster));
    checks.push(operator_slot(facts, cluster));
    checks
}

fn target(cluster: &ClusterFacts) -> Check {
    const NAME: &str = "target";
    let survey = match &cluster.survey {
        Ok(survey) => survey,
        Err(fault) => {
            let mend = match fault.kind {
                FaultKind::NotFound => {
                    "correct spec.scaleTargetRef and hpaRef; they are looked for in the policy's namespace"
                }
                FaultKind::Forbidden => "apply deploy/autoscaler/rbac.yaml",
                _ => "",
            };
            return Check::fail(CLUSTER, NAME, fault.message.as_str(), mend);
        }
    };
    let lever = survey.lever.status();
    let place = format!("{} of {} {}/{}", lever.field, lever.kind, cluster.namespace, lever.name);
    let (desired, ready) = (survey.desired, survey.ready());
    if let Some(frozen) = &survey.frozen {
        return Check::fail(CLUSTER, NAME, format!("{place} is not written: {}", frozen.message), "");
    }
    if survey.rolling {
        let finding = format!("{place}: a rollout is in progress");
        return Check::warn(CLUSTER, NAME, finding, "nothing is taken away until it is done");
    }
    if ready < desired {
        let finding = format!("{place}: {ready} of {desired} replicas are ready");
        return Check::warn(
            CLUSTER,
            NAME,
            finding,
            "see `kubectl describe pod`: replicas that never start do not help",
        );
    }
    Check::pass(CLUSTER, NAME, format!("{place}: {}, all ready", counted(desired.0 as usize, "replica")))
}

fn bounds(policy: &Policy, cluster: &ClusterFacts) -> Check {
    const NAME: &str = "bounds";
    let Ok(survey) = &cluster.survey else {
        return Check::skip(CLUSTER, NAME, "the target cannot be looked at");
    };
    let (min, max, now) = (policy.min_replicas, policy.max_replicas, survey.desired);
    let range = format!("{min} to {max}");
    if let Some(bounds) = survey.lever.bounds()
        && bounds.live.max < min
    {
        let finding = format!(
            "the policy wants {range}, and {} allows {} at most",
            survey.lever.status().name,
            bounds.live.max
        );
        return Check::warn(CLUSTER, NAME, finding, "its upper bound is raised when the plan needs more");
    }
    if now < min || now > max {
        let finding = format!("{now} replicas run, outside of {range}");
        let mend = "the first cycle brings them within; change spec.minReplicas or spec.maxReplicas if it should not";
        return Check::warn(CLUSTER, NAME, finding, mend);
    }
    if min == max {
        let mend = "let spec.minReplicas and spec.maxReplicas differ";
        return Check::warn(
            CLUSTER,
            NAME,
            format!("{min} replicas at least and at most: nothing to scale"),
            mend,
        );
    }
    Check::pass(CLUSTER, NAME, format!("{}, within {range}", counted(now.0 as usize, "replica")))
}

/// A limit of the container, as it is written.
fn limit(cluster: &ClusterFacts, resource: &str) -> Option<String> {
    let limit = at(cluster.container()?, "resources.limits")?.get(resource)?;
    Some(limit.as_str().map_or_else(|| limit.to_string(), str::to_owned))
}

const NO_WORKLOAD: &str = "the workload of the QueryNodes was not found";

fn memory_limit(cluster: &ClusterFacts) -> Check {
    const NAME: &str = "memory-limit";
    match limit(cluster, "memory") {
        _ if cluster.workload.is_none() => Check::skip(CLUSTER, NAME, NO_WORKLOAD),
        Some(limit) => Check::pass(CLUSTER, NAME, limit),
        None => Check::fail(
            CLUSTER,
            NAME,
            "QueryNodes have none",
            "set resources.limits.memory: Milvus refuses to load what passes it, and the floor that keeps data in \
             memory is derived from it",
        ),
    }
}

fn cpu_limit(policy: &Policy, cluster: &ClusterFacts) -> Check {
    const NAME: &str = "cpu-limit";
    let mend = "set resources.limits.cpu: Milvus takes its concurrency from it";
    match limit(cluster, "cpu") {
        _ if cluster.workload.is_none() => Check::skip(CLUSTER, NAME, NO_WORKLOAD),
        Some(limit) => Check::pass(CLUSTER, NAME, limit),
        None if policy.capacity.is_some() => Check::warn(CLUSTER, NAME, "QueryNodes have none", mend),
        None => {
            let mend = format!("{mend}, and capacity is learned by it; or set spec.capacity");
            Check::fail(CLUSTER, NAME, "QueryNodes have none", mend)
        }
    }
}

/// Seconds that Milvus takes to stop at most, if the pod says so in its environment, where any key of Milvus's
/// configuration may stand.
fn graceful_stop(cluster: &ClusterFacts) -> Option<i64> {
    let variables = at(cluster.container()?, "env")?.as_array()?;
    let key = |name: &str| name.replace(['.', '_'], "").eq_ignore_ascii_case("queryNodegracefulStopTimeout");
    let variable = variables.iter().find(|variable| variable["name"].as_str().is_some_and(key))?;
    variable["value"].as_str()?.parse().ok()
}

fn grace_period(cluster: &ClusterFacts) -> Check {
    const NAME: &str = "grace-period";
    let Some(workload) = &cluster.workload else {
        return Check::skip(CLUSTER, NAME, NO_WORKLOAD);
    };
    let set = at(workload, "spec.template.spec.terminationGracePeriodSeconds").and_then(Value::as_i64);
    let (grace, stop) = (set.unwrap_or(DEFAULT_GRACE), graceful_stop(cluster).unwrap_or(GRACEFUL_STOP));
    let text = |seconds: i64| duration_text(SignedDuration::from_secs(seconds));
    let (had, needed) = (text(grace), text(stop));
    if grace >= stop {
        return Check::pass(CLUSTER, NAME, format!("{had}, and a drain takes {needed} at most"));
    }
    Check::fail(
        CLUSTER,
        NAME,
        format!("a QueryNode is killed after {had}, and a drain may take {needed}: searches fail meanwhile"),
        format!("set terminationGracePeriodSeconds: {} in its pod template", stop + MARGIN),
    )
}

fn operator_slot(facts: &Facts, cluster: &ClusterFacts) -> Check {
    const NAME: &str = "operator-slot";
    let Some(milvus) = &cluster.milvus else {
        return Check::pass(CLUSTER, NAME, "no Milvus operator is involved");
    };
    let name = at(milvus, "metadata.name").and_then(Value::as_str).unwrap_or_default();
    let active = milvus["metadata"]["annotations"][ACTIVE].as_str().unwrap_or("0");
    let own = cluster.workload.as_ref().and_then(|workload| workload["metadata"]["labels"][SLOT].as_str());
    let external = at(milvus, "spec.components.queryNode.replicas").and_then(Value::as_i64) == Some(-1);
    if facts.policy.target.kind != TargetKind::Milvus {
        if let Some(own) = own.filter(|own| *own != active) {
            return Check::fail(
                CLUSTER,
                NAME,
                format!("the target is the idle Deployment of Milvus {name}: {own}, and {active} is active"),
                format!(
                    "let spec.scaleTargetRef be {{kind: Milvus, name: {name}}}, which follows the active one"
                ),
            );
        }
        return Check::warn(
            CLUSTER,
            NAME,
            format!("the target is a Deployment of Milvus {name}, which changes at every rollout"),
            format!(
                "let spec.scaleTargetRef be {{kind: Milvus, name: {name}}}, which follows the active one"
            ),
        );
    }
    let left = cluster.other_slot.as_ref().and_then(|slot| at(slot, "spec.replicas")?.as_i64());
    if let Some(left) = left.filter(|left| *left > 0) {
        return Check::warn(
            CLUSTER,
            NAME,
            format!("the idle Deployment of Milvus {name} still has {left} replicas"),
            "wait for the end of the rollout; if none is under way, see the operator's log",
        );
    }
    let owner = match cluster.survey.as_ref().map(|survey| &survey.lever) {
        Ok(Lever::Milvus(_)) => "the operator sets the replicas of",
        _ if external => "replicas are left to others in",
        _ => "active is",
    };
    Check::pass(CLUSTER, NAME, format!("{owner} Deployment {active} of Milvus {name}"))
}
