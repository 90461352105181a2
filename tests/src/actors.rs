//! Actors that notice when the contract is broken.
//!
//! | type | sets | what it checks |
//! |---|---|---|
//! | [`Stage`] | [`RELAY`], [`SINK`] | C3: streams of stamped messages, client to relay to sink, the hops on different nodes |
//! | [`Player`] | [`PING`], [`PONG`] | C3, C7, C9: two sets that tell each other in cycles with a fan-out |

use ringfleet_actor::prelude::*;

/// The first set of a stream.
pub const RELAY: &str = "test.relay";
/// The second set of a stream.
pub const SINK: &str = "test.sink";

/// One message of a stream: sequence numbers begin at 1 and have no gaps.
#[message]
pub struct Stamped {
    /// Its place in the stream.
    pub seq: u64,
    /// How many stages are behind this one: 1 at a relay, 0 at a sink.
    pub behind: u64,
}

/// Asks for a [`StreamReport`].
#[message]
pub struct ReadStream {}

/// What became of a stream at one hop.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Messages handled.
    pub handled: u64,
    /// The highest sequence number handled.
    pub last: u64,
    /// Times that a number was skipped.
    pub gaps: u32,
    /// Times that a number came again or late.
    pub repeats: u32,
}

/// One stage of a stream: checks, and hands on with the same number while there are stages behind.
#[actor(name = "test.stage", width = lane)]
#[derive(Default)]
pub struct Stage {
    handled: u64,
    last: u64,
    gaps: u32,
    repeats: u32,
}

#[handlers]
impl Stage {
    fn on_stamped(&mut self, m: &Stamped, ctx: &mut Ctx) {
        self.handled += 1;
        if m.seq > self.last + 1 {
            self.gaps += 1;
        }
        if m.seq <= self.last {
            self.repeats += 1;
        } else {
            self.last = m.seq;
        }
        if m.behind > 0 {
            ctx.tell(Stage::in_set("test.sink", ctx.key()), &Stamped { seq: m.seq, behind: m.behind - 1 });
        }
    }

    fn on_read(&mut self, _m: &ReadStream, ctx: &mut Ctx) {
        ctx.reply(&StreamReport { handled: self.handled, last: self.last, gaps: self.gaps, repeats: self.repeats });
    }
}

/// The set that serves.
pub const PING: &str = "test.ping";
/// The set that returns.
pub const PONG: &str = "test.pong";
/// Actors of each of the two sets that play.
pub const PLAYERS: u64 = 32;

/// Begins a rally: an actor of [`PING`] throws `balls` balls that fly `flights` times.
#[message]
pub struct Serve {
    /// Decides where balls go.
    pub seed: u64,
    /// How often each ball is passed on.
    pub flights: u32,
    /// How many balls it is each time: the fan-out.
    pub balls: u32,
}

/// A ball. Those from one actor to one other carry rising numbers.
#[message]
pub struct Ball {
    /// Decides where the next ones go.
    pub seed: u64,
    /// Its number among those from this sender to this receiver.
    pub number: u32,
    /// The key of the sender.
    pub from: u32,
    /// How often it is passed on from here.
    pub flights: u16,
    /// The fan-out.
    pub balls: u16,
    /// Who catches it: 0 [`PING`], 1 [`PONG`].
    pub side: u32,
}

/// Asks for a [`Tally`].
#[message]
pub struct ReadTally {}

/// What one player has seen.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Tally {
    /// Balls caught.
    pub caught: u64,
    /// Balls thrown.
    pub thrown: u64,
    /// Balls that came after one with the same or a higher number from the same sender.
    pub disordered: u64,
}

/// A player: catches balls of the other set and throws back more of them.
#[actor(name = "test.player", width = lane)]
#[derive(Default)]
pub struct Player {
    caught: u64,
    thrown: u64,
    disordered: u64,
    numbers: [u32; 32],
    seen: [u32; 32],
}

#[handlers]
impl Player {
    fn on_serve(&mut self, m: &Serve, ctx: &mut Ctx) {
        self.throw(m.seed, m.flights as u16, m.balls as u16, 1, ctx);
    }

    fn on_ball(&mut self, m: &Ball, ctx: &mut Ctx) {
        self.caught += 1;
        let from = m.from as usize;
        if m.number <= self.seen[from] {
            self.disordered += 1;
        }
        self.seen[from] = m.number;
        if m.flights > 0 {
            self.throw(m.seed, m.flights - 1, m.balls, 1 - m.side, ctx);
        }
    }

    fn on_read(&mut self, _m: &ReadTally, ctx: &mut Ctx) {
        ctx.reply(&Tally { caught: self.caught, thrown: self.thrown, disordered: self.disordered });
    }

    fn throw(&mut self, seed: u64, flights: u16, balls: u16, side: u32, ctx: &mut Ctx) {
        let mut mixed = seed;
        for _ball in 0..balls {
            mixed = mixed.wrapping_mul(6364136223846793005).wrapping_add(ctx.key() + 1442695040888963407);
            let to = (mixed >> 40) % 32;
            self.numbers[to as usize] += 1;
            self.thrown += 1;
            let number = self.numbers[to as usize];
            let from = ctx.key() as u32;
            let ball = Ball { seed: mixed, number: number, from: from, flights: flights, balls: balls, side: side };
            if side == 0 {
                ctx.tell(Player::in_set("test.ping", to), &ball);
            } else {
                ctx.tell(Player::in_set("test.pong", to), &ball);
            }
        }
    }
}
