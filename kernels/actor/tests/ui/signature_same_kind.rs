use ringfleet_actor::prelude::*;

#[message]
pub struct ReadRise {}

#[message]
pub struct ShipSell {}

#[actor(name = "test.a")]
#[derive(Default)]
pub struct A {
    n: u32,
}

// The kind is a hash of the name in 16 bits: these two collide.
#[handlers]
impl A {
    fn on_read_rise(&mut self, m: &ReadRise, ctx: &mut Ctx) {}
    fn on_ship_sell(&mut self, m: &ShipSell, ctx: &mut Ctx) {}
}

fn main() {}
