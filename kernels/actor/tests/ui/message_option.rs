use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub delay: Option<u32>,
}

fn main() {}
