//! The fields of a trigger, with their defaults: what its name stands for.

use std::{ffi::OsStr, num::NonZeroU32, ops::Range, time::Duration};

use gix::ObjectId;
use zeroize::Zeroizing;

use super::{
    allow,
    auth::{AUTH, CERTIFICATES, credentials_fit},
    health::HEALTH,
    hook::HOOKS,
    pattern::keep,
    releases::{self, RELEASES},
};
use crate::{
    base::name::{AbsPath, Invalid, RefName, RemoteName, RepoUrl, TriggerName},
    config::{
        Auth, Clean, DEFAULT_FETCH_TIMEOUT, DEFAULT_MAX_BLOB, DEFAULT_MAX_PACK, DEFAULT_RETRIES,
        DEFAULT_RUN_TIMEOUT, Health, Hook, OnFailure, Releases, Revision, Site, Target, Tls,
        form::{
            Around, BOOL, Choice, DURATION, Fields as _, Form, Kind, PATH, Problem, SIZE, Spanned, Value,
            Written, code, duration, fields, filled, invalid, literal, mode, quoted, redact,
            unusable_duration,
        },
    },
    git::origin::{Depth, Origin},
};

fields! {
    /// What is deployed where, and what happens then.
    pub(super) struct TriggerFields: "a trigger" {
        /// The repository to fetch from. An SSH URL names its user.
        repo ("url", "repository", "source"): RepoUrl = REPO, required r#""https://example.com/site.git""#;
        /// The branch to deploy. Only one of `branch`, `tag` and `rev` may be given.
        branch ("ref"): RefName = Kind::new("name, short or in full", |value, _| branch(value)),
            without "the branch that the remote's HEAD is on";
        /// The tag to deploy.
        tag: RefName = Kind::new("name, short or in full", |value, _| tag(value)), without "none";
        /// The commit to deploy.
        rev: ObjectId = Kind::new("full id of a commit", |value, _| full_id(value)), without "none";
        /// The directory to deploy to.
        path ("dir", "directory", "target", "worktree"): AbsPath = WORKTREE, required r#""/srv/site""#;
        /// The git directory, outside of `path`: the worktree then contains nothing of git's.
        git_dir: AbsPath = PATH, without "`.git` in `path`; with `releases`, `repo.git`";
        /// Each deployed commit gets a directory of its own, which becomes live as a whole and is kept for a rollback.
        releases ("keep_releases", "linked_dirs", "linked_files", "shared_dirs", "shared_files"): Releases = RELEASES,
            without "none: files are updated in place";
        /// The name of the remote: the clone's refs are in `refs/remotes/NAME/`.
        remote: RemoteName = REMOTE, or RemoteName::default();
        /// How many commits of history the clone has; a changed number takes effect at the next run.
        depth: NonZeroU32 = Kind::new("number from 1", |value, _| depth(value)), without "all";
        /// What a run removes besides tracked files that the commit no longer has. `Untracked`: untracked files, as by
        /// `git clean -df`; `All`: ignored files, too; `Nothing`: nothing more.
        clean: Clean = Kind::choice(), or Clean::Untracked;
        /// Untracked files that `clean` never removes.
        keep ("exclude", "ignore"): () = Kind::later("list of gitignore patterns"), without "none";
        /// How to authenticate.
        auth: Auth = AUTH, without "`None`; for SSH URLs `Ssh()`";
        /// Which certificates to trust, and which to show.
        tls: Tls = CERTIFICATES, without "`(roots: Mozilla)`";
        /// What runs after an update, in this order. `PostCheckout` is the repository's own `hooks/post-checkout`, if it is
        /// there and executable.
        hooks ("hook"): Vec<Spanned<Hook>> = HOOKS, or vec![(Hook::PostCheckout, 0..0)];
        /// When a deploy counts as good, besides its hooks. Without this field it is good once they have succeeded.
        health ("healthcheck", "health_check"): Health = HEALTH, without "none";
        /// What happens when a hook at `Live` fails, or `health` does not succeed in time. `Rollback`: the last good commit
        /// becomes live again, and the bad one is held; `Keep`: the bad one stays live.
        on_failure: OnFailure = Kind::choice(), without "`Rollback` with `releases`, else `Keep`";
        /// Permission bits to remove from files and directories of the worktree; applies when a file is next written.
        umask: u32 = UMASK, without "the process's";
        /// The group of new files and directories of the worktree. What a run does not write keeps its group.
        group: String = GROUP, without "the process's";
        /// How often the daemon asks the remote for a new commit, besides once at its start: a push without a trigger is
        /// deployed by then.
        poll ("interval", "every"): Duration = POLL, without "never";
        /// How long each attempt to fetch may take, however slow the remote is.
        timeout: Duration = DURATION, or DEFAULT_FETCH_TIMEOUT;
        /// How long a whole run may take, with its hooks.
        run_timeout: Duration = DURATION, or DEFAULT_RUN_TIMEOUT;
        /// The largest file that is deployed.
        max_blob: u64 = SIZE, or DEFAULT_MAX_BLOB;
        /// The largest pack that one fetch may bring.
        max_pack: u64 = SIZE, or DEFAULT_MAX_PACK;
        /// How many times a fetch is tried again after a temporary fault.
        retries: u32 = RETRIES, or DEFAULT_RETRIES;
        /// `false`: do not wait for the disk; a power cut may then lose a deploy, or a new clone.
        fsync: bool = BOOL, or true;
        /// `true`: the first run takes over a worktree that gitsocket did not make, and what is only there is lost: edited
        /// and untracked files, and commits that were never pushed. `false`: that run stops and lists them. Later runs
        /// ignore this field.
        adopt: bool = BOOL, or false;
        /// The clients that may use the trigger: users and groups, by name or number; `Token` is each client that sent the
        /// token of a listener.
        allow: () = Kind::later("list of `User(…)`, `Group(…)` and `Token`"), without "all that can connect to the listener";
        /// The users who may roll back, retry, pause and resume the trigger, and run its hooks again: entries as in `allow`.
        operate: () = Kind::later("list of `User(…)`, `Group(…)` and `Token`"), without "root and the daemon's user";
    }
}

