use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub a: u64,
    pub b: u32,
}

fn main() {}
