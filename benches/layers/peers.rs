//! Other tools that make an image of a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::fixture::Tree;

/// A tool, as scripts for `sh` with `$TREE`, `$TAR` and `$OUT` set.
struct Tool {
    name: &'static str,
    programs: &'static [&'static str],
    /// What must succeed beforehand.
    needs: &'static str,
    /// Makes everything anew.
    cold: &'static str,
    /// Makes it again, where the tool remembers anything.
    again: Option<&'static str>,
    /// Where in `$OUT` it leaves a layout, if it does.
    layout: Option<&'static str>,
}

const TOOLS: [Tool; 7] = [
    Tool {
        name: "umoci insert",
        programs: &["umoci"],
        needs: "true",
        cold: "umoci init --layout $OUT/l && umoci new --image $OUT/l:x && umoci insert --image $OUT/l:x $TREE /",
        again: None,
        layout: Some("l"),
    },
    Tool {
        name: "buildah copy, commit",
        programs: &["buildah"],
        needs: "true",
        cold: "b=\"buildah --root $OUT/root --runroot $OUT/run --storage-driver vfs\" && c=$($b from scratch) && \
               $b copy -q $c $TREE / && $b commit -q --disable-compression=false $c oci:$OUT/l:x",
        again: Some(
            "b=\"buildah --root $OUT/root --runroot $OUT/run --storage-driver vfs\" && \
             $b build -q --layers -t x -f $OUT.dockerfile $TREE && \
             $b push -q --disable-compression=false x oci:$OUT/l:x",
        ),
        layout: Some("l"),
    },
    Tool {
        name: "skopeo, from a docker archive",
        programs: &["skopeo"],
        needs: "test -e $OUT.archive",
        cold: "skopeo copy -q --insecure-policy docker-archive:$OUT.archive oci:$OUT/l:x",
        again: Some("skopeo copy -q --insecure-policy docker-archive:$OUT.archive oci:$OUT/l:x"),
        layout: Some("l"),
    },
    Tool {
        name: "docker build, save",
        programs: &["docker"],
        needs: "docker info",
        cold: "DOCKER_BUILDKIT=0 docker build --no-cache -q -t minimage-bench -f $OUT.dockerfile $TREE && \
               docker save minimage-bench -o $OUT/x.tar",
        again: Some(
            "DOCKER_BUILDKIT=0 docker build -q -t minimage-bench -f $OUT.dockerfile $TREE && \
             docker save minimage-bench -o $OUT/x.tar",
        ),
        layout: None,
    },
    Tool {
        name: "docker build with BuildKit, save",
        programs: &["docker"],
        needs: "docker info",
        cold: "DOCKER_BUILDKIT=1 docker build --no-cache -q -t minimage-bench -f $OUT.dockerfile $TREE && \
               docker save minimage-bench -o $OUT/x.tar",
        again: Some(
            "DOCKER_BUILDKIT=1 docker build -q -t minimage-bench -f $OUT.dockerfile $TREE && \
             docker save minimage-bench -o $OUT/x.tar",
        ),
        layout: None,
    },
    Tool {
        name: "buildctl COPY, OCI tar",
        programs: &["buildctl"],
        needs: "buildctl debug workers",
        cold: "buildctl build --no-cache --frontend dockerfile.v0 --local context=$TREE \
               --local dockerfile=$OUT.dockerfiles --output type=oci,dest=$OUT/x.tar",
        again: Some(
            "buildctl build --frontend dockerfile.v0 --local context=$TREE \
             --local dockerfile=$OUT.dockerfiles --output type=oci,dest=$OUT/x.tar",
        ),
        layout: None,
    },
    Tool {
        name: "tar | pigz -6, sha256sum",
        programs: &["tar", "pigz"],
        needs: "true",
        cold: "tar -C $TREE -c . | pigz -6 | tee $OUT/x.tar.gz | sha256sum",
        again: None,
        layout: None,
    },
];

