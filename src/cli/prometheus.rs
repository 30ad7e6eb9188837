//! Which Prometheus a command asks, and how it logs in.
//!
//! In a cluster, credentials come from the Secrets that the policy names. Outside one they come from files or the
//! environment, never from the command line, where everybody on the machine could read them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use reqwest::Url;

use super::Failure;
use super::cluster::Cluster;
use crate::controller::load::secrets;
use crate::observe::prometheus::{Client, Connection, Login, QueryError, Secret};
use crate::policy::{self, ClusterPolicy, SecretKey};

/// The largest file with a secret or certificates that is read.
const LARGEST_SECRET: u64 = 1 << 20;
/// The variable with a bearer token.
const TOKEN: &str = "PROMETHEUS_TOKEN";
/// The variable with a password.
const PASSWORD: &str = "PROMETHEUS_PASSWORD";

/// Which Prometheus, and how to log in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prometheus")]
pub(super) struct Access {
    /// Address of the server, for instance of a port-forward to it [default: the policy's]
    #[arg(long, value_name = "URL", value_parser = address)]
    pub(super) prometheus: Option<String>,

    /// File with a bearer token [default: `$PROMETHEUS_TOKEN`]
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    token_file: Option<PathBuf>,

    /// User name; its password comes from --password-file or `$PROMETHEUS_PASSWORD`
    #[arg(long, value_name = "NAME", env = "PROMETHEUS_USERNAME")]
    username: Option<String>,

    /// File with the password of --username
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,

    /// File with the certificates (PEM) of the authority that signed the server's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// An address without credentials in it.
fn address(text: &str) -> Result<String, String> {
    if Url::parse(text).is_ok_and(|url| !url.username().is_empty() || url.password().is_some()) {
        return Err(
            "the address has a user or password in it, which every process on this machine can read; \
                    use --username and --password-file"
                .to_owned(),
        );
    }
    policy::address(text)
}

impl Access {
    /// The server at this address, with what the options say.
    pub(super) fn server(&self, url: &str) -> Result<Client, Failure> {
        let connection = Connection { ca: self.ca()?, login: self.login()?, ..Connection::to(url) };
        Client::new(&connection).map_err(failure)
    }

    /// The policy's server, or the one that the options name instead; what the policy keeps in Secrets is read from
    /// `cluster` unless the options say it.
    pub(super) async fn of_policy(
        &self,
        policy: &ClusterPolicy,
        cluster: Result<&Cluster, &str>,
    ) -> Result<Client, Failure> {
        Client::new(&self.connection(policy, cluster).await?).map_err(failure)
    }

    async fn connection(
        &self,
        policy: &ClusterPolicy,
        cluster: Result<&Cluster, &str>,
    ) -> Result<Connection, Failure> {
        let (login, ca) = (self.login()?, self.ca()?);
        let mut settings = policy.prometheus.clone();
        if let Some(url) = &self.prometheus {
            settings.url.clone_from(url);
        }
        if login.is_some() {
            settings.auth = None;
        }
        if ca.is_some() {
            settings.ca = None;
        }
        let keys = Connection::secrets(&settings);
        let found = match (keys.first(), cluster) {
            (None, _) => std::collections::BTreeMap::new(),
            (Some(_), Ok(cluster)) => {
                let namespace = policy.policy.namespace.as_deref().unwrap_or(&cluster.namespace);
                secrets(&cluster.client, namespace, &keys)
                    .await
                    .map_err(|fault| Failure::Outside(anyhow!("{fault}; {}", mend(&settings))))?
            }
            (Some(key), Err(why)) => {
                return Err(Failure::Outside(anyhow!(
                    "spec.prometheus needs Secret `{}`, and there is no cluster to read it from ({why}): set \
                     KUBECONFIG, or {}",
                    key.secret,
                    mend(&settings)
                )));
            }
        };
        let secret = |key: &SecretKey| {
            let secret = found.get(&key.secret)?;
            secret.data.as_ref()?.get(&key.key).map(|bytes| bytes.0.clone())
        };
        let connection = Connection::resolve(&settings, secret).map_err(failure)?;
        Ok(Connection { login: login.or(connection.login), ca: ca.or(connection.ca), ..connection })
    }

    fn login(&self) -> Result<Option<Login>, Failure> {
        if let Some(username) = &self.username {
            let password = given(self.password_file.as_deref(), PASSWORD)?.ok_or_else(|| {
                Failure::Input(anyhow!(
                    "--username needs a password: give --password-file, or set {PASSWORD}"
                ))
            })?;
            return Ok(Some(Login::Basic { username: Secret::new(username.as_str()), password }));
        }
        Ok(given(self.token_file.as_deref(), TOKEN)?.map(Login::Bearer))
    }

    fn ca(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.ca_file.as_deref().map(contents).transpose()
    }
}

/// What options can stand for the Secrets of a policy.
fn mend(settings: &policy::Prometheus) -> &'static str {
    if settings.auth.is_some() {
        "give --token-file, or --username and --password-file"
    } else if settings.ca.is_some() {
        "give --ca-file"
    } else {
        "leave the headers from Secrets out of spec.prometheus.headers"
    }
}

/// A secret from a file, or else from a variable.
fn given(file: Option<&Path>, variable: &str) -> Result<Option<Secret>, Failure> {
    let Some(file) = file else {
        return Ok(std::env::var(variable).ok().filter(|text| !text.is_empty()).map(Secret::new));
    };
    let text = String::from_utf8(contents(file)?)
        .map_err(|_| Failure::Input(anyhow!("{}: is not text in UTF-8", file.display())))?;
    Ok(Some(Secret::new(text)))
}

fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut contents = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_SECRET + 1).read_to_end(&mut contents))
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(Failure::Input)?;
    if contents.len() as u64 > LARGEST_SECRET {
        return Err(Failure::Input(anyhow!("{}: too large for a secret or certificates", path.display())));
    }
    Ok(contents)
}

/// A query without answer, by whose fault.
pub(super) fn failure(error: QueryError) -> Failure {
    if error.kind.is_input() { Failure::input(error) } else { Failure::Outside(error.into()) }
}
