//! Every cell of the one table of roles and verbs, over the wire, against a live cluster (C11).
//!
//! First every cell that says no, with requests that would change something if they were executed, under the name of somebody who
//! may: the role alone decides. Each is refused, and the cluster is as it was: the log, the sets, the members, what actors hold. Then
//! every cell that says yes. Certificates that are of no role here are refused before any byte of an application.

mod cast;
mod data;
mod requests;

use anyhow::{Result, ensure};
use ringfleet::local::Kind;
use ringfleet_actors::counter::{Count, Counter, Read};
use ringfleet_link::{Alpn, CertificateFault, ClusterCa, ConnectError, Role as LinkRole, Validity};
use ringfleet_proto::control::{AdminAnswer, AdminVerb, Keys, Role, Verb, allowed};
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use self::cast::Cast;
use crate::support::{BINARY, run};

/// Actors of the set that requests are about.
const KEYS: u64 = 8;

/// How a request ended. Anything else is an error of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Executed.
    Accepted,
    /// Not executed because of the caller's role.
    Refused,
}

/// What a refused request must not change.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    term: u64,
    last_index: u64,
    placement_index: u64,
    sets: String,
    members: Vec<(String, u64)>,
    counts: Vec<Count>,
}

impl Facts {
    async fn of(cluster: &TestCluster, session: &ringfleet_client::Session) -> Result<Self> {
        let AdminAnswer::Status(status) = cluster.client.call(AdminVerb::Status, PATIENCE).await? else {
            anyhow::bail!("no status")
        };
        let AdminAnswer::Sets(sets) = cluster.client.call(AdminVerb::Sets, PATIENCE).await? else {
            anyhow::bail!("no sets")
        };
        let directory = cluster.client.directory(PATIENCE).await?;
        let members = directory.members.iter().map(|member| (member.name.clone(), member.incarnation)).collect();
        let mut counts = Vec::new();
        for key in 0..KEYS {
            counts.push(session.ask_of(Counter::at(key), &Read {}, PATIENCE).await?);
        }
        let sets = format!("{sets:?}");
        Ok(Self {
            term: status.term,
            last_index: status.last_index,
            placement_index: status.index,
            sets,
            members,
            counts,
        })
    }
}

#[test]
fn every_role_may_do_over_the_wire_what_the_table_says_and_nothing_else() {
    run(async |env| -> Result<()> {
        let cluster = TestCluster::start(&env, BINARY, |config| {
            (config.nodes, config.workers) = (1, 1);
            // The test speaks for a node that renews no lease.
            config.lease_ms = Some(60_000);
        })
        .await?;
        cluster.apply("counter", Keys::Dense { count: KEYS }, 4).await?;
        let session = cluster.session().await?;
        let mut cast = Cast::new(&cluster).await?;

        let before = Facts::of(&cluster, &session).await?;
        let denied_before = cast.denied().await?;
        let mut refused = 0;
        for role in Role::ALL {
            for &verb in Verb::ALL.iter().filter(|&&verb| !allowed(role, verb)) {
                let outcome = cast.play(role, verb).await?;
                ensure!(outcome == Outcome::Refused, "C11: {role} x {verb}: the table says no, it was {outcome:?}");
                refused += 1;
            }
        }
        let after = Facts::of(&cluster, &session).await?;
        ensure!(before == after, "C11: refused requests had an effect: {before:?}, then {after:?}");
        let denied = cast.denied().await? - denied_before;
        ensure!(denied == cast.expected_denials(), "{denied} denials counted, not {}", cast.expected_denials());

        let mut accepted = 0;
        for role in Role::ALL {
            for &verb in Verb::ALL.iter().filter(|&&verb| allowed(role, verb)) {
                let outcome = cast.play(role, verb).await?;
                ensure!(outcome == Outcome::Accepted, "C11: {role} x {verb}: the table says yes, it was {outcome:?}");
                accepted += 1;
            }
        }
        ensure!(refused + accepted == Role::ALL.len() * Verb::ALL.len(), "{refused} + {accepted} cells");
        println!("{accepted} cells accepted, {refused} refused, {denied} requests counted as denied");
        // What was told and delivered has had its effect, once.
        let counts = Facts::of(&cluster, &session).await?.counts;
        let adds: u64 = counts.iter().map(|count| count.adds).sum();
        ensure!(adds == cast.adds_made(), "{adds} adds, accepted were {}", cast.adds_made());
        cluster.stop().await
    });
}

#[test]
fn certificates_of_strangers_and_of_yesterday_are_refused_in_every_role() {
    run(async |env| -> Result<()> {
        let cluster = TestCluster::start(&env, BINARY, |config| {
            (config.coordinators, config.nodes, config.workers) = (1, 1, 1);
        })
        .await?;
        let disk = env.disk();
        let own = ClusterCa::load(&*disk, &cluster.local.folder().join("ca"))?;
        let validity = Validity::from_now(env.wall_ms(), PATIENCE);
        let ended = Validity { not_before_ms: env.wall_ms() - 7_200_000, not_after_ms: env.wall_ms() - 3_600_000 };
        // The same cluster name, another key: only the signature tells them apart.
        let (namesake, other) = (ClusterCa::create("test", validity)?, ClusterCa::create("other", validity)?);
        let processes = cluster.local.processes();
        for role in LinkRole::ALL {
            let identities = [
                (namesake.issue(role, "n1", validity)?, "another key"),
                (other.issue(role, "n1", validity)?, "another cluster"),
                (own.issue(role, "n1", ended)?, "the past"),
            ];
            for (identity, of) in identities {
                for process in processes {
                    let (alpn, listener) = match process.kind {
                        Kind::Coordinator => (Alpn::Control, LinkRole::Coordinator),
                        Kind::Node => (Alpn::Data, LinkRole::Node),
                    };
                    // A dialler of another authority refuses the listener first; one of the past is told by the listener.
                    let error = match cast::dial(&env, identity.clone(), process.advertise, alpn, listener).await {
                        Ok(_) => anyhow::bail!("C11: {role} of {of} was let in by {}", process.name),
                        Err(error) => error,
                    };
                    let right = match &error {
                        ConnectError::PeerCertificate { fault, .. } => {
                            of != "the past" && *fault == CertificateFault::UnknownCa
                        }
                        ConnectError::OwnCertificate { fault, .. } => {
                            of == "the past" && *fault == CertificateFault::Expired
                        }
                        _ => false,
                    };
                    ensure!(right, "{role} of {of} at {}: {error}", process.name);
                }
            }
            for name in ["", "N1", "../n1", "n1/operator", "a b"] {
                ensure!(own.issue(role, name, validity).is_err(), "a certificate for {role} {name:?} was issued");
            }
        }
        cluster.stop().await
    });
}
