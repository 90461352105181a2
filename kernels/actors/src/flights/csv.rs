//! One line of the data to one [`Event`]. Pure: who reads the file counts and reports the lines that are malformed.
//!
//! The columns are [`HEADER`]'s. Delays and tail numbers that are not known are `NA` or empty.

use super::aircraft::Flight;
use super::keys;

/// The first line of the file.
pub const HEADER: &str = "month,day,sched_dep_minute,carrier,flight,tailnum,origin,dest,dep_delay_minutes,arr_delay_minutes,air_time_minutes,distance_miles";

/// The longest delay that is believed, in minutes, early or late: a week.
pub const DELAY_MINUTES_MAX: i32 = 7 * 24 * 60;
/// The longest distance that is believed, in miles: half way round the earth.
pub const DISTANCE_MILES_MAX: u32 = 12_500;
/// The longest tail number.
const TAIL_BYTES_MAX: usize = 8;

/// A scheduled departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// The airline's code.
    pub carrier: &'a str,
    /// The aircraft, if known.
    pub tail: Option<&'a str>,
    /// Where it departs.
    pub origin: &'a str,
    /// Where it goes.
    pub dest: &'a str,
    /// Minutes after schedule, negative if early; `None` if it was cancelled.
    pub dep_delay_minutes: Option<i32>,
    /// Minutes after schedule, negative if early; `None` if it did not arrive as planned.
    pub arr_delay_minutes: Option<i32>,
    /// How far it is.
    pub distance_miles: u32,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8,
    /// Too few or too many columns.
    #[error("{found} columns instead of 12")]
    Columns {
        /// How many there are.
        found: usize,
    },
    /// A value that is not what its column holds.
    #[error("{column} is `{value}`, expected {expected}")]
    Value {
        /// The column's name.
        column: &'static str,
        /// What stands there, cut after 24 characters.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// A flight that arrived without having departed.
    #[error("an arrival delay without a departure delay")]
    ArrivedWithoutDeparting,
}

/// A malformed line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct LineError {
    /// Its number; the header is line 1.
    pub line: u64,
    /// What is wrong.
    pub what: LineProblem,
}

/// Whether the first line names the columns that [`parse`] reads.
#[must_use]
pub fn is_header(line: &[u8]) -> bool {
    line.trim_ascii_end() == HEADER.as_bytes()
}

/// Reads one line, with or without its line end. `number` is for the error.
///
/// # Errors
/// What is wrong with the line. Nothing of it has been used then.
pub fn parse(number: u64, line: &[u8]) -> Result<Event<'_>, LineError> {
    parse_line(line).map_err(|what| LineError { line: number, what })
}

fn parse_line(line: &[u8]) -> Result<Event<'_>, LineProblem> {
    let text = std::str::from_utf8(line).map_err(|_| LineProblem::NotUtf8)?.trim_end_matches(['\r', '\n']);
    let mut columns = [""; 12];
    let mut found = 0;
    for column in text.split(',') {
        if let Some(slot) = columns.get_mut(found) {
            *slot = column;
        }
        found += 1;
    }
    if found != columns.len() {
        return Err(LineProblem::Columns { found });
    }
    let [month, day, sched, carrier, flight, tail, origin, dest, dep_delay, arr_delay, air_time, distance] = columns;
    number("sched_dep_minute", sched, 0..=1440, "0 to 1440")?;
    number("flight", flight, 0..=99_999, "a flight number")?;
    optional("air_time_minutes", air_time, 0..=DELAY_MINUTES_MAX, "minutes or NA")?;
    let delay =
        |column, value| optional(column, value, -DELAY_MINUTES_MAX..=DELAY_MINUTES_MAX, "minutes within a week, or NA");
    let event = Event {
        month: number("month", month, 1..=12, "1 to 12")? as u8,
        day: number("day", day, 1..=31, "1 to 31")? as u8,
        carrier: code("carrier", carrier)?,
        tail: tail_number(tail)?,
        origin: code("origin", origin)?,
        dest: code("dest", dest)?,
        dep_delay_minutes: delay("dep_delay_minutes", dep_delay)?,
        arr_delay_minutes: delay("arr_delay_minutes", arr_delay)?,
        distance_miles: number("distance_miles", distance, 0..=DISTANCE_MILES_MAX as i32, "miles")? as u32,
    };
    if event.dep_delay_minutes.is_none() && event.arr_delay_minutes.is_some() {
        return Err(LineProblem::ArrivedWithoutDeparting);
    }
    Ok(event)
}

fn problem(column: &'static str, value: &str, expected: &'static str) -> LineProblem {
    LineProblem::Value { column, value: value.chars().take(24).collect(), expected }
}

