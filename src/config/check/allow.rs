//! Which clients may use a trigger.

use crate::config::{
    Account, Allow,
    form::{Form, Given, Problem, Shape, Value, filled, variant},
};

const EXAMPLE: &str = r#"write allow: [User("www-data"), Group("deploy"), Token]"#;
/// -1 means "no change" in chown(2) and its like: no account has it.
const MAX_ID: u32 = u32::MAX - 1;

/// Nothing: all that can open the listener. A `Token` is of no use if it is certain that no listener has one: `no_token`.
pub(super) fn allow(form: &mut Form<'_>, given: &Given<'_, ()>, no_token: bool) -> Option<Vec<Allow>> {
    let list = form.keep(filled_list(given.raw?))?;
    Some(all(form, list, no_token))
}

/// The same for `operate`. It may be empty: then only `once` is left.
pub(super) fn operate(form: &mut Form<'_>, given: &Given<'_, ()>, no_token: bool) -> Option<Vec<Allow>> {
    let example = r#"write operate: [User("root"), Group("deploy")]"#;
    let list = form.keep(given.raw?.list().map_err(|problem| problem.help(example)))?;
    Some(all(form, list, no_token))
}

fn all(form: &mut Form<'_>, list: Vec<Value<'_>>, no_token: bool) -> Vec<Allow> {
    list.into_iter()
        .filter_map(|value| checked(form, value, no_token))
        .collect()
}

fn filled_list(value: Value<'_>) -> Result<Vec<Value<'_>>, Problem> {
    let list = value.list().map_err(|problem| problem.help(EXAMPLE))?;
    if list.is_empty() {
        Err(Problem::at(
            value.head(),
            "`allow` is empty: no client could ever use this trigger",
        )
        .help(format!(
            "{EXAMPLE}, or remove the field: then all that can connect to the listener may use it"
        )))
    } else {
        Ok(list)
    }
}

fn checked(form: &mut Form<'_>, value: Value<'_>, no_token: bool) -> Option<Allow> {
    let rule = form.keep(rule(value))?;
    if rule == Allow::Token && no_token {
        let problem = Problem::at(value.head(), "no listener has a token that a client could send");
        form.problems
            .push(problem.help(r#"add Tcp(addr: "…", token_file: "…") to `listen`, or remove `Token`"#));
    }
    Some(rule)
}

/// Reads a rule that is written in one way.
type Rule = fn(Value<'_>) -> Result<Allow, Problem>;
const RULES: [(&str, bool, Rule); 3] = [
    ("User", true, |value| account(value, "user").map(Allow::User)),
    ("Group", true, |value| account(value, "group").map(Allow::Group)),
    ("Token", false, |_| Ok(Allow::Token)),
];

fn rule(value: Value<'_>) -> Result<Allow, Problem> {
    if let (Shape::String, Ok(name)) = (value.shape(), value.string()) {
        return Err(value
            .unexpected("`User`, `Group` or `Token`")
            .help(format!("write User({name:?}) or Group({name:?})")));
    }
    if let Shape::Word(name @ ("User" | "Group")) = value.shape() {
        return Err(
            Problem::at(value.head(), format!("`{name}` does not say which")).help(format!(
                "write {name}(\"…\") with a name, or {name}(…) with a number"
            )),
        );
    }
    let read = variant(value, "a user, a group or `Token`", &RULES)?;
    read(value)
}

/// The name or number in `User(…)`. Digits in quotes are a number, as for chown(1): passwd(5) has no such names.
fn account(rule: Value<'_>, what: &str) -> Result<Account, Problem> {
    let help = format!("write the {what}'s name in quotes, or its number");
    let helped = |problem: Problem| problem.help(help.clone());
    let value = rule.argument().map_err(helped)?;
    if value.shape() == Shape::Number {
        return value.number(0..=MAX_ID).map(Account::Number).map_err(helped);
    }
    let name = filled(value).map_err(helped)?;
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = name.parse().ok().filter(|number| *number <= MAX_ID);
        return number.map(Account::Number).ok_or_else(|| {
            helped(Problem::at(
                value.head(),
                format!("{} is not the number of a {what}", value.shown()),
            ))
        });
    }
    // These end the fields of passwd(5) and group(5).
    if name.contains(|c: char| c.is_control() || c == ':' || c == ',') {
        let problem = format!("{} is not the name of a {what}", value.shown());
        return Err(helped(Problem::at(value.head(), problem)));
    }
    Ok(Account::Name(name))
}
