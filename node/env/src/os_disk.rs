//! The disk of the machine.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{Disk, DiskFile, DiskLock};

/// The file system of the machine, through `std::fs`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

/// Numbers the temporary files of this process, so that two writers of one name never share one.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// An I/O error that says what was attempted on which path.
fn named<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> io::Error + 'a {
    move |e| io::Error::new(e.kind(), format!("cannot {what} {}: {e}", path.display()))
}

/// The folder that a path lies in; a bare name lies in the current one.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl OsDisk {
    fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let folder = parent(path);
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{number}.tmp", std::process::id()));
        let temporary = folder.join(name);

        let write = || -> io::Result<()> {
            // The mode is set at creation: a key is at no moment readable by others. A file that a
            // crashed process of the same id left here is replaced, not reused with its mode.
            match fs::remove_file(&temporary) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
            file.write_all(bytes)?;
            // Content before name: a rename that reaches the disk first would show an empty file.
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        if let Err(e) = write() {
            // Best effort: the error that matters is the one above.
            let _ = fs::remove_file(&temporary);
            return Err(named("write", path)(e));
        }
        self.sync_dir(folder)
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(named("open", path))?;
        Ok(Box::new(OsFile { file, path: path.to_owned() }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path).map_err(named("read", path))
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, 0o644)
    }

    fn write_atomic_private(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, 0o600)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(named("look up", path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path).map_err(named("create folder", path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = || -> io::Result<Vec<PathBuf>> { fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect() };
        let mut entries = entries().map_err(named("list", path))?;
        entries.sort();
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(named("remove", path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(named("remove folder", path)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(named("rename", from))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(named("sync folder", path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(named("open", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("cannot lock {}: another process uses it", path.display()),
            )),
            Err(TryLockError::Error(e)) => Err(named("lock", path)(e)),
        }
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata().map_err(named("measure", &self.path))?.len())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(named("read", &self.path))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(named("write", &self.path))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(named("resize", &self.path))
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync also writes the size where it changed, which is all the metadata that matters.
        self.file.sync_data().map_err(named("sync", &self.path))
    }
}

/// An advisory lock (`flock`), which the kernel releases with the last descriptor of the file.
#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl DiskLock for OsLock {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_read_and_written_at_offsets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = OsDisk.open(&path).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(4, b"late").unwrap();
        file.write_at(0, b"soon").unwrap();
        file.sync().unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut bytes = [0; 6];
        file.read_at(2, &mut bytes).unwrap();
        assert_eq!(&bytes, b"onlate");
        file.set_len(3).unwrap();
        let end = file.read_at(0, &mut bytes).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        // Opening again keeps what is there.
        assert_eq!(OsDisk.open(&path).unwrap().len().unwrap(), 3);
    }

    #[test]
    fn an_atomic_write_replaces_the_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        OsDisk.write_atomic(&path, b"one").unwrap();
        OsDisk.write_atomic(&path, b"two").unwrap();
        assert_eq!(OsDisk.read(&path).unwrap(), b"two");
        assert_eq!(OsDisk.list(folder.path()).unwrap(), vec![path]);
    }

    #[test]
    fn a_private_file_is_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        OsDisk.write_atomic_private(&path, b"secret").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn errors_name_the_path_and_keep_the_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none");
        let e = OsDisk.read(&path).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
        assert!(e.to_string().starts_with(&format!("cannot read {}: ", path.display())), "{e}");
        // A failed write cleans up behind itself.
        let inside = path.join("x");
        assert!(OsDisk.write_atomic(&inside, b"x").unwrap_err().to_string().contains("none/x"));
        assert!(OsDisk.list(folder.path()).unwrap().is_empty());
    }

    #[test]
    fn a_lock_is_held_by_one_and_released_by_dropping_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = OsDisk.lock(&path).unwrap();
        let refused = OsDisk.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        OsDisk.lock(&path).unwrap();
    }

    #[test]
    fn folders_are_created_renamed_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        OsDisk.create_dir_all(&deep).unwrap();
        OsDisk.create_dir_all(&deep).unwrap();
        OsDisk.write_atomic(&deep.join("x"), b"1").unwrap();
        OsDisk.rename(&deep.join("x"), &deep.join("y")).unwrap();
        OsDisk.sync_dir(&deep).unwrap();
        assert!(OsDisk.exists(&deep.join("y")).unwrap());
        assert!(!OsDisk.exists(&deep.join("x")).unwrap());
        OsDisk.remove(&deep.join("y")).unwrap();
        OsDisk.remove_dir_all(&root.path().join("a")).unwrap();
        OsDisk.remove_dir_all(&root.path().join("a")).unwrap();
        assert!(!OsDisk.exists(&deep).unwrap());
    }
}
