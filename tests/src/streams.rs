//! Streams of stamped messages, and the checks of what became of them.

use crate::actors::{RELAY, ReadStream, SINK, Stage, Stamped, StreamReport};
use crate::cluster::{PATIENCE, TestCluster};
use anyhow::{Context as _, Result, ensure};
use ringfleet_actor::Message;
use ringfleet_client::{Session, Tell};
use ringfleet_proto::control::Keys;

/// Streams from one client session through relays to sinks.
pub struct Streams {
    /// The session.
    pub session: Session,
    /// How many streams.
    pub count: u64,
    /// The last number sent in each.
    pub sent: u64,
}

impl Streams {
    /// Applies both sets and opens a session.
    pub async fn prepare(cluster: &TestCluster, count: u64) -> Result<Self> {
        cluster.apply_set(RELAY, "test.stage", Keys::Hashed, 24, &[]).await?;
        cluster.apply_set(SINK, "test.stage", Keys::Hashed, 24, &[]).await?;
        Ok(Self { session: cluster.session().await?, count, sent: 0 })
    }

    /// Sends the next `rounds` numbers of every stream.
    pub async fn send(&mut self, rounds: u64) -> Result<()> {
        let set = self.session.set(RELAY).await?;
        for _ in 0..rounds {
            self.sent += 1;
            let message = Stamped { seq: self.sent, behind: 1 };
            let tell = |key| Tell { set, key, kind: Stamped::KIND, payload: bytemuck::bytes_of(&message) };
            let tells: Vec<Tell<'_>> = (0..self.count).map(tell).collect();
            self.session.tell_many(&tells).await?;
        }
        Ok(())
    }

    /// What a hop of a stream has seen.
    pub async fn at(&self, set: &str, key: u64) -> Result<StreamReport> {
        Ok(self.session.ask_of(Stage::in_set(set, key), &ReadStream {}, PATIENCE).await?)
    }

    /// C3: every stream has arrived at both hops, without loss, duplicate or reorder.
    pub async fn check(&self, cluster: &TestCluster) -> Result<()> {
        let flush = cluster.env.timeout(PATIENCE, self.session.flush()).await;
        flush.with_context(|| format!("waiting for acknowledgements: {:?}", self.session.counters()))??;
        let want = StreamReport { handled: self.sent, last: self.sent, gaps: 0, repeats: 0 };
        for key in 0..self.count {
            let at_relay: StreamReport =
                self.session.ask_of(Stage::in_set(RELAY, key), &ReadStream {}, PATIENCE).await?;
            ensure!(at_relay == want, "C3: relay {key} saw {at_relay:?}, sent were {}", self.sent);
        }
        for key in 0..self.count {
            // The relay's tells are not the session's: they may still be under way.
            let mut seen = None;
            let arrived = cluster
                .until("the sinks", async || {
                    let report = self.at(SINK, key).await?;
                    seen = Some(report);
                    Ok(report.handled >= self.sent)
                })
                .await;
            ensure!(arrived.is_ok() && seen == Some(want), "C3: sink {key} saw {seen:?}, sent were {}", self.sent);
        }
        Ok(())
    }
}
