//! A cluster of real processes under test: started in a temporary folder, gone with the value.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::{
    app::Cluster,
    cmd::apply,
    config::{ConfigFile, ContextEntry},
    local::{Kind, LocalCluster, LocalConfig, Process, Signal},
    metrics::{Conservation, Metrics, SETTLED_AFTER},
};
use ringfleet_client::{Client, ClientConfig, Session};
use ringfleet_env::Env;
use ringfleet_link::{Identity, Role};
use ringfleet_proto::control::{ActorSet, AdminAnswer, AdminVerb, Keys};

/// How long anything may take that is not itself what a test measures. Machines that run tests are slow and busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running cluster.
pub struct TestCluster {
    /// Time and tasks.
    pub env: Env,
    /// The processes.
    pub local: LocalCluster,
    /// A client of the cluster, with the role operator.
    pub client: Client,
    _folder: tempfile::TempDir,
}

impl TestCluster {
    /// Starts a cluster of `executable`; `change` changes what is started.
    pub async fn start(env: &Env, executable: &str, change: impl FnOnce(&mut LocalConfig)) -> Result<Self> {
        Self::start_with(env, executable, change, |_| Ok(())).await
    }

    /// As [`TestCluster::start`]; `before` is called when the addresses are known and nothing runs yet.
    pub async fn start_with(
        env: &Env,
        executable: &str,
        change: impl FnOnce(&mut LocalConfig),
        before: impl FnOnce(&LocalCluster) -> Result<()>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ringfleet-test-").tempdir()?;
        let mut config = LocalConfig::new(folder.path().join("cluster"), "test");
        config.executable = Some(PathBuf::from(executable));
        change(&mut config);
        let mut local = LocalCluster::create(env, &config).map_err(anyhow::Error::msg)?;
        before(&local)?;
        local.start_all().map_err(anyhow::Error::msg)?;
        local.wait_ready(env.now() + PATIENCE).await.map_err(anyhow::Error::msg)?;
        let client = client(env, &local)?;
        Ok(Self { env: env.clone(), local, client, _folder: folder })
    }

    /// A new client session.
    pub async fn session(&self) -> Result<Session> {
        Ok(self.client.session(PATIENCE).await?)
    }

    /// Applies a set that is named like its type and waits until every shard takes messages.
    pub async fn apply(&self, actor_type: &str, keys: Keys, shards: u16) -> Result<()> {
        self.apply_set(actor_type, actor_type, keys, shards, &[]).await
    }

    /// As [`TestCluster::apply`], with a name of its own and on these nodes only; none: on any.
    pub async fn apply_set(&self, name: &str, actor_type: &str, keys: Keys, shards: u16, nodes: &[&str]) -> Result<()> {
        let mut set = ActorSet::new(name, actor_type);
        set.spec.keys = keys;
        set.spec.shards = shards;
        set.spec.placement.nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        let context = self.local.context(Role::Operator);
        let cluster = Cluster::of(&self.env, &context, PATIENCE).map_err(anyhow::Error::msg)?;
        apply::apply(&cluster, set, "the test", true).await.map_err(anyhow::Error::msg)?;
        Ok(())
    }

    /// Writes a ctl configuration with a context for each role of people and programs, named like the role; gives its path.
    pub fn write_contexts(&self, folder: &std::path::Path) -> Result<String> {
        let mut file = ConfigFile::default();
        for role in [Role::Operator, Role::Viewer, Role::Client] {
            let context = self.local.context(role);
            let credentials = context.credentials.name.clone();
            file.contexts.push(ContextEntry {
                name: role.to_string(),
                cluster: context.cluster.name.clone(),
                credentials,
            });
            file.credentials.push(context.credentials);
            file.clusters = vec![context.cluster];
        }
        let path = folder.join("config.yaml");
        file.save(&path).map_err(anyhow::Error::msg)?;
        Ok(path.display().to_string())
    }

    /// The name of the coordinator that leads.
    pub async fn leader(&self) -> Result<String> {
        match self.client.call(AdminVerb::Coordinators, PATIENCE).await? {
            AdminAnswer::Coordinators(all) => {
                let leader = all.into_iter().find(|coordinator| coordinator.leader);
                Ok(leader.context("nobody leads")?.name)
            }
            other => bail!("asked for coordinators, got {other:?}"),
        }
    }

