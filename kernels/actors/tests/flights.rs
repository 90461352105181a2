//! The whole file through the actors in one thread, compared with the serial computation.

use std::io::{BufRead, BufReader};

use ringfleet_actor::testing::Town;
use ringfleet_actor::{Message, TypeRegistry};
use ringfleet_actors::flights::aircraft::{Aircraft, AircraftCounts, AircraftDelays, CountsAsked, DelaysAsked};
use ringfleet_actors::flights::airport::{Airport, AirportReport, ReportAsked};
use ringfleet_actors::flights::carrier::{Carrier, CarrierReport, Summary};
use ringfleet_actors::flights::names::Names;
use ringfleet_actors::flights::serial::Serial;
use ringfleet_actors::flights::tables::Tables;
use ringfleet_actors::flights::{csv, keys};

fn town() -> Town {
    Town::new(TypeRegistry::new(ringfleet_actors::types()).expect("no name twice"))
}

fn feed<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> (Town, Names, Serial) {
    let (mut town, mut names, mut serial) = (town(), Names::default(), Serial::new());
    for (at, line) in lines.into_iter().enumerate() {
        let event = csv::parse(at as u64 + 2, line).expect("a good line");
        names.note(&event);
        serial.add(&event);
        town.tell(Aircraft::at(event.aircraft_key()), &event.message());
    }
    (town, names, serial)
}

fn tables(town: &mut Town, names: &Names) -> Tables {
    let mut tables = Tables::default();
    for name in &names.carriers {
        let key = keys::pack(name).expect("a code").into();
        let reply = town.ask(Carrier::at(key), &Summary {}).expect("a reply");
        tables.add_carrier(name, &CarrierReport::from_envelope(&reply).expect("a report"));
    }
    for name in &names.airports {
        let key = keys::pack(name).expect("a code").into();
        let reply = town.ask(Airport::at(key), &ReportAsked {}).expect("a reply");
        tables.add_airport(name, &AirportReport::from_envelope(&reply).expect("a report"));
    }
    let mut aircraft = |key| {
        let counts = town.ask(Aircraft::at(key), &CountsAsked {}).expect("a reply");
        let delays = town.ask(Aircraft::at(key), &DelaysAsked {}).expect("a reply");
        (
            AircraftCounts::from_envelope(&counts).expect("counts"),
            AircraftDelays::from_envelope(&delays).expect("delays"),
        )
    };
    for name in &names.aircraft {
        let (counts, delays) = aircraft(keys::aircraft(name));
        tables.add_aircraft(name, &counts, &delays);
    }
    let (counts, delays) = aircraft(keys::UNKNOWN_AIRCRAFT);
    tables.set_unknown_aircraft(&counts, &delays);
    tables.rank();
    tables
}

#[test]
fn the_actors_say_what_the_serial_computation_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/data/nyc-flights-2013.csv.gz");
    let file = std::fs::File::open(path).expect("the data is in the repository");
    let mut lines = BufReader::new(flate2::read::GzDecoder::new(file)).split(b'\n').map(|line| line.expect("readable"));
    assert!(csv::is_header(&lines.next().expect("a header")));
    let lines: Vec<Vec<u8>> = lines.collect();
    assert_eq!(lines.len(), 336_776);

    let (mut town, names, serial) = feed(lines.iter().map(Vec::as_slice));
    assert_eq!((town.failed.len(), town.astray), (0, 0));
    assert_eq!((names.carriers.len(), names.airports.len(), names.aircraft.len()), (16, 107, 4043));
    let told = town.handled;
    let (actors, serial) = (tables(&mut town, &names), serial.tables());
    assert_eq!(actors.difference(&serial), None);

    let knock_ons: u64 = actors.airports.iter().map(|row| row.knock_ons).sum();
    // Each flight is told to its aircraft, its carrier and two airports.
    assert_eq!(told, 4 * 336_776 + knock_ons);
    assert_eq!(actors.carriers.iter().map(|row| row.legs).sum::<u64>(), 336_776);
    assert_eq!(actors.carriers.iter().map(|row| row.cancelled).sum::<u64>(), 8_255);
    assert_eq!(actors.carriers.iter().map(|row| row.arr_delay.count).sum::<u64>(), 327_346);
    assert_eq!(actors.unknown_aircraft.legs, 2_512);
    // As published for this data set: UA, 58,665 flights.
    let ua = actors.carriers.iter().find(|row| row.name == "UA").expect("UA");
    assert_eq!(ua.legs, 58_665);
    println!("{actors}");
}

#[test]
fn days_out_of_order_and_gaps_in_a_day_make_the_same_knock_ons() {
    let line = |day: u8, dep: &str, arr: &str, tail: &str| {
        format!("1,{day},600,UA,1,{tail},EWR,ORD,{dep},{arr},NA,719").into_bytes()
    };
    let lines = [
        line(1, "20", "15", "N1"),
        line(2, "0", "-3", "N1"),
        line(1, "15", "14", "N1"), // a knock-on, though another day came between
        line(1, "99", "99", "N1"), // none: the one before arrived in time
        line(1, "NA", "NA", "N1"), // cancelled: leaves the chain as it is
        line(1, "15", "NA", "N1"), // a knock-on of the 99
        line(1, "60", "60", "N1"), // none: nobody knows when the one before arrived
        line(3, "60", "60", "NA"),
        line(3, "60", "60", "NA"), // none: other aircraft under the same name
    ];
    let (mut town, names, serial) = feed(lines.iter().map(Vec::as_slice));
    let tables = tables(&mut town, &names);
    assert_eq!(tables.difference(&serial.tables()), None);
    assert_eq!(tables.aircraft[0].knock_ons, 2);
    assert_eq!((tables.airports[0].name.as_str(), tables.airports[0].knock_ons), ("EWR", 2));
}

#[test]
fn a_day_that_no_calendar_has_fails_the_aircraft_and_nothing_else() {
    let mut town = town();
    let mut flight = csv::parse(2, b"1,1,315,UA,1545,N14228,EWR,IAH,2,11,227,1400").expect("a good line").message();
    flight.day = 372;
    town.tell(Aircraft::at(1), &flight);
    assert_eq!(town.failed.len(), 1);
    assert_eq!(town.handled, 0, "a failed handling sends nothing");
}
