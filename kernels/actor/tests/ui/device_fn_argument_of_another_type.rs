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

#[handlers]
impl A {
    fn on_go(&mut self, m: &Go, ctx: &mut Ctx) {
        self.n = twice(m.n as u64);
    }
}

#[device_fn]
fn twice(x: u32) -> u32 {
    x * 2
}

fn main() {}
