//! Where files are looked for.

/// Where a kind of configuration is looked for if the command line names none.
#[derive(Debug, PartialEq, Eq)]
pub struct SearchPath {
    /// The variable of the environment that names it.
    pub variable: &'static str,
    /// Its name in the current directory.
    pub local: &'static str,
    /// Its paths on the system: the first that is there counts.
    pub system: &'static [&'static str],
}
