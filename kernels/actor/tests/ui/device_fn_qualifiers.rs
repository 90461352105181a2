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

#[device_fn]
const fn twice(x: u32) -> u32 {
    x * 2
}

#[device_fn]
#[must_use]
fn four_times(x: u32) -> u32 {
    x * 4
}

#[device_fn(fast)]
fn eight_times(x: u32) -> u32 {
    x * 8
}

fn main() {}
