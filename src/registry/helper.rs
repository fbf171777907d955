//! The name of a registry -> what a credential helper knows of it (docker-credential-helpers, the protocol `get`).

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::credentials::{Credential, CredentialError};

/// How long a helper may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const ANSWER_MAX: u64 = 1 << 20;
/// What all helpers say if they do not know a registry (docker-credential-helpers, credentials/error.go).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name with which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Asks `program` for the credential of `server`; `None` if it knows none.
///
/// # Errors
/// [`CredentialError`] if it does not run, fails, takes too long, or says something else.
pub(super) async fn credential(program: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    match tokio::time::timeout(LIMIT, answer(program, server)).await {
        Ok(answer) => answer,
        Err(_) => Err(CredentialError::HelperSlow { program: program.to_owned() }),
    }
}

async fn answer(program: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let io = |source| CredentialError::HelperRun { program: program.to_owned(), source };
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(io)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading; what counts is its answer.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_MAX).read_to_end(&mut bytes).await.map_err(io)?;
    }
    let status = child.wait().await.map_err(io)?;
    if !status.success() {
        let known = String::from_utf8_lossy(&bytes).trim() == NOT_FOUND;
        let failed = || CredentialError::HelperFailed { program: program.to_owned(), status };
        return if known { Ok(None) } else { Err(failed()) };
    }
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|_| CredentialError::HelperAnswer { program: program.to_owned() })?;
    Ok(match answer {
        Answer { secret, .. } if secret.is_empty() => None,
        Answer { username, secret } if username == TOKEN_USER => Some(Credential::Identity { token: secret }),
        Answer { username, secret } => Some(Credential::Password { user: username, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn helpers_are_programs_that_answer() {
        let directory = tempfile::tempdir().unwrap();
        // Answers for one server, with what came in.
        let helper = |name: &str, script: &str| {
            let path = directory.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |program: &str| match runtime.block_on(credential(program, "r.example")) {
            Ok(Some(Credential::Password { user, password })) => format!("{user}:{password}"),
            Ok(Some(_)) => "token".to_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        };
        for (name, script, want) in [
            (
                "good",
                r#"printf '{"ServerURL":"x","Username":"%s","Secret":"%s"}' "$1" "$(cat)""#,
                "get:r.example",
            ),
            ("token", r#"cat >/dev/null; echo '{"Username":"<token>","Secret":"t"}'"#, "token"),
            ("missing", "echo credentials not found in native keychain; exit 1", "nothing"),
            ("silent", "exit 0", "printed no credential"),
            ("broken", "echo secret; exit 3", "ended with exit status: 3"),
        ] {
            let got = ask(&helper(name, script));
            assert!(got.ends_with(want) && !got.contains("secret"), "{name}: {got}");
        }
        assert!(ask("/nowhere/docker-credential-x").starts_with("cannot run"));
    }
}
