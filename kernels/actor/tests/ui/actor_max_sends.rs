use ringfleet_actor::prelude::*;

#[actor(name = "test.a", max_sends = 65)]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
