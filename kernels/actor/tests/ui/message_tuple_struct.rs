use ringfleet_actor::prelude::*;

#[message]
pub struct M(u32, u32);

fn main() {}
