//! `autoscaler record`.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use jiff::SignedDuration;

use super::progress::Progress;
use super::prometheus::{Access, failure};
use super::{Failure, cluster, values};
use crate::observe::prometheus::{Client, Past};
use crate::observe::recording::{RecordError, Recorded};
use crate::observe::{Queries, Recording, Trace, csv};
use crate::policy::ClusterPolicy;
use crate::policy::text::duration_text;
use crate::series::Step;
use crate::simulate::output::files::Folder;
use crate::telemetry::{self, LogFormat};

/// So many rows fit into memory, and are ten years of minutes.
const MOST_ROWS: usize = 6_000_000;

const EXAMPLES: &str = "\
Examples:
  The last four weeks, and what the autoscaler would have done on them:
    autoscaler record --policy policy.yaml -o load.csv
    autoscaler simulate --trace load.csv --policy policy.yaml
  A Prometheus inside a cluster, from outside:
    kubectl -n monitoring port-forward svc/prometheus 9090 &
    autoscaler record --policy policy.yaml --prometheus http://localhost:9090 -o load.csv
  One that wants a token:
    PROMETHEUS_TOKEN=$(cat token) autoscaler record --policy policy.yaml > load.csv

The columns are timestamp, qps, p99_ms and nq_per_second; a row is the mean over the step
that starts there, in UTC. Where Prometheus has nothing there is no row.";

/// Export the load from Prometheus as a trace
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, after_help = "With --help: examples and details.")]
pub(super) struct Arguments {
    /// Policy (a MilvusAutoscaler): where Prometheus is, which Milvus, and what counts as demand
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,

    /// How far back
    #[arg(long, value_name = "TIME", default_value = "28d", value_parser = values::range)]
    range: SignedDuration,

    /// The distance of rows
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = values::step)]
    step: Step,

    /// File to write; it appears when it is complete [default: -, which is standard output]
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    out: PathBuf,

    #[command(flatten)]
    access: Access,
}

/// Reads the load and writes the trace.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    telemetry::start_logs(LogFormat::Text);
    let policy = ClusterPolicy::read(&arguments.policy).map_err(Failure::input)?;
    let output = Output::prepare(&arguments.out)?;
    let recorded = super::runtime()?.block_on(read(arguments, &policy))?;
    output.write(&recorded.trace)?;
    tell(&recorded, &arguments.out);
    Ok(())
}

async fn read(arguments: &Arguments, policy: &ClusterPolicy) -> Result<Recorded, Failure> {
    let cluster = cluster::find(None).await;
    let client = arguments.access.of_policy(policy, cluster.as_ref().map_err(String::as_str)).await?;
    let namespace = cluster.as_ref().ok().map(|cluster| cluster.namespace.as_str());
    let recording = Recording::of_policy(&Queries::new(policy, namespace), arguments.step);
    recorded(&client, &recording, arguments.range, arguments.step).await
}

/// Reads `recording` from the server, as far back as `range`.
pub(super) async fn recorded(
    client: &Client,
    recording: &Recording,
    range: SignedDuration,
    step: Step,
) -> Result<Recorded, Failure> {
    // By the server's clock, as its samples are.
    let now = client.now().await.map_err(failure)?;
    let past = Past::of_rate(now, range, step, recording.window);
    // Back from the end of the last whole bucket, so that there are as many as the range has.
    let from = past.time(past.count()).saturating_sub(range).unwrap_or(past.from);
    let past = Past { from, ..past };
    if past.count() > MOST_ROWS {
        return Err(Failure::Input(anyhow!(
            "{} in steps of {} are over {MOST_ROWS} rows: take a shorter --range or a longer --step",
            duration_text(range),
            duration_text(step.duration())
        )));
    }
    let progress = Progress::new("Reading", past.count() * recording.columns());
    client.record(recording, past, &|read| progress.advance(read)).await.map_err(|error| match error {
        RecordError::Query(error) => failure(error),
        error => Failure::Outside(error.into()),
    })
}

/// Where a trace goes.
enum Output {
    Stdout,
    /// A file that is whole or not there.
    File {
        folder: Folder,
        name: String,
    },
    /// Something that is no file, such as a pipe.
    Stream(PathBuf),
}

impl Output {
    /// Tries whether it can be written, so that a long run does not end in vain.
    fn prepare(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        // A link is followed, as a shell's > does.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                return Err(Failure::Input(anyhow!(
                    "{}: is a folder; name a file with --out",
                    path.display()
                )));
            }
            Ok(found) if !found.is_file() => return Ok(Self::Stream(path)),
            _ => {}
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = Folder::prepare(parent.unwrap_or(Path::new("."))).map_err(Failure::input)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self::File { folder, name })
    }

    fn write(&self, trace: &Trace) -> Result<(), Failure> {
        match self {
            Self::Stdout => stream(trace, io::stdout().lock()).context("standard output"),
            Self::Stream(path) => OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| stream(trace, file))
                .with_context(|| format!("cannot write {}", path.display())),
            Self::File { folder, name } => {
                let written = folder.write(name, |mut output| csv::write(trace, &mut output));
                written.map(|_| ()).map_err(anyhow::Error::new)
            }
        }
        .map_err(Failure::Outside)
    }
}

fn stream(trace: &Trace, output: impl Write) -> io::Result<()> {
    let mut output = BufWriter::with_capacity(1 << 16, output);
    match csv::write(trace, &mut output).and_then(|()| output.flush()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says on stderr what there is, as the trace may be on its way through a pipe.
fn tell(recorded: &Recorded, out: &Path) {
    let trace = &recorded.trace;
    let place = if out == Path::new("-") { String::new() } else { format!("{}: ", out.display()) };
    let missing: i64 = trace.gaps().map(|gap| gap.end.as_second() - gap.start.as_second()).sum();
    let gaps = match trace.gaps().count() {
        0 => "no gaps".to_owned(),
        1 => format!("1 gap of {}", duration_text(SignedDuration::from_secs(missing))),
        many => format!("{many} gaps, {} in sum", duration_text(SignedDuration::from_secs(missing))),
    };
    let (rows, step) = (trace.rows(), duration_text(trace.step().duration()));
    eprintln!("{place}{rows} rows of {step}, {gaps}, {} – {}", trace.start(), trace.last());
    let (mean, peak) = trace.mean_and_peak();
    eprintln!("{place}mean {mean}, peak {peak}");
    for (column, error) in &recorded.left_out {
        eprintln!("warning: the column {column} is left out: {error}");
    }
}
