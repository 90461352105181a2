use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub text: &'static [u8; 4],
}

fn main() {}
