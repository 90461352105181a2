use ringfleet_actor::prelude::*;

#[actor(name = "test.a", width = warp)]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
