------------------------------- MODULE Fence -------------------------------
(* C2, C10: leases, fencing and epochs of one shard.

   The Raft log gives epoch e of the shard to a fresh incarnation, so incarnation e owns epoch e and the log is one number, `epoch`:
   the records "e is lost, e + 1 owns" up to there. A node counts its lease from SENDING a renewal. The leader grants after it has
   confirmed its leadership, which it does after receiving; a new leader counts every lease as renewed at its election.

   Time has no origin: everything is an age in ticks, and Tick adds one to all of them (an age at Cap stays there). A clock may run at
   any rate in [1 - 1/S, 1 + 1/S], and change it: the comparisons below allow whatever one of these rates allows, so no rate is chosen.
   A pause needs no action: a process that takes no step while others Tick is paused, and a frame that is in `frames` for long may as
   well have waited in a paused process, after the check of the lease and before the send.                                           *)
EXTENDS Naturals, FiniteSets

CONSTANTS Epochs,    \* highest epoch
          Terms,     \* highest term of the coordinators
          Lease, Patience, Grace,   \* ticks; Patience is what the leader waits
          Skew,      \* by how much two wall clocks may differ, ticks
          S,         \* clock rates are in [1 - 1/S, 1 + 1/S]
          AsksMax,   \* renewals in flight, and grants
          FramesMax, \* frames in flight
          Starts,    \* processes of one incarnation: 1, or 2 to see why an incarnation is never reused
          Mutant

Is(m) == Mutant = m
Cap == (IF Patience > Lease + Grace + Skew THEN Patience ELSE Lease + Grace + Skew) + 2
Ages == 0..Cap
Nodes == 1..Epochs

VARIABLES
  epoch,      \* the log: who owns, and that all below are lost
  term, ready,\* the current leader, and whether it has committed and applied all it found in its log
  proposed,   \* "epoch is lost" stands in the leader's log, not committed; the leader has doomed the incarnation
  renewed,    \* the leader's age of the owner's last renewal
  lease,      \* node -> age of the sending of the last renewal that was granted
  crashed,    \* nodes that are gone
  resident,   \* nodes that have seen the view that makes them owner, and none that makes them lost
  asks, grants, frames,   \* sets of [i: node, age: of the sending of the renewal]: never removed by arriving, so they may arrive twice
  seen,       \* view of the receiver: epochs it knows of
  accepted,   \* highest epoch of which the receiver has accepted an act
  lastOk,     \* ghosts of the last acceptance: not past lease and grace; not below an accepted epoch; nobody further was executing
  ran         \* epoch -> processes that have executed it
vars == <<epoch, term, ready, proposed, renewed, lease, crashed, resident, asks, grants, frames, seen, accepted, lastOk, ran>>
log == <<epoch, term, ready, proposed, renewed>>
receiver == <<seen, accepted, lastOk>>

Init == /\ epoch = 1 /\ term = 1 /\ ready = TRUE /\ proposed = FALSE /\ renewed = 0
        /\ lease = [i \in Nodes |-> Cap] /\ crashed = {} /\ resident = {1}
        /\ asks = {} /\ grants = {} /\ frames = {}
        /\ seen = 1 /\ accepted = 0 /\ lastOk = [time |-> TRUE, order |-> TRUE, alone |-> TRUE] /\ ran = [i \in Nodes |-> {}]

\* The slowest clock still believes in the lease; the fastest clock has already lost patience.
MayBelieve(age) == age * (S - 1) < Lease * S
Waited == CASE Is("no_margin") -> Lease [] Is("small_margin") -> Lease + 1 [] OTHER -> Patience
MayGiveUp(age)  == age * (S + 1) > Waited * S
\* The wall clock of the receiver may be Skew behind.
MayTake(age)    == age <= Lease + Grace + Skew
Executes(i)     == i \in resident /\ i \notin crashed /\ MayBelieve(lease[i])

