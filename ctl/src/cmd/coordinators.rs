//! `ringfleet coordinators add|remove`

use clap::Subcommand;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, CoordinatorInfo};

use crate::app::{App, Cluster, unexpected};
use crate::cmd::get;
use crate::error::{CtlError, CtlResult};
use crate::out;

/// How the group of coordinators changes.
#[derive(Debug, Subcommand)]
pub enum CoordinatorsVerb {
    /// Make a coordinator a member. It must run, with an empty data folder and itself among its --peers.
    Add {
        /// Its name, the one in its certificate.
        name: String,
        /// Where it listens.
        #[arg(value_name = "HOST:PORT", value_parser = host_port)]
        addr: String,
    },
    /// Take a coordinator out. Its process stops by itself when it notices.
    #[command(alias = "rm")]
    Remove {
        /// Its name.
        name: String,
    },
}

fn host_port(text: &str) -> Result<String, String> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if fits { Ok(text.to_owned()) } else { Err("expected HOST:PORT".to_owned()) }
}

/// Changes the group, and prints it.
pub async fn run(app: &App, verb: &CoordinatorsVerb) -> CtlResult {
    let cluster = app.cluster()?;
    let now = match verb {
        CoordinatorsVerb::Add { name, addr } => {
            let verb = AdminVerb::AddCoordinator { name: name.clone(), addr: addr.clone() };
            change(&cluster, &format!("adding coordinator {name}"), verb).await?
        }
        CoordinatorsVerb::Remove { name } => {
            let attempt = format!("removing coordinator {name}");
            // The coordinators take a repeated removal for done, so a wrong name is noticed here.
            let known = get::coordinators(&cluster).await?;
            if known.iter().all(|info| info.name != *name) {
                let names: Vec<&str> = known.iter().map(|info| info.name.as_str()).collect();
                let cause = format!("there is no coordinator `{name}`; there are {}", names.join(", "));
                return Err(CtlError::refused(attempt, cause));
            }
            change(&cluster, &attempt, AdminVerb::RemoveCoordinator { name: name.clone() }).await?
        }
    };
    out::print(app.global.output, &now, |now| get::coordinators_table(now))
}

async fn change(cluster: &Cluster, attempt: &str, verb: AdminVerb) -> CtlResult<Vec<CoordinatorInfo>> {
    match cluster.call(attempt, verb).await? {
        AdminAnswer::CoordinatorsChanged { coordinators, .. } => Ok(coordinators),
        other => Err(unexpected(attempt, &other)),
    }
}
