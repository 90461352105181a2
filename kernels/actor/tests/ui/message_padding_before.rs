use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub a: u32,
    pub b: u64,
}

fn main() {}
