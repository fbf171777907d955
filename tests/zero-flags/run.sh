#!/bin/bash
# Builds an image of each program with no flag but the program, has it do its work in docker, and prints a table.
#
#   tests/zero-flags/run.sh ROOT [PROGRAM..] >docs/zero-flags.md
#
# ROOT is a directory with Debian 12 in it, as README.md says; MINIMAGE the binary. Needs root and dockerd; starts a
# daemon of its own unless DOCKER_HOST names one.
set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
root=${1:?usage: run.sh ROOT [PROGRAM..]}
shift
minimage=${MINIMAGE:-$top/target/release/minimage}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/zero-flags.XXXXXX")
mkdir -p "$WORK/home"
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    umount "$WORK"/exec/netns/* 2>/dev/null
    rm -rf --one-file-system "$WORK"
}
trap finish EXIT

say() { echo "$*" >&2; }

if [ -z "${DOCKER_HOST:-}" ]; then
    export DOCKER_HOST=unix://$WORK/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$WORK/docker" --exec-root "$WORK/exec" --pidfile "$WORK/docker.pid" \
        --bridge none --iptables=false --storage-driver "${STORAGE:-overlay2}" >"$WORK/dockerd.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
fi
docker version >/dev/null || { tail -5 "$WORK/dockerd.log" >&2; exit 5; }

# What the programs talk to: pages and a repository over http, and the same over https with an authority of our own.
mkdir -p "$WORK/www" "$WORK/java"
echo 'it works' >"$WORK/www/index.html"
(
    cd "$WORK" && git init -q seed && cd seed && echo one >one && git add one &&
        git -c user.name=n -c user.email=e@x commit -qm first && git clone -q --bare . ../www/repo.git &&
        git -C ../www/repo.git update-server-info
) || exit 5
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$WORK/key.pem" -out "$WORK/bundle.crt" -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost 2>/dev/null
cat >"$WORK/java/Hello.java" <<'JAVA'
import java.security.MessageDigest;

class Hello {
    public static void main(String[] arguments) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest("x".getBytes());
        System.out.printf("hello %02x%02x%n", digest[0], digest[1]);
    }
}
JAVA
javac --release 11 -d "$WORK/java" "$WORK/java/Hello.java" 2>/dev/null || say "no javac: java cannot be judged"
(cd "$WORK/www" && exec python3 -m http.server 8480 >/dev/null 2>&1) &
pids+=($!)
python3 - "$WORK" >/dev/null 2>&1 <<'PY' &
import functools, http.server, ssl, sys
work = sys.argv[1]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=work + "/www")
server = http.server.HTTPServer(("localhost", 8443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(work + "/bundle.crt", work + "/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PY
pids+=($!)

# shellcheck source=cases.sh
. "$here/cases.sh"
names=("$@")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(sed -n 's/^case_\([^(]*\)().*/\1/p' "$here/cases.sh")

# comment KEY NAME: what `# KEY:` above this case says.
comment() {
    awk -v key="# $1: " -v start="case_$2() " '
        index($0, key) == 1 { text = substr($0, length(key) + 1) }
        index($0, start) == 1 { print text; exit }
        !/^#/ { text = "" }
    ' "$here/cases.sh"
}

# programs NAME: what is built for this case.
programs() {
    local line
    line=$(comment program "$1")
    echo "${line:-$1}"
}

# build NAME OUT FLAG..: builds, and sets IMAGE.
build() {
    local name=$1 out=$2
    shift 2
    # shellcheck disable=SC2046
    timeout 300 env -i PATH="$PATH" HOME="$WORK/home" "$minimage" build --from "$root" $(programs "$name") "$@" \
        --report "$out.json" -t "zero/${name,,}:x" -o "type=docker,dest=$out.tar" >"$out.log" 2>&1
}

# figures OUT: files, and bytes in MB.
figures() {
    python3 - "$1.json" <<'PY'
import json, sys
files = [entry for entry in json.load(open(sys.argv[1]))["entries"] if entry["kind"] == "file"]
print(len(files), "%.1f" % (sum(entry["size"] for entry in files) / 1e6))
PY
}

# full NAME: how large the packages are that apt would install for the same, in MB.
full() {
    local name path owner
    for name in $(programs "$1"); do
        path=$(chroot "$root" sh -c "command -v $name")
        path=$(chroot "$root" readlink -f "$path")
        owner=$(chroot "$root" sh -c "dpkg -S '$path' '${path#/usr}' 2>/dev/null" | head -1 | sed 's/: .*//')
        echo "$owner"
    done | python3 "$here/full_set.py" "$root"
}

works=0 total=0 images=0 listed=0 private=
cat <<'EOF'
# What works without a flag

Each image was built with no flag but the program, and did work in docker: what, is in
[tests/zero-flags/cases.sh](../tests/zero-flags/cases.sh). The last twenty were drawn from the archive. `MB without
rules` has package data only; `MB of its packages` is what the program's package and all that it depends on take.
Made by `tests/zero-flags/run.sh ROOT`.

EOF
echo "| program | works | files | MB | MB without rules | MB of its packages |"
echo "|---|---|---:|---:|---:|---:|"
for name in "${names[@]}"; do
    total=$((total + 1))
    out=$WORK/$name
    result=no note='' looked=()
    if ! build "$name" "$out"; then
        note=$(grep -m1 '^error' "$out.log" | tr '|' '/')
    elif ! mapfile -t looked < <(python3 "$here/private_files.py" "$out.tar") || [ ${#looked[@]} -eq 0 ]; then
        note="the archive cannot be read"
    elif docker load -qi "$out.tar" >/dev/null 2>"$out.log"; then
        if (set -o pipefail; "case_$name" "zero/${name,,}:x") >"$out.log" 2>&1; then
            result=yes works=$((works + 1))
        else
            note=$(tail -1 "$out.log" | tr '|' '/' | cut -c1-120)
        fi
        docker rmi -f "zero/${name,,}:x" >/dev/null 2>&1
    fi
    if [ ${#looked[@]} -gt 0 ]; then
        images=$((images + 1)) listed=$((listed + looked[0]))
        for line in "${looked[@]:1}"; do private+="* $name: \`$line\`"$'\n'; done
    fi
    with='- -' data=-
    [ -f "$out.json" ] && with=$(figures "$out")
    rules=$(sed -n 's/^id = "\(.*\)"/--without \1/p' "$top"/src/rules/[!s]*.toml "$top"/src/rules/servers.toml)
    # shellcheck disable=SC2086
    if build "$name" "$out.bare" $rules --dry-run; then data=$(figures "$out.bare" | cut -d' ' -f2); fi
    say "$name: $result $with $note"
    if [ "$result" = no ]; then say "$(tail -5 "$out.log")"; fi
    remark=$(comment remark "$name")
    echo "| $name | $result${note:+: \`$note\`}${remark:+ ($remark)} | ${with% *} | ${with#* } | $data | $(full "$name") |"
    rm -f "$out".*
done
echo
echo "$works of $total work. In the $listed files and links of $images images, these are private to a host or a person, or not for everybody"
echo "to read:${private:- none.}${private:+$'\n\n'}$private"
say "$works of $total work"
