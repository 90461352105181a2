//! Actors that call free functions: of this module, of others, and of another crate; functions that call each other, with references,
//! structs, enums, constants, `math`, the `ctx`, loops and faults.

use ringfleet_actor::TypeDescriptor;
use ringfleet_actor::prelude::*;

use self::geometry::{Point, steps as walk};

pub mod geometry {
    use ringfleet_actor::prelude::*;

    #[plain]
    #[repr(u32)]
    #[derive(Default)]
    pub enum Turn {
        #[default]
        None,
        Left,
        Right = 7,
    }

    #[plain]
    #[derive(Debug, Default, PartialEq)]
    pub struct Point {
        pub x: i32,
        pub y: i32,
    }

    /// How many an axis has.
    pub const SIDE: i32 = 1 << 10;

    /// The distance along the axes.
    #[device_fn]
    pub fn distance(a: Point, b: &Point) -> i32 {
        size(a.x - b.x) + size(a.y - b.y)
    }

    #[device_fn]
    fn size(x: i32) -> i32 {
        x.abs()
    }

    #[device_fn]
    pub fn turned(p: Point, turn: Turn) -> Point {
        match turn {
            Turn::None => p,
            Turn::Left => Point { x: -p.y, y: p.x },
            Turn::Right => Point { x: p.y, y: -p.x },
        }
    }

    /// Walks towards the origin; how long it takes is up to the one who asks.
    #[device_fn]
    pub fn steps(p: &mut Point, mut left: u32) -> u32 {
        let mut taken = 0;
        while left > 0 {
            left -= 1;
            if super::geometry::distance(*p, &Point { x: 0, y: 0 }) == 0 {
                return taken;
            }
            taken += 1;
            if size(p.x) > size(p.y) {
                p.x -= p.x.signum();
            } else {
                p.y -= p.y.signum();
            }
        }
        taken
    }

    /// An angle in parts of the side.
    #[device_fn]
    pub fn angle(x: i32) -> f64 {
        math::sin(x as f64 / SIDE as f64)
    }
}

/// A number that says nothing about the ones before it.
#[device_fn]
fn drawn(rows: &mut [u64; 4], at: usize, ctx: &mut Ctx) {
    rows[at] = ctx.random_below(ctx.key() + 1) ^ ctx.now().wall_ms();
    if rows[at] == 13 {
        ctx.fail(13)
    }
}

#[device_fn]
fn pair(x: f64) -> (f64, bool) {
    (geometry::angle(x as i32) + math::cos(x), x.is_nan())
}

#[message]
pub struct Go {
    pub to: Point,
    pub far: u32,
    pub turn: geometry::Turn,
    pub at: u64,
}

#[message]
pub struct Went {
    pub at: Point,
    pub taken: u32,
    pub way: i32,
    pub wave: f64,
}

#[actor(name = "functions.walker", max_sends = 1)]
#[derive(Default)]
pub struct Walker {
    rows: [u64; 4],
    wave: f64,
    handed: u64,
    at: Point,
}

#[handlers]
impl Walker {
    fn on_go(&mut self, m: &Go, ctx: &mut Ctx) {
        let to = match m.at % 29 {
            0 => m.to,
            _ => Point { x: m.to.x % geometry::SIDE, y: m.to.y % geometry::SIDE },
        };
        // A local may be called as the function is.
        let distance = geometry::distance(self.at, &to);
        self.at = geometry::turned(to, m.turn);
        let taken = self.walked(m.far);
        drawn(&mut self.rows, m.at as usize % 41 / 10, ctx);
        let (wave, _) = pair(m.at as f64);
        self.wave = wave + geometry::angle(distance);
        self.handed += ringfleet_actors::graph::handed_on(m.at);
        ctx.reply(&Went { at: self.at, taken: taken, way: distance, wave: self.wave });
    }

    fn walked(&mut self, far: u32) -> u32 {
        walk(&mut self.at, far)
    }
}

pub fn types() -> Vec<&'static TypeDescriptor> {
    types![Walker]
}
