//! Input of applications, and messages told in batches through one session.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use ringfleet_abi::SetId;
use ringfleet_actor::Message;
use ringfleet_client::{Session, Tell};
use ringfleet_env::Env;

use crate::error::{CtlError, CtlResult, chain};

/// Messages told with one call.
pub const BATCH: usize = 512;
/// How long an application may stand still before it is given up.
pub const STALL_PATIENCE: Duration = Duration::from_secs(60);

/// Opens a file, gzipped if its name ends in .gz.
pub fn open_file(path: &Path) -> CtlResult<Box<dyn BufRead + Send>> {
    let file = File::open(path).map_err(|error| CtlError::usage(format!("reading {}", path.display()), error))?;
    let zipped = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if zipped { Box::new(BufReader::new(GzDecoder::new(file))) } else { Box::new(BufReader::new(file)) })
}

/// Tells each actor its message, in order. Waits for room, not for their handling.
pub async fn tell_batch<M: Message>(
    env: &Env,
    session: &Session,
    attempt: &str,
    set: SetId,
    batch: &[(u64, M)],
) -> CtlResult {
    let payloads: Vec<_> = batch.iter().map(|(key, message)| (*key, message.to_payload())).collect();
    let tells: Vec<Tell<'_>> = payloads
        .iter()
        .map(|(key, payload)| Tell { set, key: *key, kind: M::KIND, payload: &payload[..size_of::<M>()] })
        .collect();
    match env.timeout(STALL_PATIENCE, session.tell_many(&tells)).await {
        Ok(told) => told.map_err(|error| CtlError::failed(attempt, chain(&error))),
        Err(elapsed) => {
            let cause = format!("no room for more messages: {elapsed}; {:?}", session.counters());
            Err(CtlError::unreachable(attempt, cause))
        }
    }
}

/// Waits until all that was told has been handled, or lost, which is counted and checked at the end.
pub async fn flush(env: &Env, session: &Session, attempt: &str) -> CtlResult {
    match env.timeout(STALL_PATIENCE, session.flush()).await {
        Ok(_) => Ok(()),
        Err(elapsed) => {
            let cause = format!("waiting for the last acknowledgements: {elapsed}; {:?}", session.counters());
            Err(CtlError::unreachable(attempt, cause))
        }
    }
}
