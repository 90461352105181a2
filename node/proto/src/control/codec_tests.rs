use super::super::*;
use super::*;
use proptest::prelude::*;

fn join() -> NodeRequest {
    NodeRequest::Join {
        cluster: "test".into(),
        name: "n1".into(),
        boot: u128::MAX - 3,
        data_addr: "127.0.0.1:7001".into(),
        http_addr: "127.0.0.1:7002".into(),
        devices: vec![DeviceReport {
            index: 0,
            kind: DeviceKind::Gpu,
            workers: 2,
            memory_bytes: 1 << 30,
            gpus: vec![GpuReport {
                name: "NVIDIA H200".into(),
                uuid: "GPU-1".into(),
                architecture: 90,
                multiprocessors: 132,
                memory_bytes: 141 << 30,
                links: vec![LinkReport { device: 0, gpu: 1, nvlinks: 18 }],
            }],
        }],
        types: vec![TypeReport {
            name: "flights.carrier".into(),
            width: "lane".into(),
            code_hash: 7,
            layout_hash: 8,
            state_bytes: 16,
            max_sends: 8,
            layout: "legs: u64, delay_sum: i64".into(),
            state: vec![FieldReport { name: "legs".into(), scalar: Scalar::U64, count: 0, offset_bytes: 0 }],
            handles: vec![MessageReport {
                name: "Leg".into(),
                kind: 77,
                payload_bytes: 12,
                fields: vec![FieldReport { name: "a.b".into(), scalar: Scalar::I32, count: 3, offset_bytes: 0 }],
            }],
            replies: vec![],
        }],
        clock: Some(ClockSample { coordinator: 3, number: 1, offset_ms: -7, error_ms: 2 }),
        deadline_ms: 5000,
    }
}

fn view() -> NodeReply {
    NodeReply::Answer(NodeAnswer::View(NodeView {
        index: 9,
        coordinators: vec![CoordinatorView { name: "c1".into(), addr: "c:1".into() }],
        members: vec![MemberView {
            node: 1,
            name: "n1".into(),
            incarnation: 4,
            data_addr: "a:1".into(),
            http_addr: "a:2".into(),
            devices: vec![DeviceView::joined(2, 4), DeviceView::joined(4, 4)],
        }],
        sets: vec![],
        shards: vec![ShardView {
            set: 1,
            index: 2,
            state: ShardState::Resident,
            device: 0,
            worker: 1,
            node: 1,
            incarnation: 4,
            epoch: 1,
            since_index: 9,
        }],
    }))
}

fn apply() -> AdminRequest {
    AdminRequest {
        operation: 1 << 100,
        deadline_ms: 1000,
        verb: AdminVerb::Apply { document: ActorSet::new("flights.carrier", "flights.carrier") },
    }
}

#[test]
fn messages_come_back_as_they_went() {
    let bytes = encode(&join()).unwrap();
    assert_eq!(peek_kind(&bytes).unwrap(), MessageKind::NodeRequest);
    assert_eq!(decode::<NodeRequest>(&bytes).unwrap(), join());
    assert_eq!(decode::<NodeReply>(&encode(&view()).unwrap()).unwrap(), view());
    assert_eq!(decode::<AdminRequest>(&encode(&apply()).unwrap()).unwrap(), apply());
    let failed = AdminReply::Failed(Failure::refused(RefusalCode::UnknownSet, "no set `x`"));
    assert_eq!(decode::<AdminReply>(&encode(&failed).unwrap()).unwrap(), failed);
}

#[test]
fn each_wrong_header_has_its_own_error() {
    let good = encode(&apply()).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        decode::<AdminRequest>(&bytes)
    };
    assert!(matches!(decode::<AdminRequest>(&good[..10]), Err(CodecError::Truncated { .. })));
    assert!(matches!(decode::<AdminRequest>(&good[..good.len() - 1]), Err(CodecError::Truncated { .. })));
    assert!(matches!(with(0, b'X'), Err(CodecError::Magic { .. })));
    assert!(matches!(with(4, 9), Err(CodecError::Version { found: 9 })));
    assert!(matches!(with(6, 99), Err(CodecError::Kind { found: 99, expected: None })));
    assert!(matches!(with(11, 0xFF), Err(CodecError::Length { .. })));
    assert!(matches!(decode::<NodeRequest>(&good), Err(CodecError::Kind { expected: Some(_), .. })));
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(decode::<AdminRequest>(&longer), Err(CodecError::Length { .. })));
}

#[test]
fn the_bytes_are_little_endian_on_every_machine() {
    let bytes = encode(&NodeReply::Answer(NodeAnswer::Unchanged { index: 0x0102_0304_0506_0708 })).unwrap();
    assert!(bytes.windows(8).any(|window| window == [8, 7, 6, 5, 4, 3, 2, 1]), "{bytes:02x?}");
}

#[test]
fn what_is_in_a_view_takes_no_more_bytes_than_the_limits_say() {
    assert!(size_of::<rkyv::Archived<ShardView>>() <= limits::SHARD_VIEW_BYTES);
    assert!(size_of::<rkyv::Archived<crate::control::DeviceView>>() <= limits::DEVICE_VIEW_BYTES);
    // Devices of one member begin where their alignment wants it, behind the texts of any length.
    let rest = align_of::<rkyv::Archived<crate::control::DeviceView>>();
    assert!(size_of::<rkyv::Archived<crate::control::MemberView>>() + rest <= limits::MEMBER_VIEW_BYTES);
    assert!(
        size_of::<rkyv::Archived<crate::control::SetView>>() + 3 * limits::NAME_BYTES_MAX <= limits::SET_VIEW_BYTES
    );
}

/// The header of a message, its body replaced.
fn with_body(kind: MessageKind, body: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(kind as u16).to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(body);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(decode::<NodeRequest>(&bytes).is_err());
        prop_assert!(decode::<AdminReply>(&bytes).is_err());
    }

    #[test]
    fn garbage_behind_a_good_header_never_panics(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode::<NodeRequest>(&with_body(MessageKind::NodeRequest, &body));
        let _ = decode::<NodeReply>(&with_body(MessageKind::NodeReply, &body));
        let _ = decode::<AdminRequest>(&with_body(MessageKind::AdminRequest, &body));
        let _ = decode::<AdminReply>(&with_body(MessageKind::AdminReply, &body));
    }

    #[test]
    fn a_damaged_message_never_panics(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        for good in [encode(&join()).unwrap(), encode(&view()).unwrap()] {
            let mut bytes = good.clone();
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let _ = decode::<NodeRequest>(&bytes);
            let _ = decode::<NodeReply>(&bytes);
            prop_assert!(decode::<NodeRequest>(&good[..cut.index(good.len())]).is_err());
        }
    }
}
