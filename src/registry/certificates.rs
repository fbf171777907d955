//! Files with certificates -> what TLS checks a server by, and shows it of us.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::{ClientBuilder, Identity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

/// Why certificates cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateFileError {
    /// A file or directory cannot be read.
    #[error("cannot read the certificates in `{}`", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no PEM, or has nothing in it that it should have.
    #[error("`{}` has no {wanted} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// What is in a file is of no use.
    #[error("`{}` has {what} that cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is in it.
        what: &'static str,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A certificate and its key do not make an identity.
    #[error("the certificate and key in `{}` cannot be used", path.display())]
    Identity {
        /// The file of the key.
        path: PathBuf,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// TLS does not start.
    #[error("cannot set up TLS")]
    Tls {
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Who may vouch for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The authorities of the files, and those of the system.
    WithSystem,
    /// The authorities of the files, if there are any; else those of the system.
    FilesFirst,
    /// Nobody: the user does not mind who it is.
    Anyone,
}

/// Which versions of HTTP are offered to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Versions {
    /// HTTP/2 and HTTP/1.1.
    All,
    /// HTTP/1.1 only. It reads why a server hangs up; HTTP/2 may be writing just then, and fails for that.
    One,
}

/// What a server is checked by, and what it is shown.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    authorities: Vec<CertificateDer<'static>>,
    own: Option<Own>,
}

/// What proves who we are.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Both of them, as they were read.
    pem: Vec<u8>,
}

impl Certificates {
    /// Reads what Docker and Podman let an administrator lay down for one registry: `*.crt` are authorities, `*.cert` with
    /// `*.key` prove who we are.
    ///
    /// # Errors
    /// [`CertificateFileError`] for the first file that is of no use: it is there on purpose.
    pub(super) fn of(directories: &[PathBuf], host: &str) -> Result<Self, CertificateFileError> {
        let mut found = Self::default();
        for directory in directories {
            let directory = directory.join(host);
            let error = |source| CertificateFileError::Unreadable { path: directory.clone(), source };
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    continue;
                }
                Err(source) => return Err(error(source)),
            };
            let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
            let mut paths = paths.map_err(error)?;
            paths.sort();
            for path in paths {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => found.trust(&path)?,
                    Some("cert") if found.own.is_none() => found.show(&path, &path.with_extension("key"))?,
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Adds the authorities in the file `path`.
    pub(crate) fn trust(&mut self, path: &Path) -> Result<(), CertificateFileError> {
        for certificate in certificates(path, &read(path)?)? {
            RootCertStore::empty().add(certificate.clone()).map_err(|source| {
                CertificateFileError::Unusable { path: path.to_owned(), what: "a certificate", source }
            })?;
            self.authorities.push(certificate);
        }
        Ok(())
    }

    /// Takes the certificate in the file `path`, with its key in the file `key_path`, for our own.
    pub(crate) fn show(&mut self, path: &Path, key_path: &Path) -> Result<(), CertificateFileError> {
        let (certificate, key) = (read(path)?, read(key_path)?);
        let chain = certificates(path, &certificate)?;
        let parsed = PrivateKeyDer::from_pem_slice(&key).map_err(|source| CertificateFileError::Pem {
            path: key_path.to_owned(),
            wanted: "private key",
            source,
        })?;
        CertifiedKey::from_der(chain.clone(), parsed.clone_key(), &provider()).map_err(|source| {
            CertificateFileError::Unusable { path: key_path.to_owned(), what: "a key", source }
        })?;
        let pem = [certificate, b"\n".to_vec(), key].concat();
        self.own = Some(Own { path: key_path.to_owned(), chain, key: parsed, pem });
        Ok(())
    }

    /// Lets a client use them.
    pub(crate) fn enter(
        self,
        builder: ClientBuilder,
        trust: Trust,
        versions: Versions,
    ) -> Result<ClientBuilder, CertificateFileError> {
        let mut builder = builder.tls_danger_accept_invalid_certs(trust == Trust::Anyone);
        if versions == Versions::One {
            builder = builder.http1_only();
        }
        match self.own {
            _ if trust != Trust::Anyone && !self.authorities.is_empty() => {
                Ok(builder.tls_backend_preconfigured(self.settings(trust, versions)?))
            }
            Some(Own { path, pem, .. }) => {
                let error = |source| CertificateFileError::Identity { path, source };
                Ok(builder.identity(Identity::from_pem(&pem).map_err(error)?))
            }
            None => Ok(builder),
        }
    }

    fn settings(self, trust: Trust, versions: Versions) -> Result<ClientConfig, CertificateFileError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|source| CertificateFileError::Tls { source })?;
        let verifier = Verifier::new(self.authorities, trust, provider);
        let verifier = verifier.map_err(|source| CertificateFileError::Tls { source })?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut settings = match self.own {
            Some(Own { path, chain, key, .. }) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| CertificateFileError::Unusable { path, what: "a key", source })?,
            None => builder.with_no_client_auth(),
        };
        settings.alpn_protocols = match versions {
            Versions::All => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Versions::One => vec![b"http/1.1".to_vec()],
        };
        Ok(settings)
    }
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().map_or_else(|| Arc::new(aws_lc_rs::default_provider()), Arc::clone)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    fs::read(path).map_err(|source| CertificateFileError::Unreadable { path: path.to_owned(), source })
}

