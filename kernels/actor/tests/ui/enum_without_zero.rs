use ringfleet_actor::prelude::*;

#[plain]
#[repr(u8)]
pub enum Mode {
    Closed = 1,
    Open = 2,
}

fn main() {}
