//! Lies of the system to one process: a wall clock that is off or runs at another rate, and a disk whose syncs fail or take long.
//!
//! A library that is loaded before libc reads what to say from a mapped file, so it can be changed while the process runs. The clocks that
//! count time since boot stay true: leases are measured with them, and what a machine does with them is the simulator's business. Built
//! with `cc`, without which this is not available.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// The source of the library. Words of the file: offset of the wall clock in ns, its drift in ppm, the time since boot at which the drift
/// began, the error number of syncs (0: they work), how long they take in us.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *words;

__attribute__((constructor)) static void map_words(void) {
    const char *path = getenv("RINGFLEET_TEST_WORDS");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(0, 5 * sizeof *words, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) abort();
    words = page;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, id, t);
    if (!failed && words && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        long long ahead = words[0], ppm = words[1];
        if (ppm) {
            struct timespec boot;
            syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &boot);
            ahead += (boot.tv_sec * 1000000000LL + boot.tv_nsec - words[2]) / 1000 * ppm / 1000;
        }
        long long ns = t->tv_nsec + ahead % 1000000000;
        t->tv_sec += ahead / 1000000000 + (ns >= 1000000000) - (ns < 0);
        t->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return failed;
}

static int sync_file(long call, int fd) {
    if (words && words[4]) usleep(words[4]);
    if (words && words[3]) {
        errno = words[3];
        return -1;
    }
    return syscall(call, fd);
}

int fsync(int fd) { return sync_file(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_file(SYS_fdatasync, fd); }
"#;

/// Words of the file.
const WORDS: usize = 5;
/// `EIO`.
const SYNC_ERROR: i64 = 5;

/// The built library.
#[derive(Debug)]
pub struct Library {
    folder: PathBuf,
    path: PathBuf,
}

impl Library {
    /// Builds it in a folder.
    ///
    /// # Errors
    /// If there is no compiler.
    pub fn build(folder: &Path) -> Result<Self> {
        let (source, path) = (folder.join("words.c"), folder.join("words.so"));
        fs::write(&source, SOURCE)?;
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&path).arg(&source).stdin(Stdio::null());
        let built = cc.output().context("running `cc`")?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        Ok(Self { folder: folder.to_owned(), path })
    }

    /// The words of a process, which say the truth at first.
    pub fn words(&self, process: &str) -> Result<Words> {
        let path = self.folder.join(format!("{process}.words"));
        fs::write(&path, [0; WORDS * size_of::<i64>()])?;
        // In place from now on: the file is mapped.
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        let set = [format!("LD_PRELOAD={}", self.path.display()), format!("RINGFLEET_TEST_WORDS={}", path.display())];
        Ok(Words { file, wrap: ["env".to_owned()].into_iter().chain(set).collect() })
    }
}

/// What one process is told.
#[derive(Debug)]
pub struct Words {
    file: fs::File,
    wrap: Vec<String>,
}

impl Words {
    /// The command that runs a command with these words.
    #[must_use]
    pub fn wrap(&self) -> &[String] {
        &self.wrap
    }

    fn set(&self, word: u64, value: i64) -> Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), word * size_of::<i64>() as u64)?)
    }

    /// The wall clock is ahead, and gets further ahead by `ppm` from `now_ns` since boot.
    pub fn set_clock(&self, ahead_ms: i64, ppm: i64, now_ns: u64) -> Result<()> {
        // Without drift while the word that it counts from changes.
        self.set(1, 0)?;
        self.set(2, i64::try_from(now_ns)?)?;
        self.set(0, ahead_ms * 1_000_000)?;
        self.set(1, ppm)
    }

    /// Whether syncs fail from now on.
    pub fn fail_syncs(&self, fail: bool) -> Result<()> {
        self.set(3, if fail { SYNC_ERROR } else { 0 })
    }

    /// How long a sync takes more than it does.
    pub fn slow_syncs(&self, ms: u64) -> Result<()> {
        self.set(4, i64::try_from(ms * 1000)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a process with these words prints.
    fn said(words: &Words, command: &[&str]) -> (bool, String) {
        let wrap = words.wrap();
        let run = Command::new(&wrap[0]).args(&wrap[1..]).args(command).output().expect("started");
        (run.status.success(), String::from_utf8_lossy(&run.stdout).trim().to_owned())
    }

    #[test]
    fn a_process_sees_another_wall_clock_the_same_uptime_and_syncs_that_fail() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = Library::build(folder.path()).expect("`cc`, which building this needed, too");
        let words = library.words("p").expect("words");
        let year = || said(&words, &["date", "-u", "+%s"]).1.parse::<i64>().expect("seconds");
        let before = year();
        words.set_clock(-86_400_000, 0, 0).expect("set");
        assert!((before - 86_400 - year()).abs() < 60, "a day back");
        // A million ppm since boot: the clock has gained the machine's uptime.
        words.set_clock(0, 1_000_000, 0).expect("set");
        let uptime = fs::read_to_string("/proc/uptime").expect("there");
        let uptime: f64 = uptime.split_whitespace().next().expect("a number").parse().expect("a number");
        assert!((year() - before - uptime as i64).abs() < 60, "twice as fast since boot");
        words.set_clock(0, 0, 0).expect("set");
        assert!((year() - before).abs() < 60, "the truth again");
        let file = folder.path().join("file").display().to_string();
        let dd = ["dd", "if=/dev/zero", "count=1", "conv=fsync", "status=none", &format!("of={file}")];
        assert!(said(&words, &dd).0);
        words.fail_syncs(true).expect("set");
        assert!(!said(&words, &dd).0, "a sync that fails");
        words.fail_syncs(false).expect("set");
        assert!(said(&words, &dd).0);
    }
}
