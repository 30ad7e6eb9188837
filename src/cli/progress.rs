//! How far a long command is, for people who wait at a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes less time than this is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr if that is a terminal, and nothing otherwise. It goes when it is dropped.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    since: Instant,
}

impl Progress {
    /// A bar for `total` parts of what `title` says.
    pub(super) fn new(title: &'static str, total: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg} {bar:40} {percent:>3} %, {eta} left");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total as u64).with_style(style).with_message(title)
        });
        Self { bar, since: Instant::now() }
    }

    /// So many more parts are done.
    pub(super) fn advance(&self, parts: usize) {
        let Some(bar) = &self.bar else { return };
        if self.since.elapsed() >= PATIENCE {
            bar.inc(parts as u64);
        } else {
            // Counted, but not drawn.
            bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
            bar.inc(parts as u64);
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
