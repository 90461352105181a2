//! Progress: a bar on a terminal, a line every few seconds elsewhere. Both to stderr.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringfleet_env::Env;

use crate::app::Cluster;
use crate::cmd::get;
use crate::http;
use crate::metrics::Metrics;
use crate::out::thousands;

/// Between two looks at the cluster.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two lines where there is no terminal.
const LOOKS_PER_LINE: u64 = 3;
/// How long a look may take.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// How far the application is.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    told: AtomicU64,
    total: u64,
    unit: &'static str,
}

impl Progress {
    /// Nothing done yet of `total` of what `unit` says in the plural.
    pub fn new(total: u64, unit: &'static str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template(&format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{msg}}"));
        // The template above parses, a unit is a word; the default one would do as well.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, is_terminal, told: AtomicU64::new(0), total, unit }
    }

    /// So many have been done.
    pub fn told(&self, units: u64) {
        self.told.store(units, Ordering::Relaxed);
        self.bar.set_position(units);
    }

    /// Says something without tearing the bar.
    pub fn say(&self, text: &str) {
        if self.is_terminal { self.bar.println(text) } else { eprintln!("{text}") }
    }

    /// The application has ended.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Looks at the cluster now and then until dropped: messages per second, and where the shards are.
    pub async fn watch(&self, env: &Env, operator: &Cluster, pages: &[String]) -> Infallible {
        let mut last = (env.now(), 0);
        let mut looks = 0;
        loop {
            env.sleep(LOOK_EVERY).await;
            let mut handled = 0;
            for page in pages {
                // A page that cannot be read now is read next time.
                if let Ok(text) = http::get(env, page, "/metrics", LOOK_PATIENCE).await {
                    handled += Metrics::parse(&text).sum("ringfleet_messages_handled_total");
                }
            }
            let now = env.now();
            let rate = (handled - last.1).max(0) as f64 / (now - last.0).as_secs_f64().max(0.001);
            last = (now, handled);
            let shards = where_shards_are(operator).await.unwrap_or_else(|| "no leader".to_owned());
            let message = format!("{} messages/s  shards {shards}", thousands(rate as u64));
            self.bar.set_message(message.clone());
            looks += 1;
            if !self.is_terminal && looks % LOOKS_PER_LINE == 0 {
                let told = self.told.load(Ordering::Relaxed);
                eprintln!("{}/{} {}  {message}", thousands(told), thousands(self.total), self.unit);
            }
        }
    }
}

/// `n1:38 n2:37 n3:37`
async fn where_shards_are(operator: &Cluster) -> Option<String> {
    let now = operator.env.now();
    let patient = Cluster { client: operator.client.clone(), env: operator.env.clone(), deadline: now + LOOK_PATIENCE };
    let directory = get::directory(&patient).await.ok()?;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for shard in &directory.shards {
        let owner = shard.owner().and_then(|(node, ..)| directory.members.iter().find(|m| m.node == node.0));
        *counts.entry(owner.map_or_else(|| "nowhere".to_owned(), |member| member.name.clone())).or_default() += 1;
    }
    Some(counts.iter().map(|(node, count)| format!("{node}:{count}")).collect::<Vec<_>>().join(" "))
}
