use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub pair: (u32, u32),
}

fn main() {}
