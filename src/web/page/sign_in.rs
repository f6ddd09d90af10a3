//! `/sign-in`.

use maud::{Markup, html};

use super::{frame::Frame, words::Look};

/// The form. `to` is the page to show next, `wrong` what was wrong with the last attempt.
pub(super) fn page(to: &str, wrong: Option<&str>) -> Markup {
    let content = html! {
        form.card.sign method="post" action="/sign-in" {
            h1 { "Sign in" }
            @if let Some(wrong) = wrong { p #wrong.said.bad role="alert" { (wrong) } }
            input type="hidden" name="to" value=(to);
            label for="user" { "Name" }
            input #user type="text" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus maxlength="64" aria-describedby=[wrong.map(|_| "wrong")];
            label for="password" { "Password" }
            input #password type="password" name="password" autocomplete="current-password" required maxlength="1024";
            button.main { "Sign in" }
        }
    };
    Frame {
        title: "Sign in",
        look: Look::Nothing,
        session: None,
        renews: false,
    }
    .around(&content)
}
