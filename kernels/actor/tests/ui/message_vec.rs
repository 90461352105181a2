use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub items: Vec<u32>,
}

fn main() {}