Older(age) == IF age < Cap THEN age + 1 ELSE Cap
OlderAll(msgs, last) == {[m EXCEPT !.age = Older(@)] : m \in {n \in msgs : n.age < last}}
\* Asks and grants that are too old to give a lease do nothing; frames too old to be taken are kept only to be refused.
Tick == /\ renewed' = Older(renewed)
        /\ lease' = [i \in Nodes |-> Older(lease[i])]
        /\ asks' = OlderAll(asks, Cap) /\ grants' = OlderAll(grants, Cap)
        /\ frames' = OlderAll(frames, Lease + Grace + Skew + 2)
        /\ UNCHANGED <<epoch, term, ready, proposed, crashed, resident, receiver, ran>>

Room(msgs) == Cardinality(msgs) < AsksMax
RoomForFrame == Cardinality(frames) < FramesMax
Renew(i) == /\ i \in resident \ crashed /\ Room(asks)
            /\ asks' = asks \cup {[i |-> i, age |-> 0]}
            /\ UNCHANGED <<log, lease, crashed, resident, grants, frames, receiver, ran>>

\* `since` is how long ago the leader received what it now, having confirmed its leadership, grants.
Grant(m, since) ==
  /\ m.i = epoch /\ since <= m.age /\ Room(grants)
  /\ ready \/ Is("grant_before_applied")
  /\ ~proposed \/ Is("grant_to_doomed") \/ (Is("grant_before_applied") /\ ~ready)
  /\ renewed' = IF since < renewed THEN since ELSE renewed
  /\ grants' = grants \cup {m}
  /\ UNCHANGED <<epoch, term, ready, proposed, lease, crashed, resident, asks, frames, receiver, ran>>
\* A leader that has been deposed and does not know it; its confirmation would fail.
GrantDeposed(m) == /\ Is("no_confirmation") /\ term > 1 /\ Room(grants)
                   /\ grants' = grants \cup {m}
                   /\ UNCHANGED <<log, lease, crashed, resident, asks, frames, receiver, ran>>
Granted(m) == /\ m.i \notin crashed
              /\ LET age == IF Is("lease_from_receipt") THEN 0 ELSE m.age
                 IN age < lease[m.i] /\ lease' = [lease EXCEPT ![m.i] = age]
              /\ UNCHANGED <<log, crashed, resident, asks, grants, frames, receiver, ran>>

GiveUp == /\ ~proposed /\ epoch < Epochs /\ MayGiveUp(renewed) /\ proposed' = TRUE
          /\ UNCHANGED <<epoch, term, ready, renewed, lease, crashed, resident, asks, grants, frames, receiver, ran>>
Lost == /\ proposed /\ epoch' = epoch + 1 /\ proposed' = FALSE
        /\ renewed' = 0        \* the newcomer counts as renewed now
        /\ UNCHANGED <<term, ready, lease, crashed, resident, asks, grants, frames, receiver, ran>>
\* The leader crashed, paused or was cut off. What it had proposed is in the log of the next one, or in none that counts.
Elect == /\ term < Terms /\ term' = term + 1 /\ ready' = FALSE
         /\ proposed' \in {FALSE, proposed}
         /\ renewed' = IF Is("election_counts_nothing") THEN Cap ELSE 0
         /\ UNCHANGED <<epoch, lease, crashed, resident, asks, grants, frames, receiver, ran>>
Ready == /\ ~ready /\ ~proposed /\ ready' = TRUE
         /\ UNCHANGED <<epoch, term, proposed, renewed, lease, crashed, resident, asks, grants, frames, receiver, ran>>

\* A node sees a view at any time, or never.
SeesOwn(i) == /\ i <= epoch /\ i \notin resident \cup crashed /\ i = epoch /\ resident' = resident \cup {i}
              /\ UNCHANGED <<log, lease, crashed, asks, grants, frames, receiver, ran>>
SeesLost(i) == /\ i < epoch /\ i \in resident /\ resident' = resident \ {i}
               /\ UNCHANGED <<log, lease, crashed, asks, grants, frames, receiver, ran>>
Crash(i) == /\ i \in resident \ crashed /\ i < Epochs /\ crashed' = crashed \cup {i}
            /\ UNCHANGED <<log, lease, resident, asks, grants, frames, receiver, ran>>

