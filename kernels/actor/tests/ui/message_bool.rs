use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub late: bool,
}

fn main() {}
