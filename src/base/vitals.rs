//! What a process takes of its machine: memory, time, descriptors.

use std::{fs, path::Path};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use crate::base::bounded;

/// What a process uses. What cannot be found out, as where /proc is missing, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// When the process began, in seconds since 1970-01-01 UTC.
    pub since: u64,
    /// The processor time that was used, in microseconds.
    pub cpu_us: u64,
    /// Memory in use, the process's own and shared.
    pub resident_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_fds: Option<u64>,
    /// How many descriptors may be open; `None`: any number.
    pub max_fds: Option<u64>,
}

/// The files that the numbers come from.
pub const SOURCES: [&str; 2] = ["/proc/self/status", "/proc/self/fd"];

/// The length of /proc/self/status, in bytes, is some 1,500; a process in many groups has more.
const MAX_STATUS: u64 = 256 * 1024;

impl Vitals {
    /// The numbers of this process now, which began at `since`.
    pub fn now(since: u64) -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let micros = |nanos: i64| u64::try_from(nanos / 1_000).unwrap_or(0);
        let [status, fds] = SOURCES.map(Path::new);
        let status = bounded::read(status, MAX_STATUS).unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        Self {
            since,
            cpu_us: u64::try_from(cpu.tv_sec).unwrap_or(0) * 1_000_000 + micros(cpu.tv_nsec),
            resident_bytes: number(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: number(&status, "Threads:"),
            open_fds: fs::read_dir(fds).ok().map(|open| {
                // One of them is the directory.
                (open.count() as u64).saturating_sub(1)
            }),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// Let `needed` files be open if they may: how many may, or `needed`, if that is less.
pub fn let_open(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let Some(now) = limit.current.filter(|now| *now < needed) else {
        return needed;
    };
    let wanted = limit.maximum.map_or(needed, |most| most.min(needed));
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_or(now, |()| wanted)
}

/// The number behind `field` (proc_pid_status(5)).
fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_status() {
        let status = "Name:\tVmRSS:\nVmRSS:\t   12345 kB\nThreads:\t7\nRssAnon:\t 1 kB\n";
        assert_eq!(number(status, "VmRSS:"), Some(12_345));
        assert_eq!(number(status, "Threads:"), Some(7));
        assert_eq!(number(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_is_alive() {
        let before = Vitals::now(7);
        let files: Vec<_> = (0..50)
            .map(|_| fs::File::open("/proc/self/status").unwrap())
            .collect();
        let now = Vitals::now(7);
        assert_eq!(now.since, 7);
        assert!(now.cpu_us >= before.cpu_us && now.cpu_us > 0);
        assert!(
            now.resident_bytes > Some(100_000) && now.threads >= Some(1),
            "{now:?}"
        );
        // Other tests open and close some meanwhile.
        assert!(now.open_fds >= Some(files.len() as u64), "{now:?}");
    }
}
