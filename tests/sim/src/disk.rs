//! The disk of a host: what is synced survives a crash, of the rest the seed keeps some sectors.
//!
//! A file is what has been synced and a list of the changes since. A crash keeps every synced byte, and of each later change
//! each sector or none of it, as the seed says, in whatever order a disk may have written them; names that were not synced with
//! their folder are there or not. So code that calls something durable before it has synced it is found out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ringfleet_env::{Disk, DiskFile, DiskLock};

use crate::exec::{Blocking, Core, HostId, lock};
use crate::rng::Rng;

/// What reaches the disk at once.
const SECTOR_BYTES: usize = 512;

/// What ails a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ailment {
    /// Nanoseconds added to every piece of blocking work.
    pub slow_ns: u64,
    /// Files cannot grow.
    pub full: bool,
    /// Syncs fail.
    pub failing: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => write_at(to, *offset, bytes),
            Self::Resize(len) => to.resize(*len, 0),
        }
    }

    /// What a crash may leave of it: each sector, or none of it.
    fn tear(&self, to: &mut Vec<u8>, rng: &mut Rng) {
        match self {
            Self::Resize(_) => {
                if rng.chance(500_000) {
                    self.apply(to);
                }
            }
            Self::Write { offset, bytes } => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min((offset + at) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset);
                    if rng.chance(500_000) {
                        write_at(to, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
        }
    }
}

fn write_at(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}

#[derive(Debug, Default, Clone)]
struct Inode {
    live: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    /// The names as they were when their folder was last synced.
    synced_names: BTreeMap<PathBuf, u64>,
    folders: BTreeMap<PathBuf, ()>,
    locks: BTreeMap<PathBuf, Arc<AtomicBool>>,
    ailment: Ailment,
    /// How many more changes and syncs happen before the host is dead; `None` while it lives.
    dying_after: Option<u64>,
    /// Which start of the process may write.
    life: u64,
    syncs: u64,
    /// A mutant of tests of the harness itself: syncs do nothing and say that they did.
    forgetful: bool,
    /// Another: the disk as it once was.
    remembered: Option<(BTreeMap<u64, Inode>, BTreeMap<PathBuf, u64>)>,
}

/// The disk of one host, across its lives.
#[derive(Debug)]
pub struct SimDisk {
    core: Arc<Core>,
    host: HostId,
    state: Mutex<State>,
    rng: Mutex<Rng>,
}

fn failed(what: &str, path: &Path, kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, format!("cannot {what} {}: {kind}", path.display()))
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(core: Arc<Core>, host: HostId, rng: Rng) -> Arc<Self> {
        Arc::new(Self { core, host, state: Mutex::default(), rng: Mutex::new(rng) })
    }

    /// The disk as one life of the host sees it. Earlier lives can no longer write.
    #[must_use]
    pub fn mount(self: &Arc<Self>) -> Arc<Mounted> {
        let mut state = lock(&self.state);
        state.life += 1;
        state.dying_after = None;
        for held in std::mem::take(&mut state.locks).into_values() {
            held.store(false, Ordering::Relaxed);
        }
        Arc::new(Mounted { disk: self.clone(), life: state.life })
    }

    /// From now on this ails it.
    pub fn set_ailment(&self, ailment: Ailment) {
        lock(&self.state).ailment = ailment;
    }

    /// Syncs do nothing any more and say that they did.
    pub fn forget_syncs(&self) {
        lock(&self.state).forgetful = true;
    }

    /// Puts the disk back to how it was when this was called first, or remembers how it is if it was not called before.
    pub fn roll_back(&self) {
        let mut state = lock(&self.state);
        let state = &mut *state;
        match &state.remembered {
            Some((inodes, names)) => {
                state.inodes.clone_from(inodes);
                state.names.clone_from(names);
                state.synced_names.clone_from(names);
            }
            None => state.remembered = Some((state.inodes.clone(), state.synced_names.clone())),
        }
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&self) {
        let mut state = lock(&self.state);
        let State { inodes, names, synced_names, folders, remembered, .. } = &mut *state;
        inodes.clear();
        names.clear();
        synced_names.clear();
        folders.clear();
        *remembered = None;
    }

    /// Syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// The host dies after so many more changes or syncs.
    pub fn die_after(&self, changes: u64) {
        lock(&self.state).dying_after = Some(changes);
    }

    /// The power is gone: what was not synced is torn.
    pub fn crash(&self) {
        let mut rng = lock(&self.rng).fork();
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.dying_after = Some(0);
        for inode in state.inodes.values_mut() {
            let mut left = std::mem::take(&mut inode.synced);
            for change in std::mem::take(&mut inode.since) {
                change.tear(&mut left, &mut rng);
            }
            inode.live.clone_from(&left);
            inode.synced = left;
        }
        let mut after = state.synced_names.clone();
        let differs: Vec<PathBuf> = state
            .names
            .keys()
            .chain(state.synced_names.keys())
            .filter(|path| state.names.get(*path) != state.synced_names.get(*path))
            .cloned()
            .collect();
        for path in differs {
            if rng.chance(500_000) {
                match state.names.get(&path) {
                    Some(inode) => after.insert(path, *inode),
                    None => after.remove(&path),
                };
            }
        }
        state.names.clone_from(&after);
        state.synced_names = after;
        let named: std::collections::BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| named.contains(inode));
    }

    fn note(&self, what: u64, number: usize) {
        self.core.trace.count("disk", &[self.core.now_ns(), u64::from(self.host.0) << 32 | what, number as u64]);
    }
}

