//! Enums in messages and states: matched, compared, cast, and checked where they come from outside.
#![allow(missing_docs)]

use ringfleet_actor::prelude::*;
use ringfleet_actor::testing::{StateSlot, drive};
use ringfleet_actor::{ActorId, Behaviour, Envelope, Fault, Flags, Plain, SetId};

#[plain]
#[repr(u8)]
#[derive(Debug, Default)]
pub enum Mode {
    #[default]
    Closed,
    Opening = 5,
    Open,
}

#[message]
#[derive(Debug, PartialEq)]
pub struct Turn {
    pub to: Mode,
}

#[actor(name = "enums.door")]
#[derive(Debug, Default, PartialEq)]
pub struct Door {
    pub turns: u32,
    pub mode: Mode,
    pub trail: [Mode; 3],
}

#[handlers]
impl Door {
    fn on_turn(&mut self, m: &Turn, ctx: &mut Ctx) {
        self.mode = match (self.mode, m.to) {
            (Mode::Closed, Mode::Open) => Mode::Opening,
            (_, to) => to,
        };
        self.trail[self.turns as usize % 3] = self.mode;
        self.turns += 1;
    }
}

fn turn(numbers: &[u8]) -> (Door, usize, Option<(usize, Fault)>) {
    let (from, to) = (ActorId::new(SetId(1), 1), ActorId::new(SetId(2), 2));
    let envelope = |number: &u8| Envelope::new(from, to, Turn::KIND, Flags::NONE, &[*number]).expect("it fits");
    let mut slot = StateSlot::new(Door::DESCRIPTOR);
    let effects = drive(Door::DESCRIPTOR, slot.bytes_mut(), &numbers.iter().map(envelope).collect::<Vec<_>>());
    (slot.read(), effects.refused, effects.failed)
}

#[test]
fn an_enum_is_matched_and_stored() {
    let (door, refused, failed) = turn(&[6, 6, 5]);
    let trail = [Mode::Opening, Mode::Open, Mode::Opening];
    assert_eq!((door, refused, failed), (Door { turns: 3, mode: Mode::Opening, trail }, 0, None));
}

#[test]
fn a_message_with_the_number_of_no_variant_is_refused_and_leaves_the_actor_as_it_was() {
    let (door, refused, failed) = turn(&[1, 4, 7, 255, 0]);
    assert_eq!((door, refused, failed), (Door { turns: 1, ..Door::default() }, 4, None));
    let envelope = |number: u8| {
        let to = ActorId::new(SetId(2), 2);
        Envelope::new(to, to, Turn::KIND, Flags::NONE, &[number]).expect("it fits")
    };
    assert_eq!(Turn::from_envelope(&envelope(6)), Some(Turn { to: Mode::Open }));
    assert_eq!(Turn::from_envelope(&envelope(7)), None);
}

#[test]
fn a_state_with_the_number_of_no_variant_fails_the_actor() {
    let to = ActorId::new(SetId(2), 2);
    let envelope = Envelope::new(to, to, Turn::KIND, Flags::NONE, &[0]).expect("it fits");
    for at in 4..8 {
        let mut slot = StateSlot::new(Door::DESCRIPTOR);
        slot.bytes_mut()[at] = 2;
        let effects = drive(Door::DESCRIPTOR, slot.bytes_mut(), &[envelope]);
        assert_eq!(effects.failed, Some((0, Fault::OutOfBounds)), "byte {at}");
    }
}

#[test]
fn an_enum_knows_its_variants() {
    assert_eq!(Mode::TYPE.bytes(), 1);
    assert_eq!(Mode::TYPE.to_string(), "Mode");
    let valid: Vec<u8> = (0..=u8::MAX).filter(Mode::valid).collect();
    assert_eq!(valid, [0, 5, 6]);
    assert_eq!(Mode::Open.raw(), 6);
}
