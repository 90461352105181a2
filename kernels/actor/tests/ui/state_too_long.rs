use ringfleet_actor::prelude::*;

#[actor(name = "test.a", width = lane, init = zero)]
pub struct A {
    big: [u64; 512],
    more: u64,
}

fn main() {}
