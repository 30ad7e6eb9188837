//! Who else writes the number of replicas: two writers undo each other's work.

use serde_json::Value;

use super::{CLUSTER, Check, ClusterFacts, at};
use crate::actuate::{Lever, MANAGER};

/// The check.
pub(super) const NAME: &str = "other-writers";

/// Where a field manager's claim on replicas is found in `fieldsV1`, by the kind of object.
const FIELDS: [(&str, &str); 3] = [
    ("HorizontalPodAutoscaler", "f:spec.f:minReplicas"),
    ("ScaledObject", "f:spec.f:minReplicaCount"),
    ("Milvus", "f:spec.f:components.f:queryNode.f:replicas"),
];
const REPLICAS: &str = "f:spec.f:replicas";

/// What is known of a field manager by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    /// Argo CD, Flux or Fleet, which take back what they do not find in a repository.
    GitOps(&'static str),
    /// The operator, which takes back edits to its Deployments.
    Operator,
    /// Helm, which sets the value again at each upgrade.
    Helm,
    /// A person with kubectl.
    Person,
    /// KEDA's operator.
    Keda,
    /// The cluster's own bookkeeping, or ourselves.
    Harmless,
    Unknown,
}

impl Writer {
    fn of(manager: &str) -> Self {
        let has = |part: &str| manager.to_ascii_lowercase().contains(part);
        match manager {
            // An HPA that is there is the lever; what one has set before it went does no harm.
            MANAGER | "kube-controller-manager" => Self::Harmless,
            _ if has("argocd") || has("argo-cd") => Self::GitOps("Argo CD"),
            _ if has("kustomize-controller") || has("helm-controller") || has("flux") => Self::GitOps("Flux"),
            _ if has("fleet") => Self::GitOps("Fleet"),
            _ if has("milvus-operator") => Self::Operator,
            _ if has("keda") => Self::Keda,
            _ if has("helm") => Self::Helm,
            _ if has("kubectl") => Self::Person,
            _ => Self::Unknown,
        }
    }
}

/// The field with the number, as `fieldsV1` has it.
fn path(object: &Value) -> &'static str {
    let kind = object["kind"].as_str().unwrap_or_default();
    FIELDS.iter().find(|(known, _)| *known == kind).map_or(REPLICAS, |(_, path)| path)
}

/// Whoever has set the number in `object`.
fn managers(object: &Value) -> Vec<&str> {
    let path = path(object);
    let entries = at(object, "metadata.managedFields").and_then(Value::as_array);
    let owns = |entry: &&Value| path.split('.').try_fold(&entry["fieldsV1"], |v, key| v.get(key)).is_some();
    entries.into_iter().flatten().filter(owns).filter_map(|entry| entry["manager"].as_str()).collect()
}

pub(super) fn checks(cluster: &ClusterFacts) -> Vec<Check> {
    let lever = cluster.survey.as_ref().ok().map(|survey| &survey.lever);
    let Some(object) = cluster.lever.as_ref().or(cluster.workload.as_ref()) else {
        return vec![Check::skip(CLUSTER, NAME, "the target cannot be looked at")];
    };
    let place = place(object);
    let managers = managers(object);
    let complaints: Vec<Check> =
        managers.iter().filter_map(|manager| complaint(cluster, lever, &place, manager)).collect();
    if !complaints.is_empty() {
        return complaints;
    }
    let finding = match lever {
        Some(Lever::Hpa(hpa)) => {
            format!("HPA {} moves replicas between bounds, which the autoscaler sets", hpa.name)
        }
        Some(Lever::ScaledObject(object)) => {
            format!("KEDA moves replicas between bounds of {}, which the autoscaler sets", object.name)
        }
        Some(Lever::Scale(_) | Lever::Milvus(_)) | None => "none".to_owned(),
    };
    let is_ours = managers.contains(&MANAGER);
    vec![match (git_ops(object), applied_number(object)) {
        (Some(tool), true) => taken_back(&place, tool, "its manifest has the replicas"),
        // Whoever changes a field last is the only one who is known to have set it.
        (Some(tool), false) if is_ours => Check::warn(
            CLUSTER,
            NAME,
            format!(
                "{tool} manages {place}: if its manifest has the replicas, it takes back what is written"
            ),
            left_out(tool),
        ),
        (None, true) => by_a_person(&format!("the manifest last applied to {place} has the replicas")),
        _ => Check::pass(CLUSTER, NAME, finding),
    }]
}

