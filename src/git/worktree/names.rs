//! Which names may be components of a path in a worktree. It knows no tree, no index and no directory.

use gix::{bstr::BStr, validate::path::component};

/// The longest file name.
const MAX_NAME_BYTES: usize = 255;

/// Whether `name` may be a component of a path in a worktree: not `..`, not `.git` in any spelling.
pub(super) fn check(name: &BStr, is_symlink: bool) -> Result<(), String> {
    // As git with core.protectHFS and core.protectNTFS; other names that only Windows forbids are fine here.
    const OPTIONS: component::Options = component::Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    // Nothing to look into in most names. Only those that begin with a dot or a `g` can come to `.git`, or to
    // another name of it, unless there are characters in them that some file systems overlook.
    if name.is_ascii()
        && !name.contains(&0)
        && !name.contains(&b'/')
        && (1..=MAX_NAME_BYTES).contains(&name.len())
        && !matches!(name[0], b'.' | b'g' | b'G')
    {
        return Ok(());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
    }
    if name.contains(&0) {
        return Err("its name contains a NUL byte".into());
    }
    let mode = is_symlink.then_some(component::Mode::Symlink);
    component(name, mode, OPTIONS)
        .map(drop)
        .map_err(|err| err.to_string())
}
