//! Where delegated leaves are kept over a restart: one file of an embedded database, or Redis, written
//! by a thread of its own.
//!
//! Owns the file; Redis is for `in_redis`. What is asked of it is done in order, as much as waits in one transaction; a new job
//! is on the disk before it is acknowledged. The only file that names the database's crate. Used by
//! `delegation`.

mod in_redis;

use crate::leave::kept::{self, Kept};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

/// Key and value are texts.
const JOBS: TableDefinition<'_, &str, &str> = TableDefinition::new("jobs");

/// Changes that may wait for the disk; one more is refused and told.
const QUEUE: usize = 4096;

/// Changes written in one transaction.
const BATCH: usize = 256;

/// Why nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be used.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// Redis cannot be used.
    #[error("matrix.redis: cannot connect: {0}")]
    Redis(String),
    /// Somebody else uses it.
    #[error(
        "matrix.redis: another process has the jobs there and is alive: end it first, or use another database"
    )]
    Owned,
    /// The disk is too slow, or the thread is gone.
    #[error("the store does not keep up")]
    Busy,
}

/// Tells when a job is on the disk.
pub(crate) type Keeping = oneshot::Receiver<Result<(), StoreError>>;

enum Change {
    Put(
        String,
        String,
        Option<oneshot::Sender<Result<(), StoreError>>>,
    ),
    Remove(String),
}

/// The store; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// `None`: nothing is kept.
    changes: Option<SyncSender<Change>>,
    /// True once another process has the jobs; `None` where none could.
    lost: Option<watch::Receiver<bool>>,
}

impl Store {
    /// Keeps nothing.
    pub(crate) const fn none() -> Self {
        Self {
            changes: None,
            lost: None,
        }
    }

    /// Opens the file, which is made if there is none, and reads the jobs in it. One that is damaged
    /// is put aside, with a complaint, and a fresh one begun.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Kept>), StoreError> {
        let failed = |cause: String| StoreError::File {
            path: path.to_owned(),
            cause,
        };
        let opened = open(path).or_else(|cause| {
            if !is_damage(&cause) {
                return Err(failed(cause.to_string()));
            }
            let aside = path.with_extension("damaged");
            error!(path = %path.display(), %cause, aside = %aside.display(), "the store is damaged: put aside, its jobs are lost");
            std::fs::rename(path, &aside).map_err(|error| failed(error.to_string()))?;
            open(path).map_err(|cause| failed(cause.to_string()))
        });
        let (database, jobs) = opened?;
        let store = Self::run(move |queue| write(&database, &queue))
            .map_err(|error| failed(error.to_string()))?;
        Ok((store, jobs))
    }

    /// Connects to Redis and reads the jobs there. Waits for the claim of a process that has crashed.
    pub(crate) fn redis(url: &str) -> Result<(Self, Vec<Kept>), StoreError> {
        let (lose, lost) = watch::channel(false);
        let (keeper, jobs) = in_redis::open(url, lose)?;
        let store = Self::run(move |queue| keeper.run(&queue))
            .map_err(|error| StoreError::Redis(error.to_string()))?;
        let lost = Some(lost);
        Ok((Self { lost, ..store }, jobs))
    }

    fn run(work: impl FnOnce(Receiver<Change>) + Send + 'static) -> io::Result<Self> {
        let (changes, queue) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("matrix-store".into())
            .spawn(move || work(queue))?;
        Ok(Self {
            changes: Some(changes),
            lost: None,
        })
    }

    /// Has another process the jobs?
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.as_ref().is_some_and(|lost| *lost.borrow())
    }

    /// Waits until another process has the jobs.
    pub(crate) async fn lost(&mut self) {
        if let Some(lost) = &mut self.lost
            && lost.wait_for(|lost| *lost).await.is_ok()
        {
            // Once is enough.
            self.lost = None;
            return;
        }
        std::future::pending().await
    }

    /// Keeps a job; returns once it is on the disk.
    pub(crate) async fn keep(&self, job: &Kept) -> Result<(), StoreError> {
        match self.begin(job)? {
            Some(kept) => kept.await.unwrap_or(Err(StoreError::Busy)),
            None => Ok(()),
        }
    }

    /// Begins to keep a job: what is asked of the store afterwards is done afterwards. What comes back
    /// tells when it is on the disk; nothing does where nothing is kept.
    pub(crate) fn begin(&self, job: &Kept) -> Result<Option<Keeping>, StoreError> {
        let Some(changes) = &self.changes else {
            return Ok(None);
        };
        let (done, kept) = oneshot::channel();
        let change = put(job, Some(done));
        changes.try_send(change).map_err(|_| StoreError::Busy)?;
        Ok(Some(kept))
    }

    /// The same for a job that has changed; nobody waits for it.
    pub(crate) fn update(&self, job: &Kept) {
        self.later(put(job, None));
    }

    /// Forgets a job.
    pub(crate) fn forget(&self, room: &str, identity: &str) {
        self.later(Change::Remove(kept::key(room, identity)));
    }

    fn later(&self, change: Change) {
        if let Some(changes) = &self.changes
            && let Err(TrySendError::Full(_)) = changes.try_send(change)
        {
            // An older state is read after a restart: the job is tried once more, or once less.
            warn!("the store does not keep up: a change is left out");
        }
    }
}

