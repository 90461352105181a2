use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub a: bool,
    pub b: char,
}

fn main() {}
