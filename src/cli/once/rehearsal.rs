//! The list of a dry run: a directory that would go has a slash behind its name.

use std::fs;

use crate::{
    base::event::{Action, Event},
    config::Target,
};

/// `event`, where the path of a directory that would be cleaned ends with a slash.
pub(super) fn marked(event: Event, target: &Target) -> Event {
    match event {
        Event::Change {
            action: Action::Clean,
            path,
            local,
        } => {
            let meta = fs::symlink_metadata(target.site.path.as_path().join(&path));
            let slash = if meta.is_ok_and(|meta| meta.is_dir()) {
                "/"
            } else {
                ""
            };
            Event::Change {
                action: Action::Clean,
                path: path + slash,
                local,
            }
        }
        event => event,
    }
}
