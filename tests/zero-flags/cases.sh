# What each program does in its image, which was built with no flag but the program. One function a program: it is
# given the image, and succeeds if the work is done. `# program:` names what is built if that is not the function.
# shellcheck shell=bash disable=SC2317

# run IMAGE [OPTION..] -- WORDS: runs the image's program with these words.
run() {
    local image=$1
    shift
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    timeout 120 docker run --rm -i --network host "${options[@]}" "$image" "$@"
}

# says [OPTION..] PATTERN: grep, but what writes can always finish.
says() { grep "$@" >/dev/null; }

# server IMAGE [OPTION..] -- WORDS: starts the image's program in the background; `stop` ends it.
server() {
    local image=$1
    shift
    local options=()
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    SERVER=$(docker run -d --network host "${options[@]}" "$image" "$@")
}

stop() {
    docker logs "$SERVER" 2>&1 | tail -20
    docker rm -f "$SERVER" >/dev/null
}

# answers URL: waits until there is a page.
answers() {
    local try
    for try in $(seq 60); do
        curl -sfk "$1" && return
        sleep 0.5
    done
    echo "no answer after $try tries"
    return 1
}

case_curl() { # https to a server of our own, whose authority is in the bundle
    run "$1" -v "$WORK/bundle.crt:/etc/ssl/certs/ca-certificates.crt:ro" -- -sf https://localhost:8443/ | says 'it works'
}

case_git() {
    local shared=$WORK/git
    rm -rf "$shared" && mkdir -p "$shared"
    run "$1" -v "$shared:/work" -- init -q /work/repo
    echo text >"$shared/repo/file"
    run "$1" -v "$shared:/work" -- -C /work/repo add file
    run "$1" -v "$shared:/work" -- -C /work/repo -c user.name=n -c user.email=e@x commit -qm message
    run "$1" -v "$shared:/work" -- clone -q http://localhost:8480/repo.git /work/clone
    run "$1" -v "$shared:/work" -- -C /work/clone log --oneline | says first
}

# remark: the root has nginx-extras, with 21 modules switched on, which are packages of their own
case_nginx() {
    server "$1" -- -g 'daemon off;'
    answers http://localhost:80/ | says -i 'nginx\|it works'
    local result=$?
    stop
    return $result
}

case_apache2() {
    server "$1" -- -D FOREGROUND
    answers http://localhost:80/ | says -i 'apache\|it works\|nginx'
    local result=$?
    stop
    return $result
}

# program: redis-server
case_redis() {
    server "$1" -- --port 6390
    local result=1 try
    for try in $(seq 40); do
        if printf 'SET a 1\r\nGET a\r\nQUIT\r\n' | timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/6390; cat >&3; cat <&3' | tr -d '\r' | says -x 1; then
            result=0
            break
        fi
        sleep 0.25
    done
    stop
    return $result
}

# program: /usr/lib/postgresql/15/bin/postgres
case_postgres() {
    local bin=/usr/lib/postgresql/15/bin
    run "$1" --user postgres --entrypoint $bin/initdb -v "zero-pg-$$:/var/lib/postgresql" -- -D /var/lib/postgresql/data >/dev/null &&
        echo 'select 6*7' | run "$1" --user postgres -v "zero-pg-$$:/var/lib/postgresql" -- --single -D /var/lib/postgresql/data postgres | says '= "42"'
    local result=$?
    docker volume rm -f "zero-pg-$$" >/dev/null
    return $result
}

case_python3() {
    run "$1" -- - <<'PY' | says '^done'
import ctypes, ctypes.util, json, pkgutil, ssl, sqlite3, sys
assert ssl.create_default_context().cert_store_stats()["x509"] > 50
assert sqlite3.connect(":memory:").execute("select 6*7").fetchone() == (42,)
assert ctypes.CDLL("libc.so.6").getpid() > 0
skip = {"antigravity", "this", "idlelib", "turtledemo", "tkinter", "turtle", "lib2to3", "test"}
for module in sorted(sys.stdlib_module_names - skip):
    try:
        __import__(module)
    except ImportError as error:
        if error.name and error.name.split(".")[0] in {"msvcrt", "winreg", "_winapi", "nt", "winsound", "_scproxy", "_msi", "_overlapped", "tkinter", "_tkinter"}:
            continue
        if module in {"distutils", "lib2to3", "ensurepip", "venv", "nturl2path", "msilib", "dbm", "_dbm", "_gdbm"}:
            continue
        raise
print("done")
PY
}

case_perl() { run "$1" -- -MPOSIX -MJSON::PP -MEncode -MData::Dumper -MSocket -e 'print encode_json({a=>POSIX::floor(1.5)}), encode("UTF-8", chr(233)), "\n"' | says '"a":1'; }
case_ruby() { run "$1" -- -rjson -ropenssl -rset -e 'puts JSON.generate({"a"=>OpenSSL::Digest::SHA256.hexdigest("x")[0,4]})' | says '2d71'; }
case_node() { run "$1" -- -e 'const c=require("crypto"),z=require("zlib");fetch("http://localhost:8480/").then(r=>r.text()).then(t=>console.log(c.createHash("sha256").update("x").digest("hex").slice(0,4), z.gzipSync("x").length>0, t.length>0))' | says '2d71 true true'; }
case_php() { run "$1" -- -r 'echo json_encode(["a"=>hash("sha256","x"), "b"=>preg_match("/x/","x")]);' | says '2d71'; }

