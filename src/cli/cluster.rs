//! The cluster that a command may look at.

use std::time::Duration;

use kube::{Client, Config};

/// A cluster, with the namespace in which things without one are looked for.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

/// The cluster of the kubeconfig or of the pod, or why there is none. `user` is looked through the eyes of.
pub(super) async fn find(user: Option<&str>) -> Result<Cluster, String> {
    crate::observe::prometheus::install_crypto();
    let mut config = Config::infer().await.map_err(|_| "no kubeconfig and not in a pod".to_owned())?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.default_retry = false;
    if let Some(user) = user {
        config.auth_info.impersonate = Some(user.to_owned());
    }
    let namespace = config.default_namespace.clone();
    let client =
        Client::try_from(config).map_err(|error| format!("the kubeconfig cannot be used: {error}"))?;
    Ok(Cluster { client, namespace })
}
