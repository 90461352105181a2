use proptest::prelude::*;
use ringfleet_abi::{Envelope, Epoch, Incarnation, LostReason, NodeId, SessionId, SetId, ShardId, ShardIndex};

use super::*;
use crate::peer::PeerIdentity;

fn shard(word: u32) -> ShardId {
    ShardId::unpack(word)
}

fn envelope(key: u64) -> Envelope {
    let mut envelope = Envelope { to_key: key, kind: 3, ..Envelope::default() };
    envelope.payload[7] = key as u8;
    envelope
}

fn sample_deliver(runs: &[(u32, usize)]) -> Vec<u8> {
    let header = DeliverHeader { source: Source::Node(Incarnation(9)), lease_end_ms: 77, placement_index: 5 };
    let mut frame = Vec::new();
    let mut writer = DeliverWriter::new(&mut frame, &header);
    for &(word, count) in runs {
        let envelopes: Vec<Envelope> = (0..count as u64).map(envelope).collect();
        let run = RunHeader {
            shard: shard(word),
            count: count as u32,
            generation: 2,
            attempt: 3,
            epoch: Epoch(4),
            first_seq: 5,
        };
        writer.run(&run, envelopes.split_at(count / 3));
    }
    writer.finish();
    frame
}

fn sample_answers() -> Vec<Answer> {
    let (shard, generation, attempt) = (ShardId::new(SetId(3), ShardIndex(4)), 5, 6);
    vec![
        Answer::Ack { shard, generation, accepted_through: 10, handled_through: 9 },
        Answer::Busy { shard, generation, attempt, at: 11, certain: true },
        Answer::Moved { shard, generation, attempt, at: 12, certain: false, epoch: Epoch(13), hint: NodeId(14) },
        Answer::ChannelLost {
            shard,
            generation,
            attempt,
            after_seq: 15,
            generation_floor: 16,
            reason: LostReason::SessionExpired,
        },
    ]
}

fn every_frame() -> Vec<Vec<u8>> {
    let mut frames = vec![sample_deliver(&[(1, 3), (2, 1), (3, 40)])];
    let mut answers = Vec::new();
    let mut writer = AnswersWriter::new(&mut answers, Source::Client(SessionId(8)));
    sample_answers().iter().for_each(|answer| writer.answer(answer));
    writer.finish();
    let mut replies = Vec::new();
    RepliesWriter::new(&mut replies, SessionId(8), 99).envelope(&envelope(1));
    let mut hello = Vec::new();
    let identity = PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(3) };
    encode_hello(&Hello::new(identity, 4).picking(1), &mut hello);
    let mut goodbye = Vec::new();
    encode_goodbye(CloseReason::Leaving, &mut goodbye);
    frames.extend([answers, replies, hello, goodbye]);
    frames
}

/// Reads everything that a decoded frame gives; must not panic.
fn walk(frame: &Frame<'_>) -> usize {
    match frame {
        Frame::Deliver(deliver) => deliver.runs().map(|run| run.envelopes(1).len() + 1).sum(),
        Frame::Answers(answers) => answers.iter().count(),
        Frame::Replies(replies) => replies.envelopes().len(),
        Frame::Hello(_) | Frame::Goodbye(_) => 1,
    }
}

#[test]
fn a_deliver_frame_keeps_its_runs() {
    let frame = sample_deliver(&[(0x0001_0002, 3), (0x0003_0004, 7)]);
    let Ok(Frame::Deliver(deliver)) = decode(&frame) else { panic!("a deliver frame") };
    assert_eq!(deliver.header.source, Source::Node(Incarnation(9)));
    assert_eq!((deliver.header.lease_end_ms, deliver.header.placement_index), (77, 5));
    let runs: Vec<_> = deliver.runs().collect();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1].header.shard, shard(0x0003_0004));
    assert_eq!((runs[1].header.generation, runs[1].header.attempt), (2, 3));
    assert_eq!((runs[1].header.epoch, runs[1].header.first_seq), (Epoch(4), 5));
    let keys: Vec<u64> = runs[1].envelopes(2).map(|envelope| envelope.to_key).collect();
    assert_eq!(keys, [2, 3, 4, 5, 6]);
    assert_eq!(frame.len(), DELIVER_HEADER_BYTES + 2 * RUN_HEADER_BYTES + 10 * 64);
}

