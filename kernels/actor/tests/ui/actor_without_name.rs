use ringfleet_actor::prelude::*;

#[actor(width = lane)]
#[derive(Default)]
pub struct A {
    n: u32,
}

fn main() {}
