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
