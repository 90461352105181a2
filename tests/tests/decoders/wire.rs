//! Frames of data connections, the handshake among them.

use ringfleet_abi::{
    ActorId, Envelope, Epoch, Flags, Incarnation, LostReason, NodeId, SessionId, SetId, ShardId, ShardIndex,
};
use ringfleet_proto::wire::{
    Answer, AnswersWriter, DeliverHeader, DeliverWriter, Frame, Hello, RepliesWriter, RunHeader, decode,
    encode_goodbye, encode_hello, negotiate,
};
use ringfleet_proto::{CloseReason, PeerIdentity};

use crate::{bounded, feed, fuzz};

pub fn envelope(key: u64) -> Envelope {
    let (from, to) = (ActorId::new(SetId(1), 5), ActorId::new(SetId(1), key));
    Envelope::new(from, to, 3, Flags::ASK, &[7; 20]).expect("fits")
}

/// One frame of each kind.
pub fn frames() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for identity in [
        PeerIdentity::Node { node: NodeId(2), incarnation: Incarnation(7) },
        PeerIdentity::Client { session: SessionId(9) },
    ] {
        let mut bytes = Vec::new();
        encode_hello(&Hello::new(identity, 10).picking(1), &mut bytes);
        all.push(bytes);
        let mut bytes = Vec::new();
        let header = DeliverHeader { source: identity.source(), lease_end_ms: 5, placement_index: 10 };
        let mut writer = DeliverWriter::new(&mut bytes, &header);
        for index in 0..2 {
            let shard = ShardId::new(SetId(1), ShardIndex(index));
            let run = RunHeader {
                shard,
                count: 2,
                generation: 1,
                attempt: 1,
                epoch: Epoch(1),
                first_seq: u64::from(index) + 1,
            };
            writer.run(&run, (&[envelope(1)], &[envelope(2)]));
        }
        writer.finish();
        all.push(bytes);
        let mut bytes = Vec::new();
        let mut writer = AnswersWriter::new(&mut bytes, identity.source());
        answers().iter().for_each(|answer| writer.answer(answer));
        writer.finish();
        all.push(bytes);
    }
    let mut bytes = Vec::new();
    RepliesWriter::new(&mut bytes, SessionId(9), 5).envelope(&envelope(3));
    all.push(bytes);
    let mut bytes = Vec::new();
    encode_goodbye(CloseReason::Leaving, &mut bytes);
    all.push(bytes);
    all
}

pub fn answers() -> [Answer; 4] {
    let (shard, generation, attempt, at) = (ShardId::new(SetId(2), ShardIndex(0)), 1, 1, 1);
    [
        Answer::Ack { shard, generation, accepted_through: 2, handled_through: 1 },
        Answer::Busy { shard, generation, attempt, at, certain: true },
        Answer::Moved { shard, generation, attempt, at, certain: true, epoch: Epoch(2), hint: NodeId(1) },
        Answer::ChannelLost {
            shard,
            generation,
            attempt,
            after_seq: 1,
            generation_floor: 1,
            reason: LostReason::ALL[0],
        },
    ]
}

/// The frame written again.
fn again(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match frame {
        Frame::Hello(hello) => encode_hello(hello, &mut bytes),
        Frame::Goodbye(reason) => encode_goodbye(*reason, &mut bytes),
        Frame::Deliver(deliver) => {
            let mut writer = DeliverWriter::new(&mut bytes, &deliver.header);
            for run in deliver.runs() {
                writer.run(&run.header, (&run.envelopes(0).collect::<Vec<_>>(), &[]));
            }
            writer.finish();
        }
        Frame::Answers(answers) => {
            let mut writer = AnswersWriter::new(&mut bytes, answers.source);
            answers.iter().for_each(|answer| writer.answer(&answer));
            writer.finish();
        }
        Frame::Replies(replies) => {
            let mut writer = RepliesWriter::new(&mut bytes, replies.session, replies.lease_end_ms);
            for envelope in replies.envelopes() {
                writer.envelope(&envelope);
            }
        }
    }
    bytes
}

#[test]
fn frames_of_data_connections() {
    let seeds = frames();
    fuzz!(|plan| {
        let bytes = feed(&seeds, plan);
        // Decoding a frame allocates nothing at all.
        let Ok(frame) = bounded(&bytes, 0, || decode(&bytes)) else { return };
        if let Frame::Hello(hello) = &frame {
            let _ = negotiate(hello);
        }
        if let Frame::Deliver(deliver) = &frame {
            deliver.runs().for_each(|run| run.envelopes(0).for_each(|envelope| look_at(&envelope)));
        }
        if let Frame::Replies(replies) = &frame {
            replies.envelopes().for_each(|envelope| look_at(&envelope));
        }
        // Bytes that nobody reads may differ; what was read is written, and reads the same.
        let written = again(&frame);
        assert_eq!(written.len(), bytes.len());
        let read = decode(&written).expect("what was written can be read");
        assert_eq!(again(&read), written);
    });
}

/// Everything that anybody asks of an envelope before it is checked.
fn look_at(envelope: &Envelope) {
    let _ = (envelope.check(), envelope.check_client(), envelope.payload(), envelope.flags(), envelope.stamp());
    let _ = (envelope.as_verdict(), envelope.as_route_marker(), envelope.as_gate_marker());
}
