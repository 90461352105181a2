use ringfleet_actor::prelude::*;

#[actor(name = "test.a", width = lane)]
#[derive(Default)]
pub struct A {
    seen: std::collections::HashMap<u64, u64>,
}

fn main() {}
