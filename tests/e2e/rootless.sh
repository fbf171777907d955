#!/bin/sh
# Runs a buildkitd as a user without rights, who is root only in a namespace of its own. For the sandbox, where /etc is
# nobody else's.
# usage: rootless.sh outside DIRECTORY BUILDKITD WORDS...
set -eu
user=54321

# Prepares, and takes everything along when it is killed: of processes that become others, the kernel does not.
outside() {
    directory=$1 program=$2
    shift 2
    # The user cannot reach the home that the program may be in.
    cp "$program" "$directory/buildkitd"
    mkdir -p "$directory/root" "$directory/run" "$directory/tmp"
    chown -R "$user:$user" "$directory"
    grep -q ^rootless: /etc/passwd || echo "rootless:x:$user:$user::$directory:/bin/sh" >>/etc/passwd
    for file in /etc/subuid /etc/subgid; do
        grep -qs ^rootless: "$file" || echo rootless:700000:65536 >>"$file"
    done
    export HOME="$directory" XDG_RUNTIME_DIR="$directory/run" TMPDIR="$directory/tmp"
    cd "$directory"
    exec unshare --pid --fork --kill-child --mount-proc -- sh rootless.sh first "$@"
}

# The first process of the namespace, without which there is none.
first() {
    setpriv --reuid="$user" --regid="$user" --clear-groups -- \
        unshare --user --map-root-user --map-auto --mount -- sh rootless.sh root "$@"
}

root() {
    mount -t tmpfs tmpfs /run
    exec ./buildkitd --rootless --oci-worker-no-process-sandbox "$@"
}

"$@"
