//! Deployments and StatefulSets: how far they are, and their scale subresource.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Selector;
use kube::{Client, ResourceExt};
use serde_json::json;

use super::{Fault, FaultKind, MANAGER, bounded};
use crate::units::Replicas;

/// The kinds of workload with a scale subresource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
}

impl Kind {
    /// As it is written in resources.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// A workload, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Replicas that it asks for.
    pub replicas: Replicas,
    /// Selects its pods.
    pub(super) selector: String,
    /// Selects the proxies of the same Milvus, where labels tell which they are.
    pub(super) proxies: Option<String>,
    /// Whether a rollout is in progress.
    pub(super) rolling: bool,
}

/// A workload from the API server.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    kind: Kind,
    name: &str,
) -> Result<Workload, Fault> {
    let what = format!("{} {namespace}/{name}", kind.as_str());
    match kind {
        Kind::Deployment => {
            let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            of_deployment(&bounded(&what, api.get(name)).await?)
        }
        Kind::StatefulSet => {
            let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
            of_stateful_set(&bounded(&what, api.get(name)).await?)
        }
    }
}

/// What a Deployment says.
pub(super) fn of_deployment(deployment: &Deployment) -> Result<Workload, Fault> {
    let name = deployment.name_any();
    let unsuitable = || Fault::new(FaultKind::Unsuitable, format!("Deployment {name} has no spec"));
    let spec = deployment.spec.as_ref().ok_or_else(unsuitable)?;
    let status = deployment.status.clone().unwrap_or_default();
    let unseen = status.observed_generation < deployment.metadata.generation;
    let rolling = unseen || status.updated_replicas.unwrap_or(0) != status.replicas.unwrap_or(0);
    Ok(Workload {
        kind: Kind::Deployment,
        replicas: replicas(spec.replicas),
        selector: selector(&name, &spec.selector)?,
        proxies: proxies(&spec.template),
        rolling,
        name,
    })
}

fn of_stateful_set(set: &StatefulSet) -> Result<Workload, Fault> {
    let name = set.name_any();
    let unsuitable = || Fault::new(FaultKind::Unsuitable, format!("StatefulSet {name} has no spec"));
    let spec = set.spec.as_ref().ok_or_else(unsuitable)?;
    let status = set.status.clone().unwrap_or_default();
    let unseen = status.observed_generation < set.metadata.generation;
    let revisions = status.current_revision.is_some() && status.current_revision != status.update_revision;
    Ok(Workload {
        kind: Kind::StatefulSet,
        replicas: replicas(spec.replicas),
        selector: selector(&name, &spec.selector)?,
        proxies: proxies(&spec.template),
        rolling: unseen || revisions,
        name,
    })
}

/// What `spec.replicas` asks for; 1 where it is unset.
fn replicas(field: Option<i32>) -> Replicas {
    Replicas(u32::try_from(field.unwrap_or(1)).unwrap_or(0))
}

fn selector(name: &str, selector: &LabelSelector) -> Result<String, Fault> {
    let parsed = Selector::try_from(selector.clone()).map_err(|error| {
        Fault::new(FaultKind::Unsuitable, format!("{name}: its selector cannot be used: {error}"))
    })?;
    Ok(parsed.to_string())
}

/// The release that a pod belongs to: Helm's chart and the operator both set it.
pub(super) const INSTANCE: &str = "app.kubernetes.io/instance";
/// What a pod is in its release, in the words of the operator and of the chart.
pub(super) const COMPONENT: [&str; 2] = ["app.kubernetes.io/component", "component"];

/// The labels of QueryNodes with another component.
fn proxies(template: &PodTemplateSpec) -> Option<String> {
    let labels: &BTreeMap<String, String> = template.metadata.as_ref()?.labels.as_ref()?;
    let instance = labels.get(INSTANCE)?;
    let is_ours = |key: &&str| labels.get(*key).is_some_and(|component| component == "querynode");
    let component = COMPONENT.into_iter().find(is_ours)?;
    Some(format!("{INSTANCE}={instance},{component}=proxy"))
}

impl Workload {
    /// Sets the replicas through the scale subresource.
    pub(super) async fn scale(
        &self,
        client: &Client,
        namespace: &str,
        replicas: Replicas,
    ) -> Result<(), Fault> {
        let what = format!("{} {namespace}/{}, subresource scale", self.kind.as_str(), self.name);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.kind {
            Kind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
                bounded(&what, api.patch_scale(&self.name, &parameters, &patch)).await?;
            }
            Kind::StatefulSet => {
                let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
                bounded(&what, api.patch_scale(&self.name, &parameters, &patch)).await?;
            }
        }
        Ok(())
    }
}
