use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    pub id: u32,
    pub name: String,
}

fn main() {}
