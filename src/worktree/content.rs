//! The bytes that a checkout writes for a blob: line endings, ident and encoding as attributes ask for.
//!
//! Attributes come from the index that is checked out and from outside of it (`attributes`). External filters do not exist
//! here: nothing in this room could start a program.

use gix::{
    attrs::StateRef,
    bstr::{BStr, ByteSlice},
    filter::plumbing::eol::{self, AttributesDigest, AutoCrlf},
    index::entry::Mode,
};

use super::{
    Error,
    attributes::{AttributeFiles, Attributes},
    encoding, ident,
    notice::{Notice, Notices},
    outside,
};

/// Makes the content of files of one index.
pub(super) struct Content<'r> {
    repo: &'r gix::Repository,
    attributes: Attributes<'r>,
    eol: eol::Configuration,
}

/// In the order in which [`Wanted`] reads them.
const ATTRIBUTES: [&str; 6] = ["crlf", "text", "eol", "ident", "filter", "working-tree-encoding"];

/// What attributes and configuration ask for.
struct Wanted {
    digest: AttributesDigest,
    ident: bool,
    filter: bool,
    encoding: Option<String>,
}

impl<'r> Content<'r> {
    /// For files whose attributes are in `files` and `outside`.
    pub(super) fn new(repo: &'r gix::Repository, files: AttributeFiles, outside: &outside::Rules) -> Self {
        Self {
            attributes: Attributes::new(repo, files, outside, &ATTRIBUTES),
            eol: configured_eol(repo),
            repo,
        }
    }

    /// What a checkout writes for the blob `id` at `path`. For a link that is its target.
    pub(super) fn of(
        &mut self,
        id: gix::ObjectId,
        mode: Mode,
        path: &BStr,
        notices: &mut Notices,
    ) -> Result<Vec<u8>, Error> {
        let failed = |reason: String| Error::Object {
            id,
            path: path.to_string(),
            reason,
        };
        let object = self.repo.find_object(id).map_err(|err| failed(err.to_string()))?;
        let blob = object
            .try_into_blob()
            .map_err(|err| failed(err.to_string()))?
            .take_data();
        if mode == Mode::SYMLINK {
            return Ok(blob);
        }
        let wanted = self.wanted(path)?;
        if is_lfs_pointer(&blob) {
            notices.note(Notice::Lfs, path);
        } else if wanted.filter {
            notices.note(Notice::Filter, path);
        }
        self.convert(blob, &wanted, path, notices).map_err(failed)
    }

    /// The order is git's: ident, line endings, encoding.
    fn convert(
        &self,
        mut content: Vec<u8>,
        wanted: &Wanted,
        path: &BStr,
        notices: &mut Notices,
    ) -> Result<Vec<u8>, String> {
        if wanted.ident
            && let Some(expanded) = ident::expand(&content, self.repo.object_hash())
        {
            content = expanded;
        }
        let mut converted = Vec::new();
        if eol::convert_to_worktree(&content, wanted.digest, &mut converted, self.eol)
            .map_err(|err| err.to_string())?
        {
            content = converted;
        }
        if let Some(name) = &wanted.encoding {
            match encoding::encode(&content, name) {
                Ok(Some(encoded)) => content = encoded,
                Ok(None) => {}
                // git says so and writes what it has, too.
                Err(_) => notices.note(Notice::Encoding, path),
            }
        }
        Ok(content)
    }

    fn wanted(&mut self, path: &BStr) -> Result<Wanted, Error> {
        let found = self.attributes.of(path)?;
        let mut states = found.iter_selected().map(|found| found.assignment.state);
        let mut next = || states.next().unwrap_or(StateRef::Unspecified);
        let (crlf, text, eol, ident, filter, encoding) = (next(), next(), next(), next(), next(), next());
        Ok(Wanted {
            digest: digest(text_digest(text).or_else(|| text_digest(crlf)), eol, self.eol),
            ident: ident.is_set(),
            filter: value(filter).is_some(),
            encoding: value(encoding).map(|name| name.to_str_lossy().into_owned()),
        })
    }
}

/// As `git_path_check_crlf` in git's convert.c.
fn text_digest(state: StateRef<'_>) -> Option<AttributesDigest> {
    match state {
        StateRef::Set => Some(AttributesDigest::Text),
        StateRef::Unset => Some(AttributesDigest::Binary),
        StateRef::Value(_) if value(state) == Some("input".into()) => Some(AttributesDigest::TextInput),
        StateRef::Value(_) if value(state) == Some("auto".into()) => Some(AttributesDigest::TextAuto),
        StateRef::Value(_) | StateRef::Unspecified => None,
    }
}

/// As `convert_attrs` in git's convert.c: what `text` and `eol` come to together.
fn digest(text: Option<AttributesDigest>, eol: StateRef<'_>, config: eol::Configuration) -> AttributesDigest {
    use AttributesDigest as D;
    let crlf = match value(eol) {
        Some(name) if name == "crlf" => Some(true),
        Some(name) if name == "lf" => Some(false),
        _ => None,
    };
    match (text, crlf) {
        (Some(D::Binary), _) => D::Binary,
        (Some(D::TextAuto), Some(true)) => D::TextAutoCrlf,
        (Some(D::TextAuto), Some(false)) => D::TextAutoInput,
        (_, Some(true)) => D::TextCrlf,
        (_, Some(false)) => D::TextInput,
        (Some(D::Text), None) => config.to_eol().into(),
        (Some(digest), None) => digest,
        (None, None) => config.auto_crlf.into(),
    }
}

fn value(state: StateRef<'_>) -> Option<&BStr> {
    match state {
        StateRef::Value(value) => Some(value.as_bstr()),
        _ => None,
    }
}

/// `core.autocrlf` and `core.eol` of the repository itself.
fn configured_eol(repo: &gix::Repository) -> eol::Configuration {
    let config = repo.config_snapshot();
    let is = |key: &str, text: &str| {
        config
            .string(key)
            .is_some_and(|value| value.eq_ignore_ascii_case(text.as_bytes()))
    };
    eol::Configuration {
        auto_crlf: match config.boolean("core.autocrlf") {
            _ if is("core.autocrlf", "input") => AutoCrlf::Input,
            Some(true) => AutoCrlf::Enabled,
            _ => AutoCrlf::Disabled,
        },
        eol: match () {
            () if is("core.eol", "crlf") => Some(eol::Mode::CrLf),
            () if is("core.eol", "lf") => Some(eol::Mode::Lf),
            () => None,
        },
    }
}

/// See <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>, "The Pointer".
fn is_lfs_pointer(blob: &[u8]) -> bool {
    blob.len() < 1024 && blob.starts_with(b"version https://git-lfs.github.com/spec/")
}
