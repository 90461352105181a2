//! What is asked of nodes: deliveries of other nodes, tells and asks of clients.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::Kind;
use ringfleet_abi::{ActorId, Envelope, Flags, Hlc, Incarnation, NodeId, SetId};
use ringfleet_actor::Message as _;
use ringfleet_actors::counter::{Add, Count, Counter, Read};
use ringfleet_link::{Alpn, ConnectError, Connection, Lanes, Role as LinkRole, code};
use ringfleet_proto::control::{Directory, Role, Verb};
use ringfleet_proto::wire::{self, Answer, DeliverHeader, DeliverWriter, Frame, Hello, RunHeader};
use ringfleet_proto::{PeerIdentity, Source};
use ringfleet_tests::cluster::PATIENCE;

use super::Outcome;
use super::cast::{Cast, UNDERSTUDY, dial};

/// The actor that is told something.
const KEY: u64 = 3;

/// A caller of the node.
pub struct Data<'c, 'a> {
    pub cast: &'c mut Cast<'a>,
    pub role: Role,
}

impl Data<'_, '_> {
    pub async fn play(&mut self, verb: Verb) -> Result<Outcome> {
        match (verb, self.role) {
            (_, Role::Coordinator | Role::Viewer) => self.knock().await,
            (Verb::Deliver, Role::Node) => self.deliver().await,
            (Verb::Deliver, _) => self.pose_as_node().await,
            (_, Role::Node) => self.pose_as_client(verb).await,
            (Verb::Tell, _) => self.tell().await,
            _ => self.ask().await,
        }
    }

    fn node(&self) -> Result<SocketAddr> {
        let mut processes = self.cast.cluster.local.processes().iter();
        Ok(processes.find(|process| process.kind == Kind::Node).context("no node")?.advertise)
    }

    async fn connect(&self, name: &str) -> Result<Result<(ringfleet_link::Endpoint, Connection), ConnectError>> {
        let identity = self.cast.identity(self.role, name)?;
        Ok(dial(&self.cast.cluster.env, identity, self.node()?, Alpn::Data, LinkRole::Node).await)
    }

    /// A role that nodes do not talk to at all.
    async fn knock(&self) -> Result<Outcome> {
        match self.connect("n1").await? {
            Err(ConnectError::NotAllowed { .. }) => Ok(Outcome::Refused),
            Err(other) => bail!("not refused because of its role: {other}"),
            Ok(_) => Ok(Outcome::Accepted),
        }
    }

    /// A client that says that it is a node; then one that is itself and delivers as a node.
    async fn pose_as_node(&self) -> Result<Outcome> {
        let directory = self.cast.cluster.client.directory(PATIENCE).await?;
        let n1 = directory.members.first().context("no node")?;
        let node = PeerIdentity::Node { node: n1.node_id(), incarnation: n1.incarnation() };
        let source = Source::Node(n1.incarnation());
        self.pushed_out("n1", node, source, Flags::default(), "says that it is a node").await?;
        let own = PeerIdentity::Client { session: self.cast.session(self.role)?.id() };
        self.pushed_out("n1", own, source, Flags::default(), "").await?;
        Ok(Outcome::Refused)
    }

    /// A node that says that it is a client.
    async fn pose_as_client(&self, verb: Verb) -> Result<Outcome> {
        let flags = if verb == Verb::Ask { Flags::ASK } else { Flags::default() };
        let session = self.cast.session(self.role)?.id();
        let client = PeerIdentity::Client { session };
        self.pushed_out(UNDERSTUDY, client, Source::Client(session), flags, "may not tell").await?;
        Ok(Outcome::Refused)
    }

    /// Says hello as `claimed`, sends a message of `source` right behind it, and is closed by the node with a reason that holds
    /// `reason`.
    async fn pushed_out(
        &self,
        name: &str,
        claimed: PeerIdentity,
        source: Source,
        flags: Flags,
        reason: &str,
    ) -> Result<()> {
        let (endpoint, connection) = self.connect(name).await??;
        let mut lanes = connection.open_lanes(PATIENCE).await?;
        // The node may have closed before the second of these is sent.
        let _ = self.send(&mut lanes, claimed, source, flags).await;
        let env = &self.cast.cluster.env;
        let closed = env.timeout(PATIENCE, connection.closed()).await.context("the node let it in")?;
        let text = closed.to_string();
        ensure!(text.contains(reason), "closed with {text:?}, expected {reason:?}");
        endpoint.close(code::NORMAL, "done");
        Ok(())
    }

