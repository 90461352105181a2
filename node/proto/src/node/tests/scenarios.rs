//! Scenarios: what goes wrong, and what must be true afterwards.

use super::device::Damage;
use super::net::{End, Faults, Net, Shape};
use crate::limits::HELD_FRAMES_MAX;
use crate::now::NS_PER_MS;

fn seeds(few: u64) -> std::ops::Range<u64> {
    let many = std::env::var("RINGFLEET_SEEDS").ok().and_then(|text| text.parse().ok());
    0..many.unwrap_or(few)
}

/// Clients tell as fast as they may for so many steps.
fn load(net: &mut Net, steps: u64, percent: u64) {
    for _ in 0..steps {
        for client in 0..net.clients.len() {
            for _ in 0..6 {
                if net.rng.percent(percent) {
                    let ask = net.rng.percent(20);
                    let hops = net.rng.below(4) as u32;
                    net.tell(client, hops, ask);
                }
            }
        }
        net.step();
    }
}

#[test]
fn without_faults_everything_is_handled_once_in_order() {
    for seed in seeds(5) {
        let mut net = Net::new(seed, Shape::SMALL, Faults::NONE);
        load(&mut net, 2_000, 50);
        net.settle();
        net.assert_conserved();
        assert_eq!((net.lost(), net.checker.gaps), (0, 0), "seed {seed}");
        let asks: u64 = net.clients.iter().map(|client| client.asks).sum();
        assert_eq!(net.clients.iter().map(|client| client.replies).sum::<u64>(), asks, "seed {seed}");
        assert!(net.checker.handled > 5_000, "seed {seed}: {} handled", net.checker.handled);
    }
}

#[test]
fn links_that_break_lose_reorder_and_duplicate_nothing() {
    let mut duplicates = 0;
    for seed in seeds(10) {
        let mut net = Net::new(seed, Shape::SMALL, Faults { cut_once_in: 60, ..Faults::NONE });
        load(&mut net, 3_000, 50);
        net.settle();
        net.assert_conserved();
        assert_eq!((net.lost(), net.checker.gaps), (0, 0), "seed {seed}");
        duplicates += net.sum(|ledger| ledger.duplicates);
        assert!(net.cuts > 10, "seed {seed}");
    }
    assert!(duplicates > 0, "the filter had something to do");
}

#[test]
fn refusing_devices_lose_reorder_and_duplicate_nothing() {
    for seed in seeds(10) {
        let mut net = Net::new(seed, Shape::SMALL, Faults { cut_once_in: 200, refuse_percent: 2, ..Faults::NONE });
        load(&mut net, 3_000, 50);
        net.settle();
        net.assert_conserved();
        assert_eq!((net.lost(), net.checker.gaps), (0, 0), "seed {seed}");
        assert!(net.sum(|ledger| ledger.taken_back) > 0, "seed {seed}: a device has refused");
    }
}

#[test]
fn messages_taken_back_by_their_client_are_never_handled() {
    for seed in seeds(10) {
        let faults = Faults { cut_once_in: 200, refuse_percent: 2, give_up_percent: 30, ..Faults::NONE };
        let mut net = Net::new(seed, Shape::SMALL, faults);
        load(&mut net, 3_000, 50);
        net.settle();
        net.assert_conserved();
        let taken_back: u64 = net.clients.iter().map(|client| client.taken_back).sum();
        let told: u64 = net.clients.iter().map(|client| client.handled).sum();
        assert!(taken_back > 0, "seed {seed}");
        // Every message of a client is handled by a worker exactly if the client was told so.
        let from_clients = net.sum(|ledger| ledger.client_in - ledger.taken_back);
        assert_eq!(from_clients, told, "seed {seed}");
        assert!(net.checker.gaps <= taken_back, "seed {seed}");
    }
}

