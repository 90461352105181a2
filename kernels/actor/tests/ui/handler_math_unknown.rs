use ringfleet_actor::prelude::*;

#[message]
pub struct Go {
    pub n: f64,
}

#[actor(name = "test.a", width = lane)]
#[derive(Default)]
pub struct A {
    n: f64,
}

#[handlers]
impl A {
    fn on_go(&mut self, m: &Go, ctx: &mut Ctx) {
        self.n = math::tan(m.n);
        self.n = math::pow(m.n);
        self.n = m.n.exp();
        self.n = m.n.ln();
        self.n = m.n.cos();
        self.n = m.n.powf(0.5);
    }
}

fn main() {}
