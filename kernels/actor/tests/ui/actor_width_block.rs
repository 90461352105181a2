use ringfleet_actor::prelude::*;

#[actor(name = "test.a", width = block)]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
