//! Imports go one way between layers, modules and files, as the pages of the source say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use syn::{
    Attribute, File, Item, Macro, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

use super::project::sources;

/// A path as `git::transport::pool`, without the crate.
type Name = Vec<String>;

/// What a file imports, what it calls by another name, and what it does not explain.
#[derive(Default)]
struct Found {
    /// Paths that code names, from the root of the crate.
    used: BTreeSet<Name>,
    /// Names that `use` brings into the file, and what they stand for.
    aliases: BTreeMap<String, Name>,
    /// Items that the file hands out without a doc line, and `the page`, if it has none.
    bare: Vec<String>,
}

struct Reader<'a> {
    /// The module that is being read.
    here: Name,
    modules: &'a BTreeSet<Name>,
    found: Found,
}

impl Reader<'_> {
    /// A path from the root of the crate, if it leads into the crate.
    fn resolve(&self, path: &[String]) -> Option<Name> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.here.clone(),
            "super" => self.here[..self.here.len().checked_sub(1)?].to_vec(),
            child => {
                let mut below = self.here.clone();
                below.push(child.into());
                if !self.modules.contains(&below) {
                    let alias = self.found.aliases.get(child)?;
                    return Some(alias.iter().chain(rest).cloned().collect());
                }
                below
            }
        };
        for word in rest {
            match word.as_str() {
                "super" => drop(base.pop()),
                word => base.push(word.into()),
            }
        }
        Some(base)
    }

    fn read_use(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.read_use(&tree.tree, path);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.read_use(tree, path)),
            UseTree::Name(name) => self.imports(path, &name.ident.to_string(), None),
            UseTree::Rename(name) => {
                self.imports(path, &name.ident.to_string(), Some(name.rename.to_string()));
            }
            UseTree::Glob(_) => self.imports(path, "*", None),
        }
    }

    fn imports(&mut self, path: &[String], name: &str, rename: Option<String>) {
        let mut whole = path.to_vec();
        if name != "self" {
            whole.push(name.into());
        }
        let alias = rename.or_else(|| whole.last().cloned()).unwrap_or_default();
        if let Some(target) = self.resolve(&whole) {
            // A module alone is no use of it: code then names what is in it.
            if !self.modules.contains(&target) {
                self.found.used.insert(target.clone());
            }
            self.found.aliases.insert(alias, target);
        }
    }

    fn note(&mut self, path: &[String]) {
        if path.len() > 1
            && let Some(target) = self.resolve(path)
        {
            self.found.used.insert(target);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if attributes.iter().any(is_for_tests) {
            return;
        }
        match item {
            Item::Use(item) => self.read_use(&item.tree, &mut Vec::new()),
            Item::Mod(item) => {
                self.here.push(item.ident.to_string());
                visit::visit_item_mod(self, item);
                self.here.pop();
            }
            item => visit::visit_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|word| word.ident.to_string()).collect();
        self.note(&words);
        visit::visit_path(self, path);
    }

    /// What a macro is given is not parsed: whatever looks like a path counts as one.
    fn visit_macro(&mut self, item: &'ast Macro) {
        let text: String = item.tokens.to_string().split_whitespace().collect();
        for words in text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            let words: Vec<String> = words.split("::").map(str::to_owned).collect();
            if words.iter().all(|word| !word.is_empty()) {
                self.note(&words);
            }
        }
    }
}

/// See [`Found::bare`]. Fields, variants and methods do not count: they have a doc line where the name does not say enough.
fn bare(file: &File) -> Vec<String> {
    let has_none = |attributes: &[Attribute]| {
        !attributes
            .iter()
            .any(|attribute| attribute.path().is_ident("doc"))
    };
    let items = file.items.iter().filter_map(|item| {
        let (attributes, visibility, name) = match item {
            Item::Const(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Enum(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Fn(item) => (&item.attrs, &item.vis, &item.sig.ident),
            Item::Struct(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Trait(item) => (&item.attrs, &item.vis, &item.ident),
            Item::Type(item) => (&item.attrs, &item.vis, &item.ident),
            _ => return None,
        };
        (matches!(visibility, Visibility::Public(_)) && has_none(attributes)).then(|| name.to_string())
    });
    let page = has_none(&file.attrs).then(|| "the page".into());
    items.chain(page).collect()
}

/// Whether an attribute is `#[cfg(test)]`, or one that holds for tests and fuzzing only.
fn is_for_tests(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let text = list.tokens.to_string();
            text == "test" || text.contains("(test") || text == "fuzzing"
        }
        _ => false,
    }
}

/// The source, file by file.
struct House {
    found: BTreeMap<Name, Found>,
}

impl House {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files: BTreeMap<Name, (PathBuf, File)> = BTreeMap::new();
        for path in sources(&src) {
            let relative = path.strip_prefix(&src).unwrap().with_extension("");
            let name: Name = relative
                .iter()
                .map(|word| word.to_str().unwrap().into())
                .collect();
            let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            files.insert(name, (path, file));
        }
        let tests: Vec<Name> = files
            .iter()
            .flat_map(|(name, (_, file))| {
                let inner = file.items.iter().filter_map(move |item| match item {
                    Item::Mod(item) if item.content.is_none() && item.attrs.iter().any(is_for_tests) => {
                        let mut name = name.clone();
                        if name == ["lib"] {
                            name.clear();
                        }
                        name.push(item.ident.to_string());
                        Some(name)
                    }
                    _ => None,
                });
                inner.collect::<Vec<_>>()
            })
            .collect();
        files.retain(|name, _| !tests.iter().any(|test| name.starts_with(test)) && name != &["main"]);
        let modules: BTreeSet<Name> = files.keys().cloned().collect();
        let found = files
            .iter()
            .filter(|(name, _)| *name != &["lib"])
            .map(|(name, (_, file))| {
                let mut reader = Reader {
                    here: name.clone(),
                    modules: &modules,
                    found: Found::default(),
                };
                // Aliases first: code may come before them.
                reader.visit_file(file);
                reader.visit_file(file);
                reader.found.bare = bare(file);
                (name.clone(), reader.found)
            })
            .collect();
        Self { found }
    }

    /// The file that defines `path`; a name that is handed on counts where it comes from.
    fn home(&self, path: &Name) -> Option<&Name> {
        let mut path = path.clone();
        for _ in 0..8 {
            let (home, found) = (0..=path.len())
                .rev()
                .find_map(|end| self.found.get_key_value(&path[..end]))?;
            match path.get(home.len()).and_then(|name| found.aliases.get(name)) {
                Some(target) => {
                    path = target.iter().chain(&path[home.len() + 1..]).cloned().collect();
                }
                None => return Some(home),
            }
        }
        None
    }

    /// Each file, and each other one that it imports.
    fn arrows(&self) -> BTreeSet<(&Name, &Name)> {
        let mut arrows = BTreeSet::new();
        for (name, found) in &self.found {
            let homes = found.used.iter().filter_map(|path| self.home(path));
            arrows.extend(homes.filter(|home| *home != name).map(|home| (name, home)));
        }
        arrows
    }
}

