//! redb's storage on a file of the environment.

use redb::StorageBackend;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_env::DiskFile;
use std::io;

/// A file of [`ringfleet_env::Disk`] as redb wants it. The lock of the folder stands in for redb's own.
#[derive(Debug)]
pub struct FileBackend(pub Box<dyn DiskFile>);

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if is_on(Mutant::SkipSync) {
            return Ok(());
        }
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
