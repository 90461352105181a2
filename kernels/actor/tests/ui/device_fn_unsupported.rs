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
fn total(list: [u32; 4]) -> u32 {
    let words = vec![1, 2];
    let name: String = 3;
    list.iter().sum()
}

fn main() {}