impl Blocking for SimDisk {
    fn latency_ns(&self) -> u64 {
        // A good disk syncs within a tenth of a millisecond, and now and then needs much longer.
        let mut rng = lock(&self.rng);
        let base = rng.between(40_000, 150_000);
        let hiccup = if rng.chance(10_000) { rng.between(1_000_000, 20_000_000) } else { 0 };
        base + hiccup + lock(&self.state).ailment.slow_ns
    }
}

/// The disk as one life of its host sees it.
#[derive(Debug)]
pub struct Mounted {
    disk: Arc<SimDisk>,
    life: u64,
}

impl Mounted {
    fn change<T>(&self, path: &Path, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = lock(&self.disk.state);
        if state.life != self.life {
            return Err(failed("write", path, io::ErrorKind::BrokenPipe));
        }
        if let Some(left) = &mut state.dying_after {
            if *left == 0 {
                return Err(failed("write", path, io::ErrorKind::BrokenPipe));
            }
            *left -= 1;
        }
        work(&mut state)
    }

    fn create(state: &mut State, path: &Path) -> u64 {
        if let Some(inode) = state.names.get(path) {
            return *inode;
        }
        state.last_inode += 1;
        let inode = state.last_inode;
        state.inodes.insert(inode, Inode::default());
        state.names.insert(path.to_owned(), inode);
        inode
    }
}

