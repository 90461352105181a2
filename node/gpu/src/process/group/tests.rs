use ringfleet_abi::{Hlc, KeySpace, RestartMode, RouteTarget, ShardIndex, Verdict};

use super::*;

const SET: SetId = SetId(3);
const EACH: u16 = 3;

/// A member that takes what it has room for and says what a test has written for it.
#[derive(Debug, Default)]
struct Scripted {
    /// Controls that it has room for.
    room: usize,
    /// Envelopes that it has room for.
    slots: usize,
    controls: Vec<Control>,
    pushed: Vec<(u16, u64)>,
    published: usize,
    says: VecDeque<Status>,
    sends: VecDeque<Envelope>,
}

impl Device for Scripted {
    fn push_ingress(&mut self, _: &[Envelope]) -> usize {
        unreachable!("the group chooses the worker")
    }
    fn ingress_worker(&self, _: &Envelope) -> WorkerIndex {
        unreachable!("the group knows")
    }
    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        let count = self.sends.len().min(envelopes.len());
        self.sends.drain(..count).zip(envelopes).for_each(|(envelope, to)| *to = envelope);
        count
    }
    fn submit(&mut self, control: Control) -> Result<(), Full> {
        if !matches!(control, Control::Lease { .. } | Control::Pause | Control::Resume | Control::Stop) {
            self.room = self.room.checked_sub(1).ok_or(Full)?;
        }
        self.controls.push(control);
        Ok(())
    }
    fn poll_status(&mut self) -> Option<Status> {
        self.says.pop_front()
    }
    fn counters(&self, worker: WorkerIndex) -> WorkerCounters {
        WorkerCounters { handled: u64::from(worker.0) + 1, ..WorkerCounters::default() }
    }
    fn workers(&self) -> u16 {
        EACH
    }
}

impl Member for Scripted {
    fn push_to(&mut self, worker: WorkerIndex, envelope: &Envelope) -> bool {
        let room = self.pushed.len() < self.slots;
        if room {
            self.pushed.push((worker.0, envelope.to_key));
        }
        room
    }
    fn publish(&mut self) {
        self.published = self.pushed.len();
    }
}

fn group() -> GroupDevice<Scripted> {
    let member = || Scripted { room: usize::MAX, slots: usize::MAX, ..Scripted::default() };
    GroupDevice::new(vec![member(), member()])
}

fn shard(index: u16) -> ShardId {
    ShardId::new(SET, ShardIndex(index))
}

fn add_set() -> Control {
    let (tag, type_index, keys) = (7, Some(0), KeySpace::Dense { count: 60 });
    Control::AddSet { set: SET, tag, type_index, keys, shards: 6, actors_per_shard: 10, restart: RestartMode::Stop }
}

fn assign(index: u16, epoch: u64, worker: u16) -> Control {
    Control::Assign { shard: shard(index), epoch: Epoch(epoch), worker: WorkerIndex(worker) }
}

fn release(index: u16, epoch: u64) -> Control {
    Control::Release { shard: shard(index), epoch: Epoch(epoch) }
}

fn commit(version: u64) -> Control {
    Control::RouteCommit { version }
}

fn to(key: u64) -> Envelope {
    Envelope { to_set: SET.0, to_key: key, ..Envelope::default() }
}

/// A group with the set, of which shard i is on worker i.
fn deployed() -> GroupDevice<Scripted> {
    let mut group = group();
    group.submit(add_set()).expect("room");
    (0..6).for_each(|index| group.submit(assign(index, 1, index)).expect("room"));
    flush_own(&mut group, 0);
    group.members.iter_mut().for_each(|member| member.controls.clear());
    group
}

/// All members flush the group's own commit, of which nothing is told.
fn flush_own(group: &mut GroupDevice<Scripted>, version: u64) {
    for member in 0..2 {
        assert_eq!(group.members[member].controls.last(), Some(&commit(version)));
        assert_eq!(says(group, member, Status::RouteFlushed { version }), None);
    }
    // What waited for it is given at the next look.
    assert_eq!(group.poll_status(), None);
}

