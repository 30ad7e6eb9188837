//! Real parts for tests: a Kubernetes control plane with its own controllers, a
//! Prometheus, a Milvus. Each is a handle; its processes end when the handle is
//! dropped, and when the test process ends in any way at all, a `kill -9`
//! included. Everything listens on the loopback interface alone, on ports of
//! its own, so that tests can run side by side.
//!
//! `tests/real/setup` installs the parts; a test that finds one missing fails
//! and says so. `tests/real/README.md` tells more.
#![allow(dead_code, unreachable_pub)]
// The tests talk to servers that live in real time.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

pub mod background;
pub mod faults;
pub mod kubelet;
pub mod kubernetes;
pub mod milvus;
pub mod process;
pub mod prometheus;
pub mod resource_metrics;
pub mod tls;

use std::fmt::Debug;
use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// The file that an environment variable names, or the one at this place in the
/// cache which `tests/real/setup` fills.
pub fn part(variable: &str, place: &str, setup: &str) -> PathBuf {
    let cached = cache().join(place);
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::path::absolute(named.as_ref().unwrap_or(&cached)).unwrap();
    assert!(
        path.exists(),
        "{} is missing{}: run `tests/real/setup {setup}`",
        path.display(),
        if named.is_some() { format!(" (named by {variable})") } else { String::new() },
    );
    path
}

fn cache() -> PathBuf {
    std::env::var_os("MILVUS_AUTOSCALER_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/milvus-autoscaler"),
        PathBuf::from,
    )
}

/// A script beside the tests.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(name)
}

/// A port on the loopback interface that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// TLS clients of rustls need a provider of cryptography, once in a process.
pub fn crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// Asks until the answer is `Some`, or fails the test saying what was awaited
/// and what was seen last.
pub async fn eventually<T, F, A>(what: &str, limit: Duration, mut ask: F) -> T
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(seen) if Instant::now() >= deadline => {
                panic!("not within {limit:?}: {what}; last seen: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// For the condition of [`eventually`]: this value, if it is the wanted one.
///
/// # Errors
/// The value as text, when it is another.
pub fn equal<T: PartialEq + Debug>(seen: T, wanted: &T) -> Result<T, String> {
    if seen == *wanted { Ok(seen) } else { Err(format!("{seen:?}")) }
}

/// A folder for one server. It stays when the test fails, or when
/// `MILVUS_AUTOSCALER_KEEP` is set.
pub struct Folder(Option<tempfile::TempDir>);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir().unwrap();
        Self(Some(folder))
    }

    /// In memory where the machine has such a place: for etcd, which waits for
    /// the disk at every write.
    pub fn in_memory(name: &str) -> Self {
        let prefix = format!("{name}-");
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(&prefix).tempdir_in("/dev/shm");
        folder.map_or_else(|_| Self::new(name), |folder| Self(Some(folder)))
    }

    pub fn path(&self) -> &Path {
        self.0.as_ref().unwrap().path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("MILVUS_AUTOSCALER_KEEP").is_some() {
            let kept = self.0.take().unwrap().keep();
            eprintln!("kept: {}", kept.display());
        }
    }
}
