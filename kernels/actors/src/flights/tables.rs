//! The result tables: rows of exact integers, their order, and how they print.

use std::cmp::Reverse;
use std::fmt::{self, Write};

use super::aircraft::{AircraftCounts, AircraftDelays};
use super::airport::AirportReport;
use super::carrier::CarrierReport;

/// Rows of the ranked tables that are printed.
pub const TOP: usize = 10;

/// A mean as the numbers behind it: two means are equal if both sums and both counts are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mean {
    /// What was added up.
    pub sum: i64,
    /// How many there were.
    pub count: u64,
}

impl Mean {
    /// The mean in hundredths, rounded half away from zero; `None` of nothing.
    #[must_use]
    pub fn hundredths(self) -> Option<i64> {
        ratio_hundredths(i128::from(self.sum), self.count)
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self.hundredths() {
            None => "-".to_owned(),
            Some(h) => format!("{}{}.{:02}", if h < 0 { "-" } else { "" }, h.abs() / 100, h.abs() % 100),
        })
    }
}

fn ratio_hundredths(sum: i128, count: u64) -> Option<i64> {
    if count == 0 {
        return None;
    }
    let (scaled, count) = (sum * 100, i128::from(count));
    let rounded = (2 * scaled.abs() + count) / (2 * count) * scaled.signum();
    i64::try_from(rounded).ok()
}

/// A carrier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarrierRow {
    /// Its code.
    pub name: String,
    /// Scheduled departures.
    pub legs: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Mean departure delay in minutes, over the legs that were not cancelled.
    pub dep_delay: Mean,
    /// Mean arrival delay in minutes, over the legs that arrived.
    pub arr_delay: Mean,
    /// Legs that were knock-ons.
    pub knock_ons: u64,
}

impl CarrierRow {
    /// The share of knock-ons among the legs that were not cancelled, in per cent.
    #[must_use]
    pub fn knock_on_percent(&self) -> Mean {
        Mean { sum: i64::try_from(self.knock_ons * 100).unwrap_or(i64::MAX), count: self.legs - self.cancelled }
    }
}

/// An airport.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AirportRow {
    /// Its code.
    pub name: String,
    /// Departures that were knock-ons.
    pub knock_ons: u64,
    /// Scheduled departures.
    pub departures: u64,
    /// Scheduled arrivals.
    pub arrivals: u64,
    /// Those of both that did not take place.
    pub cancelled: u64,
    /// Departures that were late.
    pub late_departures: u64,
    /// Arrivals that were late.
    pub late_arrivals: u64,
}

/// An aircraft.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AircraftRow {
    /// Its tail number.
    pub name: String,
    /// Scheduled departures.
    pub legs: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Legs that were knock-ons.
    pub knock_ons: u64,
    /// Miles of the legs that were not cancelled.
    pub miles: u64,
    /// Mean departure delay in minutes.
    pub dep_delay: Mean,
    /// Mean arrival delay in minutes; its sum is what aircraft are ranked by.
    pub arr_delay: Mean,
    /// The longest departure delay in minutes; 0 if there is none.
    pub dep_max_minutes: i64,
    /// The longest arrival delay in minutes; 0 if there is none.
    pub arr_max_minutes: i64,
}

/// All results. Every actor has its row, so that comparing two tables compares every actor; printing shows the first rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Carriers, by name.
    pub carriers: Vec<CarrierRow>,
    /// Airports, the most affected first.
    pub airports: Vec<AirportRow>,
    /// Aircraft, the worst first.
    pub aircraft: Vec<AircraftRow>,
    /// The flights without tail number.
    pub unknown_aircraft: AircraftRow,
}

impl Tables {
    /// Adds the answer of a carrier.
    pub fn add_carrier(&mut self, name: &str, report: &CarrierReport) {
        self.carriers.push(CarrierRow {
            name: name.to_owned(),
            legs: report.legs.into(),
            cancelled: report.cancelled.into(),
            dep_delay: Mean { sum: report.dep_sum_minutes, count: departed(report.legs, report.cancelled) },
            arr_delay: Mean { sum: report.arr_sum_minutes, count: report.arrived.into() },
            knock_ons: report.knock_ons.into(),
        });
    }

    /// Adds the answer of an airport.
    pub fn add_airport(&mut self, name: &str, report: &AirportReport) {
        self.airports.push(AirportRow {
            name: name.to_owned(),
            knock_ons: report.knock_ons.into(),
            departures: report.departures.into(),
            arrivals: report.arrivals.into(),
            cancelled: report.cancelled.into(),
            late_departures: report.late_departures.into(),
            late_arrivals: report.late_arrivals.into(),
        });
    }

    /// Adds the answers of an aircraft.
    pub fn add_aircraft(&mut self, name: &str, counts: &AircraftCounts, delays: &AircraftDelays) {
        self.aircraft.push(aircraft_row(name, counts, delays));
    }

    /// Sets the answers of the aircraft `unknown`.
    pub fn set_unknown_aircraft(&mut self, counts: &AircraftCounts, delays: &AircraftDelays) {
        self.unknown_aircraft = aircraft_row("unknown", counts, delays);
    }

    /// Puts the rows in order. Ties go by name.
    pub fn rank(&mut self) {
        self.carriers.sort_by(|a, b| a.name.cmp(&b.name));
        self.airports.sort_by_cached_key(|row| {
            (Reverse(row.knock_ons), Reverse(row.late_departures + row.late_arrivals), row.name.clone())
        });
        self.aircraft.sort_by_cached_key(|row| (Reverse(row.arr_delay.sum), row.name.clone()));
    }

