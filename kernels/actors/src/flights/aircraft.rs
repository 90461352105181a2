//! `flights.aircraft`: keeps what one aircraft did and tells its carrier and airports.

use ringfleet_actor::prelude::*;

use super::DAYS;
use super::airport::{Airport, KnockOn, Movement};
use super::carrier::{Carrier, Leg};

/// One scheduled departure of this aircraft.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Flight {
    /// The carrier's code, packed; its key.
    pub carrier: u32,
    /// The code of the airport of departure, packed; its key.
    pub origin: u32,
    /// The code of the airport of arrival, packed; its key.
    pub dest: u32,
    /// How far it is.
    pub distance_miles: u32,
    /// Minutes after schedule; means nothing with [`Flight::DEP_MISSING`].
    pub dep_delay_minutes: i32,
    /// Minutes after schedule; means nothing with [`Flight::ARR_MISSING`].
    pub arr_delay_minutes: i32,
    /// (month - 1) * 31 + day - 1.
    pub day: u32,
    /// The bits below.
    pub flags: u32,
}

impl Flight {
    /// There is no departure delay: cancelled.
    pub const DEP_MISSING: u32 = 1;
    /// There is no arrival delay.
    pub const ARR_MISSING: u32 = 2;
    /// The tail number is not known.
    pub const UNKNOWN_AIRCRAFT: u32 = 4;
}

/// Asks for [`AircraftCounts`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct CountsAsked {}

/// What an aircraft did, counted.
#[message]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AircraftCounts {
    /// Miles of the legs that were not cancelled.
    pub miles: u64,
    /// Scheduled departures.
    pub legs: u32,
    /// Those without a departure delay.
    pub cancelled: u32,
    /// Those with an arrival delay.
    pub arrived: u32,
    /// Those that were knock-ons.
    pub knock_ons: u32,
}

/// Asks for [`AircraftDelays`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct DelaysAsked {}

/// The delays of an aircraft.
#[message]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AircraftDelays {
    /// Sum over the legs that were not cancelled.
    pub dep_sum_minutes: i64,
    /// Sum over the legs that arrived.
    pub arr_sum_minutes: i64,
    /// The longest; 0 if there is none.
    pub dep_max_minutes: i32,
    /// The longest; 0 if there is none.
    pub arr_max_minutes: i32,
}

/// One aircraft.
#[actor(name = "flights.aircraft", width = lane, max_sends = 4)]
#[derive(Debug)]
pub struct Aircraft {
    miles: u64,
    dep_sum_minutes: i64,
    arr_sum_minutes: i64,
    dep_max_minutes: i32,
    arr_max_minutes: i32,
    legs: u32,
    cancelled: u32,
    arrived: u32,
    knock_ons: u32,
    /// For each day the delay with which the last leg arrived, or `NOT_KNOWN`.
    last_arrival_minutes: [i16; DAYS],
}

impl Default for Aircraft {
    fn default() -> Self {
        Self {
            miles: 0,
            dep_sum_minutes: 0,
            arr_sum_minutes: 0,
            dep_max_minutes: 0,
            arr_max_minutes: 0,
            legs: 0,
            cancelled: 0,
            arrived: 0,
            knock_ons: 0,
            last_arrival_minutes: [Self::NOT_KNOWN; DAYS],
        }
    }
}

#[handlers]
impl Aircraft {
    /// No leg of this day, or it is not known when the last one arrived.
    const NOT_KNOWN: i16 = i16::MIN;
    /// Late is this many minutes or more.
    const LATE_MINUTES: i32 = 15;

    fn on_flight(&mut self, m: &Flight, ctx: &mut Ctx) {
        self.legs += 1;
        let cancelled = m.flags & Flight::DEP_MISSING != 0;
        let arr_missing = cancelled || m.flags & Flight::ARR_MISSING != 0;
        let knock_on = !cancelled && self.is_knock_on(m);
        if cancelled {
            self.cancelled += 1;
        } else {
            self.count(m, arr_missing);
        }
        if knock_on {
            self.knock_ons += 1;
            ctx.tell(Airport::at(m.origin as u64), &KnockOn { carrier: m.carrier });
        }

        let mut flags = 0;
        if cancelled {
            flags |= Leg::CANCELLED;
        }
        if knock_on {
            flags |= Leg::KNOCK_ON;
        }
        if arr_missing {
            flags |= Leg::ARR_MISSING;
        }
        ctx.tell(
            Carrier::at(m.carrier as u64),
            &Leg { dep_delay_minutes: m.dep_delay_minutes, arr_delay_minutes: m.arr_delay_minutes, flags },
        );

        let mut flags = 0;
        if cancelled {
            flags |= Movement::CANCELLED | Movement::DELAY_MISSING;
        }
        ctx.tell(Airport::at(m.origin as u64), &Movement { delay_minutes: m.dep_delay_minutes, flags });
        if arr_missing {
            flags |= Movement::DELAY_MISSING;
        }
        flags |= Movement::ARRIVAL;
        ctx.tell(Airport::at(m.dest as u64), &Movement { delay_minutes: m.arr_delay_minutes, flags })
    }

    fn on_counts_asked(&mut self, _m: &CountsAsked, ctx: &mut Ctx) {
        ctx.reply(&AircraftCounts {
            miles: self.miles,
            legs: self.legs,
            cancelled: self.cancelled,
            arrived: self.arrived,
            knock_ons: self.knock_ons,
        })
    }

    fn on_delays_asked(&mut self, _m: &DelaysAsked, ctx: &mut Ctx) {
        ctx.reply(&AircraftDelays {
            dep_sum_minutes: self.dep_sum_minutes,
            arr_sum_minutes: self.arr_sum_minutes,
            dep_max_minutes: self.dep_max_minutes,
            arr_max_minutes: self.arr_max_minutes,
        })
    }

    /// Whether a leg that was not cancelled is a knock-on of the one before it. Asked before `count`.
    fn is_knock_on(&self, m: &Flight) -> bool {
        let last = self.last_arrival_minutes[m.day as usize];
        m.flags & Flight::UNKNOWN_AIRCRAFT == 0
            && last != Self::NOT_KNOWN
            && last as i32 >= Self::LATE_MINUTES
            && m.dep_delay_minutes >= Self::LATE_MINUTES
    }

    /// Adds a leg that was not cancelled.
    fn count(&mut self, m: &Flight, arr_missing: bool) {
        self.miles += m.distance_miles as u64;
        if self.legs - self.cancelled == 1 || m.dep_delay_minutes > self.dep_max_minutes {
            self.dep_max_minutes = m.dep_delay_minutes;
        }
        self.dep_sum_minutes += m.dep_delay_minutes as i64;
        if arr_missing {
            self.last_arrival_minutes[m.day as usize] = Self::NOT_KNOWN;
        } else {
            if self.arrived == 0 || m.arr_delay_minutes > self.arr_max_minutes {
                self.arr_max_minutes = m.arr_delay_minutes;
            }
            self.arrived += 1;
            self.arr_sum_minutes += m.arr_delay_minutes as i64;
            // Far beyond any delay that matters; whether it is late does not change.
            self.last_arrival_minutes[m.day as usize] = m.arr_delay_minutes.clamp(-32_000, 32_000) as i16;
        }
    }
}
