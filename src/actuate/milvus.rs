//! The Milvus operator's resource.
//!
//! Where `queryNode.replicas` is 0 or more, the operator owns the Deployments and takes back every edit to them, so
//! the resource is written. Where it is −1, the active one of its two Deployments is scaled from outside. With
//! `groups`, each group has its own number. During a rollout nothing is written at all.

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::workload::{Kind, Workload};
use super::{Fault, FaultKind, Lever, MANAGER, Survey, bounded, found, of_workload, pods, workload};
use crate::decide::Reason;
use crate::observe::Known;
use crate::units::Replicas;

/// The label that is present while QueryNodes roll out.
const ROLLING: &str = "milvus.io/querynode-rolling-id";
/// The annotation with the active Deployment's number.
const ACTIVE: &str = "milvus.io/querynode-current-group-id";

/// A field of a Milvus that asks for replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MilvusField {
    /// Name of the Milvus.
    pub name: String,
    /// The group, where there are groups.
    pub group: Option<Group>,
    /// Replicas that it asks for.
    pub replicas: Replicas,
}

/// A group of QueryNodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// All groups as they are; a list is written as a whole.
    all: Vec<Value>,
    /// The version of the Milvus that they are of, so that no other change to them is lost.
    version: Option<String>,
}

/// How many QueryNodes a Milvus asks for, and where.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// In a field of its own.
    Field(MilvusField),
    /// Nowhere: its Deployment is scaled from outside.
    External,
}

fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("milvus.io", "v1beta1", "Milvus");
    let resource = ApiResource::from_gvk_with_plural(&kind, "milvuses");
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The survey of a Milvus.
pub(super) async fn survey(
    client: &Client,
    namespace: &str,
    name: &str,
    group: Option<&str>,
    hpa: Option<&str>,
) -> Result<Survey, Fault> {
    let milvus = bounded(&format!("Milvus {namespace}/{name}"), api(client, namespace).get(name)).await?;
    let frozen = rolling(&milvus);
    let deployment = format!("{name}-milvus-querynode-{}", active_slot(&milvus));
    match form(&milvus, group)? {
        Form::External => {
            let survey = of_workload(client, namespace, Kind::Deployment, &deployment, hpa).await?;
            Ok(Survey {
                rolling: survey.rolling || frozen.is_some(),
                frozen: frozen.or(survey.frozen),
                ..survey
            })
        }
        Form::Field(field) => {
            if let Some(hpa) = hpa {
                let message = format!(
                    "HorizontalPodAutoscaler {hpa} cannot scale Milvus {name}, whose replicas the operator owns: \
                     set spec.components.queryNode.replicas to -1, or leave hpaRef out"
                );
                return Err(Fault::new(FaultKind::Unsuitable, message));
            }
            let workload = deployment_of(client, namespace, &deployment, &field).await?;
            let selector = workload
                .as_ref()
                .map_or_else(|| labels(name, "querynode"), |workload| workload.selector.clone());
            let (pods, known) = pods::list(client, namespace, &selector).await?;
            let proxies = labels(name, "proxy");
            let ready_proxies = pods::ready_proxies(client, namespace, Some(&proxies)).await?;
            let known = Known { ready_proxies, ..known };
            let frozen = frozen.or_else(|| at_zero(&field));
            let rolling = frozen.is_some() || workload.is_some_and(|workload| workload.rolling);
            Ok(Survey { desired: field.replicas, lever: Lever::Milvus(field), pods, rolling, known, frozen })
        }
    }
}

/// The Deployment whose pods a field's replicas are; none for groups, whose pods are found by labels.
async fn deployment_of(
    client: &Client,
    namespace: &str,
    name: &str,
    field: &MilvusField,
) -> Result<Option<Workload>, Fault> {
    if field.group.is_some() {
        return Ok(None);
    }
    let api = Api::namespaced(client.clone(), namespace);
    let deployment = found(&format!("Deployment {namespace}/{name}"), api.get(name)).await?;
    deployment.as_ref().map(workload::of_deployment).transpose()
}

/// Selects every pod of a Milvus that is this component of it.
fn labels(name: &str, component: &str) -> String {
    let key = workload::COMPONENT[0];
    format!("{}={name},{key}={component}", workload::INSTANCE)
}

