#!/bin/sh
# Keeps a namespace of processes and mounts for as long as its standard input is open. The test process holds
# the other end, so the namespace goes when that process goes, in whatever way, and the kernel ends all that is
# in it.
# usage: keeper.sh RUN-DIRECTORY CGROUP-NAME
set -eu

# Inside: nothing that a container tool writes outside of the run directory reaches this machine.
inside() {
    cd /
    # Still the outer /proc: the outer number of this process.
    read -r pid _ </proc/self/stat
    mount -t proc proc /proc
    mount -t tmpfs -o mode=0755 tmpfs /run
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    for directory in /etc /opt /var/lib; do
        private=/run/private$directory
        mkdir -p "$private/upper" "$private/work"
        layers="lowerdir=$directory,upperdir=$private/upper,workdir=$private/work"
        mount -t overlay -o "$layers" overlay "$directory"
    done
    # One hierarchy, as on a current system: crun refuses a machine that still has the old ones beside it.
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    echo "$pid"
    exec >&-
    cat >/dev/null # until the test process is gone; meanwhile this shell reaps orphans
}

outside() {
    exec 9<"$1/keeper.sh"
    flock 9
    # What earlier runs left, which ended with their machine: it fills the disk. One that goes on holds its lock.
    find "${1%/*}" -mindepth 2 -maxdepth 2 -path "*/${2%.*}.*/keeper.sh" -user "$(id -u)" -mmin +10 -execdir \
        flock --nonblock keeper.sh sh -c 'rm -rf --one-file-system "$PWD"' \; 2>/dev/null || :
    unshare --pid --mount --fork --kill-child --propagation private sh "$1/keeper.sh" inside || status=$?
    exec >&-
    # Containers that were running leave their control groups behind.
    find /sys/fs/cgroup -depth -type d -path "*/$2*" -exec rmdir {} + 2>/dev/null || :
    rm -rf --one-file-system "$1"
    exit "${status:-0}"
}

case $1 in
inside) inside ;;
*) outside "$@" ;;
esac
