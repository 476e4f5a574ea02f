//! What is kept of an authority: the account, the certificate with its key, and what has failed.
//!
//! Owns the folder. Whatever is written is for this user only, and is there whole or not at all.

use super::super::pair::Certificate;
use super::schedule::Failures;
use crate::config::check::acme::Acme;
use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

const ACCOUNT: &str = "account.json";
const FAILURES: &str = "failures.json";
const PROBE: &str = "probe";
/// More than a certificate with its key and its issuers takes.
const PROBE_BYTES: usize = 32 * 1024;
/// Begins the line of a certificate's file that says whose it is. It stands before the PEM, where a text may. (RFC
/// 7468 §2)
const AUTHORITY: &str = "authority: ";

/// Something cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}; write a folder of this user")]
pub(super) struct Unkept {
    path: PathBuf,
    source: io::Error,
}

/// What is asked for: what failed of something else is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    directory: String,
    domains: Vec<String>,
    challenge: String,
    external_account: Option<String>,
    ca_file: Option<PathBuf>,
}

/// What has failed, and of what.
#[derive(Serialize, Deserialize)]
struct Failed {
    asked: Asked,
    failures: Failures,
}

/// The folder.
pub(super) struct Folder {
    path: PathBuf,
    certificate: PathBuf,
    asked: Asked,
}

impl Folder {
    pub(super) fn new(acme: &Acme) -> Self {
        let external = acme.external_account.as_ref();
        Self {
            path: acme.storage.clone(),
            certificate: acme.pair().cert_file,
            asked: Asked {
                directory: acme.directory_url.clone(),
                domains: acme.domains.clone(),
                challenge: acme.challenge.name().to_owned(),
                external_account: external.map(|external| external.kid.clone()),
                ca_file: acme.ca_file.clone(),
            },
        }
    }

    /// Sees that a certificate can be kept, by something of its size.
    pub(super) async fn prove(&self) -> Result<(), Unkept> {
        let keep = |path: PathBuf| {
            write(&path, &[0; PROBE_BYTES])?;
            fs::remove_file(path)
        };
        blocking(&self.path.join(PROBE), keep).await
    }

    /// The certificate, if there is one of the authority that is asked now. One that does not say whose it
    /// is counts as that.
    pub(super) async fn certificate(&self) -> Option<Certificate> {
        let path = self.certificate.clone();
        let text = spawn_blocking(move || fs::read(path)).await.ok()?.ok()?;
        let first = text.split(|byte| *byte == b'\n').next()?;
        let authority = first.strip_prefix(AUTHORITY.as_bytes());
        if authority.is_some_and(|authority| authority != self.asked.directory.as_bytes()) {
            return None;
        }
        Certificate::read(&text, &text).ok()
    }

    /// Keeps a new one.
    pub(super) async fn keep_certificate(&self, key: &str, chain: &str) -> Result<(), Unkept> {
        let directory = &self.asked.directory;
        let (key, chain) = (key.trim_end(), chain.trim_end());
        let text = format!("{AUTHORITY}{directory}\n{key}\n{chain}\n");
        self.keep(self.certificate.clone(), text).await
    }

    /// What has failed since the last certificate.
    pub(super) async fn failures(&self) -> Option<Failures> {
        let path = self.failures_file();
        let text = spawn_blocking(move || fs::read(path)).await.ok()?.ok()?;
        // What is no such file says nothing.
        let failed: Failed = serde_json::from_slice(&text).ok()?;
        (failed.asked == self.asked).then_some(failed.failures)
    }

    /// Keeps what has failed, so that a restart does not begin anew; `None` after a certificate.
    pub(super) async fn keep_failures(&self, failures: Option<Failures>) -> Result<(), Unkept> {
        let path = self.failures_file();
        let Some(failures) = failures else {
            return match blocking(&path, fs::remove_file).await {
                Err(unkept) if unkept.source.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            };
        };
        let asked = self.asked.clone();
        match serde_json::to_string(&Failed { asked, failures }) {
            Ok(text) => self.keep(path, text).await,
            Err(error) => Err(Unkept {
                path,
                source: error.into(),
            }),
        }
    }

    /// Where that is kept.
    pub(super) fn failures_file(&self) -> PathBuf {
        self.path.join(FAILURES)
    }

    /// The account with the authority that is asked now.
    pub(super) async fn account(&self) -> Result<Option<AccountCredentials>, Unkept> {
        let path = self.path.join(ACCOUNT);
        let text = match blocking(&path, fs::read_to_string).await {
            Ok(text) => text,
            Err(unkept) if unkept.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(unkept) => return Err(unkept),
        };
        let parse = || -> serde_json::Result<Option<AccountCredentials>> {
            let value: serde_json::Value = serde_json::from_str(&text)?;
            let same = value["directory"].as_str() == Some(&self.asked.directory);
            same.then(|| serde_json::from_value(value)).transpose()
        };
        // Its text holds a key, and so may what the parser says of it.
        parse().map_err(|_| Unkept {
            path,
            source: io::Error::new(io::ErrorKind::InvalidData, "no account is in this file"),
        })
    }

