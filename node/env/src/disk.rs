//! Files with explicit sync.

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
};

/// A file system. All methods block.
///
/// What is written is safe from a power cut only after [`DiskFile::sync`] of the file and, when the
/// name is new, [`Disk::sync_dir`] of its folder; [`Disk::write_atomic`] does both. The text of
/// every error names the path and what was being attempted; its kind is that of the cause.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading and writing, creating an empty one where there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Replaces a file as a whole: after a crash at any moment it has the old content or the new
    /// one, and after `Ok` the new one.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// [`Disk::write_atomic`] of a file that only its owner can read (mode 0600), from the first
    /// byte on: for private keys.
    fn write_atomic_private(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Whether there is a file or folder of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Creates a folder and those above it; fine where it is already there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a folder, in the order of their names.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with everything in it; fine where there is none.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing the one that has it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock of this name, so that two processes never work in one folder. An error of the
    /// kind `WouldBlock` says that another one has it. A process that dies releases it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Offsets are bytes from its start; threads may use it at the same time.
pub trait DiskFile: Send + Sync + Debug {
    /// Its size in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `bytes` from `offset`; an error of the kind `UnexpectedEof` where the file ends before.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file where needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes everything written so far durable. After an error nothing is known about what was
    /// written since the last success: the caller must stop using the file, never just retry.
    fn sync(&self) -> io::Result<()>;
}

/// A lock that is held until it is dropped.
pub trait DiskLock: Send + Sync + Debug {}