fn rolling(milvus: &DynamicObject) -> Option<Reason> {
    milvus.labels().contains_key(ROLLING).then(|| {
        let message = "The operator rolls out QueryNodes: nothing is written until it is done.";
        Reason::new("RolloutInProgress", message)
    })
}

fn at_zero(field: &MilvusField) -> Option<Reason> {
    (field.replicas == Replicas(0)).then(|| {
        let message = format!(
            "Milvus {} was scaled to 0 QueryNodes, which switches autoscaling off: set 1 or more to switch it on.",
            field.name
        );
        Reason::new("TargetAtZero", message)
    })
}

fn active_slot(milvus: &DynamicObject) -> &str {
    milvus.annotations().get(ACTIVE).map_or("0", String::as_str)
}

fn form(milvus: &DynamicObject, group: Option<&str>) -> Result<Form, Fault> {
    let query_node = &milvus.data["spec"]["components"]["queryNode"];
    let groups = query_node["groups"].as_array().filter(|groups| !groups.is_empty());
    match groups {
        Some(groups) => of_group(milvus, groups, group),
        None if group.is_some() => {
            let message =
                format!("Milvus {} has no QueryNode groups: leave queryNodeGroup out", milvus.name_any());
            Err(Fault::new(FaultKind::Unsuitable, message))
        }
        None => Ok(of_replicas(milvus.name_any(), None, &query_node["replicas"])),
    }
}

fn of_group(milvus: &DynamicObject, groups: &[Value], wanted: Option<&str>) -> Result<Form, Fault> {
    let names: Vec<&str> = groups.iter().map(|group| group["name"].as_str().unwrap_or_default()).collect();
    let index = match wanted {
        Some(wanted) => names.iter().position(|name| *name == wanted),
        None => (names.len() == 1).then_some(0),
    };
    let Some(index) = index else {
        let message = format!(
            "Milvus {} has the QueryNode groups {}: name one of them in queryNodeGroup",
            milvus.name_any(),
            names.join(", ")
        );
        return Err(Fault::new(FaultKind::Unsuitable, message));
    };
    let name = names[index].to_owned();
    let version = milvus.resource_version();
    let field = &groups[index]["replicas"];
    match of_replicas(milvus.name_any(), Some(Group { name, all: groups.to_vec(), version }), field) {
        Form::External => {
            let message = format!(
                "Milvus {} leaves its QueryNode group {} to others: name the group's Deployment as the target",
                milvus.name_any(),
                names[index]
            );
            Err(Fault::new(FaultKind::Unsuitable, message))
        }
        field @ Form::Field(_) => Ok(field),
    }
}

/// What the operator takes from a `replicas` field: 1 where it is unset, and nothing where it is −1.
fn of_replicas(name: String, group: Option<Group>, field: &Value) -> Form {
    match u32::try_from(field.as_i64().unwrap_or(1)) {
        Ok(replicas) => Form::Field(MilvusField { name, group, replicas: Replicas(replicas) }),
        Err(_) => Form::External,
    }
}

impl MilvusField {
    /// The field, for people.
    pub(super) fn path(&self) -> String {
        match &self.group {
            Some(group) => format!("spec.components.queryNode.groups[{}].replicas", group.name),
            None => "spec.components.queryNode.replicas".to_owned(),
        }
    }

    /// Sets this field alone.
    pub(super) async fn set(
        &self,
        client: &Client,
        namespace: &str,
        replicas: Replicas,
    ) -> Result<(), Fault> {
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("Milvus {namespace}/{}", self.name);
        let patch = match &self.group {
            None => json!({"spec": {"components": {"queryNode": {"replicas": replicas}}}}),
            Some(group) => group.patch(replicas),
        };
        bounded(&what, api(client, namespace).patch(&self.name, &parameters, &Patch::Merge(patch)))
            .await
            .map(|_| ())
    }
}

impl Group {
    /// The list with this group's replicas changed, to be taken only if nobody else has changed it meanwhile.
    fn patch(&self, replicas: Replicas) -> Value {
        let mut all = self.all.clone();
        for group in all.iter_mut().filter(|group| group["name"] == self.name.as_str()) {
            group["replicas"] = json!(replicas);
        }
        json!({
            "metadata": {"resourceVersion": self.version},
            "spec": {"components": {"queryNode": {"groups": all}}},
        })
    }
}