    /// Keeps a new one.
    pub(super) async fn keep_account(&self, account: &AccountCredentials) -> Result<(), Unkept> {
        let path = self.path.join(ACCOUNT);
        match serde_json::to_string(account) {
            Ok(text) => self.keep(path, text).await,
            Err(error) => Err(Unkept {
                path,
                source: error.into(),
            }),
        }
    }

    /// The authority does not know it any more.
    pub(super) async fn forget_account(&self) -> Result<(), Unkept> {
        blocking(&self.path.join(ACCOUNT), fs::remove_file).await
    }

    async fn keep(&self, path: PathBuf, text: String) -> Result<(), Unkept> {
        blocking(&path, move |path| write(&path, text.as_bytes())).await
    }
}

/// Does something with a file, off the threads of the runtime.
async fn blocking<T: Send + 'static>(
    path: &Path,
    act: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> Result<T, Unkept> {
    let own = path.to_owned();
    let done = spawn_blocking(move || act(own)).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| Unkept {
        path: path.to_owned(),
        source,
    })
}

/// Writes a file that only its owner may read, at one blow.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let fresh = path.with_extension("new");
    // What an interrupted attempt left there may have other rights.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{Files, made};
    use super::*;
    use crate::config::check::acme::Challenge;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(path: &Path) -> Folder {
        Folder::new(&Acme {
            domains: vec!["a.example".to_owned()],
            storage: path.to_owned(),
            email: None,
            directory_url: "https://authority.example/dir".to_owned(),
            challenge: Challenge::Http01,
            ca_file: None,
            external_account: None,
        })
    }

    /// The same where another authority is asked.
    fn of_another(path: &Path) -> Folder {
        let mut other = folder(path);
        other.asked.directory = "https://another.example/dir".to_owned();
        other
    }

    #[tokio::test]
    async fn a_certificate_is_kept_for_its_owner_alone_and_found_again() {
        let files = Files::default();
        let path = files.path("acme/deep");
        let folder = folder(&path);
        assert!(folder.certificate().await.is_none());
        let (chain, key) = made(&["a.example"], 0..9);
        for _ in 0..2 {
            let kept = folder.keep_certificate(&key, &chain).await;
            kept.expect("kept");
        }
        let found = folder.certificate().await.expect("found");
        assert_eq!(found.not_after, 9);
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&folder.certificate), 0o600);
        assert_eq!(mode(&path), 0o700);
    }

    #[tokio::test]
    async fn a_certificate_is_that_of_one_authority_or_of_any_if_it_does_not_say() {
        let files = Files::default();
        let path = files.path("acme");
        let folder = folder(&path);
        let (chain, key) = made(&["a.example"], 0..9);
        let kept = folder.keep_certificate(&key, &chain).await;
        kept.expect("kept");
        assert!(folder.certificate().await.is_some());
        assert!(of_another(&path).certificate().await.is_none());
        fs::write(&folder.certificate, format!("{key}{chain}")).expect("written");
        assert!(folder.certificate().await.is_some());
        assert!(of_another(&path).certificate().await.is_some());
    }

    #[tokio::test]
    async fn failures_are_kept_for_what_they_were_of_until_there_is_a_certificate() {
        let files = Files::default();
        let path = files.path("acme");
        let folder = folder(&path);
        assert_eq!(folder.failures().await, None);
        let failures = Some(Failures::one_more(None, false, 1000));
        folder.keep_failures(failures).await.expect("kept");
        assert_eq!(folder.failures().await, failures);
        assert_eq!(of_another(&path).failures().await, None);
        fs::write(folder.failures_file(), "{}").expect("written");
        assert_eq!(folder.failures().await, None);
        for _ in 0..2 {
            folder.keep_failures(None).await.expect("forgotten");
            assert!(!folder.failures_file().exists());
        }
    }

    #[tokio::test]
    async fn a_folder_that_takes_nothing_is_told_before_anybody_is_asked() {
        let files = Files::default();
        let path = files.path("acme");
        let folder = folder(&path);
        folder.prove().await.expect("it takes something");
        assert_eq!(fs::read_dir(&path).expect("there").count(), 0);
        fs::remove_dir(&path).expect("empty");
        fs::write(&path, "no folder").expect("written");
        let error = folder.prove().await.expect_err("it takes nothing");
        assert!(error.to_string().contains("acme/probe"), "{error}");
    }

    #[tokio::test]
    async fn an_account_is_that_of_one_authority() {
        let files = Files::default();
        let path = files.path("acme");
        let folder = folder(&path);
        assert!(folder.account().await.expect("none").is_none());
        fs::create_dir(&path).expect("made");
        let other = r#"{"directory": "https://another.example/dir"}"#;
        fs::write(path.join(ACCOUNT), other).expect("written");
        assert!(folder.account().await.expect("another's").is_none());
        fs::write(path.join(ACCOUNT), r#"{"key_pkcs8": "hunter2"#).expect("written");
        let error = folder.account().await.err().expect("no account");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        folder.forget_account().await.expect("forgotten");
        assert!(folder.account().await.expect("none").is_none());
    }
}
