#!/usr/bin/env bash
# benches/frontend.sh [ROUNDS]: what `# syntax=minimage` adds to a build: gdb with its 57 libraries, one script, one RUN,
# beside the stock frontend with one trivial RUN more. Nothing is exported: how long a layer takes to compress is BuildKit's.
#
# Ours is there twice: as it is, with the 800 files of gdb's data and of the Python in it, and with the libraries alone.
# Beside that is what people write by hand for the same libraries: ldd and cp in a RUN, and a COPY into `FROM scratch`.
#
# The stock frontend is there twice: inside of the daemon, where it costs nothing to start, and as an image, as
# `# syntax=docker/dockerfile:1` has it and as every frontend of somebody else must be. All take turns, each round with a
# RUN that nobody has run before; a ratio counts, a time does not. `empty` has nothing before: the base image is pulled
# and unpacked, as on a CI machine; `cold` has the base image, `cached` everything.
#
# Needs root, debootstrap, docker-registry, Go, and what tests/e2e/install.sh makes; starts daemons of its own.
set -euo pipefail

rounds=${1:-9}
empty_rounds=$(((rounds + 2) / 3))
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${XDG_CACHE_HOME:-$HOME/.cache}/minimage-e2e
PATH=$PATH:$tools/bin
target=$(uname -m)-unknown-linux-gnu
place=$(mktemp -d)
cleanup() {
    kill "${daemons[@]}" 2>/dev/null || :
    wait || :
    rm -rf "$place"
}
daemons=()
trap cleanup EXIT

