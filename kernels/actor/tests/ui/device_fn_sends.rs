use ringfleet_actor::prelude::*;

#[message]
pub struct Go {
    pub n: u32,
}

#[actor(name = "test.a", width = lane)]
#[derive(Default)]
pub struct A {
    n: u32,
    list: [u32; 4],
}

#[device_fn]
fn answer(n: u32, ctx: &mut Ctx) {
    ctx.reply(&Go { n: n })
}

fn main() {}
