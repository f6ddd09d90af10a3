//! `gitsocket once`: run triggers here and now, without a daemon.

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use argh::{ArgsInfo, FromArgs};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{
    Show, ad_hoc, fail, fail_named, given, load, say, start_guard, trigger_name, unknown_trigger, usage,
};
use crate::{
    base::{
        event::{Done, Event, Record, Sink, Task},
        fault::{Failure, Kind},
        name::RunId,
        watch::{self, Stop, Watch},
    },
    config::{Config, Target},
    daemon::peer::Accounts,
    deploy::{
        hook::{self, Groups, Guard, Starter},
        run::{self, Context, Interrupted},
        sandbox::Sandbox,
        target_dirs,
    },
    git::{lock::Recovered, transport::Connections, worktree::Cache},
};

mod root;
mod task;

/// deploy here and now, without a daemon; a daemon's log and status do not show these runs
#[derive(FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "once",
    note = "`gitsocket --help` lists the exit statuses."
)]
pub(super) struct Arguments {
    /// the triggers' names; with --rollback one name, and after it a commit or a release to go back to
    #[argh(positional, arg_name = "NAME")]
    names: Vec<String>,
    /// run every trigger of the configuration
    #[argh(switch)]
    all: bool,
    /// the configuration; default: $GITSOCKET_CONFIG, ./config.ron, /etc/gitsocket/config.ron
    #[argh(option, short = 'c', arg_name = "FILE")]
    config: Option<PathBuf>,
    /// fetch, list each file or directory that would be written, deleted or cleaned, and change nothing in the worktree
    #[argh(switch)]
    dry_run: bool,
    /// let the first run delete what is edited, untracked or never pushed in a worktree that gitsocket has not made
    #[argh(switch)]
    adopt: bool,
    /// go back to the commit or release after NAME; default: the last good one before the live one. The commit that is
    /// live now is then held: no run deploys it again until you retry
    #[argh(switch)]
    rollback: bool,
    /// deploy the newest commit, even if it is held because it was rolled back
    #[argh(switch)]
    retry: bool,
    /// as root: go on even if the files or the repository belong to another user
    #[argh(switch)]
    as_root: bool,
    /// print each event as a line of JSON
    #[argh(switch)]
    json: bool,
    /// print only the result of each run
    #[argh(switch)]
    quiet: bool,
    /// without a configuration: update the existing clone DIR, as the trigger `default`
    #[argh(option, short = 'g', arg_name = "DIR")]
    git: Option<PathBuf>,
    /// with -g: the remote to fetch from; default: origin
    #[argh(option, short = 'r', arg_name = "REMOTE")]
    remote: Option<String>,
    /// with -g: the branch; default: the branch of HEAD
    #[argh(option, short = 'b', arg_name = "BRANCH")]
    branch: Option<String>,
}

pub(super) fn run(arguments: &Arguments, umask: u32) -> Result<ExitCode, ExitCode> {
    let show = Arc::new(if arguments.dry_run {
        Show::rehearsal(arguments.json, arguments.quiet)
    } else {
        Show::new(arguments.json, arguments.quiet)
    });
    let config = match ad_hoc::Options::from(
        &arguments.git,
        &arguments.remote,
        &arguments.branch,
        arguments.adopt,
        &arguments.config,
    ) {
        Ok(None) => load(arguments.config.as_ref()).map_err(fail),
        Ok(Some(options)) => ad_hoc::config(&options).map_err(fail),
        Err(message) => Err(usage(message)),
    }?;
    let (task, names) = task::of(arguments)?;
    let targets = choose(arguments, names, &config, &show)?;
    let target_dirs = target_dirs::look(&config).map_err(fail)?;
    let context = Context {
        run: RunId::none(),
        peer: peer(&task).into(),
        task,
        umask,
        dry_run: arguments.dry_run,
        groups: Groups::new(guard(arguments, &targets)),
        starter: Starter::Here,
        sandbox: Sandbox::off(),
        connections: Connections::new(config.keep_alive),
        watch: Watch::new(Duration::ZERO, Stop::default(), None),
        cache: Cache::beside(target_dirs.others().clone()),
        target_dirs,
        recovered: Recovered::default(),
        interrupted: Interrupted::new(|_| {}),
        events: Sink::new(|_| {}),
    };
    if let Err(err) = stop_with_signals(context.groups.clone()) {
        say(&format!(
            "cannot receive signals: {err}; hooks will go on if this process is stopped"
        ));
    }
    // The first that fails gives the exit status, but the others are run all the same.
    let exits: Vec<u8> = targets
        .iter()
        .map(|target| match root::refused(target, arguments) {
            Some(failure) => fail_run(&show, RunId::new(), target, failure),
            None => run_one(target, &context, &show),
        })
        .collect();
    let failed = exits.into_iter().find(|exit| *exit != 0);
    Ok(ExitCode::from(failed.unwrap_or(0)))
}