#[test]
fn answers_replies_and_hellos_come_back() {
    let frames = every_frame();
    let Ok(Frame::Answers(answers)) = decode(&frames[1]) else { panic!("answers") };
    assert_eq!(answers.source, Source::Client(SessionId(8)));
    assert_eq!(answers.iter().collect::<Vec<_>>(), sample_answers());
    let Ok(Frame::Replies(replies)) = decode(&frames[2]) else { panic!("replies") };
    assert_eq!((replies.session, replies.lease_end_ms, replies.envelopes().len()), (SessionId(8), 99, 1));
    let Ok(Frame::Hello(hello)) = decode(&frames[3]) else { panic!("hello") };
    assert_eq!(frames[3].len(), HELLO_BYTES);
    let identity = PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(3) };
    assert_eq!((hello.identity, hello.picked, hello.placement_index), (identity, 1, 4));
    assert!(matches!(decode(&frames[4]), Ok(Frame::Goodbye(CloseReason::Leaving))));
}

#[test]
fn versions_are_negotiated_or_refused() {
    let hello = Hello::new(PeerIdentity::Client { session: SessionId(1) }, 0);
    assert_eq!(negotiate(&hello), Ok(PROTOCOL_MAX));
    assert_eq!(negotiate(&Hello { max: PROTOCOL_MAX + 5, ..hello }), Ok(PROTOCOL_MAX));
    let newer = Hello { min: PROTOCOL_MAX + 1, max: PROTOCOL_MAX + 2, ..hello };
    assert_eq!(negotiate(&newer), Err(WireError::Version { min: PROTOCOL_MAX + 1, max: PROTOCOL_MAX + 2 }));
    assert!(negotiate(&hello.picking(PROTOCOL_MAX + 1)).is_err(), "a peer that picked another version");
    let mut other = every_frame().swap_remove(3);
    other[8] = b'X';
    assert_eq!(decode(&other).err(), Some(WireError::Magic));
}

#[test]
fn every_cut_and_every_longer_frame_is_refused() {
    for frame in every_frame() {
        for end in 0..frame.len() {
            assert!(decode(&frame[..end]).is_err(), "cut to {end} of {}", frame.len());
        }
        let mut longer = frame.clone();
        longer.push(0);
        assert!(decode(&longer).is_err(), "one byte more");
    }
}

#[test]
fn counts_that_lie_are_refused_before_anything_is_read() {
    let mut frame = sample_deliver(&[(1, 3)]);
    frame[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(decode(&frame), Err(WireError::Length { .. })));
    let mut frame = sample_deliver(&[(1, 3)]);
    frame[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(decode(&frame), Err(WireError::Length { .. })));
    let mut zero_seq = sample_deliver(&[(1, 3)]);
    zero_seq[56..64].copy_from_slice(&0u64.to_le_bytes());
    assert!(matches!(decode(&zero_seq), Err(WireError::Field { field: "first_seq", .. })));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(frame) = decode(&bytes) {
            walk(&frame);
        }
    }

    #[test]
    fn mutated_frames_never_panic(
        which in 0..5usize,
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        end in any::<proptest::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut frame = every_frame().swap_remove(which);
        for (at, value) in flips {
            let at = at.index(frame.len());
            frame[at] ^= value;
        }
        if cut {
            let end = end.index(frame.len());
            frame.truncate(end);
        }
        if let Ok(frame) = decode(&frame) {
            walk(&frame);
        }
    }
}
