//! `doctor`: judges what [`super::look`] has seen. Pure, so that every verdict is tested without a GPU.

use serde::Serialize;

use super::look::{GpuSeen, Seen};

/// The least compute capability that the device code is written for.
pub const CAPABILITY_MIN: (u32, u32) = (8, 0);
/// The least CUDA version of a driver, for which cubins of NVRTC 13.0 are made.
pub const DRIVER_MIN: (u32, u32) = (13, 0);
/// Descriptors that an agent with a few devices and some hundred links needs.
pub const FILES_MIN: u64 = 1024;
/// Memory shared with one GPU, which the driver locks.
pub const MEMLOCK_MIN: u64 = 64 << 20;

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// GPUs by ordinal.
    pub gpus: Vec<u32>,
    /// Whether GPUs share memory through NVSHMEM.
    pub nvshmem: bool,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There, and as it has to be.
    Ok,
    /// Not there, and not asked for.
    Absent,
    /// There, but likely to be in the way.
    Warning,
    /// Asked for, and not there or not usable.
    Missing,
}

/// A thing that was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub seen: String,
    /// How to get it, if it is not there.
    pub hint: String,
}

/// All findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One by one.
    pub findings: Vec<Finding>,
    /// The GPUs.
    pub gpus: Vec<GpuSeen>,
    /// Ordinals of GPUs that `--devices auto` takes.
    pub usable: Vec<u32>,
}

impl Report {
    /// Whether nothing that was asked for is missing.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Missing)
    }
}