/// Who runs it: by name, where that is kept with what is held.
fn peer(task: &Task) -> String {
    let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
    let accounts = Accounts::default();
    let look = accounts.look();
    let name = match task {
        Task::Update => None,
        _ => look.user(uid),
    };
    let name = name.map(|name| format!("{name} "));
    format!("once {}uid={uid} pid={pid}", name.unwrap_or_default())
}

/// A guard for the hooks, where there are some: it costs more than a run that finds nothing new.
fn guard(arguments: &Arguments, targets: &[Arc<Target>]) -> Guard {
    if arguments.dry_run
        || !targets
            .iter()
            .any(|target| hook::may_run(target, &target.site.git_dir()))
    {
        return Guard::default();
    }
    start_guard()
}

/// Stop at once at SIGINT or SIGTERM, and hooks with us: each is a process group of its own, which the
/// terminal's Ctrl-C does not reach, and would go on beside those of the next run. The next run does the rest.
fn stop_with_signals(groups: Groups) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            groups.kill();
            // As a shell reports it.
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// The targets to run. No run begins if one of the names is unknown.
fn choose(
    arguments: &Arguments,
    names: &[String],
    config: &Config,
    show: &Show,
) -> Result<Vec<Arc<Target>>, ExitCode> {
    let all = || {
        let all = config.triggers.values();
        all.map(|target| adopted(target, arguments.adopt)).collect()
    };
    match (arguments.all || arguments.git.is_some(), names) {
        (true, []) => Ok(all()),
        (true, _) if arguments.git.is_some() => {
            Err(usage("with -g there is one trigger only; leave out the names"))
        }
        (true, _) => Err(usage("give names or --all, not both")),
        (false, []) => Err(usage(&format!(
            "the trigger's name is missing; there are: {}",
            given::names(config)
        ))),
        (false, names) => names
            .iter()
            .map(|name| {
                let name = trigger_name(show, name)?;
                let target = config.triggers.get(&name);
                let target = target.map(|target| adopted(target, arguments.adopt));
                target.ok_or_else(|| fail_named(show, name.as_str(), unknown_trigger(name.as_str(), config)))
            })
            .collect(),
    }
}

/// `target`, which may `adopt` its worktree even if the configuration does not allow it.
fn adopted(target: &Arc<Target>, adopt: bool) -> Arc<Target> {
    if !adopt || target.adopt {
        return target.clone();
    }
    Arc::new(Target {
        adopt,
        ..Target::clone(target)
    })
}

/// Run `target` to its end, on a thread that is left alone where the kernel holds it.
fn run_one(target: &Arc<Target>, context: &Context, show: &Arc<Show>) -> u8 {
    let run = RunId::new();
    let context = Context {
        run: run.clone(),
        // A signal ends this process at once.
        watch: Watch::new(target.run_timeout, Stop::default(), None),
        events: Sink::new({
            let (show, run) = (show.clone(), run.clone());
            move |event| {
                show.record(&Record {
                    run: run.clone(),
                    event,
                });
            }
        }),
        ..context.clone()
    };
    let watch = context.watch.clone();
    let (sender, ended) = mpsc::channel();
    let spawned = thread::Builder::new().name("run".into()).spawn({
        let target = target.clone();
        move || {
            sender.send(run::execute(&target, &context).exit).ok();
            if !context.dry_run
                && let Err(failure) = run::tidy(&target, &context.sandbox)
            {
                say(&format!(
                    "maintenance of {} failed: {}",
                    target.site.path, failure.message
                ));
            }
        }
    });
    if let Err(err) = spawned {
        let message = format!("cannot start a thread for the run: {err}");
        let help = Some("raise the limit of processes of this user");
        return fail_run(show, run, target, Failure::new(Kind::Resources, message, help));
    }
    let exit = ended.recv_timeout(watch.left()).or_else(|early| match early {
        RecvTimeoutError::Timeout => {
            watch.end();
            ended.recv_timeout(watch::GRACE)
        }
        RecvTimeoutError::Disconnected => Err(early),
    });
    match exit {
        Ok(exit) => {
            // Until it has tidied. To be killed does no harm there.
            ended.recv_timeout(target.run_timeout).ok();
            exit
        }
        Err(RecvTimeoutError::Timeout) => {
            fail_run(show, run, target, watch::stuck(&watch, target.site.root()))
        }
        Err(RecvTimeoutError::Disconnected) => {
            let message = "the run stopped at a bug of gitsocket";
            let help = Some("please report it, with the lines about the panic");
            fail_run(show, run, target, Failure::new(Kind::Internal, message, help))
        }
    }
}

/// The run has not come to an end by itself.
fn fail_run(show: &Show, run: RunId, target: &Target, failure: Failure) -> u8 {
    let done = Done::failed(target.trigger.as_str(), failure);
    let exit = done.exit;
    show.record(&Record {
        run,
        event: Event::Done(done),
    });
    exit
}
