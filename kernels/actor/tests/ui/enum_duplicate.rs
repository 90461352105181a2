use ringfleet_actor::prelude::*;

#[plain]
#[repr(u8)]
pub enum Mode {
    Closed,
    Open,
    Ajar = 1,
}

fn main() {}
