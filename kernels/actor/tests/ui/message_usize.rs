use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub count: usize,
}

fn main() {}
