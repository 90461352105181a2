//! The `flights` application: real events, told in order to the aircraft.

pub mod feed;
pub mod results;

use std::path::Path;
use std::time::Duration;

use crate::cmd::demo::application::{Application, Stage};
use crate::cmd::demo::checks::Checks;
use crate::error::CtlResult;
use crate::out;

/// The application with its events.
pub struct Flights {
    events: feed::Events,
}

impl Flights {
    /// Opens a file of events, or what is built in.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn open(path: Option<&Path>) -> CtlResult<Self> {
        Ok(Self { events: feed::Events::open(path)? })
    }
}

impl Application for Flights {
    type Told = feed::Fed;

    const SETS: (&'static str, &'static str) = ("flights.yaml", ringfleet_actors::flights::SETS_YAML);
    const UNIT: &'static str = "events";

    fn units(&self) -> u64 {
        self.events.lines()
    }

    async fn run(self, stage: &Stage<'_>) -> CtlResult<Self::Told> {
        feed::feed(self.events, stage).await
    }

    fn summary(told: &Self::Told, took: Duration) -> String {
        let events = out::thousands(told.events);
        format!("{events} events in {:.1} s, {} malformed lines", took.as_secs_f64(), told.malformed)
    }

    async fn judge(told: Self::Told, stage: &Stage<'_>, checks: &mut Checks) -> CtlResult {
        let tables = results::ask(stage.env, stage.session, &told.names).await?;
        out::write_text(&tables.to_string())?;
        let difference = tables.difference(&told.serial.tables());
        let same = difference.is_none();
        checks.check("the tables are those of the serial computation", same, || difference.unwrap_or_default());
        Ok(())
    }
}