fn says(group: &mut GroupDevice<Scripted>, member: usize, status: Status) -> Option<Status> {
    group.members[member].says.push_back(status);
    let told = group.poll_status();
    assert!(group.members.iter().all(|member| member.says.is_empty()), "it is asked until it says nothing");
    told
}

#[test]
fn workers_have_the_numbers_that_they_have_as_peers() {
    let mut group = group();
    assert_eq!(group.workers(), 6);
    group.submit(add_set()).expect("room");
    group.submit(assign(4, 1, 4)).expect("room");
    let route = Control::Route { shard: shard(4), target: RouteTarget::Worker(WorkerIndex(4)) };
    group.submit(route).expect("room");
    flush_own(&mut group, 0);
    assert_eq!(group.members[0].controls, [add_set(), commit(0), route]);
    let theirs = [add_set(), commit(0), assign(4, 1, 1), route];
    assert_eq!(group.members[1].controls, theirs, "its own worker, the group's route");
    let assigned = |worker| Status::Assigned { shard: shard(4), epoch: Epoch(1), worker: WorkerIndex(worker) };
    assert_eq!(says(&mut group, 1, assigned(1)), Some(assigned(4)));
    assert_eq!((group.ingress_worker(&to(45)), group.ingress_worker(&to(5))), (WorkerIndex(4), WorkerIndex(0)));
    assert_eq!((group.counters(WorkerIndex(5)).handled, group.total().handled), (3, 12));
    assert_eq!((group.counters(WorkerIndex(6)).handled, group.ingress_done(WorkerIndex(6))), (0, 0));
    let stalled = |worker| Status::WorkerStalled { worker: WorkerIndex(worker) };
    assert_eq!(says(&mut group, 1, stalled(2)), Some(stalled(5)));
}

#[test]
fn a_verdict_names_the_worker_of_the_group() {
    let mut group = deployed();
    let body = VerdictBody { position: 77, fault: 0, worker: 2, kind: 1 };
    let verdict = Envelope::verdict(&to(1), Verdict::Busy, body, Hlc(1));
    let reply = Envelope { payload: [2; 32], ..to(1) };
    for member in &mut group.members {
        member.sends = [verdict, reply].into();
    }
    let mut out = [Envelope::default(); 8];
    assert_eq!(group.poll_egress(&mut out), 4);
    let mut workers: Vec<u16> = out.iter().filter_map(|out| out.as_verdict()).map(|(_, body)| body.worker).collect();
    workers.sort_unstable();
    assert_eq!(workers, [2, 5]);
    assert_eq!(out[..4].iter().filter(|out| out.payload == reply.payload).count(), 2, "others stay as they are");
}

#[test]
fn the_next_commit_waits_with_all_behind_it_until_every_member_has_flushed() {
    let mut group = deployed();
    for control in [commit(8), release(0, 1), commit(9), assign(0, 2, 5), Control::Lease { deadline_ns: 5 }] {
        group.submit(control).expect("room");
    }
    let lease = Control::Lease { deadline_ns: 5 };
    assert_eq!(group.members[0].controls, [commit(8), release(0, 1), lease], "a lease never waits");
    assert_eq!(group.members[1].controls, [commit(8), lease]);
    let flushed = |version| Status::RouteFlushed { version };
    assert_eq!(says(&mut group, 1, flushed(8)), None);
    assert_eq!(says(&mut group, 1, flushed(8)), None, "one member's word counts once");
    assert_eq!(group.members[1].controls.len(), 2);
    let released = Status::Released { shard: shard(0), epoch: Epoch(1) };
    assert_eq!(says(&mut group, 0, released), Some(released));
    assert_eq!(says(&mut group, 0, flushed(8)), Some(flushed(8)));
    assert_eq!(group.poll_status(), None);
    assert_eq!(group.members[0].controls[3..], [commit(9)]);
    assert_eq!(group.members[1].controls[2..], [commit(9), assign(0, 2, 2)]);
    assert_eq!(says(&mut group, 0, flushed(9)), None);
    assert_eq!(says(&mut group, 1, flushed(9)), Some(flushed(9)));
}

