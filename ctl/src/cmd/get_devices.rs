//! `ringfleet get devices`

use ringfleet_proto::control::{DeviceKind, DeviceReport, GpuReport, NodeInfo, NodeState};
use serde::Serialize;

use crate::app::Cluster;
use crate::cmd::get::nodes;
use crate::error::CtlResult;
use crate::http;
use crate::metrics::Metrics;
use crate::out::{Table, thousands};

/// The names of the counters that a node keeps of its devices.
const CHANGES: &str = "ringfleet_device_code_changes_total";
const STANDSTILL: &str = "ringfleet_device_code_standstill_ns_total";

/// A device of a live node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// The node's name.
    pub node: String,
    /// Its index in the node.
    pub device: u16,
    /// What it is.
    pub kind: DeviceKind,
    /// Whether it is lost and not back.
    pub lost: bool,
    /// Its workers.
    pub workers: u16,
    /// Memory for actors; 0: none is set aside.
    pub memory_bytes: u64,
    /// The GPUs that form it, with their links to those of the node.
    pub gpus: Vec<GpuReport>,
    /// How often it changed the code that runs its actors; absent if its node does not say, or does not answer.
    pub code_changes: Option<u64>,
    /// How long nothing ran on it for that.
    pub code_standstill_ns: Option<u64>,
}

/// The devices of all live nodes.
pub async fn rows(cluster: &Cluster) -> CtlResult<Vec<DeviceRow>> {
    let mut members = nodes(cluster).await?;
    members.retain(|member| member.state == NodeState::Alive);
    let mut rows = Vec::new();
    for member in &members {
        // What a node does not tell is left out: a node without an answer has devices, too.
        let page = http::get(&cluster.env, &member.http_addr, "/metrics", cluster.time_left()).await;
        let metrics = page.map(|text| Metrics::parse(&text)).ok();
        rows.extend(rows_of(member).map(|row| with_metrics(row, metrics.as_ref())));
    }
    Ok(rows)
}

/// The metrics name devices by their place in the node's configuration, those that run and no others; they run in that order.
fn with_metrics(row: DeviceRow, metrics: Option<&Metrics>) -> DeviceRow {
    let count = |name: &str| {
        let labelled = metrics?
            .named(name)
            .filter_map(|sample| Some((sample.label("device")?.parse::<u32>().ok()?, sample.value)));
        let mut by_place: Vec<(u32, f64)> = labelled.collect();
        by_place.sort_by_key(|(place, _)| *place);
        by_place.get(usize::from(row.device)).map(|(_, value)| *value as u64)
    };
    DeviceRow { code_changes: count(CHANGES), code_standstill_ns: count(STANDSTILL), ..row }
}

fn rows_of(node: &NodeInfo) -> impl Iterator<Item = DeviceRow> {
    node.devices.iter().map(|device| DeviceRow {
        node: node.name.clone(),
        device: device.index,
        kind: device.kind,
        lost: node.devices_lost.contains(&device.index),
        workers: device.workers,
        memory_bytes: device.memory_bytes,
        gpus: device.gpus.clone(),
        code_changes: None,
        code_standstill_ns: None,
    })
}

/// Devices as a table.
pub fn table(rows: &[DeviceRow]) -> String {
    let mut table = Table::new(&[
        "NODE",
        "DEVICE",
        "KIND",
        "STATE",
        "WORKERS",
        "MEMORY",
        "HARDWARE",
        "NVLINKS",
        "CODE CHANGES",
        "STOOD STILL",
    ]);
    for row in rows {
        table.row([
            row.node.clone(),
            row.device.to_string(),
            kind(row.kind).to_owned(),
            if row.lost { "lost" } else { "up" }.to_owned(),
            row.workers.to_string(),
            memory(row.memory_bytes),
            hardware(&row.gpus),
            nvlinks(row.device, &row.gpus),
            row.code_changes.map_or_else(|| "-".to_owned(), thousands),
            row.code_standstill_ns
                .map_or_else(|| "-".to_owned(), |ns| format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10)),
        ]);
    }
    table.render()
}

/// A device in a few words.
pub fn words(device: &DeviceReport, lost: bool) -> String {
    let mut text = format!("{} {} workers", kind(device.kind), device.workers);
    if !device.gpus.is_empty() {
        text += &format!(" on {}", hardware(&device.gpus));
    }
    match nvlinks(device.index, &device.gpus).as_str() {
        "-" => {}
        links => text += &format!(", {links} NVLinks between them"),
    }
    if lost { text + " (lost)" } else { text }
}

fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
    }
}

fn memory(bytes: u64) -> String {
    match bytes {
        0 => "-".to_owned(),
        bytes if bytes < 1 << 30 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} GiB", bytes >> 30),
    }
}

