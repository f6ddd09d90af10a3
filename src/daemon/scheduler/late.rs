//! Runs that do not end in time: they are told to end, and abandoned if they do not.
//!
//! A thread that the kernel holds (a dead NFS or FUSE mount, a frozen disk) cannot be ended. So its run ends without the
//! thread, its job goes to other runs, and its target stays locked until the thread comes back.

use std::{
    io,
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Run, Scheduler, stuck::refusal};
use crate::{
    base::{
        event::{self, Done, Stuck},
        fault::Failure,
        name::TriggerName,
        watch::{self, Watch},
    },
    config::Target,
};

/// The job of a run, one of `jobs`.
struct Lease {
    scheduler: Weak<Scheduler>,
    name: TriggerName,
}

impl watch::Job for Lease {
    fn lend(&self) {
        if let Some(scheduler) = self.scheduler.upgrade() {
            scheduler.queue().lend(&self.name);
            // Other runs may be waiting for a job.
            scheduler.stop.wake();
            scheduler.start();
        }
    }

    fn take_back(&self) -> bool {
        let scheduler = self.scheduler.upgrade();
        scheduler.is_some_and(|scheduler| scheduler.queue().take_back(&self.name))
    }
}

impl Scheduler {
    /// The deadline of a run of `name` that begins now.
    pub(super) fn watch(self: &Arc<Self>, name: &TriggerName) -> Watch {
        let lease = Lease {
            scheduler: Arc::downgrade(self),
            name: name.clone(),
        };
        Watch::new(
            self.targets[name].run_timeout,
            self.stop.clone(),
            Some(Arc::new(lease)),
        )
    }

    /// Watch the deadlines of the runs, on a thread that lives as long as the process.
    pub(super) fn look_after_runs(self: &Arc<Self>) -> io::Result<()> {
        let scheduler = self.clone();
        let thread = thread::Builder::new().name("watch".into());
        thread.spawn(move || {
            loop {
                scheduler.alarm.clear();
                let next = scheduler.look();
                scheduler.alarm.wait(next);
            }
        })?;
        Ok(())
    }

    /// Tell runs that their time is over, and abandon those that were told long ago. Gives when to look again.
    fn look(self: &Arc<Self>) -> Option<Instant> {
        let (mut next, mut lost) = (None::<Instant>, Vec::new());
        for (name, run) in self.queue().going_on() {
            let Some(watch) = run.watch.get() else { continue };
            let at = match watch.late() {
                None => watch.until(),
                Some(late) => {
                    watch.end();
                    if late >= self.grace {
                        lost.push((name.clone(), run.clone()));
                        continue;
                    }
                    watch.until() + self.grace
                }
            };
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        for (name, run) in lost {
            let scheduler = self.clone();
            // On another thread, since this writes to a disk, which may hang.
            let thread = thread::Builder::new().name(format!("end {name}"));
            if let Err(err) = thread.spawn(move || scheduler.give_up(&name, &run)) {
                tracing::error!("cannot start a thread to give up on a run: {err}");
                next = Some(Instant::now() + RETRY);
            }
        }
        next
    }

    /// Abandon the thread of the run: the run ends without it.
    fn give_up(self: &Arc<Self>, name: &TriggerName, run: &Run) {
        let Some(watch) = run.watch.get() else { return };
        let stuck = Stuck {
            since: event::now(),
            step: watch.step(),
            run: run.journal.run().clone(),
        };
        let next = {
            let mut queue = self.queue();
            if run.ended.swap(true, Ordering::AcqRel) {
                return;
            }
            queue.give_up(name, stuck.clone())
        };
        self.stop.wake();
        self.start();
        let target = &self.targets[name];
        let taken = watch.limit() + watch.late().unwrap_or_default();
        let done = Done {
            ms: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
            ..Done::failed(name.as_str(), watch::stuck(watch, target.site.root()))
        };
        self.tell(name, run, done);
        for next in next {
            next.ended.store(true, Ordering::Release);
            self.tell(
                name,
                &next,
                Done::failed(name.as_str(), refusal(target, name, &stuck)),
            );
        }
    }

    /// The thread of an abandoned run has come back.
    pub(super) fn came_back(self: &Arc<Self>, name: &TriggerName, done: &Done) {
        self.queue().came_back(name);
        self.timer.run_ended(name, false);
        self.changed.notify(usize::MAX);
        let trigger = name.as_str();
        tracing::warn!(trigger, "the run that was stuck has come back: {}", done.line());
    }

    /// Why no run of `target` can start, if a run at the same path is stuck.
    pub(super) fn stuck_at(&self, target: &Target) -> Option<Failure> {
        let queue = self.queue();
        let mut stuck = queue.all_stuck();
        let (holder, stuck) =
            stuck.find(|(holder, _)| self.targets[*holder].site.key() == target.site.key())?;
        Some(refusal(target, holder, stuck))
    }
}

/// When to try again if no thread could be started to abandon a run.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use futures_lite::future::block_on;

