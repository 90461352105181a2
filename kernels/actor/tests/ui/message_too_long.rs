use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub a: [u64; 4],
    pub b: u8,
}

fn main() {}
