//! Files of certificates, looked at again and again.
//!
//! Owns when a new pair takes the place of the one before, and what is said of one that does not.
//! Files are compared by their bytes: a link that is turned to another file, as certbot and Kubernetes
//! do, counts as much as a file that is written anew. Called by `certificates`.

use super::pair::{Certificate, Fault};
use super::shelf::Shelf;
use super::{CertificateError, unix_s};
use crate::config::check::pair::Pair;
use crate::metrics::Metrics;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// Between two looks: a renewal is a matter of days, and whoever rolls one out by hand waits no longer.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a file that are read: a chain of a dozen certificates is some 30 KiB.
const MOST_FILE: u64 = 1 << 20;
/// Before a certificate's end, when it is time to look after its renewal. One that we renew ourselves, when
/// a third of it is left, may be shorter than that altogether: then it is half of that third.
const WARN_WITHIN_S: i64 = 14 * 86_400;
/// Between two such warnings.
const WARN_EVERY_S: i64 = 86_400;

/// What was in a pair's files.
type Content = Result<(Vec<u8>, Vec<u8>), Fault>;

/// A pair and what is known of it.
struct Watched {
    pair: Pair,
    seen: Content,
    /// It has been said of what was seen that it is bad, or it is good.
    judged: bool,
    /// What was seen was refused for coming before its time, which will come.
    early: bool,
    current: Option<Arc<Certificate>>,
    warned_at: Option<i64>,
}

/// What becomes of what was read.
#[derive(Debug)]
enum Verdict {
    /// It is as it was.
    Same,
    /// It is a new pair, and in use.
    Taken,
    /// It is no pair: halves of two, perhaps, while both are being written.
    Awaited,
    /// It is no pair, and stays none.
    Refused(Fault),
}

impl Watched {
    /// Judges what is in the files now. What is bad is refused once it has stood still for a look, or at
    /// once if `told` by somebody that it is ready.
    fn handle_content(&mut self, content: Content, told: bool, now_unix: i64) -> Verdict {
        let same = content == self.seen;
        let known = same && self.judged;
        if known && !self.early {
            return Verdict::Same;
        }
        self.seen = content;
        let read = match &self.seen {
            Ok((certificate, key)) => Certificate::read(certificate, key),
            Err(fault) => Err(fault.clone()),
        };
        let fault = match read {
            Ok(new) => match (new.timely(now_unix), &self.current) {
                // It is better than nothing, and than one that is over too.
                (Err(fault), Some(old)) if old.timely(now_unix).is_ok() => fault,
                _ => {
                    self.current = Some(Arc::new(new));
                    (self.judged, self.early, self.warned_at) = (true, false, None);
                    return Verdict::Taken;
                }
            },
            Err(fault) => fault,
        };
        let missing = self.pair.awaited && self.current.is_none();
        if missing && matches!(fault, Fault::File(_)) {
            return Verdict::Awaited;
        }
        self.judged = same || told;
        self.early = fault == Fault::TooEarly;
        if known {
            Verdict::Same
        } else if self.judged {
            Verdict::Refused(fault)
        } else {
            Verdict::Awaited
        }
    }

    /// The warning about its end that is due, if one is.
    fn handle_time(&mut self, now_unix: i64) -> Option<i64> {
        let current = self.current.as_ref()?;
        let left = current.not_after.saturating_sub(now_unix);
        let due = self
            .warned_at
            .is_none_or(|at| now_unix - at >= WARN_EVERY_S);
        let life = current.not_after.saturating_sub(current.not_before);
        let within = if self.pair.awaited {
            WARN_WITHIN_S.min(life / 6)
        } else {
            WARN_WITHIN_S
        };
        if left > within || !due {
            return None;
        }
        self.warned_at = Some(now_unix);
        Some(left)
    }
}

/// Watches all pairs.
pub(super) struct Keeper {
    watched: Vec<Watched>,
    shelf: watch::Sender<Arc<Shelf>>,
    metrics: Metrics,
    /// Names that have a series.
    named: Vec<String>,
}

impl Keeper {
    /// Reads all pairs for the first time.
    pub(super) fn new(
        pairs: &[Pair],
        metrics: Metrics,
    ) -> Result<(Self, watch::Receiver<Arc<Shelf>>), CertificateError> {
        let (shelf, receiver) = watch::channel(Arc::default());
        let mut keeper = Self {
            watched: Vec::new(),
            shelf,
            metrics,
            named: Vec::new(),
        };
        for pair in pairs {
            let mut watched = Watched {
                pair: pair.clone(),
                seen: Err(Fault::NoCertificate),
                judged: false,
                early: false,
                current: None,
                warned_at: None,
            };
            let verdict = watched.handle_content(content(pair), true, unix_s());
            if let Verdict::Refused(fault) = verdict {
                if pair.awaited {
                    // Whoever makes it makes another.
                    refuse(pair, &fault);
                    keeper.watched.push(watched);
                    continue;
                }
                return Err(CertificateError::pair(pair, fault));
            }
            keeper.watched.push(watched);
        }
        keeper.publish();
        Ok((keeper, receiver))
    }

