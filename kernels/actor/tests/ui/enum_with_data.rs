use ringfleet_actor::prelude::*;

#[plain]
#[repr(u8)]
pub enum Mode {
    Closed,
    Open(u32),
}

fn main() {}
