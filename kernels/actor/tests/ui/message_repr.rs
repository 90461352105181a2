use ringfleet_actor::prelude::*;

#[message]
#[repr(packed)]
pub struct M {
    pub a: u8,
}

fn main() {}
