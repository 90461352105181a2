//! Random streams of messages, and all ways to run an actor type.

use ringfleet_abi::{ActorId, Envelope, Flags, SetId};
use ringfleet_actor::testing::{StateSlot, drive, drive_program};
use ringfleet_actor::{FieldType, KindDescriptor, TypeDescriptor};

use crate::host::{self, Stream};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A message with random fields: often small, sometimes extreme, and now and then of another length or kind.
fn message(random: &mut Random, kind: &KindDescriptor) -> Envelope {
    let mut payload = vec![0_u8; kind.bytes];
    for chunk in payload.chunks_mut(4) {
        let value = match random.below(8) {
            0 => random.next() as u32,
            1 => u32::MAX - random.below(3) as u32,
            2 => 0x8000_0000_u32.wrapping_sub(random.below(2) as u32),
            _ => random.below(400) as u32,
        };
        chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
    }
    for field in kind.fields {
        choose_variants(random, &field.ty, &mut payload[field.offset..]);
    }
    let (from, flags) = match random.below(3) {
        0 => (ActorId::new(SetId(9), random.next()), Flags::NONE),
        1 => (ActorId::new(SetId(9), random.next()), Flags::TRACE),
        _ => (ActorId::client(ringfleet_abi::SessionId(3), 1), Flags::ASK),
    };
    if random.below(50) == 0 {
        payload.push(0);
        payload.truncate(32);
    }
    let number = if random.below(50) == 0 { kind.kind ^ 1 } else { kind.kind };
    Envelope::new(from, ActorId::new(SetId(3), 77), number, flags, &payload).expect("it fits")
}

/// Puts the number of a variant into most enums; others stay what they are by chance, and most likely nothing.
fn choose_variants(random: &mut Random, ty: &FieldType, bytes: &mut [u8]) {
    match ty {
        FieldType::Enum(_, number, variants) if random.below(24) != 0 => {
            let variant = variants[random.below(variants.len() as u64) as usize];
            bytes[..number.bytes()].copy_from_slice(&variant.value.to_le_bytes()[..number.bytes()]);
        }
        FieldType::Struct(_, fields) => {
            fields.iter().for_each(|field| choose_variants(random, &field.ty, &mut bytes[field.offset..]));
        }
        FieldType::Array(element, _) => {
            let elements = bytes[..ty.bytes()].chunks_mut(element.bytes());
            elements.for_each(|bytes| choose_variants(random, element, bytes));
        }
        _ => {}
    }
}

/// A stream of a few messages.
pub fn stream(random: &mut Random, ty: usize, kinds: &[KindDescriptor]) -> Stream {
    let count = 1 + random.below(40) as usize;
    let mut one = |_| {
        let kind = random.below(kinds.len() as u64) as usize;
        message(random, &kinds[kind])
    };
    let envelopes = (0..count).map(&mut one).collect();
    Stream { ty, envelopes }
}

/// Compares all ways to run `types` on random streams; gives how many messages were handled and how many streams failed.
pub fn compare(name: &str, types: &[&'static TypeDescriptor], streams: usize, seed: u64) -> Option<(usize, usize)> {
    let mut random = Random(seed);
    let streams: Vec<Stream> =
        (0..streams).map(|at| stream(&mut random, at % types.len(), types[at % types.len()].kinds)).collect();
    compare_streams(name, types, &streams)
}

/// As [`compare`], on these streams.
pub fn compare_streams(name: &str, types: &[&'static TypeDescriptor], streams: &[Stream]) -> Option<(usize, usize)> {
    let programs: Vec<_> = types
        .iter()
        .map(|ty| ty.program().unwrap_or_else(|error| panic!("{} has no program: {error}", ty.name)))
        .collect();
    let host = host::compile(name, &programs);
    if let Some(host) = &host {
        let handlers: usize = types.iter().map(|ty| ty.kinds.len()).sum();
        let messages: usize = streams.iter().map(|stream| stream.envelopes.len()).sum();
        host.note(&format!("{} {handlers} {} {messages}\n", types.len(), streams.len()));
    }
    let on_host = host.map(|host| host.run(streams));
    let (mut handled, mut failed) = (0, 0);
    for (at, stream) in streams.iter().enumerate() {
        let ty = types[stream.ty];
        let mut native = StateSlot::new(ty);
        let effects = drive(ty, native.bytes_mut(), &stream.envelopes);
        let mut state = StateSlot::new(ty);
        let by_program = drive_program(&programs[stream.ty], state.bytes_mut(), &stream.envelopes).expect("verified");
        assert_eq!(by_program, effects, "{}, stream {at}", ty.name);
        assert_eq!(state.bytes(), native.bytes(), "{}, stream {at}", ty.name);
        if let Some(on_host) = &on_host {
            assert_eq!(on_host[at].0, effects, "{}, stream {at}", ty.name);
            assert_eq!(&on_host[at].1[..ty.state_bytes], native.bytes(), "{}, stream {at}", ty.name);
            assert!(on_host[at].1[ty.state_bytes..].iter().all(|byte| *byte == 0), "padding is not zero");
        }
        handled += effects.handled;
        failed += usize::from(effects.failed.is_some());
    }
    on_host.map(|_| (handled, failed))
}
