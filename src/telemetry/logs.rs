//! Structured logs on stderr.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Text,
}

/// Starts logging at the level of `RUST_LOG`, `info` by default. What other crates log below `warn` is left out
/// unless named.
pub fn start(format: LogFormat) {
    let default = || EnvFilter::new("warn,milvus_autoscaler=info");
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        // A level alone is meant for this program, not for the libraries beneath it.
        Ok(level) if level.parse::<tracing::Level>().is_ok() => {
            EnvFilter::try_new(format!("warn,milvus_autoscaler={level}")).unwrap_or_else(|_| default())
        }
        Ok(directives) => EnvFilter::try_new(directives).unwrap_or_else(|_| default()),
        Err(_) => default(),
    };
    let builder = Subscriber::builder().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, as in tests, changes nothing.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => builder.try_init(),
    };
}