fn place(object: &Value) -> String {
    let text = |path: &str| at(object, path).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("kind"), text("metadata.name"))
}

/// Which of them manages `object`, by the marks that it leaves.
fn git_ops(object: &Value) -> Option<&'static str> {
    const MARKS: [(&str, &str); 5] = [
        ("argocd.argoproj.io/tracking-id", "Argo CD"),
        ("argocd.argoproj.io/instance", "Argo CD"),
        ("kustomize.toolkit.fluxcd.io/name", "Flux"),
        ("helm.toolkit.fluxcd.io/name", "Flux"),
        ("objectset.rio.cattle.io/hash", "Fleet"),
    ];
    let metadata = &object["metadata"];
    let has = |mark: &str| {
        [&metadata["labels"], &metadata["annotations"]].iter().any(|all| all.get(mark).is_some())
    };
    MARKS.iter().find(|(mark, _)| has(mark)).map(|(_, tool)| *tool)
}

/// Whether the manifest that was applied last sets the number.
fn applied_number(object: &Value) -> bool {
    let applied =
        object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
    let applied = applied.and_then(|text| serde_json::from_str::<Value>(text).ok());
    let path = path(object).replace("f:", "");
    applied.is_some_and(|applied| at(&applied, &path).is_some())
}

fn left_out(tool: &str) -> String {
    match tool {
        "Argo CD" => {
            "leave the number out of the manifest, or have Argo CD ignore it: ignoreDifferences, with \
                      RespectIgnoreDifferences=true"
                .to_owned()
        }
        _ => format!("leave the number out of the manifest that {tool} applies"),
    }
}

fn taken_back(place: &str, tool: &'static str, why: &str) -> Check {
    let finding = format!("{tool} takes back what is written to {place}: {why}");
    Check::fail(CLUSTER, NAME, finding, left_out(tool))
}

fn by_a_person(finding: &str) -> Check {
    let finding = format!("{finding}: the next apply sets it again");
    Check::warn(CLUSTER, NAME, finding, "leave the number out of the manifest")
}

fn complaint(cluster: &ClusterFacts, lever: Option<&Lever>, place: &str, manager: &str) -> Option<Check> {
    let by = format!("`{manager}` has set the replicas of {place}");
    match Writer::of(manager) {
        Writer::GitOps(tool) => Some(taken_back(place, tool, &format!("`{manager}` has set the replicas"))),
        Writer::Harmless => None,
        Writer::Keda if matches!(lever, Some(Lever::ScaledObject(_))) => None,
        // The operator's own resource is there to be set, and so are Deployments that it leaves to others.
        Writer::Operator if matches!(lever, Some(Lever::Milvus(_))) || is_left_to_others(cluster) => None,
        Writer::Operator => Some(Check::fail(
            CLUSTER,
            NAME,
            format!("{by}: the operator takes back what the autoscaler writes"),
            "let spec.scaleTargetRef name the Milvus, or set spec.components.queryNode.replicas: -1 there",
        )),
        Writer::Helm => Some(Check::warn(
            CLUSTER,
            NAME,
            format!("{by}: the next upgrade sets its number again"),
            "set queryNode.replicas: -1 in the chart's values, or queryNode.hpa.enabled for an HPA",
        )),
        Writer::Person => Some(by_a_person(&by)),
        Writer::Keda | Writer::Unknown => {
            Some(Check::warn(CLUSTER, NAME, by, "find out what it is: two writers undo each other's work"))
        }
    }
}

/// Whether the operator leaves QueryNodes to whoever scales them.
fn is_left_to_others(cluster: &ClusterFacts) -> bool {
    let milvus = cluster.milvus.as_ref();
    let replicas = milvus.and_then(|milvus| at(milvus, "spec.components.queryNode.replicas")?.as_i64());
    replicas == Some(-1)
}
