//! Who may use a trigger.

use super::{Check, choice::variant, field::Fields, value::filled};
use crate::config::{
    Account, Allow,
    raw::{Shape, Value},
    report::Problem,
};

const EXAMPLE: &str = r#"write allow: [User("www-data"), Group("deploy"), Token]"#;
/// -1 stands for "no change" in chown(2) and its like: nobody has it.
const MAX_ID: u32 = u32::MAX - 1;

impl Check<'_> {
    /// Nothing: whoever can open the listener.
    pub(super) fn allow(&mut self, fields: &Fields<'_>) -> Option<Vec<Allow>> {
        let list = self.optional(fields, "allow", |value| {
            let list = value.list().map_err(|problem| problem.help(EXAMPLE))?;
            match list.is_empty() {
                true => Err(Problem::at(
                    value.head(),
                    "`allow` names nobody: this trigger could never be used",
                )
                .help(format!(
                    "{EXAMPLE}, or remove the field: then whoever can open the listener may use it"
                ))),
                false => Ok(list),
            }
        })?;
        Some(list.into_iter().filter_map(|value| self.rule(value)).collect())
    }

    fn rule(&mut self, value: Value<'_>) -> Option<Allow> {
        let rule = rule(value);
        let rule = self.keep(rule)?;
        if rule == Allow::Token && self.no_token {
            let problem = Problem::at(value.head(), "no listener has a token that somebody could say");
            self.problems
                .push(problem.help(r#"add Tcp(addr: "…", token_file: "…") to `listen`, or remove `Token`"#));
        }
        Some(rule)
    }
}

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
    let known = [("User", true), ("Group", true), ("Token", false)];
    Ok(match variant(value, "a rule of `allow`", &known)? {
        "User" => Allow::User(account(value, "user")?),
        "Group" => Allow::Group(account(value, "group")?),
        _ => Allow::Token,
    })
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
