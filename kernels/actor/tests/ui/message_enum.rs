use ringfleet_actor::prelude::*;

#[message]
pub enum M {
    A,
    B,
}

fn main() {}
