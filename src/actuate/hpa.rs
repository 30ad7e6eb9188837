//! The bounds of a HorizontalPodAutoscaler.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Map, Value, json};

use super::bounds::{Bounds, Range};
use super::workload::{Kind, Workload};
use super::{Fault, FaultKind, Lever, MANAGER, ORIGINAL_BOUNDS, bounded, found, scaled_object};
use crate::units::Replicas;

/// An HPA whose bounds are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HpaBounds {
    /// Its name.
    pub name: String,
    /// Its bounds.
    pub bounds: Bounds,
    /// Whether the upper bound is already ours to keep.
    owns_max: bool,
}

/// An HPA that was found for a workload.
pub(super) struct Found {
    hpa: HorizontalPodAutoscaler,
    running: Replicas,
}

/// The HPA of `workload`: the one with this name, or the one that targets it, if there is any.
pub(super) async fn find(
    client: &Client,
    namespace: &str,
    workload: &Workload,
    name: Option<&str>,
) -> Result<Option<Found>, Fault> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    if let Some(name) = name {
        let what = format!("HorizontalPodAutoscaler {namespace}/{name}");
        let hpa = bounded(&what, api.get(name)).await?;
        if !targets(&hpa, workload.kind, &workload.name) {
            let message = format!(
                "{what} does not scale {} {}: name another in hpaRef, or leave hpaRef out",
                workload.kind.as_str(),
                workload.name
            );
            return Err(Fault::new(FaultKind::Unsuitable, message));
        }
        return Ok(Some(Found { hpa, running: workload.replicas }));
    }
    let what = format!("HorizontalPodAutoscalers in {namespace}");
    let list = bounded(&what, api.list(&ListParams::default().match_any())).await?;
    let mut all = list.items.into_iter().filter(|hpa| targets(hpa, workload.kind, &workload.name));
    let Some(first) = all.next() else { return Ok(None) };
    if let Some(second) = all.next() {
        let message = format!(
            "{} {} is scaled by two HPAs, {} and {}: delete one",
            workload.kind.as_str(),
            workload.name,
            first.name_any(),
            second.name_any()
        );
        return Err(Fault::new(FaultKind::Unsuitable, message));
    }
    Ok(Some(Found { hpa: first, running: workload.replicas }))
}

fn targets(hpa: &HorizontalPodAutoscaler, kind: Kind, name: &str) -> bool {
    let target = hpa.spec.as_ref().map(|spec| &spec.scale_target_ref);
    target.is_some_and(|target| {
        let group = target.api_version.as_deref().is_none_or(|version| version.starts_with("apps/"));
        group && target.kind == kind.as_str() && target.name == name
    })
}

impl Found {
    /// Where its bounds are set: in the HPA, or in the ScaledObject that owns it.
    pub(super) async fn lever(&self, client: &Client, namespace: &str) -> Result<Lever, Fault> {
        let owner = self.hpa.owner_references().iter().find(|owner| owner.kind == "ScaledObject");
        match owner {
            Some(owner) => {
                let object = scaled_object::read(client, namespace, &owner.name, self.running).await?;
                Ok(Lever::ScaledObject(object))
            }
            None => Ok(Lever::Hpa(of_hpa(&self.hpa, self.running))),
        }
    }
}

fn of_hpa(hpa: &HorizontalPodAutoscaler, running: Replicas) -> HpaBounds {
    let spec = hpa.spec.as_ref();
    let default = Range { min: Replicas(1), max: Replicas(1) };
    let min = spec.and_then(|spec| spec.min_replicas).map(i64::from);
    let max = spec.map(|spec| i64::from(spec.max_replicas));
    let owns_max = hpa.metadata.managed_fields.iter().flatten().any(is_our_max);
    let bounds = Bounds::read(hpa.metadata.annotations.as_ref(), min, max, default, running);
    HpaBounds { name: hpa.name_any(), bounds, owns_max }
}

fn is_our_max(entry: &ManagedFieldsEntry) -> bool {
    let ours = entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply");
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:spec"]["f:maxReplicas"]);
    ours && fields.is_some_and(|field| !field.is_null())
}

impl HpaBounds {
    /// Sets the lower bound, and the upper one where more is needed, by server-side apply. The original bounds are
    /// kept beside in the same write.
    pub(super) async fn set(
        &self,
        client: &Client,
        namespace: &str,
        replicas: Replicas,
    ) -> Result<(), Fault> {
        let wanted = self.bounds.wanted(replicas);
        let mut spec = json!({"minReplicas": wanted.min});
        // What has been applied once must be applied always: leaving it out would delete it.
        if self.owns_max || wanted.max != self.bounds.live.max {
            spec["maxReplicas"] = json!(wanted.max);
        }
        let annotations = json!({ORIGINAL_BOUNDS: self.bounds.annotation()});
        apply(client, namespace, &self.name, &spec, Some(&annotations)).await
    }
}

/// Applies `spec` and `annotations` as our part of the HPA.
async fn apply(
    client: &Client,
    namespace: &str,
    name: &str,
    spec: &Value,
    annotations: Option<&Value>,
) -> Result<(), Fault> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(namespace));
    if let Some(annotations) = annotations {
        metadata.insert("annotations".to_owned(), annotations.clone());
    }
    let patch = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec,
    });
    // Whoever wrote the bounds before: they are ours until the policy goes.
    let parameters = PatchParams::apply(MANAGER).force();
    let what = format!("HorizontalPodAutoscaler {namespace}/{name}");
    bounded(&what, api.patch(name, &parameters, &Patch::Apply(&patch))).await.map(|_| ())
}

/// Gives the original bounds back.
pub(super) async fn restore(client: &Client, namespace: &str, name: &str) -> Result<bool, Fault> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let what = format!("HorizontalPodAutoscaler {namespace}/{name}");
    let Some(hpa) = found(&what, api.get(name)).await? else { return Ok(false) };
    let bounds = of_hpa(&hpa, Replicas(0)).bounds;
    if !bounds.overridden {
        return Ok(false);
    }
    let original = bounds.original;
    // An unset minimum means 1.
    let spec = json!({
        "minReplicas": original.min_replicas.unwrap_or(1),
        "maxReplicas": original.max_replicas.unwrap_or(bounds.live.max.0),
    });
    apply(client, namespace, name, &spec, None).await?;
    Ok(true)
}