\* A worker runs the shard and sends, in the name of its epoch, with the end of the lease as it was at the check. The p-th process
\* that was started as this incarnation: by the log there is one, a restarted node is another incarnation.
Execute(i, p) == /\ Executes(i) /\ RoomForFrame
                 /\ p = 1 \/ Is("reused_incarnation")
                 /\ frames' = frames \cup {[i |-> i, age |-> lease[i]]}
                 /\ ran' = [ran EXCEPT ![i] = @ \cup {p}]
                 /\ UNCHANGED <<log, lease, crashed, resident, asks, grants, receiver>>
ReceiverSees == /\ seen < epoch /\ seen' \in (seen + 1)..epoch
                /\ UNCHANGED <<log, lease, crashed, resident, asks, grants, frames, accepted, lastOk, ran>>
\* A frame names the view by which it was sent, at least that of its epoch: the receiver catches up first, and refuses the fenced.
Accept(f) ==
  /\ MayTake(f.age) \/ Is("frame_lease_ignored")
  /\ f.i <= seen \/ Is("no_catching_up")
  /\ f.i >= seen \/ Is("no_fence")
  /\ accepted' = IF f.i > accepted THEN f.i ELSE accepted
  /\ lastOk' = [time |-> MayTake(f.age), order |-> f.i >= accepted, alone |-> \A j \in Nodes : j > f.i => ran[j] = {}]
  /\ UNCHANGED <<log, lease, crashed, resident, asks, grants, frames, seen, ran>>
Lose == /\ \/ \E m \in asks : asks' = asks \ {m} /\ UNCHANGED <<grants, frames>>
           \/ \E m \in grants : grants' = grants \ {m} /\ UNCHANGED <<asks, frames>>
           \/ \E m \in frames : frames' = frames \ {m} /\ UNCHANGED <<asks, grants>>
        /\ UNCHANGED <<log, lease, crashed, resident, receiver, ran>>

Next == \/ Tick \/ GiveUp \/ Lost \/ Elect \/ Ready \/ ReceiverSees \/ Lose
        \/ \E i \in Nodes : Renew(i) \/ SeesOwn(i) \/ SeesLost(i) \/ Crash(i) \/ \E p \in 1..Starts : Execute(i, p)
        \/ \E m \in asks : GrantDeposed(m) \/ \E since \in Ages : Grant(m, since)
        \/ \E m \in grants : Granted(m)
        \/ \E f \in frames : Accept(f)
\* The coordinators and the clocks go on. Nothing is asked of nodes and network, except that a living node sees views.
Fair == /\ WF_vars(Tick) /\ WF_vars(Lost) /\ WF_vars(Ready)
        /\ IF Is("never_gives_up") THEN TRUE ELSE SF_vars(GiveUp)
        /\ \A i \in Nodes : WF_vars(SeesOwn(i))
Spec == Init /\ [][Next]_vars /\ Fair

TypeOK == /\ epoch \in Nodes /\ term \in 1..Terms /\ renewed \in Ages /\ lease \in [Nodes -> Ages] /\ seen \in 1..epoch
          /\ \A m \in asks \cup grants \cup frames : m.i \in Nodes /\ m.age \in Ages
\* Who may still execute is who the log says: a member is declared lost only when no clock lets it believe in its lease.
C2_OneEffectiveIncarnation == \A i \in Nodes : Executes(i) => i = epoch
C2_OneWorkerPerEpoch == \A e \in Nodes : Cardinality(ran[e]) <= 1
C2_EpochsNeverGoBack == lastOk.order
C2_NothingAfterLeaseEnd == lastOk.time
\* Needs wall clocks and a margin such that frames die before the successor begins; see README, "What the margin must cover".
C2_NothingBesideSuccessor == (Lease + Grace + Skew) * (S + 1) <= Patience * S => lastOk.alone
C10_LostIsReplaced == \A i \in Nodes : (i \in crashed /\ i < Epochs) ~> (epoch > i)
=============================================================================
