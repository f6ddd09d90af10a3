//! Hooks.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::{
    base::name::AbsPath,
    config::{
        At, DEFAULT_HOOK_TIMEOUT, Hook, When,
        form::{
            Choice, DURATION, Form, Kind, Problem, Read, Spanned, Value, argument, code, fields, filled,
            invalid, literal, mask,
        },
    },
};

fields! {
    /// A program that is started without a shell, in the worktree or, at `Build`, in the new release.
    pub(super) struct ExecFields: "`Exec`" {
        /// Program and arguments. The program is a path, or a bare name that is found on PATH.
        run ("command", "cmd"): Vec<String> = COMMAND, required r#"["/usr/bin/make", "install"]"#;
        /// `Changed`: when the run changed the worktree, or the hooks have not yet succeeded for its commit;
        /// `Always`: on every run.
        when: When = Kind::choice(), or When::Changed;
        /// `Build`: in a new release, before it is live; if it fails, nothing has changed. `Live`: once the commit is live.
        /// `Failed`: once a run has failed, or was rolled back.
        at ("stage"): At = Kind::choice(), or At::Live;
        /// How long it may run; then it is killed.
        timeout: Duration = DURATION, or DEFAULT_HOOK_TIMEOUT;
        /// Variables that are added to its environment; no name may begin with `GITSOCKET_`.
        user_env ["env"] ("environment"): BTreeMap<String, String> = VARIABLES, without "none";
    }
}

pub(super) const HOOKS: Kind<Vec<Spanned<Hook>>> = Kind::many("list of `Exec(…)` and `PostCheckout`", hooks)
    .shown(|hooks| {
        code(format_args!(
            "{:?}",
            hooks.iter().map(|(hook, _)| hook).collect::<Vec<_>>()
        ))
    });
const COMMAND: Kind<Vec<String>> = Kind::many("list of strings", |form, value| {
    let list = form.keep(command(value))?;
    words(form, list)
});
const VARIABLES: Kind<BTreeMap<String, String>> = Kind::many("map of names to values", |form, value| {
    let pairs = form.keep(value.map())?;
    Some(user_env(form, pairs))
});

/// What gitsocket itself tells hooks by their environment.
const OWN_VARIABLES: &str = "GITSOCKET_";

const KINDS: [(&str, bool, Read<Spanned<Hook>>); 2] = [
    ("Exec", true, exec),
    ("PostCheckout", false, |_, value| {
        Some((Hook::PostCheckout, value.head()))
    }),
];

impl Choice for When {
    const WHAT: &'static str = "a time to run a hook";
    const WORDS: &'static [(&'static str, Self)] = &[("Changed", Self::Changed), ("Always", Self::Always)];
}

fn hooks(form: &mut Form<'_>, value: Value<'_>) -> Option<Vec<Spanned<Hook>>> {
    let example = r#"write hooks: [Exec(run: ["/usr/bin/make", "install"]), PostCheckout]"#;
    let list = form.keep(value.list().map_err(|problem| problem.help(example)))?;
    let hooks = list.into_iter();
    Some(
        hooks
            .filter_map(|value| form.one_of(value, "a hook", &KINDS))
            .collect(),
    )
}

fn exec(form: &mut Form<'_>, value: Value<'_>) -> Option<Spanned<Hook>> {
    let fields: ExecFields<'_> = form.fields(value)?;
    let stage = fields.at.at();
    if fields.at.value == Some(At::Build) && fields.when.value == Some(When::Always) {
        let problem = Problem::at(
            fields.when.name_at.clone(),
            "not every run has something to build",
        )
        .also(stage.clone(), "for each new release, and on no other run")
        .help("remove `when`, or write at: Live");
        form.problems.push(problem);
    }
    Some((made(fields)?, stage))
}