    /// The first difference to `other` in words; `None` if they are equal.
    #[must_use]
    pub fn difference(&self, other: &Tables) -> Option<String> {
        first_difference("carriers", &self.carriers, &other.carriers)
            .or_else(|| first_difference("airports", &self.airports, &other.airports))
            .or_else(|| first_difference("aircraft", &self.aircraft, &other.aircraft))
            .or_else(|| {
                let (a, b) = (&self.unknown_aircraft, &other.unknown_aircraft);
                (a != b).then(|| format!("unknown aircraft: {a:?} is not {b:?}"))
            })
    }
}

fn departed(legs: u32, cancelled: u32) -> u64 {
    u64::from(legs).saturating_sub(cancelled.into())
}

fn aircraft_row(name: &str, counts: &AircraftCounts, delays: &AircraftDelays) -> AircraftRow {
    AircraftRow {
        name: name.to_owned(),
        legs: counts.legs.into(),
        cancelled: counts.cancelled.into(),
        knock_ons: counts.knock_ons.into(),
        miles: counts.miles,
        dep_delay: Mean { sum: delays.dep_sum_minutes, count: departed(counts.legs, counts.cancelled) },
        arr_delay: Mean { sum: delays.arr_sum_minutes, count: counts.arrived.into() },
        dep_max_minutes: delays.dep_max_minutes.into(),
        arr_max_minutes: delays.arr_max_minutes.into(),
    }
}

fn first_difference<T: PartialEq + fmt::Debug>(what: &str, a: &[T], b: &[T]) -> Option<String> {
    if a.len() != b.len() {
        return Some(format!("{what}: {} rows are not {}", a.len(), b.len()));
    }
    let (row, (a, b)) = a.iter().zip(b).enumerate().find(|(_, (a, b))| a != b)?;
    Some(format!("{what}, row {}: {a:?} is not {b:?}", row + 1))
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CARRIERS")?;
        writeln!(
            f,
            "{:<8} {:>8} {:>10} {:>11} {:>11} {:>10}",
            "carrier", "legs", "cancelled", "dep min", "arr min", "knock-on %"
        )?;
        for row in &self.carriers {
            let percent = row.knock_on_percent();
            writeln!(
                f,
                "{:<8} {:>8} {:>10} {:>11} {:>11} {:>10}",
                row.name, row.legs, row.cancelled, row.dep_delay, row.arr_delay, percent
            )?;
        }
        writeln!(f, "\nMOST AFFECTED AIRPORTS")?;
        writeln!(
            f,
            "{:<8} {:>9} {:>11} {:>9} {:>10} {:>9} {:>9}",
            "airport", "knock-ons", "departures", "late", "arrivals", "late", "cancelled"
        )?;
        for row in self.airports.iter().take(TOP) {
            writeln!(
                f,
                "{:<8} {:>9} {:>11} {:>9} {:>10} {:>9} {:>9}",
                row.name,
                row.knock_ons,
                row.departures,
                row.late_departures,
                row.arrivals,
                row.late_arrivals,
                row.cancelled
            )?;
        }
        writeln!(f, "\nWORST AIRCRAFT")?;
        writeln!(
            f,
            "{:<9} {:>6} {:>10} {:>10} {:>9} {:>9} {:>10} {:>9}",
            "aircraft", "legs", "cancelled", "arr sum", "arr min", "arr max", "knock-ons", "miles"
        )?;
        for row in self.aircraft.iter().take(TOP) {
            writeln!(
                f,
                "{:<9} {:>6} {:>10} {:>10} {:>9} {:>9} {:>10} {:>9}",
                row.name,
                row.legs,
                row.cancelled,
                row.arr_delay.sum,
                row.arr_delay,
                row.arr_max_minutes,
                row.knock_ons,
                row.miles
            )?;
        }
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_round_half_away_from_zero() {
        let say = |sum, count| Mean { sum, count }.to_string();
        assert_eq!(say(1, 200), "0.01");
        assert_eq!(say(-1, 200), "-0.01");
        assert_eq!(say(1, 201), "0.00");
        assert_eq!(say(-7, 3), "-2.33");
        assert_eq!(say(1050, 10), "105.00");
        assert_eq!(say(5, 0), "-");
    }

    #[test]
    fn ties_go_by_name() {
        let mut tables = Tables::default();
        for name in ["C", "A", "B"] {
            tables.add_airport(name, &AirportReport { late_arrivals: u32::from(name == "C"), ..Default::default() });
            tables.add_aircraft(name, &AircraftCounts::default(), &AircraftDelays::default());
        }
        tables.rank();
        assert_eq!(tables.airports.iter().map(|row| row.name.as_str()).collect::<String>(), "CAB");
        assert_eq!(tables.aircraft.iter().map(|row| row.name.as_str()).collect::<String>(), "ABC");
    }

    #[test]
    fn a_difference_is_told_by_its_row() {
        let mut a = Tables::default();
        a.add_carrier("UA", &CarrierReport::default());
        let mut b = a.clone();
        assert_eq!(a.difference(&b), None);
        b.carriers[0].legs = 1;
        assert!(a.difference(&b).expect("they differ").starts_with("carriers, row 1: "));
    }
}
