//! What an actor's messages come to: replies, verdicts, dead letters, failure, restart, stop (C4, C7).

mod common;

use common::*;
use ringfleet_abi::{DeadReason, Envelope, Flags, KeySpace, RestartMode, SetId, Status, Verdict};
use ringfleet_actor::{Fault, Message};
use ringfleet_gpu::{CpuDeviceConfig, Device};

const HASHED: KeySpace = KeySpace::Hashed;

fn rig(keys: KeySpace) -> Rig {
    Rig::new(&CpuDeviceConfig::DEFAULT, &[counters(keys)])
}

fn dead(rig: &Rig, reason: DeadReason) -> u64 {
    rig.device.total().dead[reason as usize]
}

fn verdict_of(envelope: &Envelope) -> Verdict {
    envelope.as_verdict().expect("a verdict").0
}

#[test]
fn tells_are_handled_and_asks_answered_in_hashed_and_dense_sets() {
    for keys in [HASHED, KeySpace::Dense { count: 1000 }, KeySpace::Dense { count: 1 << 40 }] {
        let mut rig = rig(keys);
        for key in 0..500 {
            rig.push(&[tell::<Counter, _>(COUNTERS, key, &Add { amount: key })]);
        }
        rig.settle();
        for key in (0..500).step_by(7) {
            assert_eq!(rig.total(key), (key, 1));
        }
        let total = rig.device.total();
        assert_eq!((total.activations, total.actors_now, total.dead_total()), (500, 500, 0));
        assert_eq!(total.ingress_done, total.ingress_in);
        assert_eq!(total.in_flight(), 0);
        rig.check_conservation();
    }
}

#[test]
fn a_reply_carries_the_ask_and_is_stamped_after_the_handling() {
    let mut rig = rig(HASHED);
    let mut message = ask::<Counter, _>(COUNTERS, 3, 77, &Get {});
    message.hlc = (WALL_MS << 16) + 100;
    rig.run(&[message]);
    let [reply] = rig.out[..] else { panic!("one answer: {:?}", rig.out) };
    assert_eq!((reply.to_set, reply.to_key), (SetId::CLIENT.0, message.from_key));
    assert!(reply.flags().has(Flags::REPLY) && !reply.is_control());
    // Handled at the message's stamp + 1, the first send one later.
    assert_eq!(reply.hlc, message.hlc + 2);
}

#[test]
fn messages_that_nobody_can_handle_are_dead_lettered_with_their_reason_and_asks_are_told() {
    let mut rig = rig(KeySpace::Dense { count: 100 });
    let mut wrong_kind = ask::<Counter, _>(COUNTERS, 1, 1, &Get {});
    wrong_kind.kind = 1;
    let mut wrong_length = ask::<Counter, _>(COUNTERS, 1, 2, &Get {});
    wrong_length.bits |= 3;
    let mut malformed = ask::<Counter, _>(COUNTERS, 1, 3, &Get {});
    malformed.bits |= 60;
    let no_key = ask::<Counter, _>(COUNTERS, 100, 4, &Get {});
    let no_set = ask::<Counter, _>(SetId(40), 1, 5, &Get {});
    let mut ahead = ask::<Counter, _>(COUNTERS, 1, 6, &Get {});
    ahead.hlc = (WALL_MS + 251) << 16;
    rig.run(&[wrong_kind, wrong_length, malformed, no_key, no_set, ahead]);
    assert_eq!(rig.out.len(), 6);
    assert!(rig.out.iter().all(|answer| verdict_of(answer) == Verdict::BadMessage));
    assert_eq!(dead(&rig, DeadReason::BadMessage), 3);
    assert_eq!(dead(&rig, DeadReason::NoSuchKey), 1);
    assert_eq!(dead(&rig, DeadReason::NoSuchSet), 1);
    assert_eq!(dead(&rig, DeadReason::StampAhead), 1);
    assert_eq!(rig.device.total().stamps_ahead, 1);
    assert_eq!(rig.device.total().actors_now, 0, "none of them activates an actor");
    rig.out.clear();
    // The same as tells: dead letters, no answers.
    let tells = [wrong_kind, no_key, no_set].map(|mut envelope| {
        envelope.set_flags(Flags::NONE);
        envelope
    });
    rig.run(&tells);
    assert_eq!(rig.out, []);
    assert_eq!(rig.device.total().dead_total(), 9);
    rig.check_conservation();
}

