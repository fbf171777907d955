//! An OCI image in a layout -> [`Rootfs`]: its layers laid over each other, and never unpacked.
//!
//! Only the names are kept in memory, each with the place of its bytes in a tar. So nothing that a hostile layer says
//! can reach the host: links lead around in the tree, and nowhere else.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::tars::{Tar, Tars};
use super::{FileId, Kind, Node, Rootfs, RootfsError, chase};
use crate::explain::{Explain, Explanation};
use crate::formats::ReadAt;
use crate::formats::tar::{Member, MemberKind, TarError, members};
use crate::oci::{Descriptor, DiffId, ImageFacts, Layout, LayoutError, Manifest};
use crate::path::{RawPath, RootPath};

/// The most layers of one image.
const LAYERS_MAX: usize = 500;
/// The most paths of one image, those that a higher layer hides counted too.
const PATHS_MAX: usize = 1_000_000;
/// What begins the name of a file that says that another one is gone (image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// What says that everything below the directory is gone.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What begins the names of a file system's own notes, which are no part of the image.
const NOTE: &[u8] = b".wh..wh.";

/// The files of an image.
#[derive(Debug)]
pub struct ImageRootfs {
    name: String,
    facts: ImageFacts,
    tars: Vec<Tar>,
    /// Everything that ever had a name; the first is the top directory.
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    node: Node,
    place: Place,
    children: BTreeMap<Vec<u8>, usize>,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Tar { layer: usize, offset: u64 },
    Holes,
}

/// Why an image cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayersError {
    /// The layout does not have what the image consists of.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The manifest or config is not what it should be.
    #[error("`{image}` is no image that has files")]
    NotAnImage {
        /// The manifest or config.
        image: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The config lists other layers than the manifest.
    #[error("the manifest of `{image}` lists {layers} layers, its config {diff_ids}")]
    LayerCount {
        /// The manifest.
        image: String,
        /// How many blobs.
        layers: usize,
        /// How many tars.
        diff_ids: usize,
    },
    /// The file system of the host refuses.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The compressed bytes are damaged, or inflate to more than anybody wants.
    #[error("cannot read {blob}")]
    Inflate {
        /// The blob.
        blob: String,
        /// What the decompressor says.
        source: io::Error,
    },
    /// Other bytes are in the blob than the config promises.
    #[error("the tar in {blob} is not {diff_id}")]
    OtherTar {
        /// The blob.
        blob: String,
        /// What the config promises.
        diff_id: DiffId,
    },
    /// A tar cannot be read.
    #[error("{tar} is damaged")]
    Tar {
        /// The tar.
        tar: String,
        /// What is wrong with it.
        source: TarError,
    },
    /// A tar puts something where nothing can be.
    #[error("{tar} has `{path}`, which has no place: {problem}")]
    Member {
        /// The tar.
        tar: String,
        /// The path in the tar.
        path: RawPath,
        /// Why not.
        problem: &'static str,
    },
    /// More paths than any real image has.
    #[error("the image has more than {PATHS_MAX} paths")]
    TooManyPaths,
    /// More layers than any real image has.
    #[error("the image has more than {LAYERS_MAX} layers")]
    TooManyLayers,
}

impl Explain for LayersError {
    fn explain(&self) -> Vec<Explanation> {
        let (code, fix) = match self {
            Self::Layout(error) => return error.explain(),
            Self::Io { .. } => {
                ("unwritable-output", "check the path, its permissions and the space left there")
            }
            Self::NotAnImage { .. } => ("bad-image", "name an image that a container can be started from"),
            _ => ("bad-image", "make the image again, or fetch it again"),
        };
        vec![Explanation::new(code, self.to_string()).because_of(self).fix(fix)]
    }
}

