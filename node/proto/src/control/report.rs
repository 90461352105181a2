//! What a node says of itself when it joins: its devices and the actor types that its binary carries.
//!
//! The descriptors of types are complete enough to encode a message from text and to print a reply without the type
//! being linked: the ctl needs that.

wire! {
    /// What a device is.
    #[derive(Copy, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum DeviceKind {
        /// Threads of the host.
        Cpu,
        /// A GPU.
        Gpu,
    }
}

wire! {
    /// Another GPU of the same node whose memory a GPU can reach.
    #[derive(Copy)]
    pub struct LinkReport {
        /// The device that it belongs to.
        pub device: u16,
        /// Its place among the GPUs of that device.
        pub gpu: u16,
        /// NVLinks between the two; 0: by another way, or not known.
        pub nvlinks: u16,
    }
}

wire! {
    /// A GPU of a device.
    pub struct GpuReport {
        /// Its name, as its maker calls it.
        pub name: String,
        /// Its UUID, by which all tools of the driver agree.
        pub uuid: String,
        /// Its compute capability, such as 90 for 9.0.
        pub architecture: u16,
        /// Its multiprocessors.
        pub multiprocessors: u16,
        /// All of its memory.
        pub memory_bytes: u64,
        /// The GPUs of this node that it reaches.
        pub links: Vec<LinkReport>,
    }
}

wire! {
    /// One device of a node.
    pub struct DeviceReport {
        /// Index within the node; equal to the position in the list.
        pub index: u16,
        /// What it is.
        pub kind: DeviceKind,
        /// Workers, 1 to `WORKERS_MAX`.
        pub workers: u16,
        /// Memory for actors; 0: none is set aside, and the host's is taken as it is needed.
        pub memory_bytes: u64,
        /// The GPUs that form it; none if it is made of threads.
        pub gpus: Vec<GpuReport>,
    }
}

wire! {
    /// The scalar of a field.
    #[derive(Copy, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum Scalar {
        /// `u8`
        U8,
        /// `u16`
        U16,
        /// `u32`
        U32,
        /// `u64`
        U64,
        /// `u128`
        U128,
        /// `i8`
        I8,
        /// `i16`
        I16,
        /// `i32`
        I32,
        /// `i64`
        I64,
        /// `i128`
        I128,
        /// `f32`
        F32,
        /// `f64`
        F64,
    }
}

impl Scalar {
    /// Bytes of one.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::U128 | Self::I128 => 16,
        }
    }

    /// The Rust name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

wire! {
    /// One field of a message or a state. Nested structs are flattened: their fields are named `outer.inner`.
    pub struct FieldReport {
        /// The name.
        pub name: String,
        /// The scalar.
        pub scalar: Scalar,
        /// 0: one scalar; otherwise an array of this many.
        pub count: u16,
        /// Where it begins, in bytes.
        pub offset_bytes: u16,
    }
}

wire! {
    /// One message.
    pub struct MessageReport {
        /// The struct's name.
        pub name: String,
        /// The kind in the envelope; never 0.
        pub kind: u16,
        /// Bytes of payload.
        pub payload_bytes: u16,
        /// The fields, by offset.
        pub fields: Vec<FieldReport>,
    }
}

wire! {
    /// One actor type.
    pub struct TypeReport {
        /// The name, as in `spec.type`.
        pub name: String,
        /// `lane`, `warp` or `block`.
        pub width: String,
        /// Hash of the handlers' text. Shards are placed only where it is equal.
        pub code_hash: u64,
        /// Hash of the state's fields. Shards are placed only where it is equal.
        pub layout_hash: u64,
        /// Bytes of one actor's state.
        pub state_bytes: u32,
        /// Messages that one handling may send.
        pub max_sends: u16,
        /// The state's layout in words, shown when two layouts meet.
        pub layout: String,
        /// The fields of the state.
        pub state: Vec<FieldReport>,
        /// What the type handles.
        pub handles: Vec<MessageReport>,
        /// What it may answer; not handled by it, needed to print a reply. May be empty.
        pub replies: Vec<MessageReport>,
    }
}