#[test]
fn a_bad_message_leaves_a_living_actor_as_it_was() {
    let mut rig = rig(HASHED);
    let mut bad = tell::<Counter, _>(COUNTERS, 1, &Add { amount: 5 });
    bad.kind = 1;
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Add { amount: 5 }), bad]);
    assert_eq!(rig.total(1), (5, 1));
    assert_eq!((dead(&rig, DeadReason::BadMessage), rig.device.total().failures), (1, 0));
}

#[test]
fn an_ask_without_reply_is_told_so_and_a_reply_to_a_tell_is_a_dead_letter() {
    let mut rig = rig(HASHED);
    let answer = rig.ask::<Counter, _>(COUNTERS, 1, &Silent {});
    assert_eq!(verdict_of(&answer), Verdict::NoReply);
    assert_eq!(rig.device.total().handled, 1);
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Get {})]);
    assert_eq!(dead(&rig, DeadReason::NoReplyTo), 1);
    assert_eq!(rig.out, []);
    rig.check_conservation();
}

#[test]
fn a_send_to_a_set_that_nobody_knows_is_a_dead_letter() {
    let mut rig = rig(HASHED);
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Astray {})]);
    assert_eq!(dead(&rig, DeadReason::NoSuchSet), 1);
    rig.check_conservation();
}

#[test]
fn a_failed_actor_stays_failed_and_the_failed_handling_sends_nothing() {
    let mut rig = rig(HASHED);
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Add { amount: 8 })]);
    let answer = rig.ask::<Counter, _>(COUNTERS, 1, &Break { divisor: 0 });
    let (verdict, body) = answer.as_verdict().expect("a verdict");
    assert_eq!((verdict, body.fault), (Verdict::HandlerFailed, Fault::DivideByZero.code()));
    let actor = ringfleet_abi::ActorId::new(COUNTERS, 1);
    assert!(rig.saw(Status::ActorFailed { actor, fault: Fault::DivideByZero.code() }));
    let later = rig.ask::<Counter, _>(COUNTERS, 1, &Get {});
    assert_eq!(verdict_of(&later), Verdict::ActorFailed);
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Add { amount: 8 })]);
    assert_eq!((dead(&rig, DeadReason::HandlerFailed), dead(&rig, DeadReason::ActorFailed)), (1, 2));
    let total = rig.device.total();
    assert_eq!((total.failures, total.restarts, total.sent, total.actors_now), (1, 0, 0, 1));
    assert_eq!(rig.total(2), (0, 0), "others go on");
    rig.check_conservation();
}

#[test]
fn what_a_handler_sent_before_it_failed_does_not_leave() {
    let mut rig = rig(HASHED);
    let answer = rig.ask::<Counter, _>(COUNTERS, 1, &Doomed { to: 2 });
    assert_eq!(answer.as_verdict().map(|(_, body)| body.fault), Some(Fault::User(7).code()));
    let total = rig.device.total();
    assert_eq!((total.sent, total.timers_now, total.handled, total.in_flight()), (0, 0, 0, 0));
    assert_eq!(rig.total(2), (0, 0));
    rig.check_conservation();
}

#[test]
fn no_two_messages_of_an_actor_carry_one_stamp() {
    let mut rig = rig(HASHED);
    for number in 1..=4 {
        rig.run(&[ask::<Counter, _>(COUNTERS, 1, number, &Twice {})]);
    }
    let stamps: Vec<u64> = rig.out.iter().map(|reply| reply.hlc).collect();
    assert_eq!(stamps.len(), 8);
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "C6: {stamps:?}");
}

#[test]
fn a_restarted_actor_begins_anew_and_its_timers_find_it_gone() {
    let spec = SetSpec { restart: RestartMode::Restart, ..counters(HASHED) };
    let mut rig = Rig::new(&CpuDeviceConfig::DEFAULT, &[spec]);
    rig.run(&[
        tell::<Counter, _>(COUNTERS, 1, &Add { amount: 8 }),
        tell::<Counter, _>(COUNTERS, 1, &Later { amount: 1, delay_ms: 10, times: 3 }),
        tell::<Counter, _>(COUNTERS, 1, &Break { divisor: 0 }),
    ]);
    assert_eq!(rig.total(1), (0, 0));
    rig.advance_ms(20);
    rig.settle();
    assert_eq!(rig.total(1), (0, 0));
    assert_eq!(dead(&rig, DeadReason::ActorGone), 3);
    assert_eq!((rig.device.total().failures, rig.device.total().restarts), (1, 1));
    rig.check_conservation();
}