    use super::*;
    use crate::{
        base::{
            control::Refusal,
            event::{Outcome, State, Task},
            fault::Kind,
        },
        config::{self, Config},
        daemon::{
            journal::Journal,
            peer::Peer,
            scheduler::{Process, Run, Wanted},
            store::Store,
        },
        deploy::{
            hook::{Guard, Starter},
            run,
            sandbox::Sandbox,
            target_dirs::TargetDirs,
        },
    };

    const TRIGGERS: &str = r#"(jobs: 1, triggers: {
        "held": (repo: "r", path: "held", run_timeout: "20ms"),
        "same": (repo: "r", path: "held"),
        "free": (repo: "r", path: "free"),
    })"#;

    /// Reads the fifo that is the target, whatever the run's time is.
    fn read(target: &Target, _: &run::Context) -> Done {
        let outcome = match fs::read(target.site.root().as_path()) {
            Ok(_) => Outcome::UpToDate,
            Err(_) => Outcome::Updated,
        };
        Done::answered(target.trigger.as_str(), outcome)
    }

    fn scheduler(dir: &Path) -> Arc<Scheduler> {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("held"), fifo, mode, 0).unwrap();
        let file = dir.join("config.ron");
        let text = TRIGGERS.to_owned();
        let config = Config::parse(&config::Source { file, text }).unwrap();
        let process = Process {
            umask: 0o022,
            sandbox: Sandbox::off(),
            starter: Starter::Here,
            guard: Guard::default(),
            refusal: Refusal::default(),
            target_dirs: TargetDirs::default(),
            store: Store::new(Some(dir.join("state")), &dir.join("config.ron")),
        };
        let grace = Duration::from_millis(20);
        Scheduler::of(&config, process, (read, grace))
    }

    fn ended(journal: &Arc<Journal>) -> Done {
        let mut follower = journal.follow();
        loop {
            if let event::Event::Done(done) = block_on(follower.next()).event {
                return done;
            }
        }
    }

    #[test]
    fn a_failure_that_is_known_is_said_at_once_and_only_to_those_who_found_it() {
        let dir = crate::machine::tempdir().unwrap();
        let scheduler = scheduler(dir.path());
        let [same, free] = ["same", "free"].map(|name| TriggerName::new(name).unwrap());
        let known = Failure::new(Kind::Timeout, "silent", None);
        let fail = || scheduler.accept_run(&free, Run::failed(&free, known.clone(), "timer"));
        let done = ended(&fail().unwrap().journal);
        assert_eq!(done.failure, Some(known.clone()));
        let target = &scheduler.targets[&free];
        block_on(scheduler.drained());
        let (last, standing, _) = scheduler.history.counted(target);
        assert_eq!(last.unwrap().past.done.failure, Some(known.clone()));
        assert!(standing.failing.is_some());

        // While it waits for the only job, another one wants a run.
        scheduler.accept(&same, Task::Update, "other").unwrap();
        let waiting = fail().unwrap();
        let joined = scheduler.accept(&free, Task::Update, "other").unwrap();
        assert!(Arc::ptr_eq(&waiting.journal, &joined.journal));
        fs::write(dir.path().join("held"), "").unwrap();
        assert_eq!(ended(&joined.journal).outcome, Outcome::Updated);
        block_on(scheduler.drained());
    }

    #[test]
    fn a_thread_that_does_not_come_back_is_given_up_on_until_it_does() {
        let dir = crate::machine::tempdir().unwrap();
        let scheduler = scheduler(dir.path());
        let root = Peer::of_unix(&std::os::unix::net::UnixStream::pair().unwrap().0);
        let say = |name: &str| {
            let wanted = Wanted {
                task: Task::Update,
                note: None,
                waits: true,
            };
            scheduler.trigger(&root, &TriggerName::new(name).unwrap(), wanted)
        };
        let held = TriggerName::new("held").unwrap();
        let done = ended(&say("held").unwrap());
        let failure = done.failure.unwrap();
        assert_eq!(failure.kind, Kind::Timeout);
        assert!(
            failure.message.ends_with("is stuck in the step lock"),
            "{}",
            failure.message
        );
        assert_eq!(scheduler.queue().state(&held), State::Stuck);
        for name in ["held", "same"] {
            assert_eq!(say(name).unwrap_err().kind, Kind::Resources, "{name}");
        }
        assert_eq!(
            ended(&say("free").unwrap()).outcome,
            Outcome::Updated,
            "its job is free"
        );
        block_on(scheduler.drained());
        assert!(
            scheduler.summary().ends_with("no run, 1 stuck"),
            "{}",
            scheduler.summary()
        );

        fs::write(dir.path().join("held"), "").unwrap();
        loop {
            let changed = scheduler.changed();
            if scheduler.queue().state(&held) == State::Idle {
                break;
            }
            block_on(changed);
        }
        fs::remove_file(dir.path().join("held")).unwrap();
        assert_eq!(ended(&say("held").unwrap()).outcome, Outcome::Updated);
    }
}