impl Disk for Mounted {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let known = lock(&self.disk.state).names.get(path).copied();
        let inode = match known {
            Some(inode) => inode,
            None => self.change(path, |state| Ok(Self::create(state, path)))?,
        };
        let mounted = Self { disk: self.disk.clone(), life: self.life };
        Ok(Box::new(OpenFile { mounted, inode, path: path.to_owned() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = lock(&self.disk.state);
        let inode = state.names.get(path).ok_or_else(|| failed("read", path, io::ErrorKind::NotFound))?;
        Ok(state.inodes[inode].live.clone())
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.disk.note(1, bytes.len());
        self.change(path, |state| {
            if state.ailment.full {
                return Err(failed("write", path, io::ErrorKind::StorageFull));
            }
            if state.ailment.failing {
                return Err(failed("sync", path, io::ErrorKind::Other));
            }
            state.last_inode += 1;
            let inode = state.last_inode;
            state.inodes.insert(inode, Inode { live: bytes.to_vec(), synced: bytes.to_vec(), since: Vec::new() });
            state.names.insert(path.to_owned(), inode);
            state.synced_names.insert(path.to_owned(), inode);
            Ok(())
        })
    }

    fn write_atomic_private(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write_atomic(path, bytes)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = lock(&self.disk.state);
        Ok(state.names.contains_key(path) || state.folders.contains_key(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(path, |state| {
            state.folders.extend(path.ancestors().map(|folder| (folder.to_owned(), ())));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = lock(&self.disk.state);
        Ok(state.names.keys().filter(|name| name.parent() == Some(path)).cloned().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(path, |state| {
            state.names.remove(path).map(drop).ok_or_else(|| failed("remove", path, io::ErrorKind::NotFound))
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(path, |state| {
            state.names.retain(|name, _| !name.starts_with(path));
            state.folders.retain(|name, ()| !name.starts_with(path));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(from, |state| {
            let inode = state.names.remove(from).ok_or_else(|| failed("rename", from, io::ErrorKind::NotFound))?;
            state.names.insert(to.to_owned(), inode);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(path, |state| {
            if state.ailment.failing {
                return Err(failed("sync folder", path, io::ErrorKind::Other));
            }
            state.synced_names.retain(|name, _| name.parent() != Some(path));
            let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
            let inside: Vec<_> = inside.map(|(name, inode)| (name.clone(), *inode)).collect();
            state.synced_names.extend(inside);
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.change(path, |state| {
            if state.locks.get(path).is_some_and(|held| held.load(Ordering::Relaxed)) {
                return Err(failed("lock", path, io::ErrorKind::WouldBlock));
            }
            let held = Arc::new(AtomicBool::new(true));
            state.locks.insert(path.to_owned(), held.clone());
            Ok(Box::new(Lock(held)) as Box<dyn DiskLock>)
        })
    }
}

#[derive(Debug)]
struct Lock(Arc<AtomicBool>);

impl DiskLock for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct OpenFile {
    mounted: Mounted,
    inode: u64,
    path: PathBuf,
}

impl OpenFile {
    fn missing(&self) -> io::Error {
        failed("use", &self.path, io::ErrorKind::NotFound)
    }
}

impl DiskFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        let state = lock(&self.mounted.disk.state);
        state.inodes.get(&self.inode).map(|inode| inode.live.len() as u64).ok_or_else(|| self.missing())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let state = lock(&self.mounted.disk.state);
        let inode = state.inodes.get(&self.inode).ok_or_else(|| self.missing())?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        match inode.live.get(from..from.saturating_add(bytes.len())) {
            Some(found) => {
                bytes.copy_from_slice(found);
                Ok(())
            }
            None => Err(failed("read", &self.path, io::ErrorKind::UnexpectedEof)),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mounted.disk.note(2, bytes.len());
        self.mounted.change(&self.path, |state| {
            let full = state.ailment.full;
            let inode = state.inodes.get_mut(&self.inode).ok_or_else(|| self.missing())?;
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            if full && offset + bytes.len() > inode.live.len() {
                return Err(failed("write", &self.path, io::ErrorKind::StorageFull));
            }
            let change = Change::Write { offset, bytes: bytes.to_vec() };
            change.apply(&mut inode.live);
            inode.since.push(change);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.mounted.disk.note(3, len as usize);
        self.mounted.change(&self.path, |state| {
            let full = state.ailment.full;
            let inode = state.inodes.get_mut(&self.inode).ok_or_else(|| self.missing())?;
            let len = usize::try_from(len).map_err(io::Error::other)?;
            if full && len > inode.live.len() {
                return Err(failed("resize", &self.path, io::ErrorKind::StorageFull));
            }
            let change = Change::Resize(len);
            change.apply(&mut inode.live);
            inode.since.push(change);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.mounted.disk.note(4, 0);
        self.mounted.change(&self.path, |state| {
            state.syncs += 1;
            if state.forgetful {
                return Ok(());
            }
            let failing = state.ailment.failing;
            let inode = state.inodes.get_mut(&self.inode).ok_or_else(|| self.missing())?;
            if failing {
                return Err(failed("sync", &self.path, io::ErrorKind::Other));
            }
            for change in std::mem::take(&mut inode.since) {
                change.apply(&mut inode.synced);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn disk(seed: u64) -> Arc<SimDisk> {
        SimDisk::new(Core::new(seed), HostId(1), Rng::new(seed, Purpose::Disk))
    }

    /// What a crash leaves of a file of which the first half was synced.
    fn left(seed: u64) -> Vec<u8> {
        let disk = disk(seed);
        let path = Path::new("/d/file");
        let mounted = disk.mount();
        let file = mounted.open(path).unwrap();
        file.write_at(0, &[1; 4096]).unwrap();
        file.sync().unwrap();
        mounted.sync_dir(Path::new("/d")).unwrap();
        file.write_at(0, &[2; 4096]).unwrap();
        disk.crash();
        assert!(file.write_at(0, &[3]).is_err(), "a dead process does not write");
        disk.mount().read(path).unwrap()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_tears_the_rest_by_sectors() {
        let mut torn = 0;
        for seed in 0..20 {
            let bytes = left(seed);
            assert_eq!(bytes, left(seed), "by the seed alone");
            assert_eq!(bytes.len(), 4096);
            for sector in bytes.chunks(SECTOR_BYTES) {
                assert!(sector == [1; SECTOR_BYTES] || sector == [2; SECTOR_BYTES]);
            }
            torn += usize::from(bytes.contains(&1) && bytes.contains(&2));
        }
        assert!(torn > 15);
    }

    #[test]
    fn names_are_safe_after_a_sync_of_their_folder() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..40 {
            let disk = disk(seed);
            let mounted = disk.mount();
            drop(mounted.open(Path::new("/d/a")).unwrap());
            mounted.sync_dir(Path::new("/d")).unwrap();
            drop(mounted.open(Path::new("/d/b")).unwrap());
            disk.crash();
            let after = disk.mount();
            assert!(after.exists(Path::new("/d/a")).unwrap());
            match after.exists(Path::new("/d/b")).unwrap() {
                true => kept += 1,
                false => lost += 1,
            }
        }
        assert!(kept > 5 && lost > 5);
    }

    #[test]
    fn a_full_or_failing_disk_says_so() {
        let disk = disk(1);
        let mounted = disk.mount();
        let file = mounted.open(Path::new("/f")).unwrap();
        file.write_at(0, &[1; 10]).unwrap();
        disk.set_ailment(Ailment { full: true, ..Ailment::default() });
        file.write_at(0, &[2; 10]).unwrap();
        assert_eq!(file.write_at(5, &[2; 10]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.set_ailment(Ailment { failing: true, ..Ailment::default() });
        assert!(file.sync().is_err());
        assert!(mounted.lock(Path::new("/l")).is_ok());
    }
}
