//! `flights.airport`: what happened at one airport.

use ringfleet_actor::prelude::*;

/// A scheduled departure from or arrival at this airport.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Movement {
    /// Minutes after schedule; means nothing with [`Movement::DELAY_MISSING`].
    pub delay_minutes: i32,
    /// The bits below.
    pub flags: u32,
}

impl Movement {
    /// An arrival; without it a departure.
    pub const ARRIVAL: u32 = 1;
    /// It did not take place.
    pub const CANCELLED: u32 = 2;
    /// The delay is not known.
    pub const DELAY_MISSING: u32 = 4;
}

/// A departure from this airport was late because its aircraft had arrived late elsewhere.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct KnockOn {
    /// The carrier's code, packed.
    pub carrier: u32,
}

/// Asks for an [`AirportReport`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct ReportAsked {}

/// What happened at an airport.
#[message]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AirportReport {
    /// Scheduled departures.
    pub departures: u32,
    /// Scheduled arrivals.
    pub arrivals: u32,
    /// Those of both that did not take place.
    pub cancelled: u32,
    /// Departures 15 minutes late or more.
    pub late_departures: u32,
    /// Arrivals 15 minutes late or more.
    pub late_arrivals: u32,
    /// Departures that were knock-ons.
    pub knock_ons: u32,
}

/// One airport.
#[actor(name = "flights.airport", width = lane, max_sends = 1)]
#[derive(Debug, Default)]
pub struct Airport {
    departures: u32,
    arrivals: u32,
    cancelled: u32,
    late_departures: u32,
    late_arrivals: u32,
    knock_ons: u32,
}

#[handlers]
impl Airport {
    /// Late is this many minutes or more.
    const LATE_MINUTES: i32 = 15;

    fn on_movement(&mut self, m: &Movement, ctx: &mut Ctx) {
        let late = m.flags & Movement::DELAY_MISSING == 0 && m.delay_minutes >= Self::LATE_MINUTES;
        if m.flags & Movement::CANCELLED != 0 {
            self.cancelled += 1;
        }
        if m.flags & Movement::ARRIVAL != 0 {
            self.arrivals += 1;
            if late {
                self.late_arrivals += 1;
            }
        } else {
            self.departures += 1;
            if late {
                self.late_departures += 1;
            }
        }
    }

    fn on_knock_on(&mut self, _m: &KnockOn, ctx: &mut Ctx) {
        self.knock_ons += 1;
    }

    fn on_report_asked(&mut self, _m: &ReportAsked, ctx: &mut Ctx) {
        ctx.reply(&AirportReport {
            departures: self.departures,
            arrivals: self.arrivals,
            cancelled: self.cancelled,
            late_departures: self.late_departures,
            late_arrivals: self.late_arrivals,
            knock_ons: self.knock_ons,
        })
    }
}
