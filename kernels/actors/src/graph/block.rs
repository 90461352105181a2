//! `graph.block`: edges that their vertex has no room for. The blocks of vertex v have the keys `v << 32`, `(v << 32) + 1` and so on.

use ringfleet_actor::prelude::*;

use super::vertex::{Edges, Heard, Share, Vertex};
use super::{BLOCK_EDGES, LABEL, OUT, PORTION};

/// Say a value along your edges, then let the next block do so. The last one tells the vertex [`Heard`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Scatter {
    /// The value.
    pub value: u64,
    /// The number of the round.
    pub round: u32,
    /// [`RANK`](super::RANK) or [`LABEL`].
    pub what: u32,
    /// How many blocks follow.
    pub left: u32,
    #[doc(hidden)]
    pub _pad: [u8; 4],
}

/// A block of edges.
#[actor(name = "graph.block", width = lane, max_sends = 8, init = zero)]
#[derive(Debug)]
pub struct Block {
    value: u64,
    round: u32,
    what: u32,
    left: u32,
    stored: u32,
    /// The first edge along which nothing has been said yet.
    next: u32,
    /// Answers that are missing.
    waiting: u32,
    edges: [u32; BLOCK_EDGES as usize],
}

#[handlers]
impl Block {
    fn on_edges(&mut self, m: &Edges, ctx: &mut Ctx) {
        for i in 0..m.count {
            self.edges[self.stored as usize] = m.to[i as usize];
            self.stored += 1;
        }
    }

    fn on_scatter(&mut self, m: &Scatter, ctx: &mut Ctx) {
        self.value = m.value;
        self.round = m.round;
        self.what = m.what;
        self.left = m.left;
        self.next = 0;
        self.tell_portion(ctx)
    }

    fn on_heard(&mut self, _m: &Heard, ctx: &mut Ctx) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.tell_portion(ctx)
        }
    }

    /// The next portion, or word that there is none.
    fn tell_portion(&mut self, ctx: &mut Ctx) {
        let vertex = ctx.key() >> 32;
        let block = ctx.key() as u32 + 1;
        let share = Share { value: self.value, from: vertex as u32, block: block, round: self.round, what: self.what };
        while self.next < self.stored && self.waiting < PORTION {
            let edge = self.edges[self.next as usize];
            self.next += 1;
            if self.what == LABEL || edge & OUT != 0 {
                self.waiting += 1;
                ctx.tell(Vertex::at((edge & !OUT) as u64), &share);
            }
        }
        if self.waiting == 0 {
            if self.left > 0 {
                let left = self.left - 1;
                let scatter =
                    Scatter { value: self.value, round: self.round, what: self.what, left: left, _pad: [0; 4] };
                ctx.tell(Block::at(ctx.key() + 1), &scatter)
            } else {
                ctx.tell(Vertex::at(vertex), &Heard {})
            }
        }
    }
}
