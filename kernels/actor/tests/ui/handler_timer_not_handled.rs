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
        ctx.after(10, &Later { n: m.n });
    }
}

fn main() {}
