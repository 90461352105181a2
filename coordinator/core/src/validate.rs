//! What a document and a report must be like. Every refusal says what is wrong and what would be right.

use ringfleet_abi::limits::{RESTARTS_MAX, SHARDS_MAX, STATE_BYTES_MAX, WORKERS_MAX};
use ringfleet_proto::control::document::{API_VERSION, FailurePolicy, KIND, OnFailure, SetSpec, TENANT_DEFAULT};
use ringfleet_proto::control::limits::{
    ADDRESS_BYTES_MAX, DEVICES_MAX, FIELDS_MAX, GPU_TEXT_BYTES_MAX, GPUS_MAX, LAYOUT_BYTES_MAX, MESSAGES_MAX,
    NAME_BYTES_MAX, TYPES_MAX,
};
use ringfleet_proto::control::{
    ActorSet, DeviceReport, Durability, Keys, LinkReport, MessageReport, Refusal, RefusalCode, Restart, TypeReport,
};
use std::collections::BTreeSet;

fn refuse<T>(code: RefusalCode, message: String) -> Result<T, Refusal> {
    Err(Refusal { code, message })
}

fn within(what: &str, count: usize, limit: usize) -> Result<(), Refusal> {
    if count <= limit { Ok(()) } else { refuse(RefusalCode::LimitExceeded, format!("{count} {what}, at most {limit}")) }
}

/// Whether `text` may be a name.
///
/// # Errors
/// `bad_name`, with the rule.
pub fn name(what: &str, text: &str) -> Result<(), Refusal> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if fits && begins && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        return Ok(());
    }
    let message = format!(
        "{what} `{}` must be 1 to {NAME_BYTES_MAX} letters, digits, `.`, `-` or `_` and begin with a letter or digit",
        text.escape_debug()
    );
    refuse(RefusalCode::BadName, message)
}

/// Whether `text` may be an address.
///
/// # Errors
/// `bad_name`, with the rule.
pub fn address(what: &str, text: &str) -> Result<(), Refusal> {
    let parts = text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if text.len() <= ADDRESS_BYTES_MAX && parts.is_some() {
        return Ok(());
    }
    refuse(RefusalCode::BadName, format!("{what} `{}` must be host:port", text.escape_debug()))
}

/// Whether a document can be of this build at all, without looking at the cluster.
///
/// # Errors
/// One code per rule.
pub fn document(document: &ActorSet) -> Result<(), Refusal> {
    if document.api_version != API_VERSION {
        let message = format!("apiVersion `{}` is not known; this build reads `{API_VERSION}`", document.api_version);
        return refuse(RefusalCode::UnknownApiVersion, message);
    }
    if document.kind != KIND {
        let message = format!("kind `{}` is not known; this build reads `{KIND}`", document.kind);
        return refuse(RefusalCode::UnknownKind, message);
    }
    name("set name", &document.metadata.name)?;
    let spec = &document.spec;
    name("actor type", &spec.actor_type)?;
    if spec.shards == 0 || spec.shards > SHARDS_MAX {
        let message = format!("spec.shards is {}; it must be 1 to {SHARDS_MAX}", spec.shards);
        return refuse(RefusalCode::LimitExceeded, message);
    }
    if spec.keys == (Keys::Dense { count: 0 }) {
        return refuse(RefusalCode::BadRequest, "spec.keys.dense.count is 0; it must be at least 1".to_owned());
    }
    if spec.workers == Some(0) {
        return refuse(RefusalCode::BadRequest, "spec.workers is 0; it must be at least 1".to_owned());
    }
    on_failure(&document.metadata.name, spec)?;
    if spec.durability != Durability::Volatile {
        let message =
            format!("spec.durability {:?} is not built yet; only volatile is", spec.durability).to_lowercase();
        return refuse(RefusalCode::UnsupportedDurability, message);
    }
    if spec.tenant != TENANT_DEFAULT {
        let message = format!("spec.tenant `{}`: tenants are not built yet; only `{TENANT_DEFAULT}` is", spec.tenant);
        return refuse(RefusalCode::UnsupportedTenant, message);
    }
    within("names in spec.placement.nodes", spec.placement.nodes.len(), 256)?;
    spec.placement.nodes.iter().try_for_each(|node| name("node name", node))
}

