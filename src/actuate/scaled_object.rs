//! The bounds of a KEDA ScaledObject, which in turn sets those of its HPA.

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::bounds::{Bounds, Range};
use super::{Fault, MANAGER, ORIGINAL_BOUNDS, bounded, found};
use crate::units::Replicas;

/// What KEDA takes where `maxReplicaCount` is unset.
const DEFAULT_MAX: Replicas = Replicas(100);

/// A ScaledObject whose bounds are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaledObjectBounds {
    /// Its name.
    pub name: String,
    /// Its bounds.
    pub bounds: Bounds,
}

fn api(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// A ScaledObject from the API server.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
    running: Replicas,
) -> Result<ScaledObjectBounds, Fault> {
    let what = format!("ScaledObject {namespace}/{name}");
    bounded(&what, api(client, namespace).get(name)).await.map(|object| of_object(&object, running))
}

fn of_object(object: &DynamicObject, running: Replicas) -> ScaledObjectBounds {
    let field = |name: &str| object.data["spec"][name].as_i64();
    let default = Range { min: Replicas(0), max: DEFAULT_MAX };
    let annotations = object.metadata.annotations.as_ref();
    let bounds =
        Bounds::read(annotations, field("minReplicaCount"), field("maxReplicaCount"), default, running);
    ScaledObjectBounds { name: object.name_any(), bounds }
}

impl ScaledObjectBounds {
    /// Sets the lower bound, and the upper one where more is needed, and keeps the original ones beside.
    pub(super) async fn set(
        &self,
        client: &Client,
        namespace: &str,
        replicas: Replicas,
    ) -> Result<(), Fault> {
        let wanted = self.bounds.wanted(replicas);
        let mut spec = json!({"minReplicaCount": wanted.min});
        if wanted.max != self.bounds.live.max {
            spec["maxReplicaCount"] = json!(wanted.max);
        }
        let metadata = json!({"annotations": {ORIGINAL_BOUNDS: self.bounds.annotation()}});
        write(client, namespace, &self.name, &json!({"metadata": metadata, "spec": spec})).await
    }
}

async fn write(client: &Client, namespace: &str, name: &str, patch: &Value) -> Result<(), Fault> {
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let what = format!("ScaledObject {namespace}/{name}");
    bounded(&what, api(client, namespace).patch(name, &parameters, &Patch::Merge(patch))).await.map(|_| ())
}

/// Gives the original bounds back.
pub(super) async fn restore(client: &Client, namespace: &str, name: &str) -> Result<bool, Fault> {
    let what = format!("ScaledObject {namespace}/{name}");
    let Some(object) = found(&what, api(client, namespace).get(name)).await? else { return Ok(false) };
    let bounds = of_object(&object, Replicas(0)).bounds;
    if !bounds.overridden {
        return Ok(false);
    }
    // In a merge patch, null takes a field away.
    let patch = json!({
        "metadata": {"annotations": {ORIGINAL_BOUNDS: Value::Null}},
        "spec": {
            "minReplicaCount": bounds.original.min_replicas,
            "maxReplicaCount": bounds.original.max_replicas,
        },
    });
    write(client, namespace, name, &patch).await?;
    Ok(true)
}
