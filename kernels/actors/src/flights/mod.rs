//! A year of real flights: 336,776 departures from New York's airports in 2013, as the US Bureau of Transportation Statistics
//! recorded them (public domain), through three actor sets.
//!
//! ```text
//!             Flight                Leg
//!   client ----------> aircraft ----------> carrier
//!                         | Movement (2)
//!                         +--------------> airport (origin, destination)
//!                         | KnockOn
//!                         +--------------> airport (origin)
//! ```
//! Results are exact integers, so that they can be compared with the serial computation in [`serial`], which shares only the
//! [`csv`] reader and the table types with the actors.
//!
//! # What the words mean
//! * A flight without a departure delay was **cancelled**; it has no arrival delay either (a line that says otherwise is malformed). It
//!   counts as a leg, as a cancelled one, and as a cancelled movement of both its airports; it flew no miles and leaves
//!   the delays and the knock-on chain of its aircraft as they were.
//! * A flight with a departure delay and no arrival delay left and did not arrive as planned (1,175 rows). Its departure
//!   counts; sums, maxima and means of arrival delays skip it; the next leg of the day cannot be a knock-on, since it is not
//!   known when this one arrived.
//! * **Late** is 15 minutes or more. A **knock-on** is a leg that departs late after the previous leg of the same aircraft
//!   on the same day (the last one before it in the stream that was not cancelled) has arrived late.
//! * A flight without tail number belongs to the aircraft `unknown`: many aircraft under one name, hence never a knock-on.
//! * Carriers are listed by name; **most affected airports** by knock-ons, then by late movements (departures from and arrivals
//!   at it), then by name; **worst aircraft** by the sum of their arrival delays, then by name; `unknown` is not listed.
//! * A mean is given in hundredths, rounded half away from zero; exact sums and counts stand behind it.

pub mod aircraft;
pub mod airport;
pub mod carrier;
pub mod csv;
pub mod keys;
pub mod names;
pub mod serial;
pub mod tables;

/// The actor-set documents of this application, one YAML document each.
pub const SETS_YAML: &str = include_str!("../../sets/flights.yaml");

/// The document of a small second set, of type `counter`.
pub const COUNTER_YAML: &str = include_str!("../../sets/counter.yaml");

/// Days that a day index can name: 12 months of 31 days.
pub const DAYS: usize = 372;
