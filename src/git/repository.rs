//! Opens and makes repositories so that nothing but their own data counts.
//!
//! No system, global or environment configuration is read, no program that a configuration names is
//! ever run, and what a hostile `.git/config` could redirect (worktree, hooks, alternates of
//! configuration) is overridden. Everything that opens a repository goes through here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gix::{error::ErrorExt as _, hashtable::HashSet};

use crate::{
    base::{
        bounded,
        fault::{Blame, Kind, kind_of_io},
    },
    git::large::LARGE,
};

mod edit;
mod format;
mod look;
mod marks;
mod sharing;
mod upstream;

pub use edit::edit_ref;
pub use format::Unsupported;
use look::Layout;
pub use look::Trap;
pub use marks::Marks;
pub use sharing::Sharing;
pub use upstream::Upstream;

/// A repository could not be opened or made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    #[error("{path} is not a usable git repository: {reason}")]
    #[diagnostic(help(
        "repair it with git; or move it away together with the files that were deployed from it, and the next run clones again"
    ))]
    Open { path: PathBuf, reason: String },
    #[error("the git repository at {path} cannot be worked with: {unsupported}")]
    #[diagnostic(help(
        "{}",
        unsupported.advice(
            "let the git that wrote it undo that; \
             or move it away together with the files that were deployed from it, and the next run clones again"
        )
    ))]
    Format { path: PathBuf, unsupported: Unsupported },
    #[error("{git_dir} is not a usable git repository: {trap}")]
    #[diagnostic(help(
        "see who put it there, and remove it or restore it from a backup; \
         where the whole target is moved away, the next run clones it"
    ))]
    Trap { git_dir: PathBuf, trap: Trap },
    #[error("cannot create a git repository at {path}: {source}")]
    #[diagnostic(help("the user that gitsocket runs as must be able to write there"))]
    Init { path: PathBuf, source: std::io::Error },
}

impl Blame for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Open { .. } | Self::Format { .. } | Self::Trap { .. } => Kind::Repository,
            Self::Init { source, .. } => kind_of_io(source),
        }
    }
}

/// Settings that no repository may change: they are read after its own configuration.
const OVERRIDES: [&str; 14] = [
    "committer.name=gitsocket",
    "committer.email=gitsocket@localhost",
    "core.logAllRefUpdates=true",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.ignoreCase=false",
    "core.precomposeUnicode=false",
    // What git writes to save time may be damaged, or a trap, and says nothing that is not said elsewhere.
    "core.commitGraph=false",
    "core.multiPackIndex=false",
    // Replacements are local, and what is read by an id is stored, sent and deployed by that id.
    "core.useReplaceRefs=false",
    "index.skipHash=false",
    "gitoxide.userAgent=git/gitsocket",
];

/// How repositories are opened: isolated, and trusted as far as reading them goes.
fn options() -> gix::open::Options {
    gix::open::Options::isolated()
        .with(gix::sec::Trust::Full)
        .strict_config(false)
        .config_overrides(
            OVERRIDES
                .map(str::to_owned)
                .into_iter()
                // Whatever is larger is read by `large`.
                .chain([format!("gitoxide.objects.allocLimit={LARGE}")]),
        )
}

/// Open the repository whose git directory is exactly `git_dir`: nothing is searched for.
pub fn open(git_dir: &Path) -> Result<gix::Repository, Error> {
    let layout = Layout::of(git_dir)
        .and_then(|layout| {
            layout.look()?;
            layout.look_at_lenders()?;
            Ok(layout)
        })
        .map_err(|trap| Error::Trap {
            git_dir: git_dir.into(),
            trap,
        })?;
    let path = || git_dir.into();
    open_known(git_dir, &layout)
        .map_err(|unsupported| Error::Format {
            path: path(),
            unsupported,
        })?
        .map_err(|err| Error::Open {
            path: path(),
            reason: malformed(&layout).unwrap_or_else(|| reason(&err)),
        })
}

/// The configuration that git would not understand, if there is one: gitoxide would show what is in it, and that may be anything.
fn malformed(layout: &Layout) -> Option<String> {
    let files = [
        layout.common().join("config"),
        layout.git_dir.join("config.worktree"),
    ];
    let is_malformed = |file: &&PathBuf| {
        let text = bounded::read(file, look::CONFIG).unwrap_or_default();
        let meta = gix::config::file::Metadata::from(gix::config::Source::Local);
        gix::config::File::from_bytes_no_includes(&text, meta, Default::default()).is_err()
    };
    let file = files.iter().find(is_malformed)?;
    Some(format!(
        "{} is not in the syntax of git-config(1)",
        file.display()
    ))
}