    /// The processes of one kind.
    pub fn names(&self, kind: Kind) -> Vec<String> {
        self.local
            .processes()
            .iter()
            .filter(|process| process.kind == kind)
            .map(|process| process.name.clone())
            .collect()
    }

    /// Sends a signal to every coordinator.
    pub fn signal_coordinators(&mut self, signal: Signal) -> Result<()> {
        for name in self.names(Kind::Coordinator) {
            self.local.signal(&name, signal).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    /// The metrics pages of all nodes.
    pub async fn pages(&self) -> Result<Vec<Metrics>> {
        let mut pages = Vec::new();
        let nodes: Vec<&Process> = self.local.processes().iter().filter(|process| process.kind == Kind::Node).collect();
        for node in nodes {
            let text = ringfleet::http::get(&self.env, &node.http.to_string(), "/metrics", PATIENCE).await;
            pages.push(Metrics::parse(&text.map_err(anyhow::Error::msg)?));
        }
        Ok(pages)
    }

    /// A metric summed over all nodes and labels.
    pub async fn metric(&self, name: &str) -> Result<i128> {
        Ok(self.pages().await?.iter().map(|page| page.sum(name)).sum())
    }

    /// Messages dead-lettered with this reason, by workers and agents.
    pub async fn dead_lettered(&self, reason: &str) -> Result<i128> {
        let pages = self.pages().await?;
        let samples = pages.iter().flat_map(|page| page.named("ringfleet_messages_dead_lettered_total"));
        Ok(samples.filter(|sample| sample.label("reason") == Some(reason)).map(|sample| sample.value as i128).sum())
    }

    /// Messages reported lost with this reason.
    pub async fn lost(&self, reason: &str) -> Result<i128> {
        let pages = self.pages().await?;
        let samples = pages.iter().flat_map(|page| page.named("ringfleet_messages_lost_total"));
        Ok(samples.filter(|sample| sample.label("reason") == Some(reason)).map(|sample| sample.value as i128).sum())
    }

    /// C7: waits until nothing is in flight, then checks that nothing is missing and nothing too many. Gives what was sent,
    /// handled, dead-lettered and lost.
    pub async fn conserved(&self) -> Result<Conservation> {
        let (mut last, mut since) = (None, self.env.now());
        self.until("the cluster to be quiet and its sum to be exact (C7)", async || {
            let now = self.sum().await?;
            if last != Some(now) {
                (last, since) = (Some(now), self.env.now());
            }
            let settled = self.env.now() - since >= SETTLED_AFTER;
            Ok(settled && now.in_flight == 0 && now.holds())
        })
        .await
        .with_context(|| format!("{last:?}"))?;
        last.context("nothing was summed")
    }

    async fn sum(&self) -> Result<Conservation> {
        let mut sum = Conservation::default();
        for page in self.pages().await? {
            sum.add(&page).map_err(anyhow::Error::msg)?;
        }
        Ok(sum)
    }

    /// Looks until `ready` says so, for at most [`PATIENCE`].
    pub async fn until(&self, what: &str, mut ready: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = self.env.now() + PATIENCE;
        while !ready().await? {
            ensure!(self.env.now() < deadline, "waited {PATIENCE:?} for {what}");
            self.env.sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Stops every process; fails if one had to be killed.
    pub async fn stop(mut self) -> Result<()> {
        let killed = self.local.stop_all(PATIENCE).await.map_err(anyhow::Error::msg)?;
        ensure!(killed.is_empty(), "had to be killed: {killed:?}");
        Ok(())
    }
}

fn client(env: &Env, local: &LocalCluster) -> Result<Client> {
    let coordinators = local.processes().iter().filter(|process| process.kind == Kind::Coordinator);
    let coordinators = coordinators.map(|process| process.advertise.to_string()).collect();
    let identity = Identity::load(&*env.disk(), &local.folder().join("operator"))?;
    Ok(Client::new(env, ClientConfig::new(coordinators, identity))?)
}