    async fn send(&self, lanes: &mut Lanes, claimed: PeerIdentity, source: Source, flags: Flags) -> Result<()> {
        let directory = self.cast.cluster.client.directory(PATIENCE).await?;
        let mut bytes = Vec::new();
        wire::encode_hello(&Hello::new(claimed, directory.index), &mut bytes);
        lanes.answers_out.send(&bytes).await?;
        lanes.data_out.send(&self.add(&directory, source, flags)?).await?;
        Ok(())
    }

    /// A frame with one message that adds one.
    fn add(&self, directory: &Directory, source: Source, flags: Flags) -> Result<Vec<u8>> {
        let wall_ms = self.cast.cluster.env.wall_ms();
        let set = directory.sets.iter().find(|set| set.name == "counter").context("no set")?;
        let keys = ringfleet_abi::KeySpace::from(set.keys);
        let index = keys.shard_of(set.shards, KEY).context("no shard")?;
        let mut shards = directory.shards.iter();
        let shard = shards.find(|shard| (shard.set, shard.index) == (set.set, index.0)).context("no shard")?;
        let actor = |key| ActorId { set: SetId(set.set), key };
        let payload = Add { amount: 1 }.to_payload();
        let mut envelope = Envelope::new(actor(0), actor(KEY), Add::KIND, flags, &payload[..size_of::<Add>()])?;
        envelope.hlc = Hlc::from_wall_ms(wall_ms).0;
        let header = DeliverHeader { source, lease_end_ms: wall_ms + 3000, placement_index: directory.index };
        let run = RunHeader {
            shard: shard.shard_id(),
            count: 1,
            generation: 1,
            attempt: 1,
            epoch: shard.epoch(),
            first_seq: 1,
        };
        let mut bytes = Vec::new();
        let mut writer = DeliverWriter::new(&mut bytes, &header);
        writer.run(&run, (&[envelope], &[]));
        writer.finish();
        Ok(bytes)
    }

    /// A member delivers a message of one of its actors, and is told that it was handled.
    async fn deliver(&mut self) -> Result<Outcome> {
        let joined = self.cast.understudy().await?;
        let incarnation = Incarnation(joined.incarnation);
        let (endpoint, connection) = self.connect(UNDERSTUDY).await??;
        let mut lanes = connection.open_lanes(PATIENCE).await?;
        let claimed = PeerIdentity::Node { node: NodeId(joined.node), incarnation };
        self.send(&mut lanes, claimed, Source::Node(incarnation), Flags::default()).await?;
        let env = self.cast.cluster.env.clone();
        let handled = async {
            while let Some(frame) = lanes.answers_in.recv().await? {
                let Frame::Answers(answers) = wire::decode(&frame)? else { continue };
                for answer in answers.iter() {
                    match answer {
                        Answer::Ack { handled_through: 1, .. } => return Ok(Outcome::Accepted),
                        Answer::Ack { .. } => {}
                        other => bail!("not accepted: {other:?}"),
                    }
                }
            }
            bail!("closed: {:?}", connection.close_reason())
        };
        let outcome = env.timeout(PATIENCE, handled).await??;
        endpoint.close(code::NORMAL, "done");
        self.cast.made_adds(1);
        ensure!(self.cast.control(Role::Node, Verb::Leave).await? == Outcome::Accepted, "the node may not leave");
        Ok(outcome)
    }

    async fn tell(&mut self) -> Result<Outcome> {
        let session = self.cast.session(self.role)?;
        session.tell_to(Counter::at(KEY), &Add { amount: 1 }).await?;
        session.flush().await?;
        self.cast.made_adds(1);
        Ok(Outcome::Accepted)
    }

    async fn ask(&mut self) -> Result<Outcome> {
        let count: Count = self.cast.session(self.role)?.ask_of(Counter::at(KEY), &Read {}, PATIENCE).await?;
        ensure!(count.adds == self.cast.adds_made(), "{count:?}, {} were made", self.cast.adds_made());
        Ok(Outcome::Accepted)
    }
}
