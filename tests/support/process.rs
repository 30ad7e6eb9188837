//! A server process: killed when dropped, and by the kernel when the test
//! process dies.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel sends the signal of `PR_SET_PDEATHSIG` when the *thread* that
/// started a process ends, and a test's thread ends long before the process
/// does where several tests share a server. So one thread starts them all.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                drop(answer.send(command.spawn()));
            }
        });
        sender
    });
    let (answer, answered) = mpsc::channel();
    spawner.send((command, answer)).unwrap();
    answered.recv().unwrap()
}

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    output: PathBuf,
}

impl Process {
    /// Starts `program`; its errors go to `NAME.log` in the folder (after what is
    /// there already), its output to `NAME.out` (from the start).
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        folder: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = folder.join(format!("{name}.out"));
        // `setpriv` becomes the program: the process id is the program's.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments.into_iter().map(|argument| OsString::from(argument.as_ref())))
            .envs(environment.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(File::options().create(true).append(true).open(&log).unwrap());
        let child =
            spawn(command).unwrap_or_else(|error| panic!("cannot start {name} with setpriv: {error}"));
        Self { name: name.into(), child, log, output }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails the test when the process has ended, with the end of its log.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = self.log();
            let end: Vec<_> = log.lines().rev().take(12).collect();
            let end: Vec<_> = end.into_iter().rev().collect();
            panic!("{} ended with {status}:\n{}", self.name, end.join("\n"));
        }
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of the process itself; `None` when it goes on for longer.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal: `TERM`, `STOP`, `CONT` …
    pub fn signal(&mut self, signal: &str) {
        // Not after it has ended and been waited for: its id may be another's.
        if self.ended().is_none() {
            let sent = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
            assert!(sent.unwrap().success(), "cannot send {signal} to {}", self.name);
        }
    }

    /// As `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// CPU time used so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // After the name, which is in brackets and may hold anything; the clock
        // tick of Linux is 10 ms to user programs.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
