//! `graph.vertex`: one vertex, its first edges, its rank and its component.

use ringfleet_actor::prelude::*;

use super::block::{Block, Scatter};
use super::group::{Done, Enlist, Group};
use super::{BLOCK_EDGES, GROUP_VERTICES, LABEL, OUT, OWN_EDGES, RANK, handed_on};

/// Up to seven edges to keep.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Edges {
    /// How many there are in `to`.
    pub count: u32,
    /// The vertices at the other ends, with [`OUT`] if the edge leads there.
    pub to: [u32; 7],
}

/// Begin your part of a round.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Go {
    /// What every rank has without hearing from anybody.
    pub base: u64,
    /// The number of the round, from 1.
    pub round: u32,
    /// [`RANK`], [`SETTLE`](super::SETTLE) or [`LABEL`].
    pub what: u32,
}

/// What a neighbour says in a round. Answered by [`Heard`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Share {
    /// A part of its rank, or the lowest vertex that it knows of.
    pub value: u64,
    /// The neighbour.
    pub from: u32,
    /// Which of its edge blocks says it, from 1; 0 is the vertex itself.
    pub block: u32,
    /// The number of the round.
    pub round: u32,
    /// [`RANK`] or [`LABEL`].
    pub what: u32,
}

/// What was said has been taken in; from the last edge block: by all.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {}

/// Asks for [`Ranked`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct RankAsked {}

/// The results of a vertex.
#[message]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranked {
    /// Its rank, in fixed point.
    pub rank: u64,
    /// The lowest vertex of its component.
    pub component: u32,
    /// How many edges lead away from it.
    pub out_degree: u32,
}

/// One vertex. Its state of zeros is that of a vertex nobody has heard of yet.
#[actor(name = "graph.vertex", width = lane, max_sends = 8)]
#[derive(Debug, Default)]
pub struct Vertex {
    rank: u64,
    /// What was heard in rounds of even and of odd numbers: neighbours may be a round ahead of a vertex that has not begun.
    /// Of ranks the sum; of components how far below this vertex the lowest one is.
    heard: [u64; 2],
    /// By how much the rank has changed in this round.
    moved: u64,
    /// How far below this vertex the lowest one of its component is.
    below: u32,
    out_degree: u32,
    /// All edges, those in blocks included.
    stored: u32,
    /// Answers that are missing.
    waiting: u32,
    edges: [u32; OWN_EDGES as usize],
}

#[handlers]
impl Vertex {
    fn on_edges(&mut self, m: &Edges, ctx: &mut Ctx) {
        let mut rest = Edges { count: 0, to: [0; 7] };
        let mut block = 0;
        for i in 0..m.count {
            let edge = m.to[i as usize];
            if edge & OUT != 0 {
                self.out_degree += 1;
            }
            if self.stored < OWN_EDGES {
                self.edges[self.stored as usize] = edge;
            } else {
                let at = (self.stored - OWN_EDGES) / BLOCK_EDGES;
                if rest.count > 0 && at != block {
                    ctx.tell(Block::at((ctx.key() << 32) + block as u64), &rest);
                    rest.count = 0;
                }
                block = at;
                rest.to[rest.count as usize] = edge;
                rest.count += 1;
            }
            self.stored += 1;
        }
        if rest.count > 0 {
            ctx.tell(Block::at((ctx.key() << 32) + block as u64), &rest)
        }
    }

    fn on_go(&mut self, m: &Go, ctx: &mut Ctx) {
        let last = (m.round as usize + 1) % 2;
        let heard = self.heard[last];
        self.heard[last] = 0;
        let mut value = 0;
        if m.what == LABEL {
            self.below = self.below.max(heard as u32);
            value = ctx.key() - self.below as u64;
        } else {
            let rank = m.base + handed_on(heard);
            self.moved = rank.abs_diff(self.rank);
            self.rank = rank;
            if self.out_degree > 0 {
                value = rank / self.out_degree as u64;
            }
        }
        self.waiting = 0;
        if m.what == LABEL || m.what == RANK && self.out_degree > 0 {
            self.tell_neighbours(m, value, ctx);
        }
        if self.waiting == 0 {
            self.tell_done(ctx)
        }
    }

    fn on_share(&mut self, m: &Share, ctx: &mut Ctx) {
        let now = m.round as usize % 2;
        if m.what == LABEL {
            let known = (self.below as u64).max(self.heard[0]).max(self.heard[1]);
            let below = ctx.key().saturating_sub(m.value);
            if below > known {
                self.heard[now] = below;
                // The group answers, so that the round is not closed before it knows of this vertex.
                let vertex = ctx.key() as u32;
                let enlist = Enlist { vertex: vertex, round: m.round, from: m.from, block: m.block };
                ctx.tell(Group::at((vertex / GROUP_VERTICES) as u64), &enlist);
                return;
            }
        } else {
            self.heard[now] += m.value;
        }
        ctx.reply(&Heard {})
    }

    fn on_heard(&mut self, _m: &Heard, ctx: &mut Ctx) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.tell_done(ctx)
        }
    }

    fn on_rank_asked(&mut self, _m: &RankAsked, ctx: &mut Ctx) {
        let component = ctx.key() as u32 - self.below;
        ctx.reply(&Ranked { rank: self.rank, component: component, out_degree: self.out_degree })
    }

    /// Says `value` along the edges here, and lets the first block say it along the others.
    fn tell_neighbours(&mut self, m: &Go, value: u64, ctx: &mut Ctx) {
        let vertex = ctx.key() as u32;
        let share = Share { value: value, from: vertex, block: 0, round: m.round, what: m.what };
        for i in 0..self.stored.min(OWN_EDGES) {
            let edge = self.edges[i as usize];
            if m.what == LABEL || edge & OUT != 0 {
                self.waiting += 1;
                ctx.tell(Vertex::at((edge & !OUT) as u64), &share);
            }
        }
        if self.stored > OWN_EDGES {
            let left = (self.stored - OWN_EDGES - 1) / BLOCK_EDGES;
            self.waiting += 1;
            let scatter = Scatter { value: value, round: m.round, what: m.what, left: left, _pad: [0; 4] };
            ctx.tell(Block::at(ctx.key() << 32), &scatter)
        }
    }

    fn tell_done(&self, ctx: &mut Ctx) {
        let mut loose = self.rank;
        if self.out_degree > 0 {
            loose = self.rank % self.out_degree as u64;
        }
        let group = (ctx.key() as u32 / GROUP_VERTICES) as u64;
        ctx.tell(Group::at(group), &Done { loose: loose, moved: self.moved })
    }
}
