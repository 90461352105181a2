use ringfleet_actor::prelude::*;

#[plain]
#[repr(i8)]
pub enum Mode {
    Closed,
    Open = -1,
}

fn main() {}