fn put(job: &Kept, done: Option<oneshot::Sender<Result<(), StoreError>>>) -> Change {
    let key = kept::key(&job.leave.room, &job.leave.identity);
    Change::Put(key, job.write(), done)
}

fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        // Not a database at all, or the beginning of one.
        redb::Error::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

/// A file that was cut short may make the database panic while it is opened.
fn open(path: &Path) -> Result<(Database, Vec<Kept>), redb::Error> {
    let opened = std::panic::catch_unwind(|| {
        let database = Database::create(path)?;
        let jobs = read(&database)?;
        Ok((database, jobs))
    });
    opened.unwrap_or_else(|_| Err(redb::Error::Corrupted("it cannot be read".into())))
}

fn read(database: &Database) -> Result<Vec<Kept>, redb::Error> {
    // A fresh file has no table.
    let transaction = database.begin_write()?;
    transaction.open_table(JOBS)?;
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let mut jobs = Vec::new();
    for entry in transaction.open_table(JOBS)?.iter()? {
        let (key, value) = entry?;
        match Kept::read(value.value()) {
            Some(job) => jobs.push(job),
            None => warn!(
                key = key.value(),
                "a job in the store is not understood: left out"
            ),
        }
    }
    Ok(jobs)
}

/// Does what is asked until nobody is left who could ask.
fn write(database: &Database, queue: &Receiver<Change>) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<Change> = std::iter::once(first)
            .chain(queue.try_iter().take(BATCH - 1))
            .collect();
        let written = commit(database, &batch).map_err(|error| {
            error!(%error, "delegated leaves cannot be kept");
            StoreError::Busy
        });
        for change in batch {
            if let Change::Put(_, _, Some(done)) = change {
                // Whoever asked may have gone.
                let _ = done.send(written.clone());
            }
        }
    }
}

fn commit(database: &Database, batch: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut jobs = transaction.open_table(JOBS)?;
        for change in batch {
            match change {
                Change::Put(key, value, _) => {
                    jobs.insert(key.as_str(), value.as_str())?;
                }
                Change::Remove(key) => {
                    jobs.remove(key.as_str())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leave::Leave;
    use std::time::{Duration, SystemTime};

    struct File(PathBuf);

    impl File {
        fn new(name: &str) -> Self {
            let name = format!("foci-store-{}-{name}.redb", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
            let _ = std::fs::remove_file(self.0.with_extension("damaged"));
        }
    }

    fn job(identity: &str) -> Kept {
        Kept {
            leave: Leave {
                delay_id: "id".into(),
                timeout: Duration::from_secs(60),
                server: "example.com".into(),
                room: "room".into(),
                identity: identity.into(),
                owner: None,
            },
            restarted: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            leaving: false,
        }
    }

    /// The jobs in a file, once whoever wrote it has let go of it. It is free again then.
    fn jobs_of(file: &File) -> Vec<String> {
        let names = |jobs: Vec<Kept>| jobs.into_iter().map(|job| job.leave.identity).collect();
        loop {
            if let Ok((_database, jobs)) = open(&file.0) {
                return names(jobs);
            }
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_restart() {
        let file = File::new("restart");
        let (store, jobs) = Store::open(&file.0).expect("a file");
        assert!(jobs.is_empty());
        for identity in ["a", "b", "c"] {
            store.keep(&job(identity)).await.expect("kept");
        }
        store.forget("room", "b");
        store.keep(&job("a")).await.expect("kept again");
        drop(store);
        let mut names = jobs_of(&file);
        names.sort_unstable();
        assert_eq!(names, ["a", "c"]);
    }

    #[tokio::test]
    async fn a_damaged_file_is_put_aside_and_a_fresh_one_begun() {
        let file = File::new("damaged");
        let (store, _) = Store::open(&file.0).expect("a file");
        store.keep(&job("a")).await.expect("kept");
        drop(store);
        jobs_of(&file);
        for spoil in [
            |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 3),
            |bytes: &mut Vec<u8>| bytes[..64].fill(7),
            |bytes: &mut Vec<u8>| *bytes = b"something else".to_vec(),
        ] {
            let mut bytes = std::fs::read(&file.0).expect("there");
            spoil(&mut bytes);
            std::fs::write(&file.0, bytes).expect("written");
            // What can be read is there, and new jobs are kept.
            let (store, jobs) = Store::open(&file.0).expect("a fresh one if need be");
            assert!(jobs.len() <= 2);
            store.keep(&job("b")).await.expect("kept");
            drop(store);
            assert!(jobs_of(&file).contains(&"b".to_owned()));
        }
        let aside = std::fs::read(file.0.with_extension("damaged")).expect("put aside");
        assert!(
            aside == b"something else",
            "the last one that could not be read"
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let error = Store::open(Path::new("/nonexistent/foci.redb")).expect_err("no folder");
        assert!(error.to_string().starts_with("/nonexistent/foci.redb: "));
    }
}
