//! The device side of an actor type: text and a descriptor. This is the seam to generated code: whatever makes the text, it
//! defines `MAX_SENDS`, `State`, `init` and `handle` as `device/ctx.cuh` says, and may use `OWN_TAG` (the tag of the set that is named like the
//! type) and `KIND_Name` of each kind it lists.

use std::fmt::Write;

use ringfleet_abi::hash::{fnv1a16, fnv1a32};
use ringfleet_ir::cuda::DeviceCode;

/// A kind of message that the text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The message's name.
    pub name: &'static str,
}

impl Kind {
    /// The number in envelopes.
    #[must_use]
    pub const fn number(self) -> u16 {
        fnv1a16(self.name.as_bytes())
    }
}

/// An actor type that device code exists for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceType {
    /// The type's name, such as `flights.carrier`.
    pub name: String,
    /// Bytes of the state on the device, a multiple of 16, at most 4096.
    pub state_bytes: u32,
    /// The most messages that one handling sends.
    pub max_sends: u32,
    /// Whether handlers draw random numbers: records then have a [`RECORD_KEEP_BYTES`] behind the state.
    pub draws: bool,
    /// Messages that the text names.
    pub kinds: Vec<Kind>,
    /// The text.
    pub text: String,
}

/// Bytes before the state in a record.
pub const RECORD_HEADER_BYTES: u32 = 16;
/// Bytes behind the state in a record of a type that draws, or of a set that counts restarts.
pub const RECORD_KEEP_BYTES: u32 = 16;
/// Records are counted in units of so many bytes.
pub const RECORD_UNIT_BYTES: u32 = 32;

/// How long the records of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// In units.
    pub units: u32,
    /// Whether there is a [`RECORD_KEEP_BYTES`] behind the state.
    pub keeps: bool,
}

impl DeviceType {
    /// The tag of the set that is named like this type.
    #[must_use]
    pub fn tag(&self) -> u32 {
        fnv1a32(self.name.as_bytes())
    }

    /// Units of an actor's record in a set that counts no restarts.
    #[must_use]
    pub fn record_units(&self) -> u32 {
        self.record(false).units
    }

    /// The records of a set of this type, which counts restarts or does not.
    #[must_use]
    pub fn record(&self, counts_restarts: bool) -> Record {
        let keeps = self.draws || counts_restarts;
        let bytes = RECORD_HEADER_BYTES + self.state_bytes + if keeps { RECORD_KEEP_BYTES } else { 0 };
        Record { units: bytes.div_ceil(RECORD_UNIT_BYTES), keeps }
    }

    /// The namespace of the type at `index` of a build.
    #[must_use]
    pub fn namespace(index: usize) -> String {
        format!("type_{index}")
    }

    /// The text inside its namespace `type_INDEX`, and in it the struct `Type` by which the kernel calls it.
    #[must_use]
    pub fn source(&self, index: usize) -> String {
        let mut text = String::new();
        self.emit(&mut text, index);
        text
    }

    /// The text inside its namespace, and the struct by which the kernel calls it.
    pub(crate) fn emit(&self, out: &mut String, index: usize) {
        let namespace = Self::namespace(index);
        let _ = writeln!(
            out,
            "// {}\nnamespace {namespace} {{\nstatic constexpr u32 OWN_TAG = {:#x}u;",
            self.name,
            self.tag()
        );
        for kind in &self.kinds {
            let _ = writeln!(out, "static constexpr u16 KIND_{} = {};", kind.name, kind.number());
        }
        out.push_str(&self.text);
        let _ = writeln!(
            out,
            "struct Type {{\n    typedef {namespace}::State State;\n    static constexpr u32 MAX_SENDS = {namespace}::MAX_SENDS;\n    \
             RF_FN static void init(State &state) {{ {namespace}::init(state); }}\n    RF_FN static u32 handle(State &state, const Envelope \
             &message, Ctx<MAX_SENDS> &ctx) {{\n        return {namespace}::handle(state, message, ctx);\n    }}\n}};\nstatic_assert(\
             sizeof(State) == {} && MAX_SENDS == {}, \"descriptor and text agree\");\n}} // namespace {namespace}\n",
            self.state_bytes, self.max_sends
        );
    }
}

impl From<DeviceCode> for DeviceType {
    /// What was made from the Rust text of a type. It names no kinds but by their numbers.
    fn from(code: DeviceCode) -> Self {
        let DeviceCode { name, state_bytes, max_sends, draws, text } = code;
        Self { name, state_bytes, max_sends, draws, kinds: Vec::new(), text }
    }
}

fn shipped_type(name: &str, state_bytes: u32, max_sends: u32, kinds: &[&'static str], text: &str) -> DeviceType {
    let kinds = kinds.iter().map(|&name| Kind { name }).collect();
    DeviceType { name: name.into(), state_bytes, max_sends, draws: false, kinds, text: text.into() }
}

/// The types whose device code is written by hand.
#[must_use]
pub fn shipped() -> Vec<DeviceType> {
    vec![
        shipped_type("echo", 16, 1, &["Ping", "Pong"], include_str!("../device/types/echo.cuh")),
        shipped_type("counter", 16, 1, &["Add", "Read", "Count"], include_str!("../device/types/counter.cuh")),
        shipped_type("hop", 64, 1, &["Step", "HopsAsked", "Hops"], include_str!("../device/types/hop.cuh")),
    ]
}

/// Types that only benches and tests use.
#[must_use]
pub fn bench_types() -> Vec<DeviceType> {
    vec![
        shipped_type("hotspot", 48, 1, &["Hop"], include_str!("../device/types/hotspot.cuh")),
        shipped_type("relay", 48, 4, &["Start", "Token"], include_str!("../device/types/relay.cuh")),
    ]
}

/// The shipped type, or that of a bench, of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<DeviceType> {
    shipped().into_iter().chain(bench_types()).find(|ty| ty.name == name)
}
