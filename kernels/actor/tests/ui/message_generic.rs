use ringfleet_actor::prelude::*;

#[message]
pub struct M<T> {
    pub a: T,
}

fn main() {}
