//! The bytes that a checkout writes for a blob: line endings, ident and encoding as attributes ask for.
//!
//! Attributes come from the index that is checked out and from outside of it (`attributes`). External filters do not exist
//! here: nothing in this module could start a program.

use std::sync::{Mutex, MutexGuard};

use gix::{
    attrs::StateRef,
    bstr::{BStr, ByteSlice},
    filter::plumbing::eol::{self, AttributesDigest, AutoCrlf},
    index::entry::Mode,
};

use super::{
    Error,
    attributes::{Attributes, Sources},
    encoding::{self, Unencoded},
    ident,
    notice::{Notice, Notices},
};
use crate::{
    base::mutex,
    git::{large::LARGE, repository::reason, verified},
};

/// Makes the content of files of one index.
pub(super) struct Content<'r> {
    repo: &'r gix::Repository,
    attributes: Attributes<'r>,
    eol: eol::Configuration,
}

/// In the order in which [`Wanted`] reads them.
const ATTRIBUTES: [&str; 6] = ["crlf", "text", "eol", "ident", "filter", "working-tree-encoding"];

/// Larger contents are converted by one thread of all at a time: `ident` can make eleven times as much of them, and
/// UTF-32 four times; in bytes.
const ALONE: usize = 1 << 20;
static TURN: Mutex<()> = Mutex::new(());

/// What is written, and the turn that making it took.
pub(super) struct Bytes {
    bytes: Vec<u8>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, _turn: None }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why there is nothing to write.
enum Wrong {
    /// Too much to convert: the number of bytes.
    Large(u64),
    /// git can encode it, and this program cannot: the encoding, and why.
    Encoding(String, String),
    Other(String),
}

fn bounded(content: &[u8]) -> Result<(), Wrong> {
    match content.len() as u64 {
        size if size > LARGE => Err(Wrong::Large(size)),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversion {
    None,
    Text,
    Always,
}

/// What attributes and configuration ask for.
struct Wanted {
    digest: AttributesDigest,
    ident: bool,
    filter: bool,
    encoding: Option<String>,
}

impl Wanted {
    /// Whether git converts the content while it reads it, as `classify_conv_attrs` in its convert.c has it.
    fn is_streamed(&self) -> bool {
        use AttributesDigest as D;
        self.encoding.is_none() && !matches!(self.digest, D::TextAuto | D::TextAutoCrlf)
    }

    fn conversion(&self, config: eol::Configuration) -> Conversion {
        use AttributesDigest as D;
        match self.digest {
            _ if self.ident || self.encoding.is_some() => Conversion::Always,
            digest if digest.to_eol(config) != Some(eol::Mode::CrLf) => Conversion::None,
            D::TextAuto | D::TextAutoCrlf | D::TextAutoInput => Conversion::Text,
            _ => Conversion::Always,
        }
    }
}

impl<'r> Content<'r> {
    /// For files whose attributes are in `sources`.
    pub(super) fn new(repo: &'r gix::Repository, sources: &Sources) -> Self {
        Self {
            attributes: Attributes::new(repo, sources, &ATTRIBUTES),
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
    ) -> Result<Bytes, Error> {
        let failed = |reason: String| Error::Object {
            id,
            path: path.to_string(),
            reason,
        };
        let blob = verified::object(self.repo, id)
            .and_then(gix::Object::try_into_blob)
            .map_err(|err| failed(reason(&err)))?
            .take_data();
        if mode == Mode::SYMLINK {
            return Ok(blob.into());
        }
        let wanted = self.wanted(path)?;
        if is_lfs_pointer(&blob) {
            notices.note(Notice::Lfs, path);
        } else if wanted.filter {
            notices.note(Notice::Filter, path);
        }
        if wanted.conversion(self.eol) == Conversion::None {
            return Ok(blob.into());
        }
        let turn = (blob.len() > ALONE).then(|| mutex::lock(&TURN));
        let too_large = |size| Error::Convert {
            path: path.to_string(),
            size,
            limit: LARGE,
        };
        let bytes = self
            .convert((id, blob), &wanted, path, notices)
            .map_err(|wrong| match wrong {
                Wrong::Large(size) => too_large(size),
                Wrong::Encoding(name, reason) => Error::Encoding {
                    path: path.to_string(),
                    name,
                    reason,
                },
                Wrong::Other(reason) => failed(reason),
            })?;
        Ok(Bytes { bytes, _turn: turn })
    }

    /// Refuse an encoding that git can make of the blob `id` at `path`, and this program cannot. What else may be wrong
    /// with it shows when it is written.
    pub(super) fn check_encoding(&mut self, id: gix::ObjectId, mode: Mode, path: &BStr) -> Result<(), Error> {
        if !matches!(mode, Mode::FILE | Mode::FILE_EXECUTABLE) || self.wanted(path)?.encoding.is_none() {
            return Ok(());
        }
        match self.of(id, mode, path, &mut Notices::default()) {
            Err(err @ Error::Encoding { .. }) => Err(err),
            _ => Ok(()),
        }
    }

    /// What is to be converted in a file that is not held in memory.
    pub(super) fn conversion(
        &mut self,
        mode: Mode,
        path: &BStr,
        notices: &mut Notices,
    ) -> Result<Conversion, Error> {
        if mode == Mode::SYMLINK {
            return Ok(Conversion::None);
        }
        let wanted = self.wanted(path)?;
        if wanted.filter {
            notices.note(Notice::Filter, path);
        }
        Ok(wanted.conversion(self.eol))
    }

    /// The order is git's: ident, line endings, encoding.
    fn convert(
        &self,
        (id, mut content): (gix::ObjectId, Vec<u8>),
        wanted: &Wanted,
        path: &BStr,
        notices: &mut Notices,
    ) -> Result<Vec<u8>, Wrong> {
        let expanded = if !wanted.ident {
            None
        } else if wanted.is_streamed() {
            ident::expand_streamed(&content, &id)
        } else {
            ident::expand(&content, &id)
        };
        content = expanded.unwrap_or(content);
        if wanted.digest.to_eol(self.eol) == Some(eol::Mode::CrLf) {
            bounded(&content)?;
        }
        let mut converted = Vec::new();
        if eol::convert_to_worktree(&content, wanted.digest, &mut converted, self.eol)
            .map_err(|err| Wrong::Other(err.to_string()))?
        {
            content = converted;
        }
        if let Some(name) = &wanted.encoding {
            bounded(&content)?;
            match encoding::encode(&content, name) {
                Ok(encoded) => content = encoded,
                Err(Unencoded::Left) => notices.note(Notice::Encoding, path),
                Err(Unencoded::Refused(reason)) => return Err(Wrong::Encoding(name.clone(), reason)),
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
            encoding: value(encoding)
                .map(|name| name.to_str_lossy().into_owned())
                .filter(|name| !name.is_empty() && !encoding::is_utf8(name)),
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
