//! The sandbox: a word for its mode, or fields.

use super::{
    Check,
    choice::variant,
    field::{Fields, SANDBOX},
};
use crate::config::{
    HookPlace, Sandbox, SandboxMode,
    raw::{Shape, Value},
    report::Problem,
};

impl Check<'_> {
    /// Whoever writes a word means hooks too.
    pub(super) fn sandbox(&mut self, fields: &Fields<'_>) -> Option<Sandbox> {
        let value = fields.get("sandbox")?;
        if value.shape() != Shape::Fields {
            let mode = self.keep(mode(value))?;
            return Some(Sandbox {
                mode,
                hooks: HookPlace::Inside,
            });
        }
        let fields = self.fields(value, &SANDBOX)?;
        let mode = self.optional(&fields, "mode", mode);
        let hooks = self.optional(&fields, "hooks", hooks);
        Some(Sandbox {
            mode: mode.unwrap_or(SandboxMode::BestEffort),
            hooks: hooks.unwrap_or(HookPlace::Inside),
        })
    }
}

fn mode(value: Value<'_>) -> Result<SandboxMode, Problem> {
    let known = [("Off", false), ("BestEffort", false), ("Required", false)];
    match variant(value, "a mode of the sandbox", &known)? {
        "Off" => Ok(SandboxMode::Off),
        "BestEffort" => Ok(SandboxMode::BestEffort),
        _ => Ok(SandboxMode::Required),
    }
}

fn hooks(value: Value<'_>) -> Result<HookPlace, Problem> {
    match variant(
        value,
        "a place for hooks",
        &[("Inside", false), ("Outside", false)],
    )? {
        "Inside" => Ok(HookPlace::Inside),
        _ => Ok(HookPlace::Outside),
    }
}