#[test]
fn no_shard_of_a_set_is_assigned_before_all_members_know_the_set() {
    let mut group = deployed();
    let other = |index| ShardId::new(SetId(SET.0 + 1), ShardIndex(index));
    let Control::AddSet { tag, type_index, keys, shards, actors_per_shard, restart, .. } = add_set() else { return };
    let set = SetId(SET.0 + 1);
    let add = Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart };
    let first = Control::Assign { shard: other(0), epoch: Epoch(1), worker: WorkerIndex(0) };
    // The driver's own commit does it, too, if it comes before; others of its shards wait no more.
    for control in [add, commit(8), first, commit(9)] {
        group.submit(control).expect("room");
    }
    let flushed = |version| Status::RouteFlushed { version };
    assert_eq!(group.members[0].controls, [add, commit(8)]);
    assert_eq!(says(&mut group, 0, flushed(8)), None);
    assert_eq!(group.members[0].controls, [add, commit(8)], "one of them may not know it yet");
    assert_eq!(says(&mut group, 1, flushed(8)), Some(flushed(8)));
    assert_eq!(group.poll_status(), None);
    assert_eq!(group.members[0].controls, [add, commit(8), first, commit(9)]);
    // A set that comes while a commit is under way waits for that and for one of the group's.
    let set = SetId(SET.0 + 2);
    let late = Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart };
    let shard = ShardId::new(set, ShardIndex(5));
    group.submit(late).expect("room");
    group.submit(Control::Assign { shard, epoch: Epoch(1), worker: WorkerIndex(5) }).expect("room");
    assert_eq!(group.members[1].controls, [add, commit(8), commit(9), late]);
    assert_eq!(says(&mut group, 0, flushed(9)), None);
    assert_eq!(says(&mut group, 1, flushed(9)), Some(flushed(9)));
    assert_eq!(group.poll_status(), None);
    flush_own(&mut group, 9);
    let own = Control::Assign { shard, epoch: Epoch(1), worker: WorkerIndex(2) };
    assert_eq!(group.members[1].controls, [add, commit(8), commit(9), late, commit(9), own]);
    assert_eq!(group.poll_status(), None);
}

#[test]
fn a_control_that_was_taken_reaches_every_member_once_and_in_order() {
    let mut group = deployed();
    group.members[1].room = 0;
    let route = Control::Route { shard: shard(1), target: RouteTarget::Egress };
    for control in [route, commit(8), release(0, 1)] {
        group.submit(control).expect("it waits here");
    }
    assert_eq!((&group.members[0].controls[..], &group.members[1].controls[..]), (&[route][..], &[][..]));
    group.members[1].room = 1;
    assert_eq!(group.poll_status(), None);
    assert_eq!(group.members[0].controls, [route, commit(8)]);
    assert_eq!(group.members[1].controls, [route]);
    group.members[1].room = 5;
    assert_eq!(group.poll_status(), None);
    assert_eq!(group.members[0].controls, [route, commit(8), release(0, 1)]);
    assert_eq!(group.members[1].controls, [route, commit(8)]);
}

#[test]
fn what_waits_is_bounded_and_a_refused_control_is_nowhere() {
    let mut group = deployed();
    group.members[1].room = 0;
    let route = Control::Route { shard: shard(1), target: RouteTarget::Egress };
    (0..HELD_MAX).for_each(|_| group.submit(route).expect("room"));
    assert_eq!(group.submit(route), Err(Full));
    assert_eq!(group.submit(Control::Stop), Ok(()));
    group.members[1].room = usize::MAX;
    assert_eq!(group.poll_status(), None);
    let routes = |member: &Scripted| member.controls.iter().filter(|control| **control == route).count();
    assert_eq!(group.members.iter().map(routes).collect::<Vec<_>>(), [HELD_MAX, HELD_MAX]);
    // What the group answers itself counts, too.
    (0..HELD_MAX).for_each(|_| group.submit(assign(0, 1, 1)).expect("room"));
    assert_eq!(group.submit(assign(0, 1, 1)), Err(Full));
    assert!(matches!(group.poll_status(), Some(Status::AssignFailed { .. })));
    assert_eq!(group.submit(assign(0, 1, 1)), Ok(()));
}

