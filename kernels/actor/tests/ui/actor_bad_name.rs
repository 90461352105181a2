use ringfleet_actor::prelude::*;

#[actor(name = "Test A")]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
