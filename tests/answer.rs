//! What the resolver says of a tree -> one text that holds the whole answer.

use std::fmt::Write;

use minimage::closure::{Cause, Closure, Reason, Role};
use minimage::explain::Explain;
use minimage::path::{RawPath, show};
use minimage::resolve::{
    self, Circumstances, Inputs, Linkage, ObjectList, Privilege, Resolution, ResolveError, Resolver,
};
use minimage::rootfs::{Kind, Rootfs, chase};
use minimage::roots::{Keep, Origin, Root};
use minimage::rules::Catalogue;
use minimage::spec::{Hwcaps, Preloads, Search, Selection};

use crate::tree_text::Tree;

/// Returns the answer to every question of `tree`, which is in `rootfs`.
pub fn of_tree(tree: &Tree, rootfs: &dyn Rootfs) -> String {
    let mut text = String::new();
    for path in tree.programs.iter().chain(&tree.libraries) {
        writeln!(text, "{}", show(path)).expect("a string grows");
        text.push_str(&of_object(rootfs, path, &tree.search));
    }
    if !roots(tree).is_empty() {
        // An image holds no list of preloads.
        let search = Search { preloads: Preloads::None, ..tree.search.clone() };
        text.push_str("image\n");
        text.push_str(&match closure(tree, rootfs, &search) {
            Ok(resolution) => {
                let warnings = resolution.warnings.iter().map(|warning| format!("  warning: {warning}\n"));
                warnings.collect::<String>() + &of_closure(&resolution.closure)
            }
            Err(error) => of_error(&error),
        });
    }
    text
}

/// Returns what the programs of `tree` need to start, and nothing else.
pub fn closure(tree: &Tree, rootfs: &dyn Rootfs, search: &Search) -> Result<Resolution, ResolveError> {
    resolve::closure(&Inputs {
        rootfs,
        packages: None,
        roots: &roots(tree),
        search,
        selection: &Selection::bare(),
        rules: &Catalogue::empty(),
        user: None,
    })
}

/// Returns the programs and files of `tree` as roots.
pub fn roots(tree: &Tree) -> Vec<Root> {
    let programs = tree.programs.iter().map(|path| {
        let path = RawPath::new(path.as_slice());
        (path.clone(), Keep::Program { name: path, to: None })
    });
    let files = tree.files.iter().map(|keep| match keep {
        Keep::File(path) | Keep::Member(path) => (path.clone(), keep.clone()),
        keep => panic!("no file: {keep:?}"),
    });
    let root = |(path, keep): (RawPath, Keep)| Root { keep, origin: Origin::Argument(path.to_string()) };
    programs.chain(files).map(root).collect()
}

/// What a loader is told to do with an object.
pub enum Linked {
    /// It maps something, or needs to map nothing.
    Fine(Linkage),
    /// There is no such ELF file.
    NotElf(String),
    /// It gives up.
    Refused(ResolveError),
}

/// Returns what the loader makes of the object at `path`.
pub fn linked(rootfs: &dyn Rootfs, path: &[u8], search: &Search) -> Linked {
    let resolver = Resolver::new(rootfs, search);
    let chased = chase(rootfs, &RawPath::new(path)).expect("a readable tree");
    let (real, node) = match chased.end {
        Ok(found) => found,
        Err(absence) => return Linked::NotElf(absence.to_string()),
    };
    if node.kind != Kind::File {
        return Linked::NotElf("not a regular file".to_owned());
    }
    let object = match resolver.object(&real, &node).expect("a readable tree") {
        Ok(object) => object,
        Err(error) => return Linked::NotElf(error.to_string()),
    };
    let privilege = if node.is_privileged() { Privilege::Secure } else { Privilege::Plain };
    let hwcaps = match &search.hwcaps {
        Hwcaps::Levels(levels) => levels.clone(),
        Hwcaps::All => Vec::new(),
    };
    match resolver.linkage(&object, &Circumstances { privilege, hwcaps, loads: Vec::new() }) {
        Ok(linkage) => Linked::Fine(linkage),
        Err(error) => Linked::Refused(error),
    }
}

fn of_object(rootfs: &dyn Rootfs, path: &[u8], search: &Search) -> String {
    match linked(rootfs, path, search) {
        Linked::Fine(Linkage::Static) => "  static\n".to_owned(),
        Linked::Fine(Linkage::Dynamic { interp, list, .. }) => {
            format!("  interp {interp}\n{}", of_list(&list))
        }
        Linked::NotElf(reason) => format!("  no ELF file: {reason}\n"),
        Linked::Refused(error) => of_error(&error),
    }
}

fn of_list(list: &ObjectList) -> String {
    let name = |index: usize| match list.objects[index].name.as_bytes() {
        b"" => "the program".to_owned(),
        name => show(name),
    };
    let mut text = String::new();
    for (_, loaded) in list.libraries() {
        let by = loaded.asker.map_or_else(|| "nobody".to_owned(), name);
        let (asked_as, found) = (show(&loaded.asked_as), &loaded.name);
        writeln!(text, "  {asked_as} => {found} ({}) for {by}", loaded.found_by).expect("a string grows");
    }
    for missing in &list.missing {
        writeln!(text, "  {} => missing, for {}", show(&missing.soname), name(missing.by))
            .expect("a string grows");
    }
    for unmet in &list.unmet {
        let names: Vec<_> = unmet.request.alternatives.iter().map(|name| show(name)).collect();
        let by = name(unmet.by);
        writeln!(text, "  {} => not there, for {by}", names.join(" or ")).expect("a string grows");
    }
    for hint in &list.hints {
        let by = name(hint.by);
        writeln!(text, "  hint: {} => {} for {by}", show(&hint.soname), hint.path).expect("a string grows");
    }
    for warning in &list.warnings {
        writeln!(text, "  warning: {warning}").expect("a string grows");
    }
    text
}

fn of_error(error: &dyn Explain) -> String {
    let explanations = error.explain().into_iter().map(|explanation| explanation.to_string());
    let lines =
        explanations.flat_map(|text| text.lines().map(|line| format!("  {line}\n")).collect::<Vec<_>>());
    lines.collect()
}

/// Returns `closure` as text: each entry, and for all but directories each demand that it serves. What every image has
/// is left out.
pub fn of_closure(closure: &Closure) -> String {
    let mut text = String::new();
    for (path, entry) in closure.entries() {
        let reasons = || entry.reasons.iter().map(|reason| (reason, closure.demand(reason.demand)));
        if reasons().all(|(_, demand)| demand.cause == Cause::Layout) {
            continue;
        }
        let node = &entry.node;
        let kind = match &node.kind {
            Kind::File => "file".to_owned(),
            Kind::Directory => "dir".to_owned(),
            Kind::Link(target) => format!("-> {target}"),
            Kind::Special(what) => (*what).to_owned(),
        };
        write!(text, "  {path} {kind}").expect("a string grows");
        if !matches!(node.kind, Kind::Link(_)) {
            write!(text, " {:04o}", node.mode).expect("a string grows");
        }
        if (node.uid, node.gid) != (0, 0) {
            write!(text, " {}:{}", node.uid, node.gid).expect("a string grows");
        }
        text.push('\n');
        for (Reason { role, .. }, demand) in reasons() {
            let role = match role {
                Role::Target => "is",
                Role::Link => "leads to",
                Role::Parent => continue,
            };
            writeln!(text, "      {role} {}: {}", demand.path, demand.cause).expect("a string grows");
        }
    }
    text
}