/// A program that is asked whether a deploy is good.
pub(super) fn question(form: &mut Form<'_>, value: Value<'_>) -> Option<Hook> {
    let fields: ExecFields<'_> = form.fields(value)?;
    for (is_there, at, name) in [
        (fields.when.is_there(), &fields.when.name_at, "when"),
        (fields.at.is_there(), &fields.at.name_at, "at"),
    ] {
        if is_there {
            let message = format!("`{name}` is for hooks only: a check runs when `health` says so");
            form.problems
                .push(Problem::at(at.clone(), message).help("remove it"));
        }
    }
    made(fields)
}

fn made(fields: ExecFields<'_>) -> Option<Hook> {
    Some(Hook::Exec {
        run: fields.run.value?,
        when: fields.when.value?,
        timeout: fields.timeout.value?,
        user_env: fields.user_env.value.unwrap_or_default(),
        at: fields.at.value?,
    })
}

fn words(form: &mut Form<'_>, list: Vec<Value<'_>>) -> Option<Vec<String>> {
    let mut out = Vec::with_capacity(list.len());
    for (n, value) in list.into_iter().enumerate() {
        let word = if n == 0 {
            program(value, form.around.base(value))
        } else {
            argument(value)
        };
        out.extend(form.keep(word));
    }
    (!out.is_empty()).then_some(out)
}

fn user_env(form: &mut Form<'_>, pairs: Vec<(Value<'_>, Value<'_>)>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (key, value) in pairs {
        let name = form.keep(variable(key));
        let text = form.keep(argument(value));
        let (Some(name), Some(text)) = (name, text) else {
            continue;
        };
        if out.contains_key(&name) {
            let problem = Problem::at(key.head(), format!("the variable {} is given twice", key.shown()));
            form.problems.push(problem.help("remove one of them"));
        }
        out.insert(name, text);
    }
    out
}

/// A list that is not empty.
fn command(value: Value<'_>) -> Result<Vec<Value<'_>>, Problem> {
    let list = value.list().map_err(|problem| match value.string() {
        Ok(line) => problem.help(format!(
            "no shell splits a command here: write run: {}",
            split(&line)
        )),
        Err(_) => problem.help(r#"write run: ["/usr/bin/make", "install"]"#),
    })?;
    if list.is_empty() {
        Err(Problem::at(value.head(), "`run` names no program")
            .help(r#"write run: ["/usr/bin/make", "install"], or remove the hook"#))
    } else {
        Ok(list)
    }
}

/// A program: a path, relative to the file that it stands in, or a bare name for the daemon's PATH.
fn program(value: Value<'_>, base: &Path) -> Result<String, Problem> {
    let text = filled(value)?;
    literal(value, &text)?;
    if is_command_line(&text) {
        return Err(Problem::at(
            value.head(),
            "this is a whole command, not a program's name or path",
        )
        .help(format!("no shell splits a command here: write {}", split(&text))));
    }
    if !text.contains('/') {
        return Ok(text);
    }
    let path = AbsPath::resolve(base, Path::new(&text)).map_err(|err| invalid(value, "path", &err))?;
    let utf8 = path.as_path().to_str().map(Into::into);
    utf8.ok_or_else(|| {
        Problem::at(value.head(), "the full path of this program is not UTF-8")
            .help("write its full path, or move the configuration into a directory with a plainer name")
    })
}

/// Whether arguments follow in the same string. Directories may have names with white space, programs hardly.
fn is_command_line(text: &str) -> bool {
    let spaced = |text: &str| text.contains(char::is_whitespace);
    let first = text.split('/').next().is_some_and(spaced);
    let last = text.rsplit('/').next().is_some_and(spaced);
    first || last || text.contains(" -")
}

/// A command as it was probably meant.
fn split(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    mask(&format!("{words:?}"))
}

fn variable(value: Value<'_>) -> Result<String, Problem> {
    let name = filled(value)?;
    if name.contains('=') {
        let problem = Problem::at(value.head(), "a variable's name holds no `=`");
        return Err(problem.help(r#"write {"NAME": "value"}"#));
    }
    if name.starts_with(OWN_VARIABLES) {
        let problem = Problem::at(
            value.head(),
            "variables that begin with GITSOCKET_ are set by gitsocket itself",
        );
        return Err(problem.help("choose another name"));
    }
    Ok(name)
}
