//! The serving half of git's protocol v2, in process: what makes paths and `file://` need no git.
