//! An engine that brings a directory to a commit of a remote: it knows no trigger, no configuration and no daemon.
//!
//! It takes an [`Origin`](origin::Origin) and paths, and reports through a [`Reporter`](crate::base::report::Reporter).
//!
//! Clone a repository into a directory, and then update it:
//!
//! ```
//! use std::{path::Path, sync::atomic::AtomicBool, time::Duration};
//!
//! use gitsocket::{
//!     base::{
//!         name::{AbsPath, RepoUrl},
//!         report::Reporter,
//!         rights::Rights,
//!     },
//!     git::{
//!         begin::Begin,
//!         fetch,
//!         origin::Origin,
//!         refs, repository,
//!         transport::{Connections, Deadline},
//!         worktree::{self, Clean, Cache},
//!     },
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/repos/demo.git");
//! # let dir = tempfile::tempdir()?;
//! let origin = Origin::new(RepoUrl::parse(source, Path::new("/"))?);
//! let root = AbsPath::resolve(Path::new("/"), dir.path())?;
//! let repo = repository::init(&dir.path().join(".git"), "[core]\n\tbare = false\n")?;
//! let report = Reporter::new(|report| println!("{report:?}"));
//! let (over, begin) = (AtomicBool::new(false), Begin(&|| Ok(())));
//! let (connections, cache) = (Connections::new(Duration::ZERO), Cache::default());
//! let log = refs::Options {
//!     remote: &origin.remote,
//!     writer: "example",
//!     fsync: false,
//! };
//! for expected in ["clone", "update"] {
//!     let options = fetch::Options {
//!         origin: &origin,
//!         deadline: Deadline::new(origin.timeout),
//!         deployed: refs::head(&repo),
//!         depth: origin.depth,
//!         report: &report,
//!         connections: &connections,
//!         over: &over,
//!         begin,
//!     };
//!     let fetched = fetch::fetch(&repo, &options)?;
//!     refs::fetched(&repo, (&fetched.tip, fetched.commit), fetched.keep.as_deref(), log)?;
//!     let options = worktree::Options {
//!         root: &root,
//!         index: &repo.index_path(),
//!         clean: Clean::Untracked,
//!         keep: &[],
//!         max_blob: origin.max_blob,
//!         rights: Rights::of(0o022),
//!         dry_run: false,
//!         apart: None,
//!         cache: &cache,
//!         begin,
//!         report: &report,
//!         over: &over,
//!     };
//!     let outcome = worktree::update(&repo, fetched.commit, &options)?;
//!     refs::deployed(&repo, &fetched.tip, fetched.commit, log)?;
//!     println!("{expected}: {outcome:?}");
//!     assert_eq!(outcome.written > 0, expected == "clone");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`verified`] | objects are hashed when they are read |
//! | [`large`] | objects that are too large for memory |
//! | [`begin`] | a call before the first write |
//! | [`origin`] | where commits come from, and the bounds of a fetch |
//! | [`repository`] | opens repositories so that nothing but their own data counts; edits a ref |
//! | [`revwalk`] | the commits that some lead to and others do not |
//! | [`upload_pack`] | the serving half of protocol v2, for local repositories |
//! | [`transport`] | a URL becomes something that git's protocol can be spoken over |
//! | [`intake`] | a pack comes in, whatever it holds |
//! | [`refs`] | refs and reflogs, in an order from which every crash converges |
//! | [`dropped`] | commits that a branch no longer leads to |
//! | [`fetch`] | the remote's newest commit and its objects come here |
//! | [`lock`] | one run at a time per target; recovery of what a dead run left |
//! | [`worktree`] | a commit becomes files and index |
//! | [`maintenance`] | packs are put together, and garbage goes |
//! | [`heal`] | objects that are missing or damaged here are fetched again |

pub mod begin;
pub mod dropped;
pub mod fetch;
pub mod heal;
pub mod intake;
pub mod large;
pub mod lock;
pub mod maintenance;
pub mod origin;
pub mod refs;
pub mod repository;
pub mod revwalk;
pub mod transport;
pub mod upload_pack;
pub mod verified;
pub mod worktree;
