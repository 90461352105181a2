//! `counter`: adds up what it is told.

use ringfleet_actor::prelude::*;

/// Adds to the total. Beyond the range of an `i64` the actor fails.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Add {
    /// What to add, negative to subtract.
    pub amount: i64,
}

/// Asks for a [`Count`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Read {}

/// The answer to a [`Read`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    /// The sum of all amounts.
    pub total: i64,
    /// How many there were.
    pub adds: u64,
}

/// Adds up what it is told.
#[actor(name = "counter", width = lane, max_sends = 1)]
#[derive(Debug, Default)]
pub struct Counter {
    total: i64,
    adds: u64,
}

#[handlers]
impl Counter {
    fn on_add(&mut self, m: &Add, ctx: &mut Ctx) {
        self.total += m.amount;
        self.adds += 1;
    }

    fn on_read(&mut self, _m: &Read, ctx: &mut Ctx) {
        ctx.reply(&Count { total: self.total, adds: self.adds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfleet_actor::testing::Town;

    #[test]
    fn a_counter_adds_up_and_fails_beyond_its_range() {
        let mut town = Town::new(TypeRegistry::new(types![Counter]).expect("one type"));
        town.tell(Counter::at(1), &Add { amount: i64::MAX });
        town.tell(Counter::at(1), &Add { amount: -5 });
        let reply = town.ask(Counter::at(1), &Read {}).expect("a reply");
        assert_eq!(Count::from_envelope(&reply), Some(Count { total: i64::MAX - 5, adds: 2 }));
        town.tell(Counter::at(1), &Add { amount: 6 });
        assert_eq!(town.failed.len(), 1);
    }
}