#[test]
fn a_shard_has_one_owner_and_never_returns_at_an_old_epoch_to_whichever_member() {
    let mut group = deployed();
    let failed = |epoch| Some(Status::AssignFailed { shard: shard(0), epoch: Epoch(epoch) });
    let mut refused = |control, epoch| {
        group.submit(control).expect("room");
        assert_eq!(group.poll_status(), failed(epoch), "{control:?}");
        assert!(group.members.iter().all(|member| member.controls.is_empty()), "nobody is told of {control:?}");
    };
    refused(assign(0, 2, 4), 2);
    refused(assign(0, 2, 6), 2);
    group.submit(assign(0, 1, 0)).expect("room");
    group.submit(release(0, 1)).expect("room");
    group.submit(assign(0, 2, 4)).expect("room");
    assert_eq!(group.poll_status(), failed(2), "it is still leaving");
    assert_eq!(group.members[0].controls, [assign(0, 1, 0), release(0, 1)], "said again, answered again");
    assert_eq!(group.ingress_worker(&to(5)), WorkerIndex(0));
    assert!(says(&mut group, 0, Status::Released { shard: shard(0), epoch: Epoch(1) }).is_some());
    group.submit(assign(0, 1, 4)).expect("room");
    assert_eq!(group.poll_status(), failed(1));
    group.submit(assign(0, 2, 4)).expect("room");
    assert_eq!(group.members[1].controls, [assign(0, 2, 1)]);
    // What the member refuses may be tried again, at any epoch that is above the last.
    assert_eq!(says(&mut group, 1, failed(2).expect("one")), failed(2));
    group.submit(assign(0, 2, 1)).expect("room");
    assert_eq!(group.members[0].controls[2..], [assign(0, 2, 1)]);
}

#[test]
fn a_set_that_some_member_uses_is_forgotten_by_none() {
    let mut group = deployed();
    let remove = Control::RemoveSet { set: SET };
    group.submit(remove).expect("room");
    assert!(group.members.iter().all(|member| member.controls.is_empty()));
    for index in 0..6_u16 {
        group.submit(release(index, 1)).expect("room");
        let member = usize::from(index / EACH);
        assert!(says(&mut group, member, Status::Released { shard: shard(index), epoch: Epoch(1) }).is_some());
    }
    group.submit(remove).expect("room");
    assert!(group.members.iter().all(|member| member.controls.ends_with(&[remove])));
    // A device answers the release of what it does not have.
    group.submit(release(0, 1)).expect("room");
    assert!(matches!(group.poll_status(), Some(Status::Released { .. })));
}

#[test]
fn a_prefix_is_taken_in_the_order_of_each_worker() {
    let mut group = deployed();
    group.members[1].slots = 2;
    let keys = [0, 35, 1, 36, 2, 37, 3];
    let envelopes = keys.map(to);
    assert_eq!(group.push_ingress(&envelopes), 5, "the third for member 1 has no room");
    assert_eq!(group.members[0].pushed, [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(group.members[1].pushed, [(0, 35), (0, 36)]);
    assert_eq!((group.members[0].published, group.members[1].published), (3, 2));
}

#[test]
fn the_group_starts_and_ends_as_a_whole_and_is_fenced_when_any_is() {
    let mut group = deployed();
    let started = |workers| Status::Started { workers, layout_hash: 1 };
    assert_eq!(says(&mut group, 0, started(3)), None);
    assert_eq!(says(&mut group, 1, started(3)), Some(started(6)));
    assert_eq!(says(&mut group, 1, Status::Unfenced), None);
    assert_eq!(says(&mut group, 0, Status::Unfenced), Some(Status::Unfenced));
    assert_eq!(says(&mut group, 1, Status::Fenced), Some(Status::Fenced));
    assert_eq!(says(&mut group, 0, Status::Fenced), None);
    let lost = |worker| Status::WorkerLost { worker: WorkerIndex(worker) };
    assert_eq!(says(&mut group, 1, lost(0)), Some(lost(3)));
    assert_eq!(says(&mut group, 0, lost(0)), None, "the group is lost already");
    assert_eq!(group.push_ingress(&[to(1)]), 0);
    group.submit(Control::Stop).expect("always taken");
    assert_eq!(says(&mut group, 0, Status::Stopped), None);
    assert_eq!(says(&mut group, 1, Status::Stopped), Some(Status::Stopped));
}
