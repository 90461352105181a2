//! `--chaos`: a proxy in front of every node, and a task that cuts each link for a second at random moments.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringfleet_env::{Env, TaskHandle};

use crate::error::{CtlError, CtlResult};
use crate::local::{Kind, LocalCluster};
use crate::proxy::UdpProxy;

/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(1);
/// The longest pause between two cuts.
const PAUSE_MS_MAX: u64 = 1500;

/// A link as the proxies see it: which node, whose datagrams.
type LinkKey = (usize, SocketAddr);

/// The proxies of all nodes.
#[derive(Debug, Clone)]
pub struct Proxies {
    proxies: Arc<Vec<UdpProxy>>,
    /// How often each link was cut.
    cuts: Arc<Mutex<BTreeMap<LinkKey, u64>>>,
}

impl Proxies {
    /// Puts a proxy in front of every node. Before the nodes start: they advertise its address.
    pub fn start(env: &Env, cluster: &LocalCluster) -> CtlResult<Self> {
        let nodes = cluster.processes().iter().filter(|process| process.kind == Kind::Node);
        let start = |process: &crate::local::Process| {
            UdpProxy::start(env, process.advertise, process.listen)
                .map_err(|error| CtlError::failed(format!("starting the proxy of {}", process.name), error))
        };
        let proxies = nodes.map(start).collect::<CtlResult<Vec<_>>>()?;
        Ok(Self { proxies: Arc::new(proxies), cuts: Arc::default() })
    }

    /// Cuts links until the handle is dropped: always one of those that were cut least.
    pub fn cut_links(&self, env: &Env) -> TaskHandle {
        let (chaos, inner) = (self.clone(), env.clone());
        let cut = async move {
            loop {
                inner.sleep(Duration::from_millis(inner.random_below(PAUSE_MS_MAX))).await;
                let link = chaos.least_cut(&inner);
                if let Some((at, source)) = link
                    && chaos.proxies[at].cut(source, CUT)
                {
                    *chaos.lock().entry((at, source)).or_default() += 1;
                }
            }
        };
        env.spawn("chaos", cut).abort_on_drop()
    }

    fn least_cut(&self, env: &Env) -> Option<LinkKey> {
        let mut cuts = self.lock();
        for (at, proxy) in self.proxies.iter().enumerate() {
            for source in proxy.sources() {
                cuts.entry((at, source)).or_default();
            }
        }
        let least = *cuts.values().min()?;
        let links: Vec<LinkKey> = cuts.iter().filter(|(_, cut)| **cut == least).map(|(link, _)| *link).collect();
        Some(links[env.random_below(links.len() as u64) as usize])
    }

    /// Whether every link seen so far was cut at least once.
    pub fn all_cut(&self) -> bool {
        let cuts = self.lock();
        !cuts.is_empty() && cuts.values().all(|cut| *cut > 0)
    }

    /// Links seen, cuts made, datagrams dropped.
    pub fn counts(&self) -> (usize, u64, u64) {
        let cuts = self.lock();
        (cuts.len(), cuts.values().sum(), self.proxies.iter().map(|proxy| proxy.counts().1).sum())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<LinkKey, u64>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
