//! `graph.group`: starts the vertices of a group in a round, a few at a time, and counts those that are done. Group g has the vertices
//! `512 * g` to `512 * g + 511`.

use ringfleet_actor::prelude::*;

use super::block::Block;
use super::rounds::{GroupDone, Rounds};
use super::vertex::{Go, Heard, Vertex};
use super::{GROUP_VERTICES, SENDS_MAX, VERTICES_AT_A_TIME};

/// Begin a round with your vertices.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Round {
    /// What every rank has without hearing from anybody.
    pub base: u64,
    /// Its number, from 1.
    pub round: u32,
    /// [`RANK`](super::RANK), [`SETTLE`](super::SETTLE) or [`LABEL`](super::LABEL).
    pub what: u32,
    /// How many vertices the group has.
    pub size: u32,
    /// 1: all of them; 0: those that were enlisted in the round before.
    pub all: u32,
}

/// A vertex has something new to say in the next round. Its neighbour's [`Share`](super::vertex::Share) is answered with this.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Enlist {
    /// The vertex.
    pub vertex: u32,
    /// The round it heard the new thing in.
    pub round: u32,
    /// The neighbour that said it.
    pub from: u32,
    /// Which of the neighbour's edge blocks, from 1; 0 is the neighbour itself.
    pub block: u32,
}

/// A vertex has done its part of the round, and been heard by all its neighbours.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Done {
    /// What it could not hand on of its rank.
    pub loose: u64,
    /// By how much its rank has changed.
    pub moved: u64,
}

/// A group.
#[actor(name = "graph.group", width = lane, max_sends = 8, init = zero)]
#[derive(Debug)]
pub struct Group {
    /// Who is to begin, a bit each: eight words for rounds of even and of odd numbers. A bit goes when its vertex has begun. In a round
    /// those that were marked in the one before begin, while vertices are marked for the next.
    marks: [u64; 16],
    base: u64,
    loose: u64,
    moved: u64,
    round: u32,
    what: u32,
    /// Vertices that have begun in this round.
    begun: u32,
    /// Those of them that are not done.
    active: u32,
}

#[handlers]
impl Group {
    fn on_round(&mut self, m: &Round, ctx: &mut Ctx) {
        if self.active > 0 || m.size > GROUP_VERTICES {
            ctx.fail(1)
        }
        self.base = m.base;
        self.round = m.round;
        self.what = m.what;
        self.loose = 0;
        self.moved = 0;
        self.begun = 0;
        if m.all != 0 {
            let first = Self::words(m.round + 1);
            for word in 0..8 {
                let bits = m.size.saturating_sub(64 * word).min(64);
                self.marks[first + word as usize] = if bits == 64 { u64::MAX } else { (1_u64 << bits) - 1 };
            }
        }
        self.go_on(ctx)
    }

    fn on_enlist(&mut self, m: &Enlist, ctx: &mut Ctx) {
        let bit = m.vertex % GROUP_VERTICES;
        self.marks[Self::words(m.round) + (bit / 64) as usize] |= 1_u64 << (bit % 64);
        if m.block == 0 {
            ctx.tell(Vertex::at(m.from as u64), &Heard {})
        } else {
            ctx.tell(Block::at(((m.from as u64) << 32) + m.block as u64 - 1), &Heard {})
        }
    }

    fn on_done(&mut self, m: &Done, ctx: &mut Ctx) {
        self.active -= 1;
        self.loose += m.loose;
        self.moved += m.moved;
        self.go_on(ctx)
    }

    /// The first of the eight words of those that were marked in this round.
    fn words(round: u32) -> usize {
        (round % 2) as usize * 8
    }

    /// Lets more vertices begin while there are some, and says when all are done.
    fn go_on(&mut self, ctx: &mut Ctx) {
        let first = Self::words(self.round + 1);
        let go = Go { base: self.base, round: self.round, what: self.what };
        let mut sent = 0;
        for word in 0..8 {
            while self.marks[first + word] != 0 && self.active < VERTICES_AT_A_TIME && sent < SENDS_MAX {
                let marks = self.marks[first + word];
                self.marks[first + word] = marks & (marks - 1);
                self.begun += 1;
                self.active += 1;
                sent += 1;
                let vertex = ctx.key() * GROUP_VERTICES as u64 + 64 * word as u64 + marks.trailing_zeros() as u64;
                ctx.tell(Vertex::at(vertex), &go);
            }
        }
        if self.active == 0 {
            let done = GroupDone { loose: self.loose, moved: self.moved, begun: self.begun, round: self.round };
            ctx.tell(Rounds::at(0), &done)
        }
    }
}