#[test]
fn a_stopped_actor_leaves_and_comes_back_empty_with_a_later_stamp() {
    for keys in [HASHED, KeySpace::Dense { count: 100 }] {
        let mut rig = rig(keys);
        let mut add = tell::<Counter, _>(COUNTERS, 1, &Add { amount: 8 });
        add.hlc = (WALL_MS + 200) << 16;
        rig.run(&[add, tell::<Counter, _>(COUNTERS, 1, &Quit {})]);
        assert_eq!(rig.device.total().actors_now, 0);
        let answer = rig.ask::<Counter, _>(COUNTERS, 1, &Get {});
        assert_eq!(Total::from_envelope(&answer).map(|total| total.sum), Some(0));
        assert!(answer.hlc > add.hlc + 2, "C6: the shard's floor");
        assert_eq!(rig.device.total().activations, 2);
    }
}

#[test]
fn keys_that_come_and_go_within_one_batch_reach_the_right_actors() {
    let mut rig = rig(HASHED);
    let mut batch = Vec::new();
    for round in 0..40u64 {
        for key in 0..20u64 {
            batch.push(tell::<Counter, _>(COUNTERS, key, &Add { amount: key + round }));
            batch.push(tell::<Counter, _>(COUNTERS, key, &Quit {}));
        }
    }
    for key in 0..20u64 {
        batch.push(tell::<Counter, _>(COUNTERS, key, &Add { amount: key }));
    }
    rig.run(&batch);
    assert_eq!((0..20).map(|key| rig.total(key)).collect::<Vec<_>>(), (0..20).map(|key| (key, 1)).collect::<Vec<_>>());
    assert_eq!(rig.device.total().activations, 20 * 41);
    rig.check_conservation();
}

#[test]
fn a_full_shard_refuses_clients_until_the_gate_marker_and_dead_letters_actors() {
    let spec = SetSpec { shards: 1, actors_per_shard: 2, ..counters(HASHED) };
    let mut rig = Rig::new(&CpuDeviceConfig::DEFAULT, &[spec]);
    let add = |key| tell::<Counter, _>(COUNTERS, key, &Add { amount: 1 });
    rig.run(&[add(1), add(2), add(3), add(1)]);
    let verdicts: Vec<_> = rig.out.drain(..).map(|e| e.as_verdict().map(|(v, b)| (v, b.position))).collect();
    // The message to actor 1 could be handled, but must not overtake the one to actor 3 of the same session.
    assert_eq!(verdicts, [Some((Verdict::ShardFull, 2)), Some((Verdict::Busy, 3))]);
    let total = rig.device.total();
    assert_eq!((total.refused, total.handled, total.ingress_done, total.ingress_in), (2, 2, 4, 2));
    // An actor's message is never gated, and is a dead letter if it would need a third actor.
    let actor = ringfleet_abi::ActorId::new(SetId(9), 1);
    let from_actor =
        |key| Add { amount: 1 }.to_envelope(actor, ringfleet_abi::ActorId::new(COUNTERS, key), Flags::NONE);
    rig.run(&[from_actor(1), from_actor(7)]);
    assert_eq!((rig.device.total().handled, dead(&rig, DeadReason::ShardFull)), (3, 1));
    // One leaves, the gate opens, and the refused ones are sent again.
    let quit = Quit {}.to_envelope(actor, ringfleet_abi::ActorId::new(COUNTERS, 2), Flags::NONE);
    let marker = Envelope::gate_marker(ringfleet_abi::ShardId::new(COUNTERS, ringfleet_abi::ShardIndex(0)));
    rig.run(&[quit, marker, add(3), add(1)]);
    assert_eq!(rig.out, []);
    assert_eq!((rig.total(1), rig.total(3)), ((3, 3), (1, 1)));
    rig.check_conservation();
}