    /// Looks at the files from time to time, or when `requests` asks for it, while anybody shows them.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<()>) {
        loop {
            let told = tokio::select! {
                request = requests.recv() => match request {
                    Some(()) => true,
                    None => return,
                },
                () = sleep(LOOK_EVERY) => false,
            };
            let pairs: Vec<Pair> = self.watched.iter().map(|one| one.pair.clone()).collect();
            let read = move || pairs.iter().map(content).collect::<Vec<_>>();
            // It ends early only with the whole program.
            let Ok(contents) = tokio::task::spawn_blocking(read).await else {
                return;
            };
            self.handle_contents(contents, told);
            self.report();
        }
    }

    fn handle_contents(&mut self, contents: Vec<Content>, told: bool) {
        let mut taken = Vec::new();
        for (watched, content) in self.watched.iter_mut().zip(contents) {
            match watched.handle_content(content, told, unix_s()) {
                Verdict::Same | Verdict::Awaited => {}
                Verdict::Taken => taken.push((watched.pair.clone(), watched.current.clone())),
                Verdict::Refused(fault) => {
                    self.metrics.certificate_loaded("refused");
                    refuse(&watched.pair, &fault);
                }
            }
        }
        if !taken.is_empty() {
            self.publish();
        }
        // It is shown before anybody is told so.
        for (pair, certificate) in taken {
            self.metrics.certificate_loaded("taken");
            let file = pair.cert_file.display();
            tracing::info!(key = pair.key, %file, ?certificate, "certificate taken");
        }
    }

    fn publish(&self) {
        let current = self.watched.iter().filter_map(|one| one.current.clone());
        self.shelf.send_replace(Arc::new(Shelf(current.collect())));
    }

    /// Says how long each certificate is still good, and warns of those that end.
    pub(super) fn report(&mut self) {
        let now = unix_s();
        let mut named = Vec::new();
        for watched in &mut self.watched {
            let Some(current) = watched.current.clone() else {
                continue;
            };
            let name = current.name().to_owned();
            self.metrics
                .certificate_expires(&name, current.not_after - now);
            if let Some(left) = watched.handle_time(now) {
                let (key, days) = (watched.pair.key, left / 86_400);
                if left > 0 {
                    tracing::warn!(key, name, days, "certificate ends soon: have it renewed");
                } else {
                    tracing::error!(key, name, "certificate has expired: clients refuse it");
                }
            }
            named.push(name);
        }
        for gone in self.named.iter().filter(|name| !named.contains(name)) {
            self.metrics.certificate_gone(gone);
        }
        self.named = named;
    }
}

/// Looks once whether a pair may be shown now.
pub(super) fn examine(pair: &Pair) -> Result<(), Fault> {
    let (certificate, key) = content(pair)?;
    Certificate::read(&certificate, &key)?.timely(unix_s())
}

/// Tells the operator of a pair that is none.
fn refuse(pair: &Pair, fault: &Fault) {
    tracing::error!(
        key = pair.key,
        certFile = %pair.cert_file.display(),
        keyFile = %pair.key_file.display(),
        cause = %fault,
        fix = fault.fix(),
        "certificate not taken; the one before stays in use"
    );
}