if [ ! -e "$tools/gdb.tar" ]; then
    # debootstrap does not see that one package provides what another needs.
    debootstrap --variant=minbase --include=gdb,libboost-regex1.74.0 bookworm "$place/rootfs" >/dev/null
    chmod 0755 "$place/rootfs"
    rm -rf "$place"/rootfs/var/cache/apt/archives/*.deb "$place"/rootfs/dev/*
    tar --numeric-owner --xattrs --sort=name -C "$place/rootfs" -cf "$tools/gdb.tar.part" .
    mv "$tools/gdb.tar.part" "$tools/gdb.tar"
    rm -rf "$place/rootfs"
fi

cd "$here"
cargo build --quiet --release --locked --bin minimage
RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build --quiet --release --locked --package minimage-frontend --target "$target"
built=${CARGO_TARGET_DIR:-$here/target}
mkdir "$place/images"
cp "$built/$target/release/minimage-frontend" "$place/images/"
(cd tests/e2e/tools/buildkit && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$place/images/" \
    github.com/moby/buildkit/frontend/dockerfile/cmd/dockerfile-frontend)

port=5799
cat >"$place/registry.yml" <<EOF
version: 0.1
storage: { filesystem: { rootdirectory: $place/registry } }
http: { addr: 127.0.0.1:$port }
EOF
docker-registry serve "$place/registry.yml" >"$place/registry.log" 2>&1 &
daemons+=($!)
cat >"$place/buildkitd.toml" <<EOF
root = "$place/buildkit"
[grpc]
address = ["unix://$place/buildkitd.sock"]
[worker.containerd]
enabled = false
[registry."docker.io"]
mirrors = ["127.0.0.1:$port"]
[registry."127.0.0.1:$port"]
http = true
EOF
buildkitd --config "$place/buildkitd.toml" >"$place/buildkitd.log" 2>&1 &
daemons+=($!)
for _ in $(seq 100); do
    [ -S "$place/buildkitd.sock" ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done

build() { # DIRECTORY [WORD...]
    local directory=$1
    shift
    buildctl --addr "unix://$place/buildkitd.sock" build --progress plain --frontend dockerfile.v0 \
        --local "context=$directory" --local "dockerfile=$directory" "$@" >"$place/build.log" 2>&1 ||
        { cat "$place/build.log" >&2; return 1; }
}

capabilities=
for capability in inputs subrequests contexts gitquerystring; do
    capabilities=$capabilities,moby.buildkit.frontend.$capability
done
push() { # PROGRAM NAME
    (cd "$place/images" && "$built/release/minimage" build --no-cache "./$1:/$1" --push "127.0.0.1:$port/$2" \
        --label moby.buildkit.frontend.network.none=true --label "moby.buildkit.frontend.caps=${capabilities#,}" \
        >/dev/null 2>&1)
}
push minimage-frontend library/minimage:latest
push dockerfile-frontend docker/dockerfile:1
mkdir "$place/base"
ln "$tools/gdb.tar" "$place/base/" 2>/dev/null || cp "$tools/gdb.tar" "$place/base/"
printf 'FROM scratch\nADD gdb.tar /\n' >"$place/base/Dockerfile"
build "$place/base" --output "type=image,name=127.0.0.1:$port/library/gdb:latest,push=true,registry.insecure=true"

frontends=(stock image minimage libraries hand)
declare -A first=([stock]='#' [image]='# syntax=docker/dockerfile:1' [minimage]='# syntax=minimage'
    [libraries]='# syntax=minimage --no-package-data --without python-library' [hand]='#')
by_hand='RUN mkdir /out && cd / && objects="/bin/sh /usr/bin/gdb" && cp -L --parents /usr/local/bin/run.sh /made \
    $({ ldd $objects | grep -o "/[^ :]*"; printf "%s\\n" $objects; } | sort -u) /out
FROM scratch
COPY --from=0 /out /
ENTRYPOINT ["run.sh"]'
declare -A last=([stock]='RUN true' [image]='RUN true' [minimage]='' [libraries]='' [hand]=$by_hand)
write() { # FRONTEND ROUND
    mkdir -p "$place/$1"
    printf '#!/bin/sh\nexec gdb "$@"\n' >"$place/$1/run.sh"
    chmod 0755 "$place/$1/run.sh"
    printf '%s\nFROM gdb\nCOPY run.sh /usr/local/bin/\nRUN echo %s >/made\nENTRYPOINT ["run.sh"]\n%s\n' \
        "${first[$1]}" "$1 $2" "${last[$1]}" >"$place/$1/Dockerfile"
}
# Has the host of a virtual machine back memory before somebody writes files into it: whoever touches it first waits,
# ten times as long as for the files.
touch_memory() {
    head -c 1G /dev/zero >/dev/shm/minimage-bench
    rm /dev/shm/minimage-bench
    sync
}
timed() { # FRONTEND KIND
    local start
    touch_memory
    start=$(date +%s%N)
    build "$place/$1"
    echo "$(($(date +%s%N) - start))" >>"$place/$2.$1"
}
for round in warm $(seq "$rounds"); do
    # Pulling takes seconds, and differs by less.
    if [ "$round" != warm ] && [ "$round" -le "$empty_rounds" ]; then
        for frontend in "${frontends[@]}"; do
            buildctl --addr "unix://$place/buildkitd.sock" prune --all >/dev/null
            write "$frontend" "empty $round"
            timed "$frontend" empty
        done
    fi
    for frontend in "${frontends[@]}"; do
        write "$frontend" "$round"
        timed "$frontend" cold
    done
    for frontend in "${frontends[@]}"; do
        timed "$frontend" cached
        if [ "$frontend" = minimage ] && ! grep -A1 '\[minimage\] resolve' "$place/build.log" | grep -q CACHED; then
            echo 'what was to be cached is not' >&2
            exit 1
        fi
    done
    if [ "$round" = warm ]; then rm "$place"/cold.* "$place"/cached.*; fi
done

median() { sort -n "$1" | sed -n "$((($(wc -l <"$1") + 1) / 2))p"; }
declare -A name=([stock]="the daemon's own" [image]='stock, as an image' [minimage]='minimage' [libraries]='libraries alone'
    [hand]='libraries, by hand')
echo "median of $rounds, in turns"
printf '%-8s %-20s %8s %20s %20s\n' '' '' '' "to the daemon's own" 'to stock as an image'
for kind in empty cold cached; do
    for frontend in "${frontends[@]}"; do
        awk -v kind=$kind -v name="${name[$frontend]}" -v own="$(median "$place/$kind.stock")" \
            -v image="$(median "$place/$kind.image")" -v this="$(median "$place/$kind.$frontend")" 'BEGIN {
            printf "%-8s %-20s %5.0f ms %19.2fx %19.2fx\n", kind, name, this/1e6, this/own, this/image }'
    done
done
