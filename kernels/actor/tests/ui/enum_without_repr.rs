use ringfleet_actor::prelude::*;

#[plain]
pub enum Mode {
    Closed,
    Open,
}

fn main() {}