const REPO: Kind<RepoUrl> = Kind::new(
    "`https://`, `ssh://`, `http://`, `git://` or `file://` URL, `USER@HOST:PATH`, or a path",
    repo,
);
const WORKTREE: Kind<AbsPath> = Kind::new("path", |value, around| worktree(value, around.path(value)?));
const REMOTE: Kind<RemoteName> =
    Kind::new("name", |value, _| remote(value)).shown(|name| quoted(name.as_str()));
const UMASK: Kind<u32> = Kind::new(r#"octal digits in quotes, `"0000"` to `"0077"`"#, |value, _| {
    umask(value)
});
const RETRIES: Kind<u32> =
    Kind::new("number from 0 to 10", |value, _| retries(value)).shown(|number| code(number));

const POLL: Kind<Duration> = Kind::new(r#"duration from `"10s"` to a week"#, |value, _| poll(value));
const GROUP: Kind<String> = Kind::new("name or number", |value, _| filled(value));

/// A remote that is asked more often than that takes it for an attack. In time.
const MIN_POLL: Duration = Duration::from_secs(10);
/// git takes this and more for "all".
const MAX_DEPTH: u32 = i32::MAX as u32 - 1;

impl Choice for Clean {
    const WHAT: &'static str = "a way to clean";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("Untracked", Self::Untracked),
        ("All", Self::All),
        ("Nothing", Self::Nothing),
    ];
}

/// A target, and where in the files it is described.
pub(super) struct Described {
    pub(super) target: Target,
    pub(super) path_at: Range<usize>,
    pub(super) git_dir_at: Range<usize>,
    /// Where its name stands, and where it is described: its paths may be in the defaults.
    pub(super) key_at: Range<usize>,
    pub(super) at: Range<usize>,
}

/// Of these fields, a trigger has one.
pub(super) const REVISIONS: [&str; 3] = ["branch", "tag", "rev"];