impl ImageRootfs {
    /// Opens the image with the manifest `image` in `layout`. It is called `name` in messages; tars are inflated as
    /// `tars` says. The layout is not needed any more afterwards.
    ///
    /// # Errors
    /// [`LayersError`] if anything is not what its digest promises, or beyond the limits.
    pub fn open(
        layout: &Layout,
        image: &Descriptor,
        tars: &Tars,
        name: impl Into<String>,
    ) -> Result<Self, LayersError> {
        let no_image = |what: &Descriptor| {
            let image = what.digest().to_string();
            |source| LayersError::NotAnImage { image, source }
        };
        let manifest: Manifest = serde_json::from_slice(&layout.read(image)?).map_err(no_image(image))?;
        let config = manifest.config();
        let facts = ImageFacts::parse(&layout.read(config)?).map_err(no_image(config))?;
        let (layers, diff_ids) = (manifest.layers(), &facts.diff_ids);
        if layers.len() != diff_ids.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            return Err(LayersError::LayerCount { image: image.digest().to_string(), layers, diff_ids });
        }
        if layers.len() > LAYERS_MAX {
            return Err(LayersError::TooManyLayers);
        }
        let opened = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
            let tar = tars.tar(layout, layer, *diff_id)?;
            Ok::<_, LayersError>((format!("the layer {}", layer.digest()), tar))
        });
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let mut rootfs = Self::empty(name.into(), facts);
        for (name, tar) in opened {
            rootfs.lay(tar, &name)?;
        }
        rootfs.count_links();
        Ok(rootfs)
    }

    /// Opens the tar in `file`, which may be compressed, as what it would unpack to. It is called `name` in messages.
    ///
    /// # Errors
    /// [`LayersError`] if it is no tar, or beyond the limits.
    pub fn of_tar(file: File, name: impl Into<String>) -> Result<Self, LayersError> {
        let mut rootfs = Self::empty(name.into(), ImageFacts::default());
        let name = rootfs.name.clone();
        rootfs.lay(Tar::any(file, &name)?, &name)?;
        rootfs.count_links();
        Ok(rootfs)
    }

    fn empty(name: String, facts: ImageFacts) -> Self {
        let top = Slot { node: Node::directory(0o755), place: Place::Nowhere, children: BTreeMap::new() };
        Self { name, facts, tars: Vec::new(), slots: vec![top] }
    }

    /// Returns what the config says about the image.
    pub fn facts(&self) -> &ImageFacts {
        &self.facts
    }

    /// Lays one more layer over those that are there.
    fn lay(&mut self, tar: Tar, name: &str) -> Result<(), LayersError> {
        let damaged = |source| LayersError::Tar { tar: name.to_owned(), source };
        // What a layer removes is of the layers below it, wherever in the tar it says so.
        for member in members(&tar) {
            let member = member.map_err(damaged)?;
            if name_of(&member.path).starts_with(WHITEOUT) {
                self.remove(&member.path, name)?;
            }
        }
        let layer = self.tars.len();
        for member in members(&tar) {
            let member = member.map_err(damaged)?;
            let mut names = member.path.as_bytes().split(|byte| *byte == b'/');
            let is_note = names.any(|part| part.starts_with(NOTE));
            if !is_note && !name_of(&member.path).starts_with(WHITEOUT) {
                self.add(&member, layer, name)?;
            }
        }
        self.tars.push(tar);
        Ok(())
    }

    /// Removes what the whiteout `path` names; nothing happens if it is not there.
    fn remove(&mut self, path: &RawPath, tar: &str) -> Result<(), LayersError> {
        let Some(parent) = self.existing(path, tar)? else { return Ok(()) };
        let Some(parent) = self.slots.get_mut(parent) else { return Ok(()) };
        match name_of(path) {
            OPAQUE => parent.children.clear(),
            note if note.starts_with(NOTE) => {}
            name => match name.strip_prefix(WHITEOUT) {
                Some(b"" | b"." | b"..") | None => {
                    let (tar, path) = (tar.to_owned(), path.clone());
                    return Err(LayersError::Member { tar, path, problem: "it removes no name" });
                }
                Some(name) => drop(parent.children.remove(name)),
            },
        }
        Ok(())
    }

    /// Puts `member` to its place.
    fn add(&mut self, member: &Member, layer: usize, tar: &str) -> Result<(), LayersError> {
        let error = |problem| LayersError::Member { tar: tar.to_owned(), path: member.path.clone(), problem };
        let node = Node { mode: member.mode, uid: member.uid, gid: member.gid, ..Node::file(0) };
        let (node, place) = match &member.kind {
            MemberKind::File { offset, size } => {
                // As on a disk, where only a program's is looked at.
                let capability = member.capability.clone().filter(|_| member.mode & 0o111 != 0);
                (Node { size: *size, capability, ..node }, Place::Tar { layer, offset: *offset })
            }
            MemberKind::Sparse { size } => (Node { size: *size, ..node }, Place::Holes),
            MemberKind::Directory => (Node { kind: Kind::Directory, ..node }, Place::Nowhere),
            MemberKind::Link(target) => (Node { kind: Kind::Link(target.clone()), ..node }, Place::Nowhere),
            MemberKind::Special(what) => (Node { kind: Kind::Special(what), ..node }, Place::Nowhere),
            MemberKind::HardLink(target) => {
                let slot = self.existing(target, tar)?.and_then(|parent| self.child(parent, name_of(target)));
                let slot = slot.and_then(|slot| self.slots.get(slot));
                let Slot { node, place, .. } =
                    slot.ok_or_else(|| error("the file it is a link to is not there"))?;
                if node.kind == Kind::Directory {
                    return Err(error("it is a hard link to a directory"));
                }
                (node.clone(), *place)
            }
        };
        if member.path.as_bytes() == b"/" {
            return match (node.kind == Kind::Directory, self.slots.first_mut()) {
                (true, Some(top)) => {
                    top.node = node;
                    Ok(())
                }
                _ => Err(error("the top is a directory")),
            };
        }
        let parent = self.directory(member, tar)?;
        let name = name_of(&member.path);
        let old = self.child(parent, name).and_then(|slot| self.slots.get_mut(slot));
        if let Some(old) = old.filter(|old| [&old.node, &node].iter().all(|it| it.kind == Kind::Directory)) {
            old.node = node;
            return Ok(());
        }
        let is_link = matches!(member.kind, MemberKind::HardLink(_));
        let inode = if is_link { node.id.inode } else { self.slots.len() as u64 };
        let node = Node { id: FileId { device: 0, inode }, ..node };
        self.insert(parent, name, Slot { node, place, children: BTreeMap::new() })
    }

    fn insert(&mut self, parent: usize, name: &[u8], slot: Slot) -> Result<(), LayersError> {
        if self.slots.len() >= PATHS_MAX {
            return Err(LayersError::TooManyPaths);
        }
        let index = self.slots.len();
        self.slots.push(slot);
        if let Some(parent) = self.slots.get_mut(parent) {
            parent.children.insert(name.to_vec(), index);
        }
        Ok(())
    }

    /// Returns the directory that `member` goes to. Links on the way are followed, as the engines do; what is missing is
    /// made.
    fn directory(&mut self, member: &Member, tar: &str) -> Result<usize, LayersError> {
        let error = |problem| LayersError::Member { tar: tar.to_owned(), path: member.path.clone(), problem };
        let mut here = 0;
        let names: Vec<&[u8]> = member.path.as_bytes().split(|byte| *byte == b'/').skip(1).collect();
        let above = names.get(..names.len().saturating_sub(1)).unwrap_or_default();
        for (index, name) in above.iter().enumerate() {
            here = match self.child(here, name) {
                Some(slot) => match self.slots.get(slot).map(|slot| &slot.node.kind) {
                    Some(Kind::Directory) => slot,
                    Some(Kind::Link(_)) => {
                        let way = names.get(..=index).unwrap_or_default().join(&b'/');
                        let end = self.end(&RawPath::from("/").join(&way), tar)?;
                        end.ok_or_else(|| error("a link on the way leads to no directory"))?
                    }
                    _ => return Err(error("a name on the way is no directory")),
                },
                None => {
                    let node = Node::directory(0o755);
                    self.insert(here, name, Slot { node, place: Place::Nowhere, children: BTreeMap::new() })?;
                    self.slots.len() - 1
                }
            };
        }
        Ok(here)
    }

    /// Returns the directory that holds the last name of `path`, if it is there.
    fn existing(&self, path: &RawPath, tar: &str) -> Result<Option<usize>, LayersError> {
        match path.parent() {
            Some(parent) => self.end(&parent, tar),
            None => Ok(None),
        }
    }

    /// Returns the directory that `path` leads to.
    fn end(&self, path: &RawPath, tar: &str) -> Result<Option<usize>, LayersError> {
        let problem = "the way to it cannot be walked";
        let lost = |_| LayersError::Member { tar: tar.to_owned(), path: path.clone(), problem };
        let chased = chase(self, path).map_err(lost)?;
        Ok(match chased.end {
            Ok((path, node)) if node.kind == Kind::Directory => self.slot(&path),
            _ => None,
        })
    }

    fn child(&self, parent: usize, name: &[u8]) -> Option<usize> {
        self.slots.get(parent)?.children.get(name).copied()
    }

    fn slot(&self, path: &RootPath) -> Option<usize> {
        path.components().try_fold(0, |slot, name| self.child(slot, name))
    }

    /// Enters into each file how many names it has in the end.
    fn count_links(&mut self) {
        let mut counts: HashMap<FileId, u64> = HashMap::new();
        let mut files = Vec::new();
        let mut open = vec![0];
        while let Some(slot) = open.pop().and_then(|slot| self.slots.get(slot)) {
            for child in slot.children.values() {
                match self.slots.get(*child) {
                    Some(slot) if slot.node.kind == Kind::Directory => open.push(*child),
                    Some(slot) => {
                        *counts.entry(slot.node.id).or_default() += 1;
                        files.push(*child);
                    }
                    None => {}
                }
            }
        }
        for file in files {
            if let Some(slot) = self.slots.get_mut(file) {
                slot.node.links = counts.get(&slot.node.id).copied().unwrap_or(1);
            }
        }
    }

    fn error(&self, action: &'static str, path: &RootPath, source: io::Error) -> RootfsError {
        RootfsError::Read { action, path: path.clone(), rootfs: self.name.clone(), source }
    }
}

