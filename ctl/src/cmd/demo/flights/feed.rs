//! The stream: events from a file, told to the aircraft through one session.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use ringfleet_actors::flights::aircraft::Flight;
use ringfleet_actors::flights::csv;
use ringfleet_actors::flights::names::Names;
use ringfleet_actors::flights::serial::Serial;

use crate::cmd::demo::application::Stage;
use crate::cmd::demo::stream::{BATCH, flush, open_file, tell_batch};
use crate::error::{CtlError, CtlResult, chain};

/// The events that are built in: public-domain data of the US Bureau of Transportation Statistics.
const BUILT_IN: &[u8] = include_bytes!("../../../../../kernels/actors/data/nyc-flights-2013.csv.gz");
/// How many events there are in it.
const BUILT_IN_EVENTS: u64 = 336_776;
/// What failed if it does.
const ATTEMPT: &str = "streaming the events";
/// Malformed lines that are reported one by one; the rest is only counted.
const REPORTED_MAX: u64 = 20;
/// The share of the stream, in thousandths, before which the second set must have been used.
const HOLD_AT: u64 = 950;
/// Bytes of one line. A longer one is malformed.
const LINE_BYTES_MAX: u64 = 4096;

/// Where the events come from.
pub struct Events {
    reader: Box<dyn BufRead + Send>,
    name: String,
    lines: u64,
}

impl Events {
    /// Opens a file, or what is built in.
    pub fn open(path: Option<&Path>) -> CtlResult<Self> {
        let Some(path) = path else {
            let reader = Box::new(BufReader::new(GzDecoder::new(BUILT_IN)));
            return Ok(Self { reader, name: "built-in events".to_owned(), lines: BUILT_IN_EVENTS });
        };
        let name = path.display().to_string();
        // Read twice: half-way is a place in the stream, so its length must be known.
        let mut first = Self { reader: open_file(path)?, name: name.clone(), lines: 0 };
        let lines = first.count()?;
        Ok(Self { reader: open_file(path)?, name, lines })
    }

    /// Lines after the header. Checks that there is one.
    fn count(&mut self) -> CtlResult<u64> {
        let mut line = Vec::new();
        let mut lines = 0;
        while self.next_line(&mut line)? {
            if lines == 0 && !csv::is_header(&line) {
                let cause = format!("its first line must be {}", csv::HEADER);
                return Err(CtlError::usage(format!("reading {}", self.name), cause));
            }
            lines += 1;
        }
        if lines < 2 {
            return Err(CtlError::usage(format!("reading {}", self.name), "no events in it"));
        }
        Ok(lines - 1)
    }

    /// How many lines of events there are.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Reads a line, cut at its limit; `false` at the end.
    fn next_line(&mut self, line: &mut Vec<u8>) -> CtlResult<bool> {
        line.clear();
        let read = (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', line);
        let bytes = read.map_err(|error| CtlError::usage(format!("reading {}", self.name), error))?;
        if bytes as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            // The rest of an overlong line belongs to it.
            let mut rest = Vec::new();
            while (&mut self.reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut rest).unwrap_or(0) > 0 {
                if rest.last() == Some(&b'\n') {
                    break;
                }
                rest.clear();
            }
        }
        Ok(bytes > 0)
    }
}

/// What was fed.
pub struct Fed {
    /// Events told.
    pub events: u64,
    /// Lines that were no events.
    pub malformed: u64,
    /// Who occurs in them.
    pub names: Names,
    /// The same events, added up one after the other.
    pub serial: Serial,
}

/// Tells every event to its aircraft, in order, and waits until all of it has been handled.
pub async fn feed(mut events: Events, stage: &Stage<'_>) -> CtlResult<Fed> {
    let Stage { env, session, progress, half_way, .. } = *stage;
    let set = session.set("flights.aircraft").await.map_err(|error| CtlError::failed(ATTEMPT, chain(&error)))?;
    let mut fed = Fed { events: 0, malformed: 0, names: Names::default(), serial: Serial::new() };
    let (total, started) = (events.lines(), env.now());
    let mut line = Vec::new();
    let mut number = 1;
    events.next_line(&mut line)?;
    let mut batch: Vec<(u64, Flight)> = Vec::with_capacity(BATCH);
    loop {
        number += 1;
        let more = events.next_line(&mut line)?;
        if more {
            match csv::parse(number, &line) {
                Ok(event) => {
                    fed.names.note(&event);
                    fed.serial.add(&event);
                    batch.push((event.aircraft_key(), event.message()));
                }
                Err(error) => malformed(&mut fed, &error),
            }
        }
        if batch.len() == BATCH || !more {
            tell_batch(env, session, ATTEMPT, set, &batch).await?;
            fed.events += batch.len() as u64;
            batch.clear();
            progress.told(fed.events);
            let lines = number - 1;
            if lines >= total / 2 || !more {
                half_way.reach();
            }
            if lines * 1000 >= total * HOLD_AT || !more {
                half_way.wait_done().await;
            }
            if let Some(span) = stage.span_min {
                let due = span.mul_f64(lines.min(total) as f64 / total.max(1) as f64);
                env.sleep_until(started + due).await;
            }
        }
        if !more {
            break;
        }
    }
    flush(env, session, ATTEMPT).await?;
    Ok(fed)
}

fn malformed(fed: &mut Fed, error: &csv::LineError) {
    fed.malformed += 1;
    if fed.malformed <= REPORTED_MAX {
        eprintln!("skipped {error}");
    } else if fed.malformed == REPORTED_MAX + 1 {
        eprintln!("further malformed lines are only counted");
    }
}