/// Whether a policy says something that can be done.
fn on_failure(set: &str, spec: &SetSpec) -> Result<(), Refusal> {
    let Some(OnFailure { policy, max_restarts, window_ms, parent }) = &spec.on_failure else { return Ok(()) };
    let bad = |text: &str| refuse(RefusalCode::BadRequest, format!("spec.on_failure{text}"));
    if spec.restart != Restart::Stop {
        return bad(" stands beside spec.restart; leave spec.restart out");
    }
    if *policy != FailurePolicy::Restart && (max_restarts.is_some() || window_ms.is_some()) {
        return bad(": max_restarts and window_ms belong to the policy `restart`");
    }
    match (policy, max_restarts, window_ms, parent) {
        (FailurePolicy::Restart, Some(0), ..) => {
            return bad(".max_restarts is 0; write the policy `stop` or `escalate`");
        }
        (FailurePolicy::Restart, Some(restarts), ..) if *restarts > RESTARTS_MAX => {
            let message = format!("spec.on_failure.max_restarts is {restarts}; it must be 1 to {RESTARTS_MAX}");
            return refuse(RefusalCode::LimitExceeded, message);
        }
        (FailurePolicy::Restart, Some(_), None, _) => return bad(".max_restarts needs window_ms: in what time"),
        (FailurePolicy::Restart, None, Some(_), _) => {
            return bad(".window_ms needs max_restarts: how many in that time");
        }
        (FailurePolicy::Restart, _, Some(0), _) => return bad(".window_ms is 0; it must be at least 1"),
        (FailurePolicy::Restart, None, None, Some(_)) => {
            return bad(".parent is of no use: without max_restarts every failed actor is restarted");
        }
        (FailurePolicy::Stop, .., Some(_)) => {
            return bad(".parent is of no use with the policy `stop`; write `escalate`");
        }
        (FailurePolicy::Escalate, .., None) => {
            return bad(": the policy `escalate` needs parent: the set that is told");
        }
        _ => {}
    }
    match parent {
        Some(parent) if parent == set => bad(&format!(".parent is the set `{set}` itself")),
        Some(parent) => name("spec.on_failure.parent", parent),
        None => Ok(()),
    }
}

/// Whether a node's report of itself can be taken in.
///
/// # Errors
/// `bad_name`, `bad_request` or `limit_exceeded`.
pub fn node_report(
    node: &str,
    data_addr: &str,
    http_addr: &str,
    devices: &[DeviceReport],
    types: &[TypeReport],
) -> Result<(), Refusal> {
    name("node name", node)?;
    address("data address", data_addr)?;
    address("HTTP address", http_addr)?;
    within("devices", devices.len(), DEVICES_MAX)?;
    if devices.is_empty() {
        return refuse(RefusalCode::BadRequest, format!("node `{node}` reports no device"));
    }
    for (at, device) in devices.iter().enumerate() {
        if usize::from(device.index) != at || device.workers == 0 || device.workers > WORKERS_MAX {
            let message = format!(
                "device {at} of node `{node}` reports index {} and {} workers; it must have its place as index and 1 to {WORKERS_MAX} workers",
                device.index, device.workers
            );
            return refuse(RefusalCode::BadRequest, message);
        }
    }
    gpus(node, devices)?;
    within("actor types", types.len(), TYPES_MAX)?;
    let mut names = BTreeSet::new();
    for report in types {
        actor_type(report)?;
        if !names.insert(&report.name) {
            let message = format!("node `{node}` reports the actor type `{}` twice", report.name);
            return refuse(RefusalCode::BadRequest, message);
        }
    }
    Ok(())
}

/// Every GPU once, with texts that can be shown, and links to GPUs that are there.
fn gpus(node: &str, devices: &[DeviceReport]) -> Result<(), Refusal> {
    let all = || devices.iter().flat_map(|device| &device.gpus);
    within("GPUs", all().count(), GPUS_MAX)?;
    let mut uuids = BTreeSet::new();
    for gpu in all() {
        for text in [&gpu.name, &gpu.uuid] {
            within("bytes of a GPU's name or UUID", text.len(), GPU_TEXT_BYTES_MAX)?;
            if text.chars().any(char::is_control) {
                let message = format!("a GPU of node `{node}` is called `{}`", text.escape_debug());
                return refuse(RefusalCode::BadRequest, message);
            }
        }
        if !uuids.insert(&gpu.uuid) {
            return refuse(RefusalCode::BadRequest, format!("node `{node}` reports the GPU {} twice", gpu.uuid));
        }
        within("links of a GPU", gpu.links.len(), GPUS_MAX)?;
        let is_there = |link: &LinkReport| {
            devices.get(usize::from(link.device)).is_some_and(|device| usize::from(link.gpu) < device.gpus.len())
        };
        if let Some(link) = gpu.links.iter().find(|link| !is_there(link)) {
            let message = format!(
                "the GPU {} of node `{node}` reports a link to GPU {} of device {}, which is not there",
                gpu.uuid, link.gpu, link.device
            );
            return refuse(RefusalCode::BadRequest, message);
        }
    }
    Ok(())
}

fn actor_type(report: &TypeReport) -> Result<(), Refusal> {
    name("actor type", &report.name)?;
    within("bytes of state", report.state_bytes as usize, STATE_BYTES_MAX)?;
    within("bytes of layout text", report.layout.len(), LAYOUT_BYTES_MAX)?;
    within("fields of state", report.state.len(), FIELDS_MAX)?;
    within("messages", report.handles.len() + report.replies.len(), MESSAGES_MAX)?;
    let messages = report.handles.iter().chain(&report.replies);
    messages.map(|message: &MessageReport| message.fields.len()).try_for_each(|n| within("fields", n, FIELDS_MAX))
}
