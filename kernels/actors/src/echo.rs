//! `echo`: answers what it is asked.

use ringfleet_actor::prelude::*;

/// Asks for a [`Pong`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Ping {
    /// Comes back as it is.
    pub value: u64,
}

/// The answer to a [`Ping`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Pong {
    /// The value of the `Ping`.
    pub value: u64,
    /// How many `Ping`s this actor has answered, this one included.
    pub pings: u64,
}

/// Answers what it is asked, and counts.
#[actor(name = "echo", width = lane, max_sends = 1)]
#[derive(Debug, Default)]
pub struct Echo {
    pings: u64,
}

#[handlers]
impl Echo {
    fn on_ping(&mut self, m: &Ping, ctx: &mut Ctx) {
        self.pings += 1;
        ctx.reply(&Pong { value: m.value, pings: self.pings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfleet_actor::testing::Town;

    #[test]
    fn an_echo_answers_with_the_value_and_its_count() {
        let mut town = Town::new(TypeRegistry::new(types![Echo]).expect("one type"));
        town.ask(Echo::at(1), &Ping { value: 7 });
        let reply = town.ask(Echo::at(1), &Ping { value: 8 }).expect("a reply");
        assert_eq!(Pong::from_envelope(&reply), Some(Pong { value: 8, pings: 2 }));
    }
}