fn number(
    column: &'static str,
    value: &str,
    range: std::ops::RangeInclusive<i32>,
    expected: &'static str,
) -> Result<i32, LineProblem> {
    // `i32` would take a leading `+`, which the data never has.
    let parsed = if value.starts_with('+') { None } else { value.parse().ok() };
    parsed.filter(|parsed| range.contains(parsed)).ok_or_else(|| problem(column, value, expected))
}

fn is_missing(value: &str) -> bool {
    value.is_empty() || value == "NA"
}

fn optional(
    column: &'static str,
    value: &str,
    range: std::ops::RangeInclusive<i32>,
    expected: &'static str,
) -> Result<Option<i32>, LineProblem> {
    if is_missing(value) { Ok(None) } else { number(column, value, range, expected).map(Some) }
}

fn code<'a>(column: &'static str, value: &'a str) -> Result<&'a str, LineProblem> {
    if keys::pack(value).is_none() {
        return Err(problem(column, value, "one to four capital letters or digits"));
    }
    Ok(value)
}

fn tail_number(value: &str) -> Result<Option<&str>, LineProblem> {
    if is_missing(value) {
        return Ok(None);
    }
    let known = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    if value.len() > TAIL_BYTES_MAX || !value.bytes().all(known) {
        return Err(problem("tailnum", value, "one to eight capital letters or digits, or NA"));
    }
    Ok(Some(value))
}

impl Event<'_> {
    /// The message to the aircraft.
    #[must_use]
    pub fn message(&self) -> Flight {
        let packed = |code| keys::pack(code).unwrap_or_default();
        let flag = |missing: bool, flag: u32| if missing { flag } else { 0 };
        Flight {
            carrier: packed(self.carrier),
            origin: packed(self.origin),
            dest: packed(self.dest),
            distance_miles: self.distance_miles,
            dep_delay_minutes: self.dep_delay_minutes.unwrap_or_default(),
            arr_delay_minutes: self.arr_delay_minutes.unwrap_or_default(),
            day: (u32::from(self.month) - 1) * 31 + u32::from(self.day) - 1,
            flags: flag(self.dep_delay_minutes.is_none(), Flight::DEP_MISSING)
                | flag(self.arr_delay_minutes.is_none(), Flight::ARR_MISSING)
                | flag(self.tail.is_none(), Flight::UNKNOWN_AIRCRAFT),
        }
    }

    /// The key of the aircraft to tell.
    #[must_use]
    pub fn aircraft_key(&self) -> u64 {
        self.tail.map_or(keys::UNKNOWN_AIRCRAFT, keys::aircraft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "1,1,315,UA,1545,N14228,EWR,IAH,2,11,227,1400";

    #[test]
    fn a_line_becomes_an_event_and_a_message() {
        let event = parse(2, format!("{GOOD}\r\n").as_bytes()).expect("a good line").message();
        assert_eq!((event.dep_delay_minutes, event.arr_delay_minutes, event.day, event.flags), (2, 11, 0, 0));
        assert_eq!(keys::unpack(event.dest), "IAH");
    }

    #[test]
    fn missing_values_are_none_and_flagged() {
        let event = parse(2, b"12,31,1439,AA,1,NA,JFK,MIA,NA,,NA,1089").expect("a cancelled flight");
        assert_eq!((event.tail, event.dep_delay_minutes, event.arr_delay_minutes), (None, None, None));
        let message = event.message();
        assert_eq!(message.flags, Flight::DEP_MISSING | Flight::ARR_MISSING | Flight::UNKNOWN_AIRCRAFT);
        assert_eq!(message.day as usize, crate::flights::DAYS - 1);
        assert_eq!(event.aircraft_key(), keys::UNKNOWN_AIRCRAFT);
    }

    #[test]
    fn malformed_lines_say_which_line_and_what() {
        let say = |line: &str| parse(17, line.as_bytes()).expect_err("malformed").to_string();
        assert_eq!(say(""), "line 17: 1 columns instead of 12");
        assert_eq!(say(&format!("{GOOD},7")), "line 17: 13 columns instead of 12");
        assert_eq!(say(&GOOD.replacen("1,1,", "13,1,", 1)), "line 17: month is `13`, expected 1 to 12");
        assert_eq!(
            say(&GOOD.replace("EWR", "newark")),
            "line 17: origin is `newark`, expected one to four capital letters or digits"
        );
        assert_eq!(
            say(&GOOD.replace(",2,11,", ",x,11,")),
            "line 17: dep_delay_minutes is `x`, expected minutes within a week, or NA"
        );
        assert_eq!(say(&GOOD.replace(",2,11,", ",NA,11,")), "line 17: an arrival delay without a departure delay");
        assert_eq!(parse(3, &[0xFF, 0xFE]).expect_err("bytes").to_string(), "line 3: not UTF-8");
    }

    #[test]
    fn the_header_is_known_by_its_text() {
        assert!(is_header(format!("{HEADER}\n").as_bytes()));
        assert!(!is_header(GOOD.as_bytes()));
    }
}
