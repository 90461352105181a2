use ringfleet_actor::prelude::*;

#[plain]
#[repr(u8)]
pub enum Mode {
    Closed,
    Open,
    Ajar,
}

#[message]
pub struct Go {
    pub to: Mode,
}

#[actor(name = "test.a", width = lane)]
#[derive(Default)]
pub struct A {
    n: u32,
}

#[handlers]
impl A {
    fn on_go(&mut self, m: &Go, ctx: &mut Ctx) {
        if m.to == Mode::Shut {
            self.n = 1;
        }
    }
}

fn main() {}
