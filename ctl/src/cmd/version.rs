//! `ringfleet version`

use serde::Serialize;

use crate::app::App;
use crate::error::CtlResult;
use crate::out;

/// What `version` prints.
#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    api_version: &'static str,
    control_format: u16,
    actor_types: usize,
}

/// Prints the versions of this build.
pub fn run(app: &App) -> CtlResult {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        api_version: ringfleet_proto::control::document::API_VERSION,
        control_format: ringfleet_proto::control::codec::VERSION,
        actor_types: app.types.len(),
    };
    out::print(app.global.output, &version, |version| {
        out::properties(&[
            ("version", version.version.to_owned()),
            ("api version", version.api_version.to_owned()),
            ("control format", version.control_format.to_string()),
            ("actor types", version.actor_types.to_string()),
        ])
    })
}
