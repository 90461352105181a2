//! `ringfleet status`

use ringfleet_proto::control::{AdminAnswer, AdminVerb};

use crate::app::{App, unexpected};
use crate::error::CtlResult;
use crate::out;

/// Prints the cluster in one page.
pub async fn run(app: &App) -> CtlResult {
    let attempt = "reading the status of the cluster";
    let status = match app.cluster()?.call(attempt, AdminVerb::Status).await? {
        AdminAnswer::Status(status) => status,
        other => return Err(unexpected(attempt, &other)),
    };
    out::print(app.global.output, &status, |s| {
        let shards = format!(
            "{} resident ({} in effect), {} pending, {} releasing",
            s.shards_resident, s.shards_in_effect, s.shards_pending, s.shards_releasing
        );
        out::properties(&[
            ("cluster", s.cluster.clone()),
            ("leader", format!("{} (term {})", s.leader, s.term)),
            ("coordinators", s.coordinators.to_string()),
            ("nodes", format!("{} alive, {} gone", s.nodes_alive, s.nodes_gone)),
            ("sets", s.sets.to_string()),
            ("shards", shards),
            ("log index", format!("{} (placement {})", s.last_index, s.index)),
            ("lease", format!("{} ms", s.lease_ms)),
        ])
    })
}
