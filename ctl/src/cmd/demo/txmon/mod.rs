//! The `txmon` application: transactions are told to their accounts, and at the close of a day accounts are swept for round trips.

mod run;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use ringfleet_actors::txmon::account::{Account, AccountAsked, AccountReport};
use ringfleet_actors::txmon::case::{Alert, AlertAsked, Case, places};
use ringfleet_actors::txmon::ledger;
use ringfleet_actors::txmon::model::Model;
use ringfleet_actors::txmon::serial;
use ringfleet_actors::txmon::tables::{AlertRow, Results};

use crate::cmd::demo::application::{Application, Stage};
use crate::cmd::demo::ask::{ask_all, ask_each};
use crate::cmd::demo::checks::Checks;
use crate::cmd::demo::stream::open_file;
use crate::error::{CtlError, CtlResult};
use crate::out;

/// Bytes of a ledger. A longer one is refused.
const LEDGER_BYTES_MAX: u64 = 1 << 30;

/// The application with its ledger.
pub struct Txmon {
    ledger: ledger::Ledger,
}

impl Txmon {
    /// Reads a ledger, or generates the one that is built in.
    ///
    /// # Errors
    /// What is wrong with the file, and in which line.
    pub fn open(path: Option<&Path>) -> CtlResult<Self> {
        let Some(path) = path else { return Ok(Self { ledger: Model::BUILT_IN.ledger() }) };
        let attempt = format!("reading {}", path.display());
        let mut text = Vec::new();
        let read = open_file(path)?.take(LEDGER_BYTES_MAX + 1).read_to_end(&mut text);
        let bytes = read.map_err(|error| CtlError::usage(&attempt, error))?;
        if bytes as u64 > LEDGER_BYTES_MAX {
            return Err(CtlError::usage(attempt, format!("more than {LEDGER_BYTES_MAX} bytes")));
        }
        let ledger = ledger::Ledger::parse(&text).map_err(|error| CtlError::usage(attempt, error))?;
        Ok(Self { ledger })
    }
}

impl Application for Txmon {
    type Told = run::Watched;

    const SETS: (&'static str, &'static str) = ("txmon.yaml", ringfleet_actors::txmon::SETS_YAML);
    const UNIT: &'static str = "transactions";

    fn units(&self) -> u64 {
        self.ledger.transactions.len() as u64
    }

    async fn run(self, stage: &Stage<'_>) -> CtlResult<Self::Told> {
        run::watch(self.ledger, stage).await
    }

    fn summary(told: &Self::Told, took: Duration) -> String {
        let transactions = out::thousands(told.ledger.transactions.len() as u64);
        let (sweeps, ends) = (out::thousands(told.sweeps), out::thousands(told.ends));
        format!("{transactions} transactions, {sweeps} sweeps with {ends} ends, in {:.1} s", took.as_secs_f64())
    }

    async fn judge(told: Self::Told, stage: &Stage<'_>, checks: &mut Checks) -> CtlResult {
        let what = "every trace has ended: no message of it was lost";
        checks.check(what, told.stalled.is_none(), || told.stalled.clone().unwrap_or_default());
        if told.stalled.is_some() {
            return Ok(());
        }
        let results = ask(&told.ledger, stage).await?;
        out::write_text(&results.tables(&told.ledger).to_string())?;
        let difference = results.difference(&serial::results(&told.ledger));
        let same = difference.is_none();
        let what = "alerts and accounts are those of the serial computation";
        checks.check(what, same, || difference.unwrap_or_default());
        Ok(())
    }
}

/// Asks every account, and its case for each alert.
async fn ask(ledger: &ledger::Ledger, stage: &Stage<'_>) -> CtlResult<Results> {
    let Stage { env, session, .. } = *stage;
    let accounts = ledger.accounts();
    let keys = accounts.iter().map(|account| u64::from(*account)).collect();
    let reports = ask_all::<Account, _, AccountReport>(env, session, keys, || AccountAsked {}).await?;
    let of = |(account, report): (&u32, &AccountReport)| {
        let account = *account;
        places(account, report.alerts).map(move |place| (account, place)).collect::<Vec<_>>()
    };
    let alerts: Vec<(u32, (u64, u32))> = accounts.iter().zip(&reports).flat_map(of).collect();
    let questions = alerts.iter().map(|(_, (page, at))| (*page, AlertAsked { at: *at })).collect();
    let answers = ask_each::<Case, _, Alert>(env, session, questions).await?;
    let rows = alerts.iter().zip(&answers).map(|((account, _), alert)| AlertRow::of(*account, alert));
    let rows: Option<Vec<AlertRow>> = rows.collect();
    let mut alerts =
        rows.ok_or_else(|| CtlError::failed("asking for the alerts", "one is of a rule that does not exist"))?;
    alerts.sort_unstable();
    Ok(Results { alerts, accounts: accounts.into_iter().zip(reports).collect() })
}