/// The target that `written` describes: what stands in `value`, below `key`, and defaults. `no_token`: it is certain that no
/// listener has a token.
pub(super) fn target(
    form: &mut Form<'_>,
    (key, value): (Value<'_>, Value<'_>),
    written: &Written<'_>,
    trigger: Option<TriggerName>,
    no_token: bool,
) -> Option<Described> {
    let fields = TriggerFields::read(form, written);
    let revision = revision(form, &fields);
    let keep = keep(form, &fields.keep, fields.path.value.as_ref());
    let allow = allow::allow(form, &fields.allow, no_token);
    let operate = allow::operate(form, &fields.operate, no_token);
    releases::fit(
        form,
        &fields.releases,
        (&fields.clean, &fields.keep),
        &fields.hooks,
    );
    credentials_fit(form, &fields.repo, &fields.auth, &fields.tls);
    not_itself(form, &fields);
    let (path_at, git_dir_at) = (fields.path.at(), fields.git_dir.at());
    let origin = Origin {
        repo: fields.repo.value?,
        revision,
        remote: fields.remote.value?,
        depth: fields.depth.value.map_or(Depth::All, Depth::Commits),
        auth: fields.auth.value.unwrap_or(Auth::None),
        tls: fields.tls.value.unwrap_or_default(),
        timeout: fields.timeout.value?,
        retries: fields.retries.value?,
        max_blob: fields.max_blob.value?,
        max_pack: fields.max_pack.value?,
    };
    let on_failure = releases::on_failure(&fields.on_failure, fields.releases.value.as_ref());
    let mut site = Site {
        path: fields.path.value?,
        git_dir: None,
        clean: fields.clean.value?,
        keep,
        umask: fields.umask.value,
        group: fields.group.value,
        fsync: fields.fsync.value?,
        releases: fields.releases.value,
    };
    // Where it would be anyway, it is not apart.
    site.git_dir = fields
        .git_dir
        .value
        .filter(|apart| site.releases.is_none() || apart.as_path() != site.git_dir());
    let target = Target {
        trigger: trigger?,
        origin,
        site,
        poll: fields.poll.value,
        hooks: fields.hooks.value?.into_iter().map(|(hook, _)| hook).collect(),
        run_timeout: fields.run_timeout.value?,
        allow,
        health: fields.health.value,
        on_failure,
        operate,
        adopt: fields.adopt.value?,
        file: None,
        given: None,
    };
    Some(Described {
        target,
        path_at,
        git_dir_at,
        key_at: key.span(),
        at: value.span(),
    })
}

fn revision(form: &mut Form<'_>, fields: &TriggerFields<'_>) -> Revision {
    let (branch, tag, rev) = (&fields.branch, &fields.tag, &fields.rev);
    let given: Vec<_> = [
        (tag.is_there(), tag.name_at.clone(), "a tag"),
        (rev.is_there(), rev.name_at.clone(), "a commit"),
        (branch.is_there(), branch.name_at.clone(), "a branch"),
    ]
    .into_iter()
    .filter(|(is_there, ..)| *is_there)
    .collect();
    if let [(_, one, what), others @ ..] = given.as_slice()
        && !others.is_empty()
    {
        let problem = Problem::at(one.clone(), "a trigger has either a branch, a tag or a rev").label(*what);
        let problem = others.iter().fold(problem, |problem, (_, at, what)| {
            problem.also(at.clone(), format!("and {what}"))
        });
        form.problems.push(problem.help("leave one of them"));
    }
    match (&branch.value, &tag.value, &rev.value) {
        (Some(branch), ..) => Revision::Branch(branch.clone()),
        (None, Some(tag), _) => Revision::Tag(tag.clone()),
        (None, None, Some(id)) => Revision::Commit(*id),
        (None, None, None) => Revision::RemoteHead,
    }
}

/// A repository cannot be deployed onto itself.
fn not_itself(form: &mut Form<'_>, fields: &TriggerFields<'_>) {
    let local = fields.repo.value.as_ref().and_then(RepoUrl::local_path);
    let (Some(local), Some(path)) = (local, &fields.path.value) else {
        return;
    };
    let itself = |at, help: &'static str| {
        Problem::at(at, "this is the repository itself")
            .also(fields.repo.at(), "the repository")
            .help(help)
    };
    let git_dir = if fields.releases.is_there() {
        "repo.git"
    } else {
        ".git"
    };
    if local == path || local.as_path() == path.as_path().join(git_dir) {
        let problem = itself(fields.path.at(), "give the directory to deploy to as `path`");
        form.problems.push(problem);
    }
    if fields.git_dir.value.as_ref() == Some(local) {
        let problem = itself(
            fields.git_dir.at(),
            "name a place for the git directory of the clone",
        );
        form.problems.push(problem);
    }
}

