use crate::config::check::pair::Pair;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A certificate for these hosts, good in this span of seconds since 1970, and its key.
pub(crate) fn made(hosts: &[&str], good: Range<i64>) -> (String, String) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names");
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| {
        let span = std::time::Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            epoch - span
        } else {
            epoch + span
        }
    };
    params.not_before = at(good.start);
    params.not_after = at(good.end);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

/// A folder that goes when it goes.
pub(crate) struct Files(PathBuf);

impl Default for Files {
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foci-certificates-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes one");
        Self(folder)
    }
}

impl Files {
    /// Where this is in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes both into a folder of their own.
    pub(crate) fn write(&self, name: &str, (certificate, key): &(String, String)) {
        let folder = self.0.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("cert.pem"), certificate).expect("written");
        std::fs::write(folder.join("key.pem"), key).expect("written");
    }

    /// Lets a link lead to another folder, at one blow.
    pub(crate) fn turn(&self, link: &str, to: &str) {
        let fresh = self.0.join("fresh");
        std::os::unix::fs::symlink(self.0.join(to), &fresh).expect("a link");
        std::fs::rename(fresh, self.0.join(link)).expect("renamed");
    }

    /// The pair in such a folder.
    pub(crate) fn pair(&self, name: &str) -> Pair {
        Pair {
            key: "tls.cert_file",
            cert_file: self.0.join(name).join("cert.pem"),
            key_file: self.0.join(name).join("key.pem"),
            awaited: false,
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // It is only a folder in the temporary one.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
