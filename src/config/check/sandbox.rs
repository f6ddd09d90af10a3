//! The sandbox: a word for its mode, or fields.

use crate::config::{
    HookSide, Sandbox, SandboxMode,
    form::{Choice, Form, Kind, Shape, Value, choice, fields, word_of},
};

fields! {
    /// In `( )`, instead of a word. What the sandbox holds: [operation.md](operation.md#the-sandbox).
    pub(super) struct SandboxFields: "`sandbox`" {
        /// `BestEffort`: as much of a sandbox as the kernel can make; `Required`: all of it, or the daemon does not
        /// start; `Off`: none.
        mode: SandboxMode = Kind::choice(), or Sandbox::default().mode;
        /// Where hooks run: in the sandbox of their run, or outside of it.
        hooks ("hook"): HookSide = Kind::choice(), or HookSide::Inside;
    }
}

pub(super) const SANDBOX: Kind<Sandbox> = Kind::many("`BestEffort`, `Required`, `Off`, or `(…)`", sandbox)
    .shown(|sandbox| {
        let (mode, hooks) = (word_of(&sandbox.mode), word_of(&sandbox.hooks));
        format!("`(mode: {mode}, hooks: {hooks})`")
    });

/// A word alone includes hooks.
fn sandbox(form: &mut Form<'_>, value: Value<'_>) -> Option<Sandbox> {
    if value.shape() != Shape::Fields {
        return Some(Sandbox {
            mode: form.keep(choice(value))?,
            hooks: HookSide::Inside,
        });
    }
    let fields: SandboxFields<'_> = form.fields(value)?;
    Some(Sandbox {
        mode: fields.mode.value?,
        hooks: fields.hooks.value?,
    })
}

impl Choice for SandboxMode {
    const WHAT: &'static str = "a mode of the sandbox";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("Off", Self::Off),
        ("BestEffort", Self::BestEffort),
        ("Required", Self::Required),
    ];
}

impl Choice for HookSide {
    const WHAT: &'static str = "a place for hooks";
    const WORDS: &'static [(&'static str, Self)] = &[("Inside", Self::Inside), ("Outside", Self::Outside)];
}
