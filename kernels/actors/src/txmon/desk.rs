//! `txmon.desk`: where the weights of traces come together when they end. Key d takes those of the accounts whose number is d modulo 16.

use ringfleet_actor::prelude::*;

/// A trace, or a part of one, has ended.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its weight.
    pub weight: u32,
}

/// Asks for [`Returned`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct ReturnedAsked {}

/// What has come back.
#[message]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// All weights together, since the beginning.
    pub weight: u64,
    /// Ends, since the beginning.
    pub ends: u64,
}

/// A desk.
#[actor(name = "txmon.desk", width = lane, max_sends = 1)]
#[derive(Debug, Default)]
pub struct Desk {
    weight: u64,
    ends: u64,
}

#[handlers]
impl Desk {
    fn on_traced(&mut self, m: &Traced, ctx: &mut Ctx) {
        self.weight += m.weight as u64;
        self.ends += 1;
    }

    fn on_returned_asked(&mut self, _m: &ReturnedAsked, ctx: &mut Ctx) {
        ctx.reply(&Returned { weight: self.weight, ends: self.ends })
    }
}
