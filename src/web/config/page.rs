//! The fields of the page and of the metrics.

use std::{collections::BTreeMap, ops::Range};

use super::{Metrics, Page};
use crate::{
    base::name::AbsPath,
    config::form::{Form, Kind, Problem, SECRET, Shape, Value, fields, filled},
};

fields! {
    /// The page. A user who signs in may do what the daemon permits the front's user.
    pub(super) struct PageFields: "`page`" {
        /// Names, and for each the file that holds the password.
        users ("user"): BTreeMap<String, AbsPath> = USERS,
            without "no sign-in, which is possible only on the loopback interface and Unix sockets";
    }
}

fields! {
    /// Numbers for Prometheus.
    pub(super) struct MetricsFields: "`metrics`" {
        /// The file that holds the bearer token which Prometheus must send.
        token_file: AbsPath = SECRET, without "none: all that can reach the front see the numbers, and the names of the triggers";
    }
}

pub(super) const PAGE: Kind<Page> = Kind::many("`(…)`", |form, value| {
    let fields: PageFields<'_> = form.fields(value)?;
    let is_right = fields.users.is_right && !fields.users.is_misspelt;
    // After an error in `users`, the page would be open to all.
    let users = is_right.then_some(fields.users.value.unwrap_or_default())?;
    Some(Page { users })
});
pub(super) const METRICS: Kind<Option<Metrics>> =
    Kind::many("`true`, `false` or `(…)`", metrics).shown(|_| "`false`".into());
const USERS: Kind<BTreeMap<String, AbsPath>> = Kind::many("map of names to paths", users).with_variables();

fn metrics(form: &mut Form<'_>, value: Value<'_>) -> Option<Option<Metrics>> {
    if matches!(value.shape(), Shape::Fields) {
        let fields: MetricsFields<'_> = form.fields(value)?;
        let token_file = fields.token_file.value;
        return fields.token_file.is_right.then_some(Some(Metrics { token_file }));
    }
    let problem = |problem: Problem| problem.help(r#"write true, false or (token_file: "…")"#);
    let is_on = form.keep(value.bool().map_err(problem))?;
    Some(is_on.then_some(Metrics { token_file: None }))
}

fn users(form: &mut Form<'_>, value: Value<'_>) -> Option<BTreeMap<String, AbsPath>> {
    const EXAMPLE: &str = r#"write users: {"admin": "/etc/gitsocket-web/admin.password"}"#;
    let entries = form.keep(value.map().map_err(|problem| problem.help(EXAMPLE)))?;
    let mut seen = BTreeMap::<String, Range<usize>>::new();
    let mut out = BTreeMap::new();
    for (key, value) in entries {
        let around = form.around;
        let name = form.keep(user(key));
        let file = form.keep(around.secret_path(value));
        let (Some(name), Some(file)) = (name, file) else {
            continue;
        };
        if let Some(first) = seen.insert(name.clone(), key.span()) {
            let problem = Problem::twice(key.span(), first, format!("two users are called `{name}`"))
                .help("rename or remove one of them");
            form.problems.push(problem);
        }
        out.insert(name, file);
    }
    Some(out)
}

fn user(key: Value<'_>) -> Result<String, Problem> {
    let name = filled(key)?;
    if name.trim() != name || name.contains(char::is_control) {
        Err(Problem::at(
            key.span(),
            "a user's name holds no control characters, and no white space around it",
        )
        .help("write the name as it is typed to sign in"))
    } else {
        Ok(name)
    }
}
