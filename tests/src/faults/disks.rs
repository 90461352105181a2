//! Small file systems of their own for what processes write, so that they can be full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// As much as a process may write in the longest run, and little enough to be filled at once.
const SIZE: &str = "size=64m";
/// What fills it.
const FILLER: &str = "filler";
/// Written at once to fill it.
static BLOCK: [u8; 1 << 16] = [7; 1 << 16];

/// A file system in memory; gone when dropped.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes one at a folder that is made for it.
    ///
    /// # Errors
    /// Why it is not permitted.
    pub fn make(at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(at).stdin(Stdio::null());
        let output = mount.output().context("running `mount`")?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { at: at.to_owned() })
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.at
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.at.join(FILLER))?;
        let mut bytes = BLOCK.len();
        // By blocks, then by bytes: nothing is left at the end.
        while bytes > 0 {
            match filler.write(&BLOCK[..bytes]) {
                Ok(_) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => bytes /= 2,
                Err(error) => return Err(error).context("filling a disk"),
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        let filler = self.at.join(FILLER);
        // Cut first: a child of this process that has not come to its exec yet still has it open.
        let emptied = File::options().write(true).truncate(true).open(&filler).and_then(|_| fs::remove_file(&filler));
        match emptied {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("emptying a disk"),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file of it keeps that file.
        let _ = Command::new("umount").arg("-l").arg(&self.at).stdin(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_and_an_emptied_one_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("disk");
        let disk = match Disk::make(&at) {
            Ok(disk) => disk,
            Err(why) => return println!("not run: no file system can be mounted: {why:#}"),
        };
        let write = || fs::write(at.join("file"), "text");
        write().expect("room");
        disk.fill().expect("filled");
        fs::remove_file(at.join("file")).expect("removed");
        disk.fill().expect("filled");
        assert_eq!(write().expect_err("it is full").kind(), ErrorKind::StorageFull);
        disk.free().expect("emptied");
        write().expect("room");
        drop(disk);
        assert!(!at.join("file").exists(), "nothing is left behind");
    }
}
