#!/usr/bin/env bash
# benches/push.sh [ROUNDS]: 100 MB in 20 layers to a registry on this machine, once when it is empty and once more,
# beside skopeo. The two take turns, each with a registry that has just been started on an empty directory; a ratio
# counts, a time does not.
#
# Needs docker-registry, skopeo and python3 (tests/e2e/install.sh has the first two).
set -euo pipefail

rounds=${1:-7}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --quiet --release --locked --bin minimage
minimage=$(realpath "${CARGO_TARGET_DIR:-target}/release/minimage")
place=$(mktemp -d)
registry=
cleanup() {
    [ -z "$registry" ] || kill "$registry"
    wait || :
    rm -rf "$place"
}
trap cleanup EXIT
cd "$place"
# Neither the user's credentials nor what an earlier push has noted.
export HOME=$place XDG_CACHE_HOME=$place/cache

python3 - layout <<'EOF'
import gzip, hashlib, json, os, sys

top = sys.argv[1]
os.makedirs(f"{top}/blobs/sha256")

def put(data, kind):
    name = hashlib.sha256(data).hexdigest()
    with open(f"{top}/blobs/sha256/{name}", "wb") as file:
        file.write(data)
    return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

kind = "application/vnd.oci.image."
layers, diff_ids = [], []
for _ in range(20):
    data = os.urandom(5_000_000)
    diff_ids.append("sha256:" + hashlib.sha256(data).hexdigest())
    layers.append(put(gzip.compress(data, 0, mtime=0), kind + "layer.v1.tar+gzip"))
rootfs = {"type": "layers", "diff_ids": diff_ids}
config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": rootfs}
config = put(json.dumps(config).encode(), kind + "config.v1+json")
manifest = {"schemaVersion": 2, "mediaType": kind + "manifest.v1+json", "config": config, "layers": layers}
image = put(json.dumps(manifest).encode(), kind + "manifest.v1+json")
image["annotations"] = {"org.opencontainers.image.ref.name": "x"}
for name, document in ("index.json", {"schemaVersion": 2, "manifests": [image]}), ("oci-layout", {"imageLayoutVersion": "1.0.0"}):
    with open(f"{top}/{name}", "w") as file:
        json.dump(document, file)
EOF
cat layout/blobs/sha256/* >/dev/null

port=5798
cat >registry.yml <<EOF
version: 0.1
log: { level: error }
storage: { filesystem: { rootdirectory: $place/registry } }
http: { addr: 127.0.0.1:$port }
EOF
restart() {
    if [ -n "$registry" ]; then
        kill "$registry"
        wait "$registry" || :
    fi
    rm -rf registry cache .local
    docker-registry serve registry.yml >registry.log 2>&1 &
    registry=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.02; done
    sync
}
push() { # TOOL
    case $1 in
    minimage) "$minimage" push --progress quiet layout "127.0.0.1:$port/app:1" ;;
    skopeo)
        skopeo copy --quiet --insecure-policy --dest-tls-verify=false oci:layout:x "docker://127.0.0.1:$port/app:1"
        ;;
    esac >/dev/null
}
for _ in $(seq "$rounds"); do
    for tool in skopeo minimage; do
        restart
        for kind in first again; do
            start=$(date +%s%N)
            push "$tool"
            echo "$(($(date +%s%N) - start))" >>"$kind.$tool"
        done
    done
done

median() { sort -n "$1" | sed -n "$(((rounds + 1) / 2))p"; }
echo "median of $rounds, in turns        skopeo       minimage    ratio"
for kind in first again; do
    awk -v kind=$kind -v a="$(median $kind.skopeo)" -v b="$(median $kind.minimage)" 'BEGIN {
        printf "%-26s %9.0f ms %11.0f ms %7.2fx\n", kind, a/1e6, b/1e6, b/a }'
done
