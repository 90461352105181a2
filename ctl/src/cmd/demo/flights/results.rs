//! The results: every actor that occurs in the stream is asked.

use ringfleet_actors::flights::aircraft::{Aircraft, AircraftCounts, AircraftDelays, CountsAsked, DelaysAsked};
use ringfleet_actors::flights::airport::{Airport, AirportReport, ReportAsked};
use ringfleet_actors::flights::carrier::{Carrier, CarrierReport, Summary};
use ringfleet_actors::flights::keys;
use ringfleet_actors::flights::names::Names;
use ringfleet_actors::flights::tables::Tables;
use ringfleet_client::Session;
use ringfleet_env::Env;

use crate::cmd::demo::ask::ask_all;
use crate::error::CtlResult;

/// Asks everybody and puts the answers in order.
pub async fn ask(env: &Env, session: &Session, names: &Names) -> CtlResult<Tables> {
    let mut tables = Tables::default();
    let pack = |name: &String| keys::pack(name).unwrap_or_default().into();
    let carriers: Vec<u64> = names.carriers.iter().map(pack).collect();
    let reports = ask_all::<Carrier, _, CarrierReport>(env, session, carriers, || Summary {}).await?;
    names.carriers.iter().zip(&reports).for_each(|(name, report)| tables.add_carrier(name, report));

    let airports: Vec<u64> = names.airports.iter().map(pack).collect();
    let reports = ask_all::<Airport, _, AirportReport>(env, session, airports, || ReportAsked {}).await?;
    names.airports.iter().zip(&reports).for_each(|(name, report)| tables.add_airport(name, report));

    let mut aircraft: Vec<u64> = names.aircraft.iter().map(|name| keys::aircraft(name)).collect();
    aircraft.push(keys::UNKNOWN_AIRCRAFT);
    let counts = ask_all::<Aircraft, _, AircraftCounts>(env, session, aircraft.clone(), || CountsAsked {}).await?;
    let delays = ask_all::<Aircraft, _, AircraftDelays>(env, session, aircraft, || DelaysAsked {}).await?;
    let answers = counts.iter().zip(&delays);
    names.aircraft.iter().zip(answers).for_each(|(name, (counts, delays))| tables.add_aircraft(name, counts, delays));
    if let (Some(counts), Some(delays)) = (counts.last(), delays.last()) {
        tables.set_unknown_aircraft(counts, delays);
    }
    tables.rank();
    Ok(tables)
}
