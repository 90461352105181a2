use ringfleet_actor::prelude::*;

#[plain]
#[repr(u8)]
pub enum Mode {
    Closed,
    Open = 255,
    Ajar,
}

fn main() {}
