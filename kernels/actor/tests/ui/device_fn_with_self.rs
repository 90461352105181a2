use ringfleet_actor::prelude::*;

#[message]
pub struct Go {
    pub n: u32,
}

#[actor(name = "test.a", width = lane)]
#[derive(Default)]
pub struct A {
    n: u32,
    list: [u32; 4],
}

impl A {
    #[device_fn]
    fn twice(&self) -> u32 {
        self.n * 2
    }
}

fn main() {}
