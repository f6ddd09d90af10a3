//! The families of metrics.
//!
//! Labels are names of the configuration and words of this program, never commits, runs or texts of clients. So the number of
//! series is a constant times the number of triggers and webhooks.

use super::text::{
    Kind::{Counter, Gauge, Histogram},
    Text, seconds,
};
use crate::base::{
    event::{BUCKETS, Daemon, Numbers, State},
    vitals::Vitals,
};

/// A webhook's path, the word of a result, and the number of its deliveries with that result.
pub(super) type Delivered = (String, &'static str, u64);

/// The values of all families.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// The daemon's answer, if there is one.
    pub(super) daemon: Option<&'a Daemon>,
    /// The triggers that this process's user may use.
    pub(super) triggers: &'a [Numbers],
    pub(super) deliveries: &'a [Delivered],
    /// Names that are kept until the daemon is back.
    pub(super) kept: usize,
    pub(super) own: &'a Vitals,
}

pub(super) fn render(told: &Told<'_>) -> String {
    let mut text = Text::default();
    text.one(
        "gitsocket_daemon_up",
        Gauge,
        "Whether the daemon answers.",
        u8::from(told.daemon.is_some()),
    );
    processes(&mut text, told);
    deliveries(&mut text, told);
    if let Some(daemon) = told.daemon {
        text.one(
            "gitsocket_jobs",
            Gauge,
            "How many runs may go on at a time.",
            daemon.jobs,
        );
        text.one(
            "gitsocket_reload_refused",
            Gauge,
            "Whether the configuration as it is now was refused, and the one before is in force.",
            u8::from(daemon.reload_refused.is_some()),
        );
        runs(&mut text, told.triggers);
        standings(&mut text, told.triggers);
        // A daemon of another version may have other buckets.
        if daemon.buckets_ms == BUCKETS {
            durations(&mut text, told.triggers);
        }
    }
    text.finish()
}

