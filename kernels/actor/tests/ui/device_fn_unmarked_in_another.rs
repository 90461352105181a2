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

mod numbers {
    pub fn twice(x: u32) -> u32 {
        x * 2
    }
}

#[device_fn]
fn four_times(x: u32) -> u32 {
    numbers::twice(numbers::twice(x))
}

fn main() {}
