//! The redb file: opening, checking, writing.

use super::backend::FileBackend;
use super::record::unseal;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use ringfleet_env::{Disk, DiskLock};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

const VOTE: &str = "vote";
const PURGED: &str = "purged";
const SNAPSHOT_META: &str = "snapshot_meta";
const SNAPSHOT_DATA: &str = "snapshot_data";

const LOCK_FILE: &str = "lock";
const OWNER_FILE: &str = "owner";
const LOG_FILE: &str = "raft.redb";
/// First line of the owner file: what the folder is, and its format version.
const OWNER_MAGIC: &str = "ringfleet coordinator data 2";
/// redb's cache: the log is read once, at the start.
const CACHE_BYTES: usize = 4 << 20;

/// Whose a data folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: String,
    /// The coordinator.
    pub name: String,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be created, written or read.
    #[error("using data folder {}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process works in it.
    #[error("data folder {} is used by another running coordinator", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("data folder {} holds the data of coordinator `{}` of cluster `{}`", .folder.display(), .owner.name, .owner.cluster)]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        owner: Owner,
    },
    /// What it holds is not what was written.
    #[error("{} is damaged: {reason}; restore it from a copy, or run `ringfleet coordinators remove`, empty the folder, start it, and run `ringfleet coordinators add`", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The vote.
    Vote(Vec<u8>),
    /// Records of the log, by index.
    Append(Vec<(u64, Vec<u8>)>),
    /// Remove the records from this index on.
    TruncateFrom(u64),
    /// Remove the records up to and with `through`.
    Purge {
        /// The last index removed.
        through: u64,
        /// What is remembered of it.
        mark: Vec<u8>,
    },
    /// Replace the snapshot.
    Snapshot {
        /// The last record it covers. One that covers less than its forerunner is passed over: a snapshot that was being
        /// built while a younger one was installed comes late.
        index: u64,
        /// What it is of.
        meta: Vec<u8>,
        /// The state.
        data: Vec<u8>,
    },
}

/// What was found in the file, unsealed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The vote.
    pub vote: Option<Vec<u8>>,
    /// The purge mark.
    pub purged: Option<Vec<u8>>,
    /// The log, without gaps.
    pub log: Vec<(u64, Vec<u8>)>,
    /// Meta and data of the snapshot.
    pub snapshot: Option<(Vec<u8>, Vec<u8>)>,
}

