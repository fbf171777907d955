//! Images as sources: layers laid over each other give the tree that an engine would make, and nothing that a layer
//! says leads out of it.

mod command;
mod tars;

use std::fs;
use std::path::Path;

use minimage::explain::{Explain, Spelling};
use minimage::layer;
use minimage::oci::{Digest, Layout, MediaType};
use minimage::path::RootPath;
use minimage::report::Report;
use minimage::rootfs::{ImageRootfs, Kind, LayersError, Rootfs, Tars};
use minimage::spec::Layering;

use self::tars::{Packing, Tar, gzip, header, image, image_of_tars, image_of_tree, packed};
use crate::answer;
use crate::image_text::image_of;
use crate::tree_text;

/// One of so many trees is also made an image of.
const SAMPLE: usize = 8;

fn open(directory: &Path, tars: &[Vec<u8>]) -> Result<ImageRootfs, LayersError> {
    let layout = Layout::create(directory).unwrap();
    let image = image_of_tars(&layout, tars, Packing::None);
    ImageRootfs::open(&layout, &image, &Tars::Passing, "image")
}

/// Returns one line for each path of `rootfs`, with the contents of files.
fn listing(rootfs: &dyn Rootfs) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![RootPath::root()];
    while let Some(directory) = open.pop() {
        for name in rootfs.read_dir(&directory).unwrap() {
            let path = directory.child(&name).unwrap();
            let node = rootfs.lookup(&path).unwrap().unwrap();
            lines.push(match &node.kind {
                Kind::Directory => format!("{path}/ {:o}", node.mode),
                Kind::Link(target) => format!("{path} -> {target}"),
                Kind::Special(what) => format!("{path} {what}"),
                Kind::File => {
                    let bytes = minimage::formats::read_all(&*rootfs.open(&path).unwrap(), 1 << 20);
                    let text = String::from_utf8(bytes.unwrap().unwrap()).unwrap();
                    format!("{path} {text:?} x{}", node.links)
                }
            });
            if node.kind == Kind::Directory {
                open.push(path);
            }
        }
    }
    lines.sort();
    lines
}

/// The same tree in memory and as an image of two layers: the same closure for the same reasons, and the same bytes.
#[test]
fn an_image_is_as_good_as_a_directory() {
    let packings = [Packing::Gzip, Packing::Zstd, Packing::None];
    let mut made = 0;
    for (index, tree) in tree_text::all().iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let layout = Layout::create_temporary(&path("source")).unwrap();
        let image = image_of_tree(&layout, tree, packings[index % packings.len()]);
        let layers = ImageRootfs::open(&layout, &image, &Tars::Passing, tree.name.as_str());
        let layers = layers.unwrap_or_else(|error| panic!("{}: {error}", tree.name));
        let memory = tree.to_memory();
        assert_eq!(nodes(&layers), nodes(&memory), "{}", tree.name);
        let report = |rootfs: &dyn Rootfs| match answer::closure(tree, rootfs, &tree.search) {
            Ok(resolution) => {
                let plan = layer::plan(&resolution.closure, Layering::default());
                Report::new("source", &resolution, &plan, Spelling::Flags).to_json()
            }
            Err(error) => error.explain().iter().map(ToString::to_string).collect(),
        };
        assert_eq!(report(&layers), report(&memory), "{}", tree.name);
        // Writing images takes longer than all the rest.
        if index % SAMPLE == 0 {
            let image = |rootfs: &dyn Rootfs, name: &str| {
                image_of(tree, rootfs, &path(name), Layering::default()).map(|image| image.digest)
            };
            let (ours, expected) = (image(&layers, "a"), image(&memory, "b"));
            made += usize::from(expected.is_some());
            assert_eq!(ours, expected, "{}", tree.name);
        }
    }
    assert!(made > 5, "only {made} trees have an image");
}