/// The GPUs of a device; alike ones are counted.
fn hardware(gpus: &[GpuReport]) -> String {
    let mut kinds: Vec<(String, u32)> = Vec::new();
    for gpu in gpus {
        let text = format!("{} (sm_{}, {})", gpu.name, gpu.architecture, memory(gpu.memory_bytes));
        match kinds.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => kinds.push((text, 1)),
        }
    }
    let each = |(text, count): (String, u32)| if count > 1 { format!("{count} x {text}") } else { text };
    match kinds.is_empty() {
        true => "-".to_owned(),
        false => kinds.into_iter().map(each).collect::<Vec<_>>().join(", "),
    }
}

/// NVLinks between each two GPUs of a device: a number, or the least and the most.
fn nvlinks(device: u16, gpus: &[GpuReport]) -> String {
    let between = |at: usize, other: usize| {
        let there = gpus[at].links.iter().find(|link| (link.device, usize::from(link.gpu)) == (device, other));
        there.map_or(0, |link| link.nvlinks)
    };
    let pairs = (0..gpus.len()).flat_map(|at| (at + 1..gpus.len()).map(move |other| (at, other)));
    let counts: Vec<u16> = pairs.map(|(at, other)| between(at, other)).collect();
    match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least == most => most.to_string(),
        (Some(least), Some(most)) => format!("{least}-{most}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ringfleet_proto::control::LinkReport;

    use super::*;

    fn gpu(uuid: &str, links: &[(u16, u16, u16)]) -> GpuReport {
        GpuReport {
            name: "NVIDIA H200".into(),
            uuid: uuid.into(),
            architecture: 90,
            multiprocessors: 132,
            memory_bytes: 141 << 30,
            links: links.iter().map(|&(device, gpu, nvlinks)| LinkReport { device, gpu, nvlinks }).collect(),
        }
    }

    #[test]
    fn each_device_gets_the_metrics_of_its_own_place() {
        let page = "ringfleet_device_code_changes_total{device=\"0\"} 1\nringfleet_device_code_changes_total{device=\"2\"} 7\n";
        let metrics = Metrics::parse(page);
        let node = |device| {
            let row = DeviceRow {
                node: "n1".into(),
                device,
                kind: DeviceKind::Gpu,
                lost: false,
                workers: 1,
                memory_bytes: 0,
                gpus: vec![],
                code_changes: None,
                code_standstill_ns: None,
            };
            let row = with_metrics(row, Some(&metrics));
            (row.code_changes, row.code_standstill_ns)
        };
        assert_eq!([node(0), node(1), node(2)], [(Some(1), None), (Some(7), None), (None, None)]);
    }

    #[test]
    fn devices_are_shown_with_their_gpus_and_the_nvlinks_between_them() {
        let row = |device, gpus: Vec<GpuReport>| DeviceRow {
            node: "n1".into(),
            device,
            kind: if gpus.is_empty() { DeviceKind::Cpu } else { DeviceKind::Gpu },
            lost: device == 2,
            workers: 8,
            memory_bytes: if gpus.is_empty() { 0 } else { 70 << 30 },
            gpus,
            code_changes: (device == 0).then_some(3),
            code_standstill_ns: (device == 0).then_some(4_560_000),
        };
        let pair = vec![gpu("GPU-a", &[(0, 1, 18), (1, 0, 2)]), gpu("GPU-b", &[(0, 0, 18)])];
        let rows = [row(0, pair.clone()), row(1, vec![gpu("GPU-c", &[(0, 0, 2)])]), row(2, vec![])];
        let text = table(&rows);
        let cells = |line: usize| -> Vec<&str> {
            text.lines().nth(line).expect("a line").split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()
        };
        assert_eq!(
            cells(1),
            ["n1", "0", "gpu", "up", "8", "70 GiB", "2 x NVIDIA H200 (sm_90, 141 GiB)", "18", "3", "4.5 ms"]
        );
        assert_eq!(cells(2)[6..], ["NVIDIA H200 (sm_90, 141 GiB)", "-", "-", "-"]);
        assert_eq!(cells(3), ["n1", "2", "cpu", "lost", "8", "-", "-", "-", "-", "-"]);
        let mut three = pair;
        three.push(gpu("GPU-d", &[(0, 0, 4)]));
        assert_eq!(nvlinks(0, &three), "0-18");
        let report = DeviceReport { index: 0, kind: DeviceKind::Gpu, workers: 8, memory_bytes: 0, gpus: three };
        assert_eq!(
            words(&report, true),
            "gpu 8 workers on 3 x NVIDIA H200 (sm_90, 141 GiB), 0-18 NVLinks between them (lost)"
        );
        assert_eq!(words(&DeviceReport { gpus: vec![], kind: DeviceKind::Cpu, ..report }, false), "cpu 8 workers");
    }
}
