//! What the kernel says of a daemon: of its process and of all that these have started.

use std::{fs, path::Path, time::Duration};

/// Sums over a process and its descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    pub processes: usize,
    pub threads: usize,
    pub descriptors: usize,
    /// Resident memory, in KiB.
    pub resident: usize,
    /// The same, each shared page divided among those who share it.
    pub proportional: usize,
    /// The most that was ever resident, in KiB.
    pub peak: usize,
    /// How often a thread went to sleep of its own accord: at least as often as it was woken.
    pub sleeps: usize,
    /// The processor's time, in the kernel and outside of it.
    pub busy: Duration,
}

impl Figures {
    pub fn of(pid: u32) -> Self {
        let mut all = Self::default();
        for pid in family(pid) {
            let process = Path::new("/proc").join(pid.to_string());
            let status = read(&process.join("status"));
            all.processes += 1;
            all.threads += number(&status, "Threads:");
            all.resident += number(&status, "VmRSS:");
            all.peak += number(&status, "VmHWM:");
            all.proportional += number(&read(&process.join("smaps_rollup")), "Pss:");
            all.descriptors += entries(&process.join("fd")).len();
            all.busy += busy(&read(&process.join("stat")));
            for thread in entries(&process.join("task")) {
                let status = process.join("task").join(thread).join("status");
                all.sleeps += number(&read(&status), "voluntary_ctxt_switches:");
            }
        }
        all
    }
}

/// `pid` and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = entries(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter_map(|pid: u32| {
            let stat = read(Path::new(&format!("/proc/{pid}/stat")));
            // The name, in parentheses, may hold anything.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            Some((pid, parent.parse().ok()?))
        })
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }
    family
}

/// What /proc/PID/stat, `stat`, says of the processor's time: utime and stime, in hundredths of a second, see proc(5).
fn busy(stat: &str) -> Duration {
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return Duration::ZERO;
    };
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse().ok())
        .map(|ticks: u64| Duration::from_millis(ticks * 10))
        .sum()
}

/// Nothing, if it has just ended.
fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// The number in the line of `text` that begins with `name`.
fn number(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