/// Returns every path with its node, but for what numbers files.
fn nodes(rootfs: &dyn Rootfs) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![RootPath::root()];
    while let Some(directory) = open.pop() {
        for name in rootfs.read_dir(&directory).unwrap() {
            let path = directory.child(&name).unwrap();
            let node = rootfs.lookup(&path).unwrap().unwrap();
            let (kind, mode, size, links) = (&node.kind, node.mode, node.size, node.links);
            lines.push(format!(
                "{path} {kind:?} {mode:o} {}:{} {size} x{links} {:?}",
                node.uid, node.gid, node.capability
            ));
            if node.kind == Kind::Directory {
                open.push(path);
            }
        }
    }
    lines.sort();
    lines
}

/// What each pair of layers makes.
#[test]
fn layers_lie_over_each_other() {
    type Case = (&'static str, fn(&mut Tar), fn(&mut Tar), &'static [&'static str]);
    let cases: [Case; 15] = [
        (
            "a whiteout removes",
            |tar| {
                tar.file("d/a", "1").file("d/b", "2");
            },
            |tar| {
                tar.file("d/.wh.a", "");
            },
            &["/d/ 755", "/d/b \"2\" x1"],
        ),
        (
            "it removes a directory",
            |tar| {
                tar.file("d/a", "1");
            },
            |tar| {
                tar.file(".wh.d", "");
            },
            &[],
        ),
        (
            "what is not there need not be removed",
            |tar| {
                tar.file("a", "1");
            },
            |tar| {
                tar.file("x/.wh.b", "");
            },
            &["/a \"1\" x1"],
        ),
        (
            "it does not remove what its own layer has",
            |tar| {
                tar.file("d/a", "1");
            },
            |tar| {
                tar.file("d/a", "2").file("d/.wh.a", "");
            },
            &["/d/ 755", "/d/a \"2\" x1"],
        ),
        (
            "an opaque directory hides",
            |tar| {
                tar.file("d/a", "1").file("d/e/b", "2");
            },
            |tar| {
                tar.file("d/c", "3").file("d/.wh..wh..opq", "");
            },
            &["/d/ 755", "/d/c \"3\" x1"],
        ),
        (
            "notes of a file system are nothing",
            |tar| {
                tar.file(".wh..wh.plnk/1.2", "x");
            },
            |tar| {
                tar.file(".wh..wh.aufs", "").directory(".wh..wh.orph");
            },
            &[],
        ),
        (
            "a directory keeps what it has",
            |tar| {
                tar.file("d/a", "1");
            },
            |tar| {
                let mut d = header(b'5', "d/", "");
                d.set_mode(0o700);
                tar.raw(&mut d, 0, b"");
            },
            &["/d/ 700", "/d/a \"1\" x1"],
        ),
        (
            "a file replaces a directory",
            |tar| {
                tar.file("d/a", "1");
            },
            |tar| {
                tar.file("d", "2");
            },
            &["/d \"2\" x1"],
        ),
        (
            "a directory replaces a file",
            |tar| {
                tar.file("d", "1");
            },
            |tar| {
                tar.directory("d");
            },
            &["/d/ 755"],
        ),
        (
            "links on the way are followed",
            |tar| {
                tar.directory("usr/lib").member(b'2', "lib", "usr/lib", b"");
            },
            |tar| {
                tar.file("lib/a", "1");
            },
            &["/lib -> usr/lib", "/usr/ 755", "/usr/lib/ 755", "/usr/lib/a \"1\" x1"],
        ),
        (
            "whiteouts go through them, too",
            |tar| {
                tar.file("usr/lib/a", "1").member(b'2', "lib", "/usr/lib", b"");
            },
            |tar| {
                tar.file("lib/.wh.a", "");
            },
            &["/lib -> /usr/lib", "/usr/ 755", "/usr/lib/ 755"],
        ),
        (
            "hard links reach down",
            |tar| {
                tar.file("a", "1");
            },
            |tar| {
                tar.member(b'1', "b", "a", b"");
            },
            &["/a \"1\" x2", "/b \"1\" x2"],
        ),
        (
            "hard links part",
            |tar| {
                tar.file("a", "1").member(b'1', "b", "./a", b"");
            },
            |tar| {
                tar.file("a", "2");
            },
            &["/a \"2\" x1", "/b \"1\" x1"],
        ),
        (
            "spellings of a path are one",
            |tar| {
                tar.file("./a", "1").file("/d//b", "2").file("d/./b", "3");
            },
            |tar| {
                tar.directory("./").file("a", "4");
            },
            &["/a \"4\" x1", "/d/ 755", "/d/b \"3\" x1"],
        ),
        (
            "devices are told, long names read",
            |tar| {
                tar.member(b'L', "", "", b"long/name\0").file("short", "1");
            },
            |tar| {
                tar.member(b'3', "null", "", b"")
                    .member(b'6', "fifo", "", b"")
                    .pax(b'g', &[("comment", b"x")]);
            },
            &["/fifo a FIFO", "/long/ 755", "/long/name \"1\" x1", "/null a character device"],
        ),
    ];
    for (what, lower, upper, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let (mut one, mut two) = (Tar::default(), Tar::default());
        lower(&mut one);
        upper(&mut two);
        let rootfs =
            open(directory.path(), &[one.end(), two.end()]).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(listing(&rootfs), expected, "{what}");
    }
}

/// What two readers could take for two things, and what leads out of the tree.
#[test]
fn hostile_tars_are_refused() {
    type Case = (&'static str, fn(&mut Tar) -> Vec<u8>);
    let cases: [Case; 31] = [
        ("the unusable path `../x` at 0", |tar| tar.file("../x", "").end()),
        ("the unusable path `a/../../x` at 0", |tar| tar.file("a/../../x", "").end()),
        ("the unusable path `` at 0", |tar| tar.file("", "").end()),
        ("the unusable path `../etc/passwd` at 0", |tar| tar.member(b'1', "a", "../etc/passwd", b"").end()),
        ("the unusable path `` at 0", |tar| tar.member(b'2', "a", "", b"").end()),
        ("the unusable path `d/", |tar| {
            let long = format!("d/{}", "n".repeat(256));
            tar.pax(b'x', &[("path", long.as_bytes())]).file("a", "").end()
        }),
        ("extended header before 0", |tar| tar.pax(b'x', &[("path", b"a\0b")]).file("a", "").end()),
        ("extended header before 1024", |tar| tar.pax(b'x', &[("size", b"-1")]).file("a", "").end()),
        ("extended header before 1024", |tar| tar.pax(b'x', &[("size", b"0x10")]).file("a", "").end()),
        ("extended header before 0", |tar| tar.pax(b'g', &[("size", b"0")]).file("a", "").end()),
        ("extended header before 0", |tar| tar.member(b'x', "pax", "", b"99 path=a\n").end()),
        ("extended header before 0", |tar| tar.member(b'x', "pax", "", b"no record").end()),
        ("extended header before 0", |tar| {
            tar.raw(&mut header(b'L', "", ""), 2 << 20, &vec![b'x'; 2 << 20]).end()
        }),
        ("ends in the middle of the member at 1024", |tar| tar.pax(b'x', &[("path", b"a")]).end()),
        ("ends in the middle of the member at 0", |tar| {
            tar.raw(&mut header(b'0', "a", ""), 1 << 40, b"x").end()
        }),
        ("ends in the middle of the member at 0", |tar| {
            tar.raw(&mut header(b'0', "a", ""), (1 << 63) - 1, b"x").end()
        }),
        ("ends in the middle of the member at 1024", |tar| {
            tar.pax(b'x', &[("size", b"1000000")]).file("a", "short").end()
        }),
        ("ends in the middle of the member at 0", |tar| {
            tar.file("a", "x");
            tar.0[..700].to_vec()
        }),
        ("damaged header at 0", |tar| {
            tar.file("a", "x");
            tar.0[0] = b'b';
            tar.end()
        }),
        ("damaged header at 0", |tar| tar.raw(&mut header(b'5', "d", ""), 512, &[b'x'; 512]).end()),
        ("damaged header at 0", |tar| tar.raw(&mut header(b'1', "d", "e"), 512, &[b'x'; 512]).end()),
        ("damaged header at 0", |tar| {
            let mut header = header(b'0', "a", "");
            header.as_old_mut().uid = [0xff; 8];
            tar.raw(&mut header, 0, b"").end()
        }),
        ("damaged header at 0", |tar| {
            let mut header = header(b'0', "a", "");
            header.as_old_mut().mode = *b"rwxr-xr-";
            tar.raw(&mut header, 0, b"").end()
        }),
        ("unknown type `V` at 0", |tar| tar.member(b'V', "volume", "", b"").end()),
        ("goes on after its end at 1024", |tar| {
            let one = tar.file("a", "x").end();
            let two = tar.file("b", "y").end();
            [one, two].concat()
        }),
        ("`/a`, which has no place: the file it is a link to is not there", |tar| {
            tar.member(b'1', "a", "b", b"").end()
        }),
        ("`/b`, which has no place: it is a hard link to a directory", |tar| {
            tar.directory("a").member(b'1', "b", "a", b"").end()
        }),
        ("`/a/b`, which has no place: a name on the way is no directory", |tar| {
            tar.file("a", "").file("a/b", "").end()
        }),
        ("`/l/b`, which has no place: a link on the way leads to no directory", |tar| {
            tar.member(b'2', "l", "/nowhere", b"").file("l/b", "").end()
        }),
        ("`/l/b`, which has no place: a link on the way leads to no directory", |tar| {
            tar.member(b'2', "l", "l", b"").file("l/b", "").end()
        }),
        ("`/.wh...`, which has no place: it removes no name", |tar| tar.file(".wh...", "").end()),
    ];
    for (expected, make) in cases {
        let directory = tempfile::tempdir().unwrap();
        let error =
            open(directory.path(), &[make(&mut Tar::default())]).map(|rootfs| listing(&rootfs)).unwrap_err();
        let text: Vec<String> = error.explain().iter().map(ToString::to_string).collect();
        assert!(text.join("\n").contains(expected), "{expected}: {}", text.join("\n"));
    }
}

/// Links that lead up and out end at the top, as in a chroot.
#[test]
fn links_stay_inside() {
    let directory = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .directory("d")
        .member(b'2', "d/up", "../../../..", b"")
        .file("d/up/etc/passwd", "inside")
        .end();
    let rootfs = open(directory.path(), &[tar]).unwrap();
    assert_eq!(
        listing(&rootfs),
        ["/d/ 755", "/d/up -> ../../../..", "/etc/ 755", "/etc/passwd \"inside\" x1"]
    );
}

/// A file that is stored without its holes can be looked at, but not read.
#[test]
fn sparse_files_have_no_bytes() {
    let mut sparse = header(b'S', "holes", "");
    sparse.as_mut_bytes()[483..495].copy_from_slice(b"00000200000\0");
    let mut tar = Tar::default();
    tar.raw(&mut sparse, 3, b"abc").file("after", "1");
    tar.pax(
        b'x',
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.name", b"more"), ("GNU.sparse.realsize", b"70000")],
    );
    tar.file("GNUSparseFile.0/more", "map").file("last", "2");
    let directory = tempfile::tempdir().unwrap();
    let rootfs = open(directory.path(), &[tar.end()]).unwrap();
    let path = |name: &str| RootPath::from_normal(name.as_bytes()).unwrap();
    for (name, size) in [("/holes", 65_536), ("/more", 70_000), ("/after", 1), ("/last", 1)] {
        assert_eq!(rootfs.lookup(&path(name)).unwrap().unwrap().size, size, "{name}");
        assert_eq!(rootfs.open(&path(name)).is_ok(), size == 1, "{name}");
    }
}

/// Whatever is wrong with a blob is found before a byte of it is used.
#[test]
fn blobs_are_what_the_config_promises() {
    let tar = Tar::default().file("a", "1").end();
    let other = Tar::default().file("a", "2").end();
    let (zipped, gzip_type) = packed(&tar, Packing::Gzip);
    let mut damaged = zipped.clone();
    let half = damaged.len() / 2;
    damaged[half] ^= 0xff;
    let bomb = gzip(&vec![0; 70 << 20]);
    let layer = |bytes: &[u8]| (bytes.to_vec(), gzip_type.clone(), Digest::of(&tar));
    for (what, layer, fine) in [
        ("whole", layer(&zipped), true),
        ("two members", layer(&[gzip(&tar[..700]), gzip(&tar[700..])].concat()), true),
        ("said to be compressed, and is not", layer(&tar), true),
        ("another tar", layer(&gzip(&other)), false),
        ("another tar as it is", layer(&other), false),
        ("truncated", layer(&zipped[..zipped.len() - 4]), false),
        ("damaged", layer(&damaged), false),
        ("garbage behind it", layer(&[zipped.as_slice(), b"garbage"].concat()), false),
        ("zstd behind it", layer(&[zipped.as_slice(), &packed(b"", Packing::Zstd).0].concat()), false),
        ("a bomb", (bomb, MediaType::ImageLayerGzip, Digest::of(&vec![0; 70 << 20])), false),
    ] {
        for keeps in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let layout = Layout::create(&directory.path().join("layout")).unwrap();
            let image = image(&layout, std::slice::from_ref(&layer));
            let kept = directory.path().join("tars");
            let tars = if keeps { Tars::Kept(kept.clone()) } else { Tars::Passing };
            let opened = ImageRootfs::open(&layout, &image, &tars, "image");
            assert_eq!(opened.is_ok(), fine, "{what}");
            let left = fs::read_dir(&kept).map_or(0, Iterator::count);
            assert!(left <= usize::from(fine && keeps), "{what}: {left} files are left");
        }
    }
}

/// A tar that is kept is used again, and made again if somebody spoilt it.
#[test]
fn kept_tars_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(&directory.path().join("layout")).unwrap();
    let tar = Tar::default().file("a", "1").end();
    let image = image_of_tars(&layout, std::slice::from_ref(&tar), Packing::Gzip);
    let kept = directory.path().join("tars");
    let open = || ImageRootfs::open(&layout, &image, &Tars::Kept(kept.clone()), "image").unwrap();
    let file = kept.join(Digest::of(&tar).hex());
    open();
    assert!(fs::read(&file).unwrap() == tar);
    for spoilt in [b"".as_slice(), b"spoilt", &tar[..600]] {
        fs::write(&file, spoilt).unwrap();
        assert_eq!(listing(&open()), ["/a \"1\" x1"]);
        assert!(fs::read(&file).unwrap() == tar);
    }
    // With the tar there, nobody looks at the blob.
    fs::remove_dir_all(layout.path().join("blobs/sha256")).unwrap();
    fs::create_dir(layout.path().join("blobs/sha256")).unwrap();
    image_of_tars(&layout, std::slice::from_ref(&tar), Packing::Gzip);
    assert_eq!(listing(&open()), ["/a \"1\" x1"]);
}

/// The stamp of a file in a layer says which bytes it has: another file, another stamp.
#[test]
fn files_in_layers_have_lasting_stamps() {
    let directory = tempfile::tempdir().unwrap();
    let tar = |text: &str| Tar::default().file("a", text).file("b", text).end();
    let stamps = |name: &str, text: &str| {
        let rootfs = open(&directory.path().join(name), &[tar(text)]).unwrap();
        ["/a", "/b"].map(|path| {
            let path = RootPath::from_normal(path.as_bytes()).unwrap();
            rootfs.open(&path).unwrap().stamp().unwrap().unwrap()
        })
    };
    let (first, again, other) = (stamps("1", "x"), stamps("2", "x"), stamps("3", "y"));
    assert_eq!(first, again);
    assert_ne!(first[0], first[1]);
    assert_ne!(first[0], other[0]);
    assert!(first.iter().chain(&other).all(|stamp| stamp.is_settled(0)));
}

/// More paths than any image has are refused, not stored.
#[test]
fn paths_are_limited() {
    let directory = tempfile::tempdir().unwrap();
    // Each member implies two thousand directories.
    let deep = "d/".repeat(2000);
    let mut tar = Tar::default();
    for index in 0..600 {
        let path = format!("{index}/{deep}f");
        tar.pax(b'x', &[("path", path.as_bytes())]).file("f", "");
    }
    let error = open(directory.path(), &[tar.end()]).unwrap_err();
    assert_eq!(error.to_string(), "the image has more than 1000000 paths");
}