/// Read once: there are many files.
fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(House::read)
}

/// The names in the first column of the table at the top of a file, in their order.
fn table(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.map(|row| row.split('`').next().unwrap().to_owned())
        .collect()
}

/// Each arrow between two of `names`, which are at `depth` in a path, leads to an earlier one.
fn all_run_down(arrows: &[(&Name, &Name)], names: &[String], depth: usize) {
    let floor = |path: &Name| {
        let name = path.get(depth)?;
        let floor = names.iter().position(|known| known == name);
        assert!(floor.is_some(), "{} is in no table", path.join("::"));
        floor
    };
    for (from, to) in arrows {
        if let (Some(own), Some(theirs)) = (floor(from), floor(to)) {
            assert!(theirs <= own, "{} imports {}", from.join("::"), to.join("::"));
        }
    }
}

#[test]
fn imports_go_one_way() {
    let house = house();
    let arrows = house.arrows();
    assert!(arrows.len() > 400, "only {} imports were found", arrows.len());
    let layers = table("lib.rs");
    let all: Vec<_> = arrows.iter().copied().collect();
    all_run_down(&all, &layers, 0);
    for layer in &layers {
        let modules = table(&format!("{layer}.rs"));
        if modules.is_empty() {
            continue;
        }
        let inside: Vec<_> = all
            .iter()
            .copied()
            .filter(|(from, to)| from.first() == Some(layer) && to.first() == Some(layer))
            .collect();
        all_run_down(&inside, &modules, 1);
    }
}

/// The engine is of use to another program: it knows neither events nor a trigger.
#[test]
fn the_engine_knows_no_events() {
    let house = house();
    for (from, to) in house.arrows() {
        assert!(
            from[0] != "git" || !to.starts_with(&["base".into(), "event".into()]),
            "{} imports {}",
            from.join("::"),
            to.join("::")
        );
    }
}

/// Each file has a page; and the engine, which another program could use, says of each item what it is.
#[test]
fn pages_and_the_engine_are_explained() {
    for (name, found) in &house().found {
        for item in &found.bare {
            let is_due = name[0] == "git" || item == "the page";
            assert!(!is_due, "{} does not explain {item}", name.join("::"));
        }
    }
}

/// The front knows the daemon by its socket: neither its engine, its runs, nor its configuration.
#[test]
fn the_front_knows_the_daemon_by_its_socket() {
    const KNOWN: [&str; 6] = [
        "base",
        "web",
        "config::form",
        "daemon::client",
        "daemon::wire",
        "daemon::listen",
    ];
    let house = house();
    for (from, to) in house.arrows() {
        let to = to.join("::");
        let known = KNOWN
            .iter()
            .any(|known| to == *known || to.starts_with(&format!("{known}::")));
        assert!(from[0] != "web" || known, "{} imports {to}", from.join("::"));
    }
}

/// No file imports one that imports it, by whatever way. A module's own page, which its files may look up to for what they
/// share, is no file in this sense.
#[test]
fn no_imports_go_in_circles() {
    let house = house();
    let is_page = |a: &Name, b: &Name| a.starts_with(b) || b.starts_with(a);
    let mut arrows: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    for (from, to) in house.arrows() {
        if !is_page(from, to) {
            arrows.entry(from).or_default().insert(to);
        }
    }
    // What leads to nothing is in no circle.
    loop {
        let ends: Vec<&Name> = arrows
            .iter()
            .filter(|(_, to)| to.iter().all(|to| !arrows.contains_key(*to)))
            .map(|(from, _)| *from)
            .collect();
        if ends.is_empty() {
            break;
        }
        for end in ends {
            arrows.remove(end);
        }
    }
    let left: Vec<String> = arrows
        .iter()
        .flat_map(|(from, to)| {
            let to = to.iter().filter(|to| arrows.contains_key(**to));
            to.map(move |to| format!("{} imports {}", from.join("::"), to.join("::")))
        })
        .collect();
    assert!(left.is_empty(), "in a circle, or above one: {left:#?}");
}
