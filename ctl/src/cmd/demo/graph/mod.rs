//! The `graph` application: edges are told to the vertices, and the rest is asked now and then how far it is.

mod run;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use ringfleet_actors::graph::list;
use ringfleet_actors::graph::serial;
use ringfleet_actors::graph::tables::Results;
use ringfleet_actors::graph::vertex::{RankAsked, Ranked, Vertex};

use crate::cmd::demo::application::{Application, Stage};
use crate::cmd::demo::ask::ask_all;
use crate::cmd::demo::checks::Checks;
use crate::cmd::demo::stream::open_file;
use crate::error::{CtlError, CtlResult};
use crate::out;

/// The graph that is built in: WordNet 3.0, under the licence at its top.
const BUILT_IN: &[u8] = include_bytes!("../../../../../kernels/actors/data/wordnet-3.0.tsv.gz");
/// Bytes of a list. A longer one is refused.
const LIST_BYTES_MAX: u64 = 1 << 30;
/// Rounds of PageRank.
const ROUNDS: u32 = 20;
/// How far a rank may be from that of a computation in floating point, relative to it.
const FLOAT_ERROR_MAX: f64 = 1e-9;

/// The application with its graph.
pub struct Graph {
    graph: list::Graph,
}

impl Graph {
    /// Reads a list of vertices, or what is built in.
    ///
    /// # Errors
    /// What is wrong with the file, and in which line.
    pub fn open(path: Option<&Path>) -> CtlResult<Self> {
        let (reader, name): (Box<dyn Read>, _) = match path {
            Some(path) => (open_file(path)?, path.display().to_string()),
            None => (Box::new(GzDecoder::new(BUILT_IN)), "the built-in graph".to_owned()),
        };
        let attempt = format!("reading {name}");
        let mut text = Vec::new();
        let read = reader.take(LIST_BYTES_MAX + 1).read_to_end(&mut text);
        let bytes = read.map_err(|error| CtlError::usage(&attempt, error))?;
        if bytes as u64 > LIST_BYTES_MAX {
            return Err(CtlError::usage(attempt, format!("more than {LIST_BYTES_MAX} bytes")));
        }
        let graph = list::Graph::parse(&text).map_err(|error| CtlError::usage(attempt, error))?;
        Ok(Self { graph })
    }
}

impl Application for Graph {
    type Told = run::Computed;

    const SETS: (&'static str, &'static str) = ("graph.yaml", ringfleet_actors::graph::SETS_YAML);
    const UNIT: &'static str = "rounds";

    fn units(&self) -> u64 {
        // The last one settles. How many the components take is known when they are there.
        u64::from(ROUNDS) + 1
    }

    async fn run(self, stage: &Stage<'_>) -> CtlResult<Self::Told> {
        run::compute(self.graph, ROUNDS, stage).await
    }

    fn summary(told: &Self::Told, took: Duration) -> String {
        let (vertices, edges) = (u64::from(told.graph.vertices()), told.graph.edges());
        let (vertices, edges, begun) = (out::thousands(vertices), out::thousands(edges), out::thousands(told.begun));
        format!(
            "{vertices} vertices, {edges} edges, {} rounds in which vertices took part {begun} times, in {:.1} s",
            told.closed,
            took.as_secs_f64()
        )
    }

    async fn judge(told: Self::Told, stage: &Stage<'_>, checks: &mut Checks) -> CtlResult {
        let what = "every round was closed: no message of it was lost";
        checks.check(what, told.stalled.is_none(), || told.stalled.clone().unwrap_or_default());
        if told.stalled.is_some() {
            return Ok(());
        }
        let graph = &told.graph;
        let keys = (0..u64::from(graph.vertices())).collect();
        let answers = ask_all::<Vertex, _, Ranked>(stage.env, stage.session, keys, || RankAsked {}).await?;
        let results = Results {
            ranks: answers.iter().map(|answer| answer.rank).collect(),
            moved: told.moved,
            components: answers.iter().map(|answer| answer.component).collect(),
        };
        out::write_text(&results.tables(graph).to_string())?;
        let difference = results.difference(&serial::results(graph, ROUNDS));
        let same = difference.is_none();
        let what = "ranks and components are those of the serial computation, bit for bit";
        checks.check(what, same, || difference.unwrap_or_default());
        let error = results.float_error(&serial::float_ranks(graph, ROUNDS));
        let what = "ranks are close to a computation in floating point";
        checks.check(what, error <= FLOAT_ERROR_MAX, || format!("off by {error:e}, {FLOAT_ERROR_MAX:e} is allowed"));
        Ok(())
    }
}