case_java() {
    run "$1" -v "$WORK/java:/work:ro" -- -cp /work Hello | says 'hello 2d71'
}

# program: erl
case_erl() { run "$1" -- -noshell -eval 'io:format("~p~n",[lists:sum(lists:seq(1,10))]),halt().' | says -x 55; }
case_Rscript() { run "$1" -- -e 'cat(round(sd(c(1,2,3,4)),3), nrow(mtcars), "\n")' | says '1.291 32'; }
# program: lua5.4
case_lua() { run "$1" -- -e 'print(string.format("%d", 6*7), #arg)' | says '^42'; }
case_vim() { # edits a file, and knows its language
    printf 'import os\n' >"$WORK/vim.py"
    : >"$WORK/vim.txt"
    run "$1" -v "$WORK/vim.py:/f.py" -v "$WORK/vim.txt:/out" -- -es -u DEFAULTS -c 'syntax on' -c 'set ft=python' \
        -c 'redir! >/out' -c 'silent echo synIDattr(synID(1,1,0),"name")' -c 'redir END' -c '%s/os/sys/' -c 'wq' /f.py
    says -x pythonInclude "$WORK/vim.txt" && says -x 'import sys' "$WORK/vim.py"
}
case_emacs() { run "$1" -- --batch --eval '(progn (require (quote json)) (princ (json-encode (list 1 2 3))))' | says -F '[1,2,3]'; }
case_tcpdump() { # and becomes its own user, while somebody talks on the loopback
    (for _ in $(seq 30); do curl -s http://localhost:8480/ && sleep 0.5; done >/dev/null) &
    run "$1" --cap-add NET_RAW --cap-add NET_ADMIN -- -i lo -c 1 -n -Z tcpdump 2>&1 | says '1 packet captured'
}

# program: /usr/games/fortune
case_fortune() { run "$1" -- | says .; }
case_file() { run "$1" -- -b /etc/passwd | says 'ASCII text'; }
case_ffmpeg() { run "$1" -- -v error -f lavfi -i testsrc=d=1:r=5 -c:v mpeg4 -f avi - >"$WORK/test.avi" && head -c 4 "$WORK/test.avi" | says RIFF; }
# program: convert
case_ImageMagick() { run "$1" -- -size 20x20 xc:red png:- | run "$1" -- png:- -resize 5x5 jpg:- | file -b - | says JPEG; }
case_openssl() { printf x | run "$1" -- dgst -provider legacy -provider default -md4 | says =; }
case_ssh-keygen() { run "$1" -- -q -t ed25519 -N '' -f /tmp/key; }

case_sshd() { # lets somebody in with a key
    rm -rf "$WORK/ssh" && mkdir -p "$WORK/ssh"
    ssh-keygen -q -t ed25519 -N '' -f "$WORK/ssh/key"
    cp "$WORK/ssh/key.pub" "$WORK/ssh/keys"
    chmod 600 "$WORK/ssh/key"
    server "$1" -v "$WORK/ssh/key:/key:ro" -v "$WORK/ssh/keys:/keys:ro" -- \
        -D -e -p 2222 -h /key -o AuthorizedKeysFile=/keys -o StrictModes=no
    local result=1
    for _ in $(seq 20); do
        ssh -p 2222 -i "$WORK/ssh/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
            root@localhost 'echo $((6*7))' 2>/dev/null | says -x 42 && result=0 && break
        sleep 0.3
    done
    stop
    return $result
}

# program: tar xz bzip2 zstd gzip
case_tar() {
    for letter in J j z; do
        run "$1" --entrypoint tar -- c -$letter /etc/passwd 2>/dev/null | run "$1" --entrypoint tar -- t -$letter | says etc/passwd || return
    done
}

case_busybox() { echo text | run "$1" -- sed s/text/other/ | says -x other && run "$1" -- sh -c 'echo $((6*7))' | says -x 42; }
case_sqlite3() { run "$1" -- :memory: 'select 6*7' | says -x 42; }
case_jq() { echo '{"a":[1,2]}' | run "$1" -- '.a|add' | says -x 3; }
case_gdb() { run "$1" -- -batch -ex 'python import json; print(json.dumps([6*7]))' | says -F '[42]'; }

case_gcc() {
    rm -rf "$WORK/gcc" && mkdir -p "$WORK/gcc"
    printf '#include <stdio.h>\nint main(void){puts("hello");}\n' >"$WORK/gcc/h.c"
    run "$1" -v "$WORK/gcc:/work" -- -o /work/h /work/h.c && "$WORK/gcc/h" | says -x hello
}

case_mariadbd() { # while it bootstraps, it takes one statement a line, and stops at the first that fails
    printf '%s\n' 'create database x;' 'use x;' 'create table t (a int primary key) engine=aria;' 'insert into t values (42);' \
        'create table u (b int primary key) select a + 0 as b from t where a = 42;' |
        run "$1" --user mysql -- --bootstrap --datadir=/tmp
}

case_tmux() { # runs a command in a session, and hears of its end
    : >"$WORK/tmux.txt" && chmod 666 "$WORK/tmux.txt"
    run "$1" -e TERM=xterm -v "$WORK/tmux.txt:/f" -- \
        -L x new-session -d 'echo $((6*7)) >/f; tmux -L x wait-for -S done' \; wait-for done
    says -x 42 "$WORK/tmux.txt"
}
case_man() { run "$1" -e MANPAGER=cat -- -P cat ls | says 'list directory contents'; }

# What draw.py drew. Each does something that needs more of its package than the file that is named.

# program: apt-sortpkgs
case_apt-utils() {
    printf 'Package: b\nVersion: 1\n\nPackage: a\nVersion: 1\n' >"$WORK/Packages"
    run "$1" -v "$WORK/Packages:/f:ro" -- /f | sed -n 1p | says -x 'Package: a'
}

# program: setfattr
case_attr() {
    : >"$WORK/attr"
    run "$1" -v "$WORK/attr:/f" -- -n user.a -v small /f &&
        python3 -c 'import os, sys; assert os.getxattr(sys.argv[1], "user.a") == b"small"' "$WORK/attr"
}

# program: brctl
case_bridge-utils() { timeout 60 docker run --rm --network none --cap-add NET_ADMIN "$1" addbr bridge0; }
# program: /bin/busybox
case_busybox-static() { run "$1" -- awk 'BEGIN { print 6 * 7 }' | says -x 42; }
# program: courierlogger
case_courier-authlib() { run "$1" -- -name=x -pid=/tmp/x.pid -start true; }
# program: arping
case_iputils-arping() { (run "$1" --cap-add NET_RAW -- -c 1 -w 1 -I lo 127.0.0.1 2>&1 || :) | says 'Interface "lo" is not ARPable'; }

# remark: S-Lang takes a script with the date of 1970 for one that is not there; it works with `SOURCE_DATE_EPOCH` set
case_jed() {
    printf '() = fputs(string(6 * 7) + "\\n", stdout); exit(0);\n' >"$WORK/jed.sl"
    run "$1" -v "$WORK/jed.sl:/f.sl:ro" -- -batch -n -l /f.sl | says -x 42
}

case_lzop() { echo text | run "$1" -- -c | run "$1" -- -dc | says -x text; }

# program: messages
case_mailutils() {
    printf 'From a@x Mon Jan  1 00:00:00 2024\nFrom: a@x\nSubject: s\n\nb\n\n%.0s' 1 2 >"$WORK/mbox"
    run "$1" -v "$WORK/mbox:/mbox:ro" -- /mbox | says ' 2$'
}

# program: ifconfig
case_net-tools() { run "$1" -- lo | says 127.0.0.1; }
# program: obabel
case_openbabel() { run "$1" -- -:OCC -ocan 2>/dev/null | says '^[CO]'; }

# program: onsgmls
case_opensp() {
    printf '<!DOCTYPE a [<!ELEMENT a - - (#PCDATA)>]><a>text</a>' >"$WORK/a.sgml"
    run "$1" -v "$WORK/a.sgml:/f:ro" -- /f | says -x -- '-text'
}

# program: ovsdb-tool
case_openvswitch-switch() { run "$1" -- schema-name /usr/share/openvswitch/vswitch.ovsschema | says -x Open_vSwitch; }

case_patch() {
    mkdir -p "$WORK/patch" && echo one >"$WORK/patch/f"
    printf -- '--- f\n+++ f\n@@ -1 +1 @@\n-one\n+two\n' | run "$1" -v "$WORK/patch:/w" -w /w -- && says -x two "$WORK/patch/f"
}

# program: pkcheck
case_polkitd() { run "$1" -- --version | says '^pkcheck version'; }
# program: /usr/games/tkscid
case_scid() { # its interpreter, which tells the version of the chess engine
    printf 'puts [sc_info version]\nexit\n' >"$WORK/scid.tcl"
    run "$1" -v "$WORK/scid.tcl:/f.tcl:ro" -- /f.tcl | says -x '[0-9.]*'
}

# program: sg_decode_sense
case_sg3-utils() { run "$1" -- 70 00 02 00 00 00 00 0a 00 00 00 00 04 01 | says -i 'becoming ready'; }

case_unar() {
    python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").writestr("f", "text\n")' "$WORK/a.zip"
    run "$1" -v "$WORK/a.zip:/a.zip:ro" -- -q -o /tmp /a.zip
}

# program: uwsgi-core
case_uwsgi-core() {
    server "$1" -- --plugin http,notfound --http 127.0.0.1:8486 --static-map /x=/etc
    answers http://127.0.0.1:8486/x/passwd | says '^root:'
    local result=$?
    stop
    return $result
}

# program: wpa_passphrase
case_wpasupplicant() { run "$1" -- net long-secret | says 'psk=[0-9a-f]\{64\}'; }
