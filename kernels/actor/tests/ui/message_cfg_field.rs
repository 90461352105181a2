use ringfleet_actor::prelude::*;

#[message]
pub struct M {
    #[cfg(unix)]
    pub a: u32,
}

fn main() {}