/// Tools beside a tree, with what they start from.
pub(crate) struct Peers<'a> {
    tree: &'a Tree,
    tar: &'a Path,
    out: PathBuf,
}

/// A tool that is here.
pub(crate) struct Peer<'a> {
    pub(crate) name: &'static str,
    tool: &'static Tool,
    peers: &'a Peers<'a>,
}

impl<'a> Peers<'a> {
    /// Prepares what tools start from, given the tar of the tree.
    pub(crate) fn new(tree: &'a Tree, tar: &'a Path) -> Self {
        let dockerfile = "FROM scratch\nCOPY . /\n";
        fs::write(tree.place("peer.dockerfile"), dockerfile).expect("it can be written");
        fs::create_dir_all(tree.place("peer.dockerfiles")).expect("a directory");
        fs::write(tree.place("peer.dockerfiles").join("Dockerfile"), dockerfile).expect("it can be written");
        let peers = Self { tree, tar, out: tree.place("peer") };
        docker_archive(tree, tar);
        peers
    }

    /// Returns the tools that are here, after saying what keeps the others from running.
    pub(crate) fn here(&'a self) -> Vec<Peer<'a>> {
        let mut here = Vec::new();
        for tool in &TOOLS {
            let absent =
                tool.programs.iter().find(|program| !self.succeeds(&format!("command -v {program}")));
            match absent {
                Some(program) => println!("  {:<36} skipped: {program} is not installed", tool.name),
                None if !self.succeeds(tool.needs) => {
                    println!("  {:<36} skipped: `{}` fails", tool.name, tool.needs);
                }
                None => here.push(Peer { name: tool.name, tool, peers: self }),
            }
        }
        here
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).env("TREE", &self.tree.root).env("TAR", self.tar).env("OUT", &self.out);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn succeeds(&self, script: &str) -> bool {
        self.command(script).status().is_ok_and(|status| status.success())
    }
}

impl Peer<'_> {
    /// Clears what the tool made, and returns the command that makes it, with the layout that will be there.
    pub(crate) fn cold(&self) -> (Command, Option<PathBuf>) {
        self.peers.tree.clear(&[&self.peers.out]);
        fs::create_dir_all(&self.peers.out).expect("a directory");
        (self.peers.command(self.tool.cold), self.tool.layout.map(|layout| self.peers.out.join(layout)))
    }

    /// Returns the command that makes everything again with what the tool remembers, after a first run; `None` if it
    /// remembers nothing.
    pub(crate) fn again(&self) -> Option<impl Fn() -> (Command, Option<PathBuf>) + use<'_>> {
        let script = self.tool.again?;
        self.cold();
        self.peers.succeeds(script).then_some(move || (self.peers.command(script), None))
    }
}

/// Makes the uncompressed docker archive that skopeo starts from.
fn docker_archive(tree: &Tree, tar: &Path) {
    let (tar, archive) = (tar.display(), tree.place("peer.archive"));
    let work = tree.place("archive");
    let script = format!(
        "rm -rf {work} && mkdir {work} && ln {tar} {work}/layer.tar && cd {work} && \
         d=$(sha256sum layer.tar | cut -d' ' -f1) && \
         printf '{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' $d > c.json && \
         printf '[{{\"Config\":\"c.json\",\"RepoTags\":[\"x:x\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json && \
         tar -cf {archive} layer.tar c.json manifest.json",
        work = work.display(),
        archive = archive.display(),
    );
    let _ = Command::new("sh").args(["-c", &script]).status();
}

/// Returns the largest blob of a layout: the layer.
pub(crate) fn layer_blob(layout: &Path) -> Option<PathBuf> {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).ok()?.flatten();
    blobs
        .max_by_key(|blob| blob.metadata().map(|metadata| metadata.len()).unwrap_or(0))
        .map(|blob| blob.path())
}

/// Returns the size of the largest blob of a layout.
pub(crate) fn blob_size(layout: &Path) -> Option<u64> {
    Some(fs::metadata(layer_blob(layout)?).ok()?.len())
}