#[test]
fn shards_that_move_keep_order_and_report_every_loss() {
    for seed in seeds(10) {
        let faults = Faults { cut_once_in: 300, move_once_in: 100, ..Faults::NONE };
        let mut net = Net::new(seed, Shape::SMALL, faults);
        load(&mut net, 4_000, 40);
        net.settle();
        net.assert_conserved();
        assert!(net.moves > 10, "seed {seed}");
        assert!(net.checker.gaps <= net.lost(), "seed {seed}: {} gaps, {} lost", net.checker.gaps, net.lost());
    }
}

#[test]
fn everything_at_once_keeps_order_and_the_sum() {
    for seed in seeds(6) {
        let faults = Faults {
            cut_once_in: 200,
            refuse_percent: 1,
            move_once_in: 150,
            give_up_percent: 20,
            lapse_once_in: 20_000,
            delay_max_ns: 8 * NS_PER_MS,
        };
        let shape = Shape { devices: 2, clients: 3, ..Shape::SMALL };
        let mut net = Net::new(seed, shape, faults);
        load(&mut net, 6_000, 30);
        net.settle();
        net.assert_conserved();
        let taken_back: u64 = net.clients.iter().map(|client| client.taken_back).sum();
        assert!(net.checker.gaps <= net.lost() + taken_back, "seed {seed}");
    }
}

#[test]
fn sets_come_and_go_under_load() {
    for seed in seeds(5) {
        let mut net = Net::new(seed, Shape::SMALL, Faults { cut_once_in: 300, move_once_in: 300, ..Faults::NONE });
        load(&mut net, 500, 40);
        net.apply_set(3);
        load(&mut net, 500, 40);
        for key in 0..50 {
            net.tell_to(0, ringfleet_abi::ActorId::new(ringfleet_abi::SetId(3), key), 3, true);
        }
        load(&mut net, 500, 40);
        net.faults.move_once_in = 0;
        load(&mut net, 500, 40);
        net.delete_set(2);
        load(&mut net, 1_000, 40);
        net.settle();
        net.assert_conserved();
        assert_eq!(net.view.sets.len(), 2, "seed {seed}: the set is gone");
        for node in &net.nodes {
            assert_eq!(node.devices[0].sets_known(), [1, 3], "seed {seed}");
        }
    }
}