/// What is in both files.
fn content(pair: &Pair) -> Content {
    let read = |path: &Path| -> Result<Vec<u8>, Fault> {
        bytes(path).map_err(|error| Fault::File(format!("{}: {error}", path.display())))
    };
    Ok((read(&pair.cert_file)?, read(&pair.key_file)?))
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Files, made};
    use super::*;

    fn watched(awaited: bool) -> Watched {
        Watched {
            pair: Pair {
                key: "tls.cert_file",
                cert_file: "a".into(),
                key_file: "b".into(),
                awaited,
            },
            seen: Err(Fault::NoCertificate),
            judged: false,
            early: false,
            current: None,
            warned_at: None,
        }
    }

    fn pair(until: i64) -> Content {
        let (certificate, key) = made(&["a.example"], 0..until);
        Ok((certificate.into_bytes(), key.into_bytes()))
    }

    #[test]
    fn a_new_pair_is_taken_at_once_and_the_same_one_only_once() {
        let mut watched = watched(false);
        let (old, new) = (pair(1000), pair(2000));
        assert!(matches!(
            watched.handle_content(old.clone(), true, 5),
            Verdict::Taken
        ));
        assert!(matches!(
            watched.handle_content(old, false, 5),
            Verdict::Same
        ));
        assert!(matches!(
            watched.handle_content(new, false, 5),
            Verdict::Taken
        ));
        assert_eq!(watched.current.expect("one").not_after, 2000);
    }

    #[test]
    fn halves_of_two_pairs_are_refused_once_they_stand_still_and_told_once() {
        let mut watched = watched(false);
        let (old, new) = (pair(1000), pair(2000));
        watched.handle_content(old.clone(), true, 5);
        let (Ok((_, key)), Ok((certificate, _))) = (&old, &new) else {
            panic!("two pairs");
        };
        let halves: Content = Ok((certificate.clone(), key.clone()));
        let mut judge = |content: &Content, told| watched.handle_content(content.clone(), told, 5);
        assert!(matches!(judge(&halves, false), Verdict::Awaited));
        assert!(matches!(
            judge(&halves, false),
            Verdict::Refused(Fault::Mismatch)
        ));
        assert!(matches!(judge(&halves, false), Verdict::Same));
        let gone: Content = Err(Fault::File("gone".into()));
        assert!(matches!(
            judge(&gone, true),
            Verdict::Refused(Fault::File(_))
        ));
        assert_eq!(watched.current.as_ref().expect("kept").not_after, 1000);
        assert!(matches!(
            watched.handle_content(new, false, 5),
            Verdict::Taken
        ));
    }

    #[test]
    fn one_that_has_expired_takes_no_good_one_s_place_and_is_better_than_nothing() {
        let mut watched = watched(false);
        assert!(matches!(
            watched.handle_content(pair(10), true, 50),
            Verdict::Taken
        ));
        assert!(matches!(
            watched.handle_content(pair(20), true, 50),
            Verdict::Taken
        ));
        watched.handle_content(pair(100), true, 50);
        assert!(matches!(
            watched.handle_content(pair(30), true, 50),
            Verdict::Refused(Fault::Expired)
        ));
        assert_eq!(watched.current.expect("kept").not_after, 100);
    }

    #[test]
    fn one_that_came_before_its_time_is_refused_once_and_taken_when_its_time_has_come() {
        let mut watched = watched(false);
        watched.handle_content(pair(1000), true, 50);
        let (certificate, key) = made(&["a.example"], 100..2000);
        let early: Content = Ok((certificate.into_bytes(), key.into_bytes()));
        let mut judge = |told, now| watched.handle_content(early.clone(), told, now);
        assert!(matches!(judge(true, 60), Verdict::Refused(Fault::TooEarly)));
        for told in [false, true] {
            assert!(matches!(judge(told, 70), Verdict::Same));
        }
        assert!(matches!(judge(false, 100), Verdict::Taken));
        assert!(matches!(judge(false, 110), Verdict::Same));
        assert_eq!(watched.current.expect("one").not_after, 2000);
    }

    #[test]
    fn a_pair_that_somebody_is_making_is_waited_for_in_silence() {
        let mut watched = watched(true);
        let gone: Content = Err(Fault::File("not yet".into()));
        for told in [true, false, true] {
            assert!(matches!(
                watched.handle_content(gone.clone(), told, 5),
                Verdict::Awaited
            ));
        }
        assert!(matches!(
            watched.handle_content(pair(10), false, 5),
            Verdict::Taken
        ));
    }

    #[test]
    fn the_end_is_warned_of_once_a_day_in_its_last_fortnight() {
        let day = 86_400;
        let mut watched = watched(false);
        watched.handle_content(pair(100 * day), true, 5);
        assert_eq!(watched.handle_time(85 * day), None);
        assert_eq!(watched.handle_time(87 * day), Some(13 * day));
        assert_eq!(watched.handle_time(87 * day + 60), None);
        assert_eq!(watched.handle_time(88 * day), Some(12 * day));
        assert_eq!(watched.handle_time(101 * day), Some(-day));
    }

    #[test]
    fn one_of_a_short_life_that_renews_itself_is_warned_of_when_that_should_have_been() {
        let day = 86_400;
        let mut watched = watched(true);
        watched.handle_content(pair(6 * day), true, 5);
        assert_eq!(watched.handle_time(4 * day), None);
        assert_eq!(watched.handle_time(5 * day), Some(day));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pair_is_exchanged_by_turning_a_link_and_its_series_follow() {
        let metrics = Metrics::new("n");
        let files = Files::default();
        let now = unix_s();
        files.write("old", &made(&["old.example"], 0..now + 99 * 86_400));
        files.write("new", &made(&["new.example"], 0..now + 99 * 86_400));
        files.turn("live", "old");
        let certificates = super::super::Certificates::start(&[files.pair("live")], None, &metrics)
            .expect("a pair");
        let name = || {
            certificates
                .shelf()
                .choose(None)
                .map(|one| one.name().to_owned())
        };
        assert_eq!(name().as_deref(), Some("old.example"));
        files.turn("live", "new");
        certificates.reload();
        let mut shelf = certificates.shelf.clone();
        shelf
            .wait_for(|shelf| {
                shelf
                    .choose(Some("new.example"))
                    .is_some_and(|c| c.name() == "new.example")
            })
            .await
            .expect("kept");
        // The report has followed without a pause.
        let names =
            crate::metrics::tests::labels(&metrics, "foci_certificate_expiry_seconds", "name");
        assert_eq!(names, ["new.example"]);
    }
}