/// Open the repository at `path`, unless it is of a format that is not known.
fn open_known(path: &Path, layout: &Layout) -> Result<Result<gix::Repository, gix::Error>, Unsupported> {
    let opened = options()
        .object_store_slots(slots())
        .open_path_as_is(true)
        .open(path);
    let repo: gix::Repository = match opened {
        Ok(repo) => repo.into(),
        // The format may be why.
        Err(err) => {
            let config = layout.common().join("config");
            if let Ok(config) = gix::config::File::from_path_no_includes(config, gix::config::Source::Local) {
                format::check(&config)?;
            }
            return Ok(Err(err));
        }
    };
    format::check(repo.config_snapshot().plumbing())?;
    Ok(Ok(repo))
}

/// Look at the reflog that a change of the ref `name` is written to, before gitoxide opens it; if it is followed
/// (`deref`), at that of the ref that it leads to, too.
pub fn look_at_logs(repo: &gix::Repository, name: &str, deref: bool) -> Result<(), Trap> {
    let leads_to = match deref.then(|| repo.refs.try_find(name)) {
        Some(Ok(Some(found))) => found.target.try_name().map(|name| name.as_bstr().to_string()),
        _ => None,
    };
    let names = [Some(name), leads_to.as_deref()];
    names.into_iter().flatten().try_for_each(|name| {
        let dir = match name {
            "HEAD" => repo.git_dir(),
            _ => repo.common_dir(),
        };
        look::log(&dir.join("logs").join(name))
    })
}

/// The names in a git directory that make it one, see gitrepository-layout(5).
const LAYOUT: [&str; 6] = [
    "objects/info",
    "objects/pack",
    "refs/heads",
    "refs/tags",
    "info",
    "hooks",
];

/// Make an empty repository at `git_dir`, with `config` as its configuration.
///
/// No template is used, so it holds no sample hooks.
pub fn init(git_dir: &Path, config: &str) -> Result<gix::Repository, Error> {
    let failed = |source: std::io::Error| Error::Init {
        path: git_dir.into(),
        source,
    };
    for dir in LAYOUT {
        fs::create_dir_all(git_dir.join(dir)).map_err(failed)?;
    }
    fs::write(git_dir.join("config"), config).map_err(failed)?;
    // HEAD last: without it, this is no repository.
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").map_err(failed)?;
    open(git_dir)
}

/// All messages of an error of gitoxide's, the outermost first, none twice.
pub fn reason(err: &gix::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for text in err.iter_errors().map(ToString::to_string) {
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// The commits at which history is cut.
pub fn cut(repo: &gix::Repository) -> Result<HashSet, gix::Error> {
    let commits = repo.shallow_commits()?;
    Ok(commits
        .iter()
        .flat_map(|commits| commits.iter().copied())
        .collect())
}

/// Open the repository to fetch from at `path`: a worktree, a bare repository, a `.git` directory or file.
/// Nothing is searched for above it, and it may be anybody's. An error that is a [`Trap`], or says that it is
/// [`Unsupported`], holds that.
pub fn open_source(path: &Path) -> Result<gix::Repository, gix::Error> {
    let path = entrance(path);
    let layout = Layout::of(&path).and_then(|layout| layout.look().map(|()| layout));
    let layout = layout.map_err(Trap::raise)?;
    open_known(&path, &layout).map_err(Unsupported::raise)?
}

/// The `.git` of the worktree at `path`, or `path` itself if there is none in it.
fn entrance(path: &Path) -> PathBuf {
    let dot_git = path.join(".git");
    if !path.ends_with(".git") && fs::symlink_metadata(&dot_git).is_ok() {
        dot_git
    } else {
        path.into()
    }
}

/// The directories that data of the repository at `path` is in, beside `path` itself: those of a `.git` file, of a linked
/// worktree's repository, and of alternates, see gitrepository-layout(5). What cannot be read has none, and holds up
/// no run: the one that needs it says what is wrong.
pub fn storage(path: &Path) -> Vec<PathBuf> {
    let Ok(layout) = Layout::of(&entrance(path)) else {
        return Vec::new();
    };
    let Layout {
        git_dir,
        common,
        alternates,
    } = layout;
    [git_dir].into_iter().chain(common).chain(alternates).collect()
}

/// The object directories that the repository at `git_dir` borrows from.
pub fn lenders(git_dir: &Path) -> Vec<PathBuf> {
    Layout::of(git_dir).map_or(Vec::new(), |layout| layout.alternates)
}

/// Room for packs that appear while a repository is read: gix fails once its slots are used up.
fn slots() -> gix::odb::store::init::Slots {
    gix::odb::store::init::Slots::AsNeededByDiskState {
        multiplier: 1.5,
        minimum: 256,
    }
}