#[test]
fn a_node_with_several_devices_is_its_own_peer() {
    for seed in seeds(5) {
        let shape = Shape { devices: 2, nodes: 2, ..Shape::SMALL };
        let mut net = Net::new(seed, shape, Faults { cut_once_in: 100, refuse_percent: 1, ..Faults::NONE });
        load(&mut net, 2_000, 50);
        net.settle();
        net.assert_conserved();
        assert_eq!((net.lost(), net.checker.gaps), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_lost_node_is_survived_in_order_and_its_losses_reported() {
    for seed in seeds(10) {
        let mut net = Net::new(seed, Shape::SMALL, Faults { cut_once_in: 400, ..Faults::NONE });
        load(&mut net, 1_000, 40);
        net.kill(1);
        load(&mut net, 1_500, 40);
        net.settle();
        assert!(net.lost() > 0, "seed {seed}: something was on its way to the dead node");
        assert!(net.clients.iter().all(|client| client.outbound.stats().impossible_answers == 0), "seed {seed}");
    }
}

#[test]
fn nothing_is_lost_when_leases_end_and_are_renewed() {
    for seed in seeds(4) {
        let mut net = Net::new(seed, Shape::SMALL, Faults { lapse_once_in: 6_000, cut_once_in: 2_000, ..Faults::NONE });
        load(&mut net, 40_000, 5);
        net.settle();
        net.assert_conserved();
        assert_eq!((net.lost(), net.checker.gaps), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_fenced_node_accepts_and_sends_nothing() {
    let mut net = Net::new(1, Shape::SMALL, Faults::NONE);
    load(&mut net, 500, 50);
    net.nodes.iter_mut().for_each(|node| node.renewing = false);
    // Past the end of every lease.
    load(&mut net, 16_000, 1);
    let before = (net.sum(|ledger| ledger.client_in + ledger.node_in), net.checker.handled);
    load(&mut net, 2_000, 20);
    let after = (net.sum(|ledger| ledger.client_in + ledger.node_in), net.checker.handled);
    assert_eq!(before, after, "C2");
    net.nodes.iter_mut().for_each(|node| node.renewing = true);
    net.settle();
    net.assert_conserved();
    assert_eq!((net.lost(), net.checker.gaps), (0, 0));
}

#[test]
fn a_link_that_is_down_for_a_second_fills_bounds_and_stops_clients_not_devices() {
    let mut shape = Shape::SMALL;
    shape.outbound.channel_max = 600;
    shape.outbound.peer_max = 2_000;
    shape.outbound.total_max = 3_000;
    let mut net = Net::new(3, shape, Faults::NONE);
    load(&mut net, 500, 50);
    for _ in 0..5_000 {
        // Nodes cannot reach node 0; clients can reach everybody.
        for wire in net.wires_of(End::Node(0)) {
            net.cut_between_nodes(wire);
        }
        load(&mut net, 1, 60);
    }
    assert!(net.sum(|ledger| ledger.busy_answers) > 0, "clients were held back");
    net.settle();
    net.assert_conserved();
    assert_eq!((net.lost(), net.sum(|ledger| ledger.dead_total()), net.checker.gaps), (0, 0, 0));
}

#[test]
fn an_idle_session_expires_and_its_resumption_is_channel_lost() {
    let mut net = Net::new(5, Shape { session_idle_ms: 500, ..Shape::SMALL }, Faults::NONE);
    load(&mut net, 1_000, 50);
    net.settle();
    let before = net.clients[0].handled;
    for _ in 0..5_000 {
        net.step();
    }
    assert!(net.sum(|ledger| ledger.sessions_expired) > 0);
    let answers = net.sum(|ledger| ledger.channel_lost_answers);
    load(&mut net, 200, 50);
    net.settle();
    assert!(net.sum(|ledger| ledger.channel_lost_answers) > answers, "never a fresh start");
    assert!(net.clients[0].handled > before, "and goes on under a new generation");
    assert_eq!(net.checker.gaps, 0, "what had not been executed was kept");
}

#[test]
fn the_checker_flags_duplicates_when_the_filter_is_off() {
    let flagged = seeds(10).any(|seed| {
        std::panic::catch_unwind(|| {
            let mut net = Net::new(seed, Shape::SMALL, Faults { cut_once_in: 60, ..Faults::NONE });
            net.nodes.iter_mut().for_each(|node| node.proto.inbound.duplicate_filter_off = true);
            load(&mut net, 3_000, 50);
            net.settle();
        })
        .is_err()
    });
    assert!(flagged, "a run without duplicate filter must not pass");
}

#[test]
fn the_checker_flags_devices_that_drop_repeat_or_swap() {
    for damage in [Damage::Drop, Damage::Repeat, Damage::Swap] {
        let flagged = std::panic::catch_unwind(|| {
            let mut net = Net::new(1, Shape::SMALL, Faults::NONE);
            net.nodes[0].devices[0].damage = Some(damage);
            load(&mut net, 2_000, 60);
            net.settle();
            assert_eq!(net.nodes[0].devices[0].damage, None, "the damage was done");
            net.assert_conserved();
            assert_eq!((net.lost(), net.checker.gaps), (0, 0));
        });
        assert!(flagged.is_err(), "{damage:?} must not pass");
    }
}

#[test]
fn frames_wait_for_the_view_that_their_sender_has_seen() {
    // Node views are late by up to a second while shards move: bounded holding, nothing lost by it.
    for seed in seeds(3) {
        let faults = Faults { move_once_in: 150, delay_max_ns: 40 * NS_PER_MS, ..Faults::NONE };
        let mut net = Net::new(seed, Shape::SMALL, faults);
        load(&mut net, 3_000, 30);
        net.settle();
        net.assert_conserved();
        assert!(net.checker.gaps <= net.lost(), "seed {seed}");
    }
    const { assert!(HELD_FRAMES_MAX > 0) };
}