/// An open data folder. Closed when dropped.
pub struct Store {
    id: u64,
    database: Database,
    snapshot_index: AtomicU64,
    _lock: Box<dyn DiskLock>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the folder, creating it where there is none, and reads everything. Blocks. A new folder gets `new_id` as the number of its
    /// coordinator in the group, for good.
    ///
    /// # Errors
    /// [`StoreError`], one line each.
    pub fn open(disk: &Arc<dyn Disk>, folder: &Path, owner: &Owner, new_id: u64) -> Result<(Self, Loaded), StoreError> {
        let bad_folder = |source| StoreError::Folder { folder: folder.to_owned(), source };
        disk.create_dir_all(folder).map_err(bad_folder)?;
        let lock = disk.lock(&folder.join(LOCK_FILE)).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked { folder: folder.to_owned() },
            _ => bad_folder(source),
        })?;
        let known = read_owner(disk, folder)?;
        if let Some((other, _)) = known.as_ref().filter(|(known, _)| known != owner) {
            return Err(StoreError::Foreign { folder: folder.to_owned(), owner: other.clone() });
        }
        let id = known.as_ref().map_or(new_id, |(_, id)| *id);
        let path = folder.join(LOG_FILE);
        let damaged = |reason: String| StoreError::Damaged { file: path.clone(), reason };
        let file = disk.open(&path).map_err(bad_folder)?;
        if known.is_some() && file.is_empty().map_err(bad_folder)? {
            // Starting from nothing would forget votes, and with them that a term had its leader (C2).
            return Err(damaged("it is empty, and the folder has been used before".to_owned()));
        }
        disk.sync_dir(folder).map_err(bad_folder)?;
        // redb asserts some of what it reads; for bytes from outside that must be an error.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(FileBackend(file))
                .map_err(|e| e.to_string())?;
            create_tables(&database).map_err(|e| e.to_string())?;
            let loaded = load(&database)?;
            Ok::<_, String>((database, loaded))
        }));
        let (database, loaded) = match opened {
            Ok(result) => result.map_err(damaged)?,
            Err(_) => return Err(damaged("its structure contradicts itself".to_owned())),
        };
        if known.is_none() {
            let text = format!("{OWNER_MAGIC}\ncluster {}\ncoordinator {}\nid {id:x}\n", owner.cluster, owner.name);
            disk.write_atomic(&folder.join(OWNER_FILE), text.as_bytes()).map_err(bad_folder)?;
        }
        Ok((Self { id, database, snapshot_index: AtomicU64::new(0), _lock: lock }, loaded))
    }

    /// The number of this folder's coordinator in the group.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Makes the changes durable, all or none, in their order. Blocks.
    ///
    /// # Errors
    /// Whatever redb or the disk said. Nothing is known about the file then; stop using it.
    pub fn commit(&self, writes: &[Write]) -> io::Result<()> {
        self.transact(writes).map_err(|e| io::Error::other(format!("writing the log failed: {e}")))
    }

    fn transact(&self, writes: &[Write]) -> Result<(), redb::Error> {
        // The default durability: `commit` returns after the disk's sync.
        let transaction = self.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let mut log = transaction.open_table(LOG)?;
            for write in writes {
                match write {
                    Write::Vote(record) => drop(meta.insert(VOTE, record.as_slice())?),
                    Write::Append(records) => {
                        for (index, record) in records {
                            log.insert(index, record.as_slice())?;
                        }
                    }
                    Write::TruncateFrom(first) => log.retain_in::<u64, _>(*first.., |_, _| false)?,
                    Write::Purge { through, mark } => {
                        meta.insert(PURGED, mark.as_slice())?;
                        log.retain_in::<u64, _>(..=*through, |_, _| false)?;
                    }
                    Write::Snapshot { index, meta: of, data } => {
                        // Only the writer's task comes here, so the order of its queue is the order of these.
                        if self.snapshot_index.fetch_max(*index, Ordering::Relaxed) > *index {
                            continue;
                        }
                        meta.insert(SNAPSHOT_META, of.as_slice())?;
                        meta.insert(SNAPSHOT_DATA, data.as_slice())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

fn read_owner(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Option<(Owner, u64)>, StoreError> {
    let path = folder.join(OWNER_FILE);
    let bad_folder = |source| StoreError::Folder { folder: folder.to_owned(), source };
    if !disk.exists(&path).map_err(bad_folder)? {
        return Ok(None);
    }
    let bytes = disk.read(&path).map_err(bad_folder)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let magic = lines.next();
    let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let (cluster, name, id) = (field("cluster"), field("coordinator"), field("id"));
    match (magic, cluster, name, id.and_then(|id| u64::from_str_radix(id, 16).ok())) {
        (Some(OWNER_MAGIC), Some(cluster), Some(name), Some(id)) => {
            Ok(Some((Owner { cluster: cluster.to_owned(), name: name.to_owned() }, id)))
        }
        _ => Err(StoreError::Damaged {
            file: path,
            reason: format!("it does not begin with `{OWNER_MAGIC}`, a cluster, a coordinator and its number"),
        }),
    }
}

fn create_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?;
    transaction.open_table(LOG)?;
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database) -> Result<Loaded, String> {
    let text = |e: redb::Error| e.to_string();
    let transaction = database.begin_read().map_err(|e| text(e.into()))?;
    let meta = transaction.open_table(META).map_err(|e| text(e.into()))?;
    let log = transaction.open_table(LOG).map_err(|e| text(e.into()))?;
    let field = |key: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(record) = meta.get(key).map_err(|e| text(e.into()))? else { return Ok(None) };
        unseal(record.value()).map(|payload| Some(payload.to_vec())).map_err(|e| format!("its {key} {e}"))
    };
    let mut loaded = Loaded { vote: field(VOTE)?, purged: field(PURGED)?, ..Loaded::default() };
    loaded.snapshot = field(SNAPSHOT_META)?.zip(field(SNAPSHOT_DATA)?);
    for entry in log.iter().map_err(|e| text(e.into()))? {
        let (index, record) = entry.map_err(|e| text(e.into()))?;
        let index = index.value();
        if let Some((last, _)) = loaded.log.last()
            && *last + 1 != index
        {
            return Err(format!("record {} of its log is missing", last + 1));
        }
        let payload = unseal(record.value()).map_err(|e| format!("record {index} of its log {e}"))?;
        loaded.log.push((index, payload.to_vec()));
    }
    Ok(loaded)
}