fn processes(text: &mut Text, told: &Told<'_>) {
    let daemon = told
        .daemon
        .map(|daemon| ("daemon", daemon.version.as_str(), &daemon.process));
    let web = ("web", env!("CARGO_PKG_VERSION"), told.own);
    let all: Vec<_> = daemon.into_iter().chain([web]).collect();
    let mut family = text.family(
        "gitsocket_build_info",
        Gauge,
        "The version of each process; always 1.",
    );
    for (process, version, _) in &all {
        family.sample(&[("process", process), ("version", version)], 1);
    }
    let mut family = text.family(
        "gitsocket_process_cpu_seconds_total",
        Counter,
        "The time of processors that the process has had.",
    );
    for (process, _, vitals) in &all {
        family.sample(&[("process", process)], seconds(vitals.cpu_us));
    }
    type Of = fn(&Vitals) -> Option<u64>;
    let rest: [(&'static str, &str, Of); 5] = [
        (
            "gitsocket_process_start_time_seconds",
            "When the process began, in seconds since 1970.",
            |vitals| Some(vitals.since),
        ),
        (
            "gitsocket_process_resident_memory_bytes",
            "Memory of the process that is in use.",
            |vitals| vitals.resident_bytes,
        ),
        ("gitsocket_process_threads", "Threads of the process.", |vitals| {
            vitals.threads
        }),
        (
            "gitsocket_process_open_fds",
            "Descriptors that the process has open.",
            |vitals| vitals.open_fds,
        ),
        (
            "gitsocket_process_max_fds",
            "Descriptors that the process may have open.",
            |vitals| vitals.max_fds,
        ),
    ];
    for (name, help, of) in rest {
        let mut family = text.family(name, Gauge, help);
        for (process, _, vitals) in &all {
            if let Some(value) = of(vitals) {
                family.sample(&[("process", process)], value);
            }
        }
    }
}

fn deliveries(text: &mut Text, told: &Told<'_>) {
    let mut family = text.family(
        "gitsocket_deliveries_total",
        Counter,
        "Deliveries to a webhook, by what came of them.",
    );
    for (webhook, result, count) in told.deliveries {
        family.sample(&[("webhook", webhook), ("result", result)], count);
    }
    text.one(
        "gitsocket_names_kept",
        Gauge,
        "Triggers that were asked for, and are said to the daemon once it is back.",
        told.kept,
    );
}

fn runs(text: &mut Text, triggers: &[Numbers]) {
    let mut family = text.family("gitsocket_runs_total", Counter, "Runs by their outcome.");
    for numbers in triggers {
        for (outcome, count) in numbers.tally.runs.by_outcome() {
            family.sample(
                &[("trigger", numbers.trigger.as_str()), ("outcome", outcome)],
                count,
            );
        }
    }
    let mut family = text.family(
        "gitsocket_fetched_bytes_total",
        Counter,
        "Bytes of packs that were received.",
    );
    for numbers in triggers {
        family.sample(
            &[("trigger", numbers.trigger.as_str())],
            numbers.tally.fetched_bytes,
        );
    }
}

/// The state of each trigger.
fn standings(text: &mut Text, triggers: &[Numbers]) {
    type Of = fn(&Numbers) -> Option<u64>;
    let all: [(&'static str, &str, Of); 10] = [
        ("gitsocket_runs_running", "Runs that go on.", |of| {
            Some(of.running)
        }),
        ("gitsocket_runs_waiting", "Runs that wait.", |of| Some(of.waiting)),
        (
            "gitsocket_failing",
            "Whether the trigger has been failing since its last success.",
            |of| Some(of.failing_since.is_some().into()),
        ),
        (
            "gitsocket_stuck",
            "Whether a run was given up on, and none can start until the kernel lets go of it.",
            |of| Some((of.state == State::Stuck).into()),
        ),
        (
            "gitsocket_hooks_pending",
            "Whether hooks have not yet succeeded for what is deployed.",
            |of| Some(of.hooks_pending.into()),
        ),
        (
            "gitsocket_held_commits",
            "Commits that were rolled back, and are not deployed again by themselves.",
            |of| Some(of.held),
        ),
        (
            "gitsocket_polls_unanswered",
            "Polls in a row that the remote has not answered.",
            |of| of.polls_unanswered,
        ),
        (
            "gitsocket_paused",
            "Whether it is paused, and deploys nothing.",
            |of| Some(of.paused.into()),
        ),
        (
            "gitsocket_last_success_timestamp_seconds",
            "When the last run ended that succeeded, in seconds since 1970.",
            |of| of.tally.succeeded,
        ),
        (
            "gitsocket_last_deploy_timestamp_seconds",
            "When what is deployed became so, in seconds since 1970.",
            |of| of.deployed,
        ),
    ];
    for (name, help, of) in all {
        let mut family = text.family(name, Gauge, help);
        for numbers in triggers {
            if let Some(value) = of(numbers) {
                family.sample(&[("trigger", numbers.trigger.as_str())], value);
            }
        }
    }
}

fn durations(text: &mut Text, triggers: &[Numbers]) {
    let mut family = text.family("gitsocket_run_duration_seconds", Histogram, "How long runs took.");
    let ran = |numbers: &&Numbers| numbers.tally.took.count() > 0;
    for numbers in triggers.iter().filter(ran) {
        let took = &numbers.tally.took;
        family.histogram(
            &[("trigger", numbers.trigger.as_str())],
            &BUCKETS,
            &took.counts,
            took.us,
        );
    }
    let mut family = text.family(
        "gitsocket_run_phase_duration_seconds",
        Histogram,
        "How long each phase of runs took, of those that came to it.",
    );
    for numbers in triggers {
        for (phase, took) in &numbers.tally.phases {
            family.histogram(
                &[("trigger", numbers.trigger.as_str()), ("phase", phase)],
                &BUCKETS,
                &took.counts,
                took.us,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::{
        event::{Histogram, Runs, Tally},
        name::TriggerName,
    };

    fn numbers(trigger: &str) -> Numbers {
        let took = Histogram {
            counts: [1, 2, 0, 0, 0, 0, 0, 0, 1],
            us: 1_250_000,
        };
        Numbers {
            trigger: TriggerName::new(trigger).unwrap(),
            state: State::Running,
            running: 1,
            waiting: 0,
            failing_since: Some(1_795_000_000),
            hooks_pending: true,
            held: 2,
            polls_unanswered: Some(5),
            paused: false,
            deployed: None,
            tally: Tally {
                runs: Runs {
                    updated: 3,
                    failed: 1,
                    ..Runs::default()
                },
                succeeded: Some(1_794_000_000),
                fetched_bytes: 4096,
                took: took.clone(),
                phases: [("fetch".to_owned(), took)].into(),
            },
        }
    }

    fn daemon() -> Daemon {
        Daemon {
            version: "0.1.0".into(),
            jobs: 4,
            reload_refused: None,
            buckets_ms: BUCKETS.into(),
            process: Vitals {
                since: 1,
                cpu_us: 2_500_000,
                ..Vitals::default()
            },
        }
    }

    fn rendered(daemon: Option<&Daemon>, triggers: &[Numbers]) -> String {
        render(&Told {
            daemon,
            triggers,
            deliveries: &[("/hooks/site".into(), "accepted", 7)],
            kept: 1,
            own: &Vitals::default(),
        })
    }

    #[test]
    fn all_that_is_told() {
        let text = rendered(Some(&daemon()), &[numbers("shop"), numbers("site")]);
        for line in [
            "gitsocket_daemon_up 1",
            r#"gitsocket_build_info{process="daemon",version="0.1.0"} 1"#,
            r#"gitsocket_process_cpu_seconds_total{process="daemon"} 2.5"#,
            r#"gitsocket_deliveries_total{webhook="/hooks/site",result="accepted"} 7"#,
            "gitsocket_names_kept 1",
            "gitsocket_reload_refused 0",
            r#"gitsocket_runs_total{trigger="site",outcome="updated"} 3"#,
            r#"gitsocket_runs_total{trigger="site",outcome="rolled-back"} 0"#,
            r#"gitsocket_failing{trigger="shop"} 1"#,
            r#"gitsocket_stuck{trigger="site"} 0"#,
            r#"gitsocket_polls_unanswered{trigger="site"} 5"#,
            r#"gitsocket_last_success_timestamp_seconds{trigger="site"} 1794000000"#,
            r#"gitsocket_run_phase_duration_seconds_bucket{trigger="site",phase="fetch",le="0.05"} 3"#,
            r#"gitsocket_run_phase_duration_seconds_count{trigger="site",phase="fetch"} 4"#,
            r#"gitsocket_run_duration_seconds_sum{trigger="site"} 1.25"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // What is not known has no number.
        assert!(!text.contains("gitsocket_last_deploy_timestamp_seconds{"));
        assert!(!text.contains("gitsocket_process_open_fds{"));
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let names = series.iter().map(|line| line.rsplit_once(' ').unwrap().0);
        assert_eq!(
            names.collect::<BTreeSet<_>>().len(),
            series.len(),
            "none is there twice"
        );
    }

    #[test]
    fn without_a_daemon() {
        let text = rendered(None, &[]);
        assert!(text.contains("\ngitsocket_daemon_up 0\n"), "{text}");
        assert!(text.contains("gitsocket_deliveries_total{"), "{text}");
        assert!(
            !text.contains("trigger=") && !text.contains("\"daemon\""),
            "{text}"
        );
        let mut other = daemon();
        other.buckets_ms.pop();
        let text = rendered(Some(&other), &[numbers("site")]);
        assert!(
            !text.contains("_bucket{") && text.contains("gitsocket_runs_total{"),
            "{text}"
        );
    }
}
