use ringfleet_actor::prelude::*;

#[actor(name = "test.a", colour = blue)]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
