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
        self.n = Other::three(m.n);
    }
}

impl A {
    fn three() -> u32 {
        3
    }
}

fn main() {}
