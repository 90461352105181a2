//! An actor whose state and messages have enums, and messages for it: some with numbers of no variant.

use ringfleet_abi::{ActorId, Envelope, Flags, SetId};
use ringfleet_actor::TypeDescriptor;
use ringfleet_actor::prelude::*;

use crate::compare::Random;
use crate::host::Stream;

#[plain]
#[repr(u8)]
#[derive(Default)]
pub enum Mode {
    #[default]
    Closed,
    Ajar = 3,
    Open,
    Broken = 255,
}

#[plain]
#[repr(u16)]
#[derive(Default)]
pub enum Wind {
    East = 0x8000,
    West = 0xffff,
    #[default]
    Calm = 0,
}

#[plain]
#[repr(u32)]
#[derive(Default)]
pub enum Why {
    #[default]
    Nobody,
    Guest,
    Storm = 0xffff_ffff,
}

#[plain]
#[derive(Default)]
pub struct Seen {
    pub why: Why,
    pub wind: Wind,
    pub modes: [Mode; 2],
}

#[message]
pub struct Pushed {
    pub seen: Seen,
    pub to: Mode,
    pub pad: [u8; 3],
    pub at: u32,
}

#[message]
pub struct Asked {
    pub whys: [Why; 2],
}

#[message]
pub struct Told {
    pub rank: u64,
    pub why: Why,
    pub wind: Wind,
    pub mode: Mode,
    pub same: u8,
}

#[actor(name = "enums.door", max_sends = 2)]
#[derive(Default)]
pub struct Door {
    turns: u64,
    last: Seen,
    trail: [Mode; 5],
    pad: [u8; 3],
}

#[handlers]
impl Door {
    const START: Mode = Mode::Ajar;
    const STORMY: (Why, Wind) = (Why::Storm, Wind::West);

    fn on_pushed(&mut self, m: &Pushed, _ctx: &mut Ctx) {
        let before = self.trail[self.turns as usize % 5];
        let next = match (before, m.to) {
            (Mode::Broken, _) => Mode::Broken,
            (Mode::Closed, to) if self.turns == 0 => Self::first(to),
            (Mode::Closed | Mode::Ajar, Mode::Open) => Mode::Ajar,
            (_, to) => to,
        };
        self.turns += 1;
        if next != before {
            self.trail[m.at as usize] = next;
        }
        self.last = m.seen;
        self.last.modes[(m.at % 2) as usize] = next;
        if (m.seen.why, m.seen.wind) == Self::STORMY && next == Mode::Open {
            self.last.modes = [Mode::Broken; 2];
        }
    }

    fn on_asked(&mut self, m: &Asked, ctx: &mut Ctx) {
        let (mut open, mut worst) = (0_u64, Why::Nobody as u64);
        for mode in self.trail {
            open += match mode {
                Mode::Open => 1,
                Mode::Closed | Mode::Broken => 0,
                Mode::Ajar => 16,
            };
        }
        let mut at = 0;
        while at < 2 {
            if m.whys[at] as u64 > worst {
                worst = m.whys[at] as u64;
            }
            at += 1;
        }
        let why = if worst == Why::Storm as u64 { Why::Storm } else { self.last.why };
        let same = if m.whys == [self.last.why; 2] { 1 } else { 0 };
        let rank = open << 32 | Self::weight(&self.last.wind) as u64;
        ctx.reply(&Told { rank, why, wind: self.last.wind, mode: self.trail[0], same });
    }

    fn first(to: Mode) -> Mode {
        if to == Mode::Closed { Self::START } else { to }
    }

    fn weight(wind: &Wind) -> i16 {
        match *wind {
            Wind::Calm => 1,
            other => other as i16,
        }
    }
}

pub fn types() -> Vec<&'static TypeDescriptor> {
    types![Door]
}

/// Streams of messages; of every tenth message one enum has the number of no variant.
pub fn streams(random: &mut Random, count: usize) -> Vec<Stream> {
    let of = |random: &mut Random, numbers: &[u32]| numbers[random.below(numbers.len() as u64) as usize];
    let why = |random: &mut Random| of(random, &[0, 1, u32::MAX]).to_le_bytes();
    let wind = |random: &mut Random| (of(random, &[0, 0x8000, 0xffff]) as u16).to_le_bytes();
    let mode = |random: &mut Random| of(random, &[0, 3, 4, 4, 255]) as u8;
    let mut message = || {
        let mut payload = Vec::new();
        let kind = if random.below(3) == 0 {
            payload.extend(why(random));
            payload.extend(why(random));
            Asked::KIND
        } else {
            payload.extend(why(random));
            payload.extend(wind(random));
            payload.extend([mode(random), mode(random), mode(random), 0, 0, 0]);
            payload.extend((random.below(5) as u32).to_le_bytes());
            Pushed::KIND
        };
        if random.below(10) == 0 {
            let enums = if kind == Asked::KIND { 8 } else { 9 };
            let at = random.below(enums) as usize;
            payload[at] = random.next() as u8;
        }
        let from = ActorId::client(ringfleet_abi::SessionId(3), 1);
        Envelope::new(from, ActorId::new(SetId(3), 77), kind, Flags::ASK, &payload).expect("it fits")
    };
    (0..count).map(|_| Stream { ty: 0, envelopes: (0..30).map(|_| message()).collect() }).collect()
}
