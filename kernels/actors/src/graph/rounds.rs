//! `graph.rounds`: the one actor (key 0) that opens and closes the rounds.

use ringfleet_actor::prelude::*;

use super::group::{Group, Round};
use super::{
    GROUP_VERTICES, GROUPS_AT_A_TIME, HANDED_ON_PERCENT, IDLE, LABEL, ONE, RANK, SENDS_MAX, SETTLE, VERTICES_MAX,
    handed_on,
};

/// Compute something, when all edges are loaded. While something else is computed it fails the actor.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// The vertices are `0..vertices`.
    pub vertices: u32,
    /// Rounds of PageRank; components take as many as they need.
    pub rounds: u32,
    /// [`RANK`] or [`LABEL`].
    pub what: u32,
}

/// All vertices of a group that have begun in this round are done.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct GroupDone {
    /// What they could not hand on.
    pub loose: u64,
    /// By how much their ranks have changed.
    pub moved: u64,
    /// How many they are.
    pub begun: u32,
    /// The number of the round.
    pub round: u32,
}

/// Asks for [`Standing`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct StandingAsked {}

/// How far it is.
#[message]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By how much all ranks together changed in the last closed round of PageRank, in fixed point.
    pub moved: u64,
    /// [`RANK`], [`SETTLE`] or [`LABEL`] while that goes on, [`IDLE`] when all is done.
    pub what: u32,
    /// The round that is open, or the last one.
    pub round: u32,
    /// Rounds closed so far, in all.
    pub closed: u32,
    /// Groups that have ended a round so far, modulo 2^32: it stands still if nothing goes on.
    pub steps: u32,
    /// Times that a vertex began its part of a round, in all.
    pub begun: u64,
}

/// The counter of groups.
#[actor(name = "graph.rounds", width = lane, max_sends = 8)]
#[derive(Debug, Default)]
pub struct Rounds {
    base: u64,
    loose: u64,
    moved: u64,
    last_moved: u64,
    begun_in_all: u64,
    vertices: u32,
    rounds: u32,
    what: u32,
    round: u32,
    /// Groups that have begun in this round, and those of them that are not done.
    next: u32,
    active: u32,
    /// Vertices that have begun in this round.
    begun: u32,
    closed: u32,
    steps: u32,
    _pad: [u8; 4],
}

#[handlers]
impl Rounds {
    fn on_start(&mut self, m: &Start, ctx: &mut Ctx) {
        if self.what != IDLE || m.what != RANK && m.what != LABEL || m.vertices as usize > VERTICES_MAX {
            ctx.fail(1)
        }
        if m.vertices > 0 {
            self.vertices = m.vertices;
            self.rounds = m.rounds;
            self.what = if m.what == RANK && m.rounds == 0 { SETTLE } else { m.what };
            self.base = ONE / m.vertices as u64;
            self.round = 0;
            self.open();
            self.go_on(ctx)
        }
    }

    fn on_group_done(&mut self, m: &GroupDone, ctx: &mut Ctx) {
        if m.round != self.round {
            ctx.fail(2)
        }
        self.active -= 1;
        self.steps = self.steps.wrapping_add(1);
        self.loose += m.loose;
        self.moved += m.moved;
        self.begun += m.begun;
        if self.active == 0 && self.next == self.groups() {
            self.close();
        }
        if self.what != IDLE {
            self.go_on(ctx)
        }
    }

    fn on_standing_asked(&mut self, _m: &StandingAsked, ctx: &mut Ctx) {
        let standing = Standing {
            moved: self.last_moved,
            what: self.what,
            round: self.round,
            closed: self.closed,
            steps: self.steps,
            begun: self.begun_in_all,
        };
        ctx.reply(&standing)
    }

    fn groups(&self) -> u32 {
        (self.vertices - 1) / GROUP_VERTICES + 1
    }

    fn open(&mut self) {
        self.round += 1;
        self.next = 0;
        self.loose = 0;
        self.moved = 0;
        self.begun = 0;
    }

    /// The round is over; opens the next one if there is one.
    fn close(&mut self) {
        self.closed += 1;
        self.begun_in_all += self.begun as u64;
        if self.what == LABEL {
            if self.begun == 0 {
                self.what = IDLE;
            }
        } else {
            self.last_moved = self.moved;
            self.base = (ONE * (100 - HANDED_ON_PERCENT) / 100 + handed_on(self.loose)) / self.vertices as u64;
            if self.what == SETTLE {
                self.what = IDLE;
            } else if self.round >= self.rounds {
                self.what = SETTLE;
            }
        }
        if self.what != IDLE {
            self.open();
        }
    }

    /// Lets more groups begin while there are some.
    fn go_on(&mut self, ctx: &mut Ctx) {
        let groups = self.groups();
        let all = if self.what != LABEL || self.round == 1 { 1 } else { 0 };
        let mut sent = 0;
        while self.next < groups && self.active < GROUPS_AT_A_TIME && sent < SENDS_MAX {
            let size = (self.vertices - self.next * GROUP_VERTICES).min(GROUP_VERTICES);
            let round = Round { base: self.base, round: self.round, what: self.what, size: size, all: all };
            ctx.tell(Group::at(self.next as u64), &round);
            self.next += 1;
            self.active += 1;
            sent += 1;
        }
    }
}