impl Rootfs for ImageRootfs {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
        Ok(self.slot(path).and_then(|slot| self.slots.get(slot)).map(|slot| slot.node.clone()))
    }

    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        match self.slot(path).and_then(|slot| self.slots.get(slot)) {
            Some(slot) if slot.node.kind == Kind::Directory => Ok(slot.children.keys().cloned().collect()),
            Some(_) => Err(self.error("list", path, io::ErrorKind::NotADirectory.into())),
            None => Err(self.error("list", path, io::ErrorKind::NotFound.into())),
        }
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
        let slot = self.slot(path).and_then(|slot| self.slots.get(slot));
        let slot = slot.ok_or_else(|| self.error("open", path, io::ErrorKind::NotFound.into()))?;
        let tar = match slot.place {
            Place::Tar { layer, offset } => self.tars.get(layer).map(|tar| tar.file(offset, slot.node.size)),
            Place::Holes => {
                let source =
                    io::Error::other("it is stored in GNU tar's sparse form, which no layer should use");
                return Err(self.error("open", path, source));
            }
            Place::Nowhere => None,
        };
        match tar {
            Some(file) => Ok(Box::new(file)),
            None => Err(self.error("open", path, io::Error::other("not a regular file"))),
        }
    }
}

fn name_of(path: &RawPath) -> &[u8] {
    path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
