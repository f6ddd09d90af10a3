//! What a run costs inside a process that is warm: `cargo bench --bench run`.
//!
//! The whole of a run over a local path, from the lock to the last hook, and the reading of a configuration. How this
//! compares with git is the business of `compare`.

#![allow(clippy::unwrap_used, missing_docs, reason = "this is a benchmark")]

#[path = "../tests/support/source.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod source;

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use gitsocket::{
    base::{
        event::{Outcome, Sink},
        name::RunId,
        watch::{Stop, Watch},
    },
    config::{self, Config, Target},
    deploy::{
        hook::{Groups, Starter},
        run::{self, Context, Interrupted},
        sandbox::Sandbox,
    },
    git::{lock::Recovered, transport::Connections, worktree::Cache},
};
use source::{Entry, Source};

/// A repository of `files` files in directories of ten, and the target that deploys it.
fn stage(dir: &Path, files: usize) -> (Source, Arc<Target>) {
    let mut source = Source::new(&dir.join("repo.git"));
    commit(&mut source, files, 0);
    let text = "(triggers: {\"site\": (repo: \"repo.git\", branch: \"main\", path: \"site\")})".into();
    let file = dir.join("config.ron");
    let config = Config::parse(&config::Source { file, text }).unwrap();
    (source, config.triggers["site"].clone())
}

/// A commit in which ten files differ from those of another `round`.
fn commit(source: &mut Source, files: usize, round: usize) {
    let content = |file: usize| match file % (files / 10) {
        0 => format!("{file} {round}"),
        _ => file.to_string(),
    };
    let paths: Vec<_> = (0..files).map(|file| format!("d{}/f{file}", file / 10)).collect();
    let entries = paths.iter().enumerate();
    source.commit(entries.map(|(file, path)| (path.as_str(), Entry::File(content(file).into()))));
}

fn run(target: &Target, connections: &Connections, cache: &Cache, recovered: &Recovered) -> Outcome {
    let context = Context {
        run: RunId::new(),
        peer: "bench".into(),
        task: gitsocket::base::event::Task::default(),
        umask: 0o022,
        dry_run: false,
        groups: Groups::default(),
        starter: Starter::Here,
        sandbox: Sandbox::off(),
        connections: connections.clone(),
        watch: Watch::new(target.run_timeout, Stop::default(), None),
        cache: cache.clone(),
        target_dirs: gitsocket::deploy::target_dirs::TargetDirs::default(),
        recovered: recovered.clone(),
        interrupted: Interrupted::new(|_| {}),
        events: Sink::new(|event| {
            black_box(event);
        }),
    };
    run::execute(target, &context).outcome
}

fn runs(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (connections, cache) = (Connections::new(Duration::from_secs(60)), Cache::default());
    let recovered = Recovered::default();
    for files in [200, 2_000, 20_000] {
        let dir = dir.path().join(files.to_string());
        std::fs::create_dir(&dir).unwrap();
        let (mut source, target) = stage(&dir, files);
        assert!(matches!(
            run(&target, &connections, &cache, &recovered),
            Outcome::Updated
        ));
        c.bench_function(&format!("nothing new/{files}"), |b| {
            b.iter(|| {
                assert!(matches!(
                    run(&target, &connections, &cache, &recovered),
                    Outcome::UpToDate
                ))
            });
        });
        let mut round = 0;
        c.bench_function(&format!("ten files/{files}"), |b| {
            b.iter_batched(
                || {
                    round += 1;
                    commit(&mut source, files, round);
                },
                |()| {
                    assert!(matches!(
                        run(&target, &connections, &cache, &recovered),
                        Outcome::Updated
                    ))
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
}

fn configuration(c: &mut Criterion) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config/valid.ron");
    let text = std::fs::read_to_string(&file).unwrap();
    let source = config::Source { file, text };
    c.bench_function("configuration", |b| {
        b.iter(|| Config::parse_with(black_box(&source), &|_| Some("/run/x".into())).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = runs, configuration
}
criterion_main!(benches);
