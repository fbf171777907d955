//! Certificates for tests, made by `openssl`.

use std::process::Command;

use crate::minimage::Workspace;
use crate::outcome::Outcome;

/// Makes an authority, `ca.pem`, and certificates of a server of this machine and of a client, in `workspace`. Needs
/// [`crate::requirement::NETWORK_TOOLS`].
pub(crate) fn make(workspace: &Workspace) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=authority -keyout ca.key -out ca.pem
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=IP:127.0.0.1' > extensions
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out $name.pem
        done
        cp client.pem cert.pem
        cp client.key key.pem";
    let mut shell = Command::new("sh");
    Outcome::of(shell.args(["-euc", script]).current_dir(workspace.path("."))).success();
}

/// Makes a certificate that a registry of this machine has made for itself, `server.pem`, as Docker's manual says
/// ("Use self-signed certificates"). Needs [`crate::requirement::NETWORK_TOOLS`].
pub(crate) fn make_self_signed(workspace: &Workspace, name: &str) {
    let mut openssl = Command::new("openssl");
    let words = "req -newkey rsa:2048 -nodes -sha256 -x509 -days 365 -subj /CN=registry -keyout server.key -out server.pem -addext";
    openssl.args(words.split(' ')).arg(format!("subjectAltName = {name}"));
    Outcome::of(openssl.current_dir(workspace.path("."))).success();
}
