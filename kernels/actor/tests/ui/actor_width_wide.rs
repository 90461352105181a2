use ringfleet_actor::prelude::*;

#[actor(name = "test.a", width = wide)]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
