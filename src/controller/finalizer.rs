//! The finalizer on policies that override the bounds of an HPA or ScaledObject: it keeps a deleted policy until the
//! bounds are what they were.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::actuate::{Fault, FaultKind, MANAGER, bounded};
use crate::policy::MilvusAutoscaler;

/// Its name.
pub const FINALIZER: &str = "milvus-autoscaler.io/restore-bounds";

/// Whether it is on `resource`.
pub(super) fn is_ours(resource: &MilvusAutoscaler) -> bool {
    resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Puts it on `resource`, if it is not there yet.
pub(super) async fn add(client: &Client, resource: &MilvusAutoscaler) -> Result<(), Fault> {
    if is_ours(resource) {
        return Ok(());
    }
    let mut finalizers = resource.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    write(client, resource, &finalizers).await
}

/// Takes it off `resource`.
pub(super) async fn remove(client: &Client, resource: &MilvusAutoscaler) -> Result<(), Fault> {
    let finalizers: Vec<String> =
        resource.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    match write(client, resource, &finalizers).await {
        Err(fault) if fault.kind == FaultKind::NotFound => Ok(()),
        result => result,
    }
}

/// A list is written as a whole, so only if nobody else has changed it meanwhile.
async fn write(client: &Client, resource: &MilvusAutoscaler, finalizers: &[String]) -> Result<(), Fault> {
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let api: Api<MilvusAutoscaler> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "metadata": {"resourceVersion": resource.resource_version(), "finalizers": finalizers},
    });
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let what = format!("MilvusAutoscaler {namespace}/{name}, finalizers");
    bounded(&what, api.patch_metadata(&name, &parameters, &Patch::Merge(&patch))).await.map(|_| ())
}
