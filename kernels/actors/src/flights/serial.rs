//! The same results by one loop over the events, written from the definitions and independently of the actors: it shares
//! [`Event`] and the row types with them and nothing else. What it says is compared with what the cluster says.

use std::collections::HashMap;

use super::csv::Event;
use super::tables::{AircraftRow, AirportRow, CarrierRow, Mean, Tables};

/// What is counted of one carrier or aircraft.
#[derive(Default)]
struct Flown {
    legs: u64,
    knock_ons: u64,
    miles: u64,
    dep_delays: Delays,
    arr_delays: Delays,
}

#[derive(Default)]
struct Delays {
    count: u64,
    sum: i64,
    longest: Option<i64>,
}

impl Delays {
    fn note(&mut self, minutes: Option<i32>) {
        let Some(minutes) = minutes.map(i64::from) else { return };
        self.count += 1;
        self.sum += minutes;
        self.longest = self.longest.max(Some(minutes));
    }

    fn mean(&self) -> Mean {
        Mean { sum: self.sum, count: self.count }
    }
}

/// Adds events up, one after the other.
#[derive(Default)]
pub struct Serial {
    carriers: HashMap<String, Flown>,
    aircraft: HashMap<String, Flown>,
    no_tail: Flown,
    airports: HashMap<String, AirportRow>,
    /// Whether the last leg that a tail number flew on a day (month, day) is known to have arrived late.
    arrived_late: HashMap<(String, u8, u8), bool>,
}

impl Serial {
    /// Nothing added yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event. Their order within a day matters.
    pub fn add(&mut self, event: &Event<'_>) {
        let flown = event.dep_delay_minutes.is_some();
        let departs_late = event.dep_delay_minutes.is_some_and(|minutes| minutes >= 15);
        let arrives_late = event.arr_delay_minutes.is_some_and(|minutes| minutes >= 15);

        let mut knock_on = false;
        if let (Some(tail), true) = (event.tail, flown) {
            let before = self.arrived_late.insert((tail.to_owned(), event.month, event.day), arrives_late);
            knock_on = departs_late && before == Some(true);
        }

        let aircraft = match event.tail {
            Some(tail) => self.aircraft.entry(tail.to_owned()).or_default(),
            None => &mut self.no_tail,
        };
        for books in [aircraft, self.carriers.entry(event.carrier.to_owned()).or_default()] {
            books.legs += 1;
            books.knock_ons += u64::from(knock_on);
            books.miles += if flown { u64::from(event.distance_miles) } else { 0 };
            books.dep_delays.note(event.dep_delay_minutes);
            books.arr_delays.note(event.arr_delay_minutes);
        }

        let origin = self.airports.entry(event.origin.to_owned()).or_default();
        origin.departures += 1;
        origin.late_departures += u64::from(departs_late);
        origin.cancelled += u64::from(!flown);
        origin.knock_ons += u64::from(knock_on);
        let dest = self.airports.entry(event.dest.to_owned()).or_default();
        dest.arrivals += 1;
        dest.late_arrivals += u64::from(arrives_late);
        dest.cancelled += u64::from(!flown);
    }

    /// The results.
    #[must_use]
    pub fn tables(self) -> Tables {
        let mut carriers: Vec<CarrierRow> =
            self.carriers.into_iter().map(|(name, books)| carrier(name, &books)).collect();
        carriers.sort_by_key(|row| row.name.clone());
        let mut airports: Vec<AirportRow> =
            self.airports.into_iter().map(|(name, row)| AirportRow { name, ..row }).collect();
        airports.sort_by(|a, b| {
            let late = |row: &AirportRow| row.late_departures + row.late_arrivals;
            b.knock_ons.cmp(&a.knock_ons).then(late(b).cmp(&late(a))).then(a.name.cmp(&b.name))
        });
        let mut aircraft: Vec<AircraftRow> =
            self.aircraft.into_iter().map(|(name, books)| aircraft(name, &books)).collect();
        aircraft.sort_by(|a, b| b.arr_delay.sum.cmp(&a.arr_delay.sum).then(a.name.cmp(&b.name)));
        let unknown_aircraft = aircraft_without_tail(&self.no_tail);
        Tables { carriers, airports, aircraft, unknown_aircraft }
    }
}

fn carrier(name: String, books: &Flown) -> CarrierRow {
    CarrierRow {
        name,
        legs: books.legs,
        cancelled: books.legs - books.dep_delays.count,
        dep_delay: books.dep_delays.mean(),
        arr_delay: books.arr_delays.mean(),
        knock_ons: books.knock_ons,
    }
}

fn aircraft(name: String, books: &Flown) -> AircraftRow {
    AircraftRow {
        name,
        legs: books.legs,
        cancelled: books.legs - books.dep_delays.count,
        knock_ons: books.knock_ons,
        miles: books.miles,
        dep_delay: books.dep_delays.mean(),
        arr_delay: books.arr_delays.mean(),
        dep_max_minutes: books.dep_delays.longest.unwrap_or(0),
        arr_max_minutes: books.arr_delays.longest.unwrap_or(0),
    }
}

fn aircraft_without_tail(books: &Flown) -> AircraftRow {
    aircraft("unknown".to_owned(), books)
}
