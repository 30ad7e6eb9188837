//! Writes the status of one policy: only what is news, by server-side apply.

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::status::is_news;
use crate::actuate::{Fault, MANAGER, bounded};
use crate::policy::status::MilvusAutoscalerStatus;
use crate::policy::{API_VERSION, KIND, MilvusAutoscaler};
use crate::telemetry::Object;

/// The status as this process wrote it last.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    last: Option<(MilvusAutoscalerStatus, Timestamp)>,
}

impl Publisher {
    /// The status as it was written last.
    pub(super) fn last(&self) -> Option<&MilvusAutoscalerStatus> {
        self.last.as_ref().map(|(status, _)| status)
    }

    /// Forgets what was written: somebody else writes now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Writes `next` if it is news. Whether it was.
    pub(super) async fn publish(
        &mut self,
        client: &Client,
        object: &Object,
        next: &MilvusAutoscalerStatus,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        if !is_news(self.last.as_ref().map(|(status, at)| (status, *at)), next, now) {
            return Ok(false);
        }
        let api: Api<MilvusAutoscaler> = Api::namespaced(client.clone(), &object.namespace);
        let patch = json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": object.name}, "status": next,
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let what = format!("MilvusAutoscaler {}/{}, status", object.namespace, object.name);
        bounded(&what, api.patch_status(&object.name, &parameters, &Patch::Apply(&patch))).await?;
        self.last = Some((next.clone(), now));
        Ok(true)
    }
}
