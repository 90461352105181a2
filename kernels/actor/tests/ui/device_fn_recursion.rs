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
        self.n = down(m.n);
    }
}

#[device_fn]
fn down(x: u32) -> u32 {
    if x == 0 { 0 } else { down(x - 1) }
}

fn main() {}