/// What is in the whole of a commit's id: an abbreviation may come to mean another one.
fn full_id(value: Value<'_>) -> Result<ObjectId, Problem> {
    let text = filled(value)?;
    ObjectId::from_hex(text.as_bytes()).map_err(|_| {
        Problem::at(
            value.head(),
            format!("{} is not the full id of a commit", value.shown()),
        )
        .help("write its 40 hexadecimal digits (64 with SHA-256), as `git rev-parse` prints them")
    })
}

fn repo(value: Value<'_>, around: Around<'_>) -> Result<RepoUrl, Problem> {
    let text = Zeroizing::new(around.named(filled(value)?));
    literal(value, &text)?;
    RepoUrl::parse(&text, around.base(value)).map_err(|err| {
        // Neither the text nor what is wrong with it may show a password.
        let reason = redact(&err.to_string(), &text);
        Problem::at(
            value.head(),
            format!("this is not a usable URL or path of a repository: {reason}"),
        )
        .help("write https://HOST/PATH, ssh://USER@HOST/PATH, http://…, git://…, file:///PATH or a path")
    })
}

fn worktree(value: Value<'_>, path: AbsPath) -> Result<AbsPath, Problem> {
    let problem = if path.as_path().parent().is_none() {
        "the root directory cannot be a worktree"
    } else if path
        .as_path()
        .components()
        .any(|part| part.as_os_str() == OsStr::new(".git"))
    {
        "a directory inside a .git directory cannot be a worktree"
    } else {
        return Ok(path);
    };
    Err(Problem::at(value.head(), problem).help(r#"give the directory to deploy to, such as "/srv/site""#))
}

fn branch(value: Value<'_>) -> Result<RefName, Problem> {
    let help =
        r#"write it as `git branch` shows it, such as "main"; remove the field for the remote's default"#;
    ref_name(value, "name of a branch", help, RefName::branch)
}

fn tag(value: Value<'_>) -> Result<RefName, Problem> {
    let help = r#"write it as `git tag` shows it, such as "v1.2""#;
    ref_name(value, "name of a tag", help, RefName::tag)
}

fn ref_name(
    value: Value<'_>,
    what: &str,
    help: &str,
    new: fn(&str) -> Result<RefName, Invalid>,
) -> Result<RefName, Problem> {
    let text = value.string()?;
    new(&text).map_err(|err| invalid(value, what, &err).help(help))
}

fn remote(value: Value<'_>) -> Result<RemoteName, Problem> {
    let text = value.string()?;
    RemoteName::new(&text).map_err(|err| {
        invalid(value, "name of a remote", &err)
            .help(r#"write a name such as "origin", not a URL; the URL is `repo`"#)
    })
}

fn depth(value: Value<'_>) -> Result<NonZeroU32, Problem> {
    let number = value.number(1..=MAX_DEPTH).map_err(|problem| {
        problem.help("write how many commits to fetch, or remove the field for the full history")
    })?;
    Ok(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
}

/// Permission bits that are not given; the owner keeps all.
fn umask(value: Value<'_>) -> Result<u32, Problem> {
    let bits = mode(value)?;
    match bits & 0o700 {
        0 => Ok(bits),
        _ => Err(Problem::at(
            value.head(),
            format!("{} would take files away from gitsocket itself", value.shown()),
        )
        .help(r#"write what others do not get, such as "0022" or "0027""#)),
    }
}

fn poll(value: Value<'_>) -> Result<Duration, Problem> {
    let every = duration(value)?;
    if every < MIN_POLL {
        let problem = unusable_duration(value, "remotes are asked every 10 s at most");
        return Err(problem.help(r#"write "10s" or more; pushes are deployed at once by triggers"#));
    }
    Ok(every)
}

/// How many times a fetch is tried again.
fn retries(value: Value<'_>) -> Result<u32, Problem> {
    let number = value.number(0..=10);
    number.map_err(|problem| {
        problem.help("write how many times a fetch is tried again after a temporary fault")
    })
}