fn version((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// Judges.
#[must_use]
pub fn judge(seen: &Seen, asked: &Asked) -> Report {
    let wants_gpu = !asked.gpus.is_empty() || asked.nvshmem;
    let mut findings = Vec::new();
    let mut add = |what: &str, state, seen: String, hint: &str| {
        let hint = if state == State::Ok { "" } else { hint };
        findings.push(Finding { what: what.to_owned(), state, seen, hint: hint.to_owned() });
    };
    // What is not there is missing if a GPU was asked for or is there to be used, else just absent.
    let lacking = |wanted: bool| if wanted { State::Missing } else { State::Absent };

    let driver_hint = "install the NVIDIA driver, release 580 or later; without it actors run on the CPU";
    match &seen.driver {
        Ok(found) => {
            let release = seen.release.as_ref().map_or(String::new(), |release| format!(", release {release}"));
            let state = if *found >= DRIVER_MIN {
                State::Ok
            } else if wants_gpu {
                State::Missing
            } else {
                State::Warning
            };
            let text = format!("CUDA {}{release}", version(*found));
            add("driver", state, text, &format!("CUDA {} or later is needed: {driver_hint}", version(DRIVER_MIN)));
        }
        Err(why) => add("driver", lacking(wants_gpu), why.clone(), driver_hint),
    }
    if seen.gpus.is_empty() {
        add(
            "gpu",
            lacking(wants_gpu),
            "none".to_owned(),
            "actors run on the CPU; look at CUDA_VISIBLE_DEVICES if there should be one",
        );
    }
    for gpu in &seen.gpus {
        let wanted = asked.gpus.contains(&gpu.ordinal);
        let state = match why_unusable(gpu) {
            None => State::Ok,
            Some(_) if wanted => State::Missing,
            Some(_) => State::Warning,
        };
        let links = gpu.nvlinks.map_or(String::new(), |links| format!(", {links} NVLinks up"));
        let known = gpu.nvml_index.filter(|index| *index != gpu.ordinal);
        let known = known.map_or(String::new(), |index| format!(", nvidia-smi calls it {index}"));
        let text = format!(
            "{}, sm_{}{}, {} multiprocessors, {} GiB, {}{links}{known}",
            gpu.name,
            gpu.capability.0,
            gpu.capability.1,
            gpu.multiprocessors,
            gpu.memory_bytes >> 30,
            gpu.uuid
        );
        add(&format!("gpu {}", gpu.ordinal), state, text, why_unusable(gpu).unwrap_or(""));
    }
    for ordinal in asked.gpus.iter().filter(|ordinal| seen.gpus.iter().all(|gpu| gpu.ordinal != **ordinal)) {
        if !seen.gpus.is_empty() {
            let text = format!("there are {}", seen.gpus.len());
            add(&format!("gpu {ordinal}"), State::Missing, text, "choose another, or look at CUDA_VISIBLE_DEVICES");
        }
    }
    let has_gpu = !seen.gpus.is_empty();
    match &seen.nvrtc {
        Ok(found) if found.0 == DRIVER_MIN.0 => add("nvrtc", State::Ok, version(*found), ""),
        Ok(found) => {
            let state = if wants_gpu { State::Missing } else { State::Warning };
            add("nvrtc", state, version(*found), "version 13 is needed, from the CUDA toolkit 13.0");
        }
        Err(why) => {
            let state = if !wants_gpu && has_gpu { State::Warning } else { lacking(wants_gpu) };
            let hint = "install the CUDA toolkit 13.0, or its part NVRTC, where the loader finds it (LD_LIBRARY_PATH)";
            add("nvrtc", state, why.clone(), hint);
        }
    }
    peers(seen, asked, &mut add);
    let nvshmem_hint = "only `--fabric nvshmem` needs it: NVSHMEM 3.4 or a later 3.x (for Python: nvidia-nvshmem-cu13)";
    match &seen.nvshmem {
        Ok((major, minor, patch)) => add("nvshmem", State::Ok, format!("{major}.{minor}.{patch}"), ""),
        Err(why) => add("nvshmem", lacking(asked.nvshmem), why.clone(), nvshmem_hint),
    }
    match &seen.nvml {
        Ok(()) => add("nvml", State::Ok, "libnvidia-ml.so".to_owned(), ""),
        Err(why) => add("nvml", State::Absent, why.clone(), "optional: it tells which GPUs are joined by NVLinks"),
    }
    let gpus_used = if asked.gpus.is_empty() { seen.gpus.len() } else { asked.gpus.len() } as u64;
    let needed = MEMLOCK_MIN * gpus_used;
    match seen.memlock_bytes {
        Some(bytes) if bytes < needed => {
            let text = format!("{} KiB", bytes >> 10);
            let hint = format!("a driver that counts pinned memory refuses it: ulimit -l {} or more", needed >> 10);
            add("memlock", State::Warning, text, &hint);
        }
        limit => {
            let text = limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
            add("memlock", State::Ok, text, "");
        }
    }
    let files = seen.files.map_or_else(|| "unlimited".to_owned(), |files| files.to_string());
    let few = seen.files.is_some_and(|files| files < FILES_MIN);
    let state = if few { State::Warning } else { State::Ok };
    add("files", state, files, &format!("links and devices may run out of descriptors: ulimit -n {FILES_MIN} or more"));

    let runs = seen.driver.as_ref().is_ok_and(|found| *found >= DRIVER_MIN)
        && seen.nvrtc.as_ref().is_ok_and(|found| found.0 == DRIVER_MIN.0);
    let usable = seen.gpus.iter().filter(|gpu| runs && why_unusable(gpu).is_none()).map(|gpu| gpu.ordinal).collect();
    Report { findings, gpus: seen.gpus.clone(), usable }
}

fn why_unusable(gpu: &GpuSeen) -> Option<&'static str> {
    if gpu.capability < CAPABILITY_MIN {
        Some("the device code needs compute capability 8.0 or later")
    } else if !gpu.shareable {
        Some("its memory cannot be shared between processes")
    } else {
        None
    }
}

/// Every pair of GPUs that work together must reach each other.
fn peers(seen: &Seen, asked: &Asked, add: &mut impl FnMut(&str, State, String, &str)) {
    let together: Vec<&GpuSeen> =
        seen.gpus.iter().filter(|gpu| asked.gpus.is_empty() || asked.gpus.contains(&gpu.ordinal)).collect();
    if together.len() < 2 {
        return;
    }
    let mut apart = Vec::new();
    for (at, one) in together.iter().enumerate() {
        for other in &together[at + 1..] {
            if !one.peers.contains(&other.uuid) || !other.peers.contains(&one.uuid) {
                apart.push(format!("{} and {}", one.ordinal, other.ordinal));
            }
        }
    }
    if apart.is_empty() {
        let links = together.iter().flat_map(|one| {
            let others = together.iter().filter(move |other| other.ordinal > one.ordinal);
            others.filter_map(|other| one.nvlinks_to.get(&other.uuid).copied())
        });
        let how = match (links.clone().min(), links.max()) {
            (Some(0), Some(0)) => ", none by NVLink".to_owned(),
            (Some(least), Some(most)) if least == most => format!(", by {most} NVLinks each"),
            (Some(least), Some(most)) => format!(", by {least} to {most} NVLinks"),
            _ => String::new(),
        };
        add("peers", State::Ok, format!("all {} GPUs reach each other{how}", together.len()), "");
    } else {
        let text = format!("GPUs {} do not reach each other", apart.join(", "));
        add("peers", State::Warning, text, "their messages go through the agent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(ordinal: u32, peers: &[u32]) -> GpuSeen {
        let uuid = |ordinal| format!("GPU-{ordinal}");
        GpuSeen {
            ordinal,
            name: "NVIDIA H200".into(),
            uuid: uuid(ordinal),
            multiprocessors: 132,
            capability: (9, 0),
            memory_bytes: 140 << 30,
            shareable: true,
            peers: peers.iter().map(|peer| uuid(*peer)).collect(),
            nvlinks: Some(18),
            nvml_index: Some(ordinal),
            nvlinks_to: peers.iter().map(|peer| (uuid(*peer), 18)).collect(),
        }
    }

    fn good(gpus: Vec<GpuSeen>) -> Seen {
        Seen {
            driver: Ok((13, 0)),
            release: Some("580.1".into()),
            nvrtc: Ok((13, 0)),
            nvshmem: Ok((3, 4, 5)),
            nvml: Ok(()),
            gpus,
            memlock_bytes: None,
            files: Some(65536),
        }
    }

    fn bare() -> Seen {
        let missing = |name: &str| Err(format!("{name} was not found"));
        Seen {
            driver: Err("libcuda.so was not found".into()),
            release: None,
            nvrtc: Err("libnvrtc.so was not found".into()),
            nvshmem: Err("libnvshmem_host.so was not found".into()),
            nvml: missing("libnvidia-ml.so").map(|(): ()| ()),
            gpus: Vec::new(),
            memlock_bytes: Some(8 << 20),
            files: Some(1024),
        }
    }

    fn asked(gpus: &[u32]) -> Asked {
        Asked { gpus: gpus.to_vec(), nvshmem: false }
    }

    fn state(report: &Report, what: &str) -> State {
        report
            .findings
            .iter()
            .find(|finding| finding.what == what)
            .unwrap_or_else(|| panic!("nothing about {what}"))
            .state
    }

    #[test]
    fn a_machine_without_a_gpu_is_well_unless_one_is_asked_for() {
        let report = judge(&bare(), &Asked::default());
        assert!(report.is_well() && report.usable.is_empty());
        assert!(report.findings.iter().all(|finding| matches!(finding.state, State::Absent | State::Ok)), "{report:?}");
        let report = judge(&bare(), &asked(&[0]));
        assert!(!report.is_well());
        for what in ["driver", "gpu", "nvrtc"] {
            assert_eq!(state(&report, what), State::Missing);
        }
        assert_eq!(state(&report, "nvshmem"), State::Absent);
        assert!(report.findings.iter().all(|finding| finding.state == State::Ok || !finding.hint.is_empty()));
    }

    #[test]
    fn a_whole_machine_has_usable_gpus_that_reach_each_other() {
        let report = judge(&good(vec![gpu(0, &[1]), gpu(1, &[0])]), &asked(&[0, 1]));
        assert!(report.findings.iter().all(|finding| finding.state == State::Ok), "{report:?}");
        assert_eq!(report.usable, [0, 1]);
        assert!(report.findings.iter().any(|finding| finding.seen.contains("18 NVLinks up")));
        let seen = |report: &Report, what: &str| {
            report.findings.iter().find(|finding| finding.what == what).expect("found").seen.clone()
        };
        assert_eq!(seen(&report, "peers"), "all 2 GPUs reach each other, by 18 NVLinks each");
        let mut other = good(vec![gpu(0, &[1, 2]), gpu(1, &[0, 2]), gpu(2, &[0, 1])]);
        other.gpus[0].nvlinks_to.insert("GPU-2".into(), 0);
        other.gpus[2].nvml_index = Some(5);
        let report = judge(&other, &Asked::default());
        assert_eq!(seen(&report, "peers"), "all 3 GPUs reach each other, by 0 to 18 NVLinks");
        assert!(
            seen(&report, "gpu 2").ends_with(", nvidia-smi calls it 5") && !seen(&report, "gpu 1").contains("calls")
        );
        other.gpus.iter_mut().for_each(|gpu| gpu.nvlinks_to.clear());
        assert_eq!(seen(&judge(&other, &Asked::default()), "peers"), "all 3 GPUs reach each other");
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_found() {
        let whole = || good(vec![gpu(0, &[1]), gpu(1, &[0])]);
        let check = |change: fn(&mut Seen), what: &str, want: State, usable: &[u32]| {
            let mut seen = whole();
            change(&mut seen);
            let report = judge(&seen, &asked(&[0, 1]));
            assert_eq!((state(&report, what), report.usable.as_slice()), (want, usable), "{what}");
        };
        check(|seen| seen.driver = Ok((12, 8)), "driver", State::Missing, &[]);
        check(|seen| seen.nvrtc = Ok((12, 9)), "nvrtc", State::Missing, &[]);
        check(|seen| seen.nvrtc = Err("not found".into()), "nvrtc", State::Missing, &[]);
        check(|seen| seen.gpus[0].capability = (7, 5), "gpu 0", State::Missing, &[1]);
        check(|seen| seen.gpus[1].shareable = false, "gpu 1", State::Missing, &[0]);
        check(|seen| drop(seen.gpus.pop()), "gpu 1", State::Missing, &[0]);
        check(|seen| seen.gpus[0].peers.clear(), "peers", State::Warning, &[0, 1]);
        check(|seen| seen.memlock_bytes = Some(1 << 20), "memlock", State::Warning, &[0, 1]);
        check(|seen| seen.files = Some(256), "files", State::Warning, &[0, 1]);
        let mut seen = whole();
        seen.nvshmem = Err("not found".into());
        assert!(judge(&seen, &asked(&[0])).is_well());
        assert!(!judge(&seen, &Asked { gpus: vec![0], nvshmem: true }).is_well());
    }
}
