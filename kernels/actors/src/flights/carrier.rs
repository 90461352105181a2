//! `flights.carrier`: what one airline did.

use ringfleet_actor::prelude::*;

/// One scheduled departure of this carrier.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Leg {
    /// Minutes after schedule; means nothing with [`Leg::CANCELLED`].
    pub dep_delay_minutes: i32,
    /// Minutes after schedule; means nothing with [`Leg::ARR_MISSING`].
    pub arr_delay_minutes: i32,
    /// The bits below.
    pub flags: u32,
}

impl Leg {
    /// It did not depart.
    pub const CANCELLED: u32 = 1;
    /// It departed late because the aircraft had arrived late.
    pub const KNOCK_ON: u32 = 2;
    /// There is no arrival delay.
    pub const ARR_MISSING: u32 = 4;
}

/// Asks for a [`CarrierReport`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {}

/// What a carrier did.
#[message]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CarrierReport {
    /// Sum over the legs that were not cancelled.
    pub dep_sum_minutes: i64,
    /// Sum over the legs that arrived.
    pub arr_sum_minutes: i64,
    /// Scheduled departures.
    pub legs: u32,
    /// Those that were cancelled.
    pub cancelled: u32,
    /// Those with an arrival delay.
    pub arrived: u32,
    /// Those that were knock-ons.
    pub knock_ons: u32,
}

/// One airline.
#[actor(name = "flights.carrier", width = lane, max_sends = 1)]
#[derive(Debug, Default)]
pub struct Carrier {
    dep_sum_minutes: i64,
    arr_sum_minutes: i64,
    legs: u32,
    cancelled: u32,
    arrived: u32,
    knock_ons: u32,
}

#[handlers]
impl Carrier {
    fn on_leg(&mut self, m: &Leg, ctx: &mut Ctx) {
        self.legs += 1;
        if m.flags & Leg::CANCELLED != 0 {
            self.cancelled += 1;
            return;
        }
        self.dep_sum_minutes += m.dep_delay_minutes as i64;
        if m.flags & Leg::ARR_MISSING == 0 {
            self.arrived += 1;
            self.arr_sum_minutes += m.arr_delay_minutes as i64;
        }
        if m.flags & Leg::KNOCK_ON != 0 {
            self.knock_ons += 1;
        }
    }

    fn on_summary(&mut self, _m: &Summary, ctx: &mut Ctx) {
        ctx.reply(&CarrierReport {
            dep_sum_minutes: self.dep_sum_minutes,
            arr_sum_minutes: self.arr_sum_minutes,
            legs: self.legs,
            cancelled: self.cancelled,
            arrived: self.arrived,
            knock_ons: self.knock_ons,
        })
    }
}