/// Returns the certificates in `text`, of the file `path`; never none.
fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let found = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let found =
        found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    let (path, wanted) = (path.to_owned(), "certificate");
    found.map_err(|source| CertificateFileError::Pem { path, wanted, source })
}

/// Checks a server as usual, but takes a certificate that the user laid down for what it is: the one that a server made
/// for itself, with the command that Docker's manual has for it, is an authority too, and usually no server's.
#[derive(Debug)]
struct Verifier {
    usual: Arc<dyn ServerCertVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(
        known: Vec<CertificateDer<'static>>,
        trust: Trust,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let usual: Arc<dyn ServerCertVerifier> = if trust == Trust::WithSystem {
            Arc::new(rustls_platform_verifier::Verifier::new_with_extra_roots(
                known.iter().cloned(),
                provider,
            )?)
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in &known {
                roots.add(certificate.clone())?;
            }
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
            built.map_err(|error| rustls::Error::General(error.to_string()))?
        };
        Ok(Self { usual, known })
    }
}

/// Returns whether a certificate was refused only because it is an authority's. Nothing comes after its times were looked
/// at and before that (`check_issuer_independent_properties` of the crate rustls-webpki, which keeps the type to itself).
fn is_authority_as_server(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(error)) = error else { return false };
    error.source().is_some_and(|cause| cause.to_string() == "CaUsedAsEndEntity")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_authority_as_server(&error) && self.known.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Made for itself by `registry.example`: `openssl req -x509 -days 36500 -addext subjectAltName=DNS:registry.example`.
    const SELF_SIGNED: &[u8] = include_bytes!("../../testdata/certificates/self-signed.pem");
    /// Within its time, and after it.
    const NOW: u64 = 2_000_000_000;
    const TOO_LATE: u64 = 6_000_000_000;

    #[test]
    fn a_certificate_that_was_laid_down_is_taken_for_what_it_is() {
        let certificate = CertificateDer::from_pem_slice(SELF_SIGNED).unwrap();
        let refused = |known: &[CertificateDer<'static>], name: &'static str, time| {
            let mut known = known.to_vec();
            if known.is_empty() {
                // Somebody has to be trusted.
                let mut other = certificate.to_vec();
                *other.last_mut().unwrap() ^= 1;
                known.push(other.into());
            }
            let verifier = Verifier::new(known, Trust::FilesFirst, provider()).unwrap();
            let (name, time) =
                (name.try_into().unwrap(), UnixTime::since_unix_epoch(Duration::from_secs(time)));
            match verifier.verify_server_cert(&certificate, &[], &name, &[], time) {
                Ok(_) => "taken".to_owned(),
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                    ..
                })) => "name".to_owned(),
                Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })) => {
                    "time".to_owned()
                }
                Err(error) => error.to_string(),
            }
        };
        let known = [certificate.clone()];
        assert_eq!(refused(&known, "registry.example", NOW), "taken");
        assert_eq!(refused(&known, "other.example", NOW), "name");
        assert_eq!(refused(&known, "registry.example", TOO_LATE), "time");
        assert_eq!(
            refused(&[], "registry.example", NOW),
            "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))"
        );
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let host = directory.path().join("r.example");
        fs::create_dir(&host).unwrap();
        let good = String::from_utf8(SELF_SIGNED.to_vec()).unwrap();
        let (begin, end) = ("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n");
        let body = good.lines().nth(1).unwrap();
        for (name, text, want) in [
            ("ca.crt", "", "`r.example/ca.crt` has no certificate in PEM"),
            ("ca.crt", "\u{30}\u{2}", "`r.example/ca.crt` has no certificate in PEM"),
            ("ca.crt", &format!("{begin}?\n{end}"), "`r.example/ca.crt` has no certificate in PEM"),
            ("ca.crt", &format!("{good}{begin}"), "`r.example/ca.crt` has no certificate in PEM"),
            (
                "ca.crt",
                &format!("{begin}{body}\n{end}"),
                "`r.example/ca.crt` has a certificate that cannot be used",
            ),
            ("a.cert", &good, "cannot read the certificates in `r.example/a.key`"),
        ] {
            fs::write(host.join(name), text).unwrap();
            let error = Certificates::of(&[directory.path().to_owned()], "r.example").unwrap_err();
            let shown = error.to_string().replace(&format!("{}/", directory.path().display()), "");
            assert_eq!(shown, want, "{text}");
            fs::remove_file(host.join(name)).unwrap();
        }
        fs::write(host.join("ca.crt"), &good).unwrap();
        fs::write(host.join("README"), "for the registry").unwrap();
        let found = Certificates::of(&[directory.path().to_owned()], "r.example").unwrap();
        assert_eq!((found.authorities.len(), found.own.is_none()), (1, true));
    }
}
