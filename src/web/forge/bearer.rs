//! Tokens that are sent as they are: GitLab's `X-Gitlab-Token`, and the bearer tokens of RFC 6750.

use hyper::HeaderMap;

use super::{Refusal, header, said::Said};

/// GitLab's secret token: <https://docs.gitlab.com/user/project/integrations/webhooks/>.
pub(super) fn gitlab(headers: &HeaderMap) -> Result<Said, Refusal> {
    const NAME: &str = "X-Gitlab-Token";
    let token = header::one(headers, NAME)?;
    let token = token.ok_or_else(|| header::missing(NAME, "does the webhook have a secret token?"))?;
    Ok(Said::new(token))
}

/// The token in `Authorization`.
pub(super) fn read(headers: &HeaderMap) -> Result<Said, Refusal> {
    credentials(headers, "Bearer").map(Said::new)
}

/// The credentials after `scheme` in `Authorization`: RFC 9110, section 11.4.
pub(super) fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Result<&'h str, Refusal> {
    let Some(value) = header::one(headers, "Authorization")? else {
        let hint = format!("the sender must send `{scheme} …` in it, and a proxy must not remove it");
        return Err(header::missing("Authorization", &hint));
    };
    let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !word.eq_ignore_ascii_case(scheme) {
        return Err(Refusal::stranger(format!(
            "Authorization does not begin with `{scheme}`"
        )));
    }
    match rest.trim() {
        "" => Err(Refusal::stranger(format!(
            "Authorization has nothing after `{scheme}`: is the sender's variable empty?"
        ))),
        rest => Ok(rest),
    }
}
