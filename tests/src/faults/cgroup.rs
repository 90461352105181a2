//! Control groups: freezing a process with all its threads and children, and a limit of its memory. Both versions of the interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Where the system has them.
const ROOT: &str = "/sys/fs/cgroup";
/// What a process may have more than it has before memory is short.
const HEADROOM_BYTES: u64 = 4 << 20;
/// What is wanted then; more than the headroom, so that somebody has to go.
const WANTED: &str = "bs=32M";

/// What a group can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// All tasks stand still.
    Freezer,
    /// They have so much memory and no more.
    Memory,
}

/// A group of one process; gone when dropped.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    first_version: bool,
}

impl Group {
    /// Makes a group.
    ///
    /// # Errors
    /// Why it is not permitted.
    pub fn make(controller: Controller, name: &str) -> Result<Self> {
        let (first, file) = match controller {
            Controller::Freezer => ("freezer", "cgroup.freeze"),
            Controller::Memory => ("memory", "memory.max"),
        };
        let first = Path::new(ROOT).join(first);
        let first_version = first.join("cgroup.procs").exists();
        let parent = if first_version { first } else { PathBuf::from(ROOT) };
        if !first_version && controller == Controller::Memory {
            put(&parent.join("cgroup.subtree_control"), "+memory")?;
        }
        let folder = parent.join(format!("{name}-{}", file.split('.').next_back().unwrap_or_default()));
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        let made = Self { folder, first_version };
        let switch = match (controller, first_version) {
            (Controller::Freezer, true) => "freezer.state",
            (Controller::Memory, true) => "memory.limit_in_bytes",
            _ => file,
        };
        if !made.folder.join(switch).exists() {
            bail!("{} has no {switch}", made.folder.display());
        }
        Ok(made)
    }

    /// The file that takes in whoever writes its number to it.
    #[must_use]
    pub fn door(&self) -> String {
        self.folder.join("cgroup.procs").display().to_string()
    }

    /// Lets all tasks stand still, or go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let (file, text) = match (self.first_version, frozen) {
            (true, true) => ("freezer.state", "FROZEN"),
            (true, false) => ("freezer.state", "THAWED"),
            (false, true) => ("cgroup.freeze", "1"),
            (false, false) => ("cgroup.freeze", "0"),
        };
        put(&self.folder.join(file), text)
    }

    /// Lets the group have little more memory than it has now, and somebody in it want more; the process is the first to be killed for it.
    pub fn exhaust(&self, process: i32) -> Result<Child> {
        // A score may be raised without privileges.
        put(Path::new(&format!("/proc/{process}/oom_score_adj")), "1000")?;
        let used = if self.first_version { "memory.usage_in_bytes" } else { "memory.current" };
        let used = self.folder.join(used);
        let used: u64 = fs::read_to_string(&used).with_context(|| used.display().to_string())?.trim().parse()?;
        self.limit(Some(used + HEADROOM_BYTES))?;
        let script = "echo $$ > \"$0\" && exec dd if=/dev/zero of=/dev/null \"$@\"";
        let mut hog = Command::new("sh");
        hog.args(["-c", script, &self.door(), WANTED, "count=1000000"]);
        hog.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        hog.spawn().context("starting `sh`")
    }

    /// Sets the limit, or takes it away.
    pub fn limit(&self, bytes: Option<u64>) -> Result<()> {
        let (file, none) = if self.first_version { ("memory.limit_in_bytes", "-1") } else { ("memory.max", "max") };
        put(&self.folder.join(file), &bytes.map_or(none.to_owned(), |bytes| bytes.to_string()))
    }

    /// How often the kernel has killed for want of memory here.
    pub fn killed(&self) -> Result<u64> {
        let path = self.folder.join(if self.first_version { "memory.oom_control" } else { "memory.events" });
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.with_context(|| format!("{} does not count", path.display()))?.parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing can be done about a group that is still in use.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {text} to {}", path.display()))
}
