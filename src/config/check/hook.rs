//! Hooks.

use std::{collections::BTreeMap, path::Path};

use super::{
    Check,
    choice::variant,
    field::{EXEC, Fields},
    value::{NO_NUL, duration, filled, invalid, literal},
};
use crate::{
    base::name::AbsPath,
    config::{DEFAULT_HOOK_TIMEOUT, Hook, When, mask::mask, raw::Value, report::Problem},
};

/// What gitsocket itself tells hooks by their environment.
const OWN_VARIABLES: &str = "GITSOCKET_";

impl Check<'_> {
    pub(super) fn hooks(&mut self, fields: &Fields<'_>) -> Vec<Hook> {
        let example = r#"write hooks: [Exec(run: ["/usr/bin/make", "install"]), PostCheckout]"#;
        if !fields.has("hooks") {
            return vec![Hook::PostCheckout];
        }
        let list = self.optional(fields, "hooks", |value| value.list().map_err(|p| p.help(example)));
        list.unwrap_or_default()
            .into_iter()
            .filter_map(|value| self.hook(value))
            .collect()
    }

    fn hook(&mut self, value: Value<'_>) -> Option<Hook> {
        let which = variant(value, "a hook", &[("Exec", true), ("PostCheckout", false)]);
        match self.keep(which)? {
            "Exec" => self.exec(value),
            _ => Some(Hook::PostCheckout),
        }
    }

    fn exec(&mut self, value: Value<'_>) -> Option<Hook> {
        let fields = self.fields(value, &EXEC)?;
        let run = self.required(&fields, "run", r#"["/usr/bin/make", "install"]"#, command);
        let run = run.and_then(|run| self.words(run));
        let when = self.optional(&fields, "when", when);
        let timeout = self.optional(&fields, "timeout", duration);
        let pairs = self.optional(&fields, "user_env", Value::map);
        let user_env = self.user_env(pairs.unwrap_or_default());
        Some(Hook::Exec {
            run: run?,
            when: when.unwrap_or(When::Changed),
            timeout: timeout.unwrap_or(DEFAULT_HOOK_TIMEOUT),
            user_env,
        })
    }

    /// The program and its arguments.
    fn words(&mut self, list: Vec<Value<'_>>) -> Option<Vec<String>> {
        let mut out = Vec::with_capacity(list.len());
        for (n, value) in list.into_iter().enumerate() {
            let word = if n == 0 {
                program(value, self.around.base)
            } else {
                argument(value)
            };
            out.extend(self.keep(word));
        }
        (!out.is_empty()).then_some(out)
    }

    fn user_env(&mut self, pairs: Vec<(Value<'_>, Value<'_>)>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (key, value) in pairs {
            let name = self.keep(variable(key));
            let text = self.keep(argument(value));
            let (Some(name), Some(text)) = (name, text) else {
                continue;
            };
            if out.contains_key(&name) {
                let problem = Problem::at(key.head(), format!("the variable {} is given twice", key.shown()));
                self.problems.push(problem.help("remove one of them"));
            }
            out.insert(name, text);
        }
        out
    }
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
    match list.is_empty() {
        true => Err(Problem::at(value.head(), "`run` names no program")
            .help(r#"write run: ["/usr/bin/make", "install"], or remove the hook"#)),
        false => Ok(list),
    }
}

/// A program: a path, relative to the configuration, or a bare name for the daemon's PATH.
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

fn argument(value: Value<'_>) -> Result<String, Problem> {
    let text = value.string()?;
    match text.contains('\0') {
        true => Err(Problem::at(value.head(), "this contains a NUL character").help(NO_NUL)),
        false => Ok(text),
    }
}

fn when(value: Value<'_>) -> Result<When, Problem> {
    match variant(
        value,
        "a time to run a hook",
        &[("Changed", false), ("Always", false)],
    )? {
        "Changed" => Ok(When::Changed),
        _ => Ok(When::Always),
    }
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
