------------------------------ MODULE Migrate ------------------------------
(* C3, C7, C8: one shard moves from a source to a target while two senders go on.

     Prepare -> Quiesce -> Capture -> Restore -> Commit (Raft, epoch + 1) -> Activate, senders switch -> forward the tail -> Release
        \----------------------- Abort (Raft) --------------/

   Sender W is a worker beside the source: rings, no numbers, nothing kept. It switches when the log says committed: a marker into the
   old ring, everything later into the new one. What comes by the old ring after the capture is the tail; the source forwards it, the
   marker last, and the target leaves W's new ring alone until that marker has come.
   Sender X is a session: numbered frames that may be lost, doubled and reordered, kept until handled. A source that does not serve
   refuses them, and the duplicate filter moves with the capture.

   Commands, answers and snapshots need no network variable: one that may have been sent may arrive now, again, late, from a leader
   that is gone, or never. So a coordinator has no state but the log, and its crash is a stretch in which it takes no step.           *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS NX, NW,      \* messages of X and of W
          Attempts,    \* migrations that may be begun
          CrashesMax,
          Mutant

Is(m) == Mutant = m
None == [x |-> 0, w |-> 0, acc |-> 0, q |-> <<>>, there |-> FALSE]
Marker == <<"m", 0>>

VARIABLES
  log,        \* [a: attempt, st, slost: the source is known to be lost after the commit]
  s, t,       \* source and target: [up, st, a: attempt, x, w: handled of each sender, acc: accepted of X, q: unread, ...]
  snap,       \* attempt -> what was captured
  prepared, restored,  \* attempts of which the target has said so; it may have crashed since
  ringS, ringT, \* W's rings to the two
  w,          \* [n: sent, to: where it sends, lost: ChannelLost was reported]
  x,          \* [base: known to be handled, to: route]
  frames,     \* X's frames: [to, n]. To the source they carry epoch 1, to the target epoch 2
  crashes, bad
vars == <<log, s, t, snap, prepared, restored, ringS, ringT, w, x, frames, crashes, bad>>
coord == <<snap, prepared, restored>>
senders == <<w, x, frames>>

Init == /\ log = [a |-> 0, st |-> "idle", slost |-> FALSE]
        /\ s = [up |-> TRUE, st |-> "serving", a |-> 0, ended |-> 0, x |-> 0, w |-> 0, acc |-> 0, q |-> <<>>, tail |-> <<>>]
        /\ t = [up |-> TRUE, st |-> "idle", a |-> 0, mark |-> FALSE, x |-> 0, w |-> 0, acc |-> 0, q |-> <<>>]
        /\ snap = [a \in 1..Attempts |-> None] /\ prepared = {} /\ restored = {}
        /\ ringS = <<>> /\ ringT = <<>>
        /\ w = [n |-> 0, to |-> "S", lost |-> FALSE] /\ x = [base |-> 0, to |-> "S"] /\ frames = {}
        /\ crashes = 0 /\ bad = {}

-----------------------------------------------------------------------------
(* The Raft log: of Commit and Abort, the first counts. *)
Log(st) == log' = [log EXCEPT !.st = st]
RestLog == UNCHANGED <<s, t, coord, ringS, ringT, senders, crashes, bad>>
Begin == /\ log.st \in {"idle", "aborted"} /\ log.a < Attempts
         /\ log' = [log EXCEPT !.a = @ + 1, !.st = "moving"] /\ RestLog
Commit == /\ log.st = "moving"
          /\ log.a \in restored \/ (Is("commit_before_restored") /\ snap[log.a].there)
          /\ Log("committed") /\ RestLog
Abort == /\ log.st = "moving" \/ (Is("abort_after_commit") /\ log.st = "committed")
         /\ Log("aborted") /\ RestLog
\* Recorded when the lease is over and the node has stopped (spec Fence), which here is its crash.
SourceLost == /\ ~s.up /\ ~log.slost
              /\ log' = IF log.st = "committed" THEN [log EXCEPT !.slost = TRUE] ELSE [log EXCEPT !.st = "lost"]
              /\ RestLog
TargetLost == /\ ~t.up /\ log.st \in {"moving", "committed"}
              /\ Log(IF log.st = "moving" THEN "aborted" ELSE "lost") /\ RestLog

(* The source. A phase is refused if its attempt is over as far as the source knows. *)
Quiesce(a) == /\ s.up /\ a \in prepared /\ a > s.ended /\ a > s.a /\ s.st \in {"serving", "quiesced", "captured"}
              /\ s' = [s EXCEPT !.st = "quiesced", !.a = a, !.q = @ \o s.tail, !.tail = <<>>]
              /\ UNCHANGED <<log, t, coord, ringS, ringT, senders, crashes, bad>>
Capture == /\ s.up /\ s.st = "quiesced"
           /\ snap' = [snap EXCEPT ![s.a] = [x |-> s.x, w |-> s.w, there |-> TRUE,
                                             acc |-> IF Is("filter_not_captured") THEN 0 ELSE s.acc,
                                             q |-> IF Is("unread_not_captured") THEN <<>> ELSE s.q]]
           /\ s' = [s EXCEPT !.st = "captured"]
           /\ UNCHANGED <<log, t, prepared, restored, ringS, ringT, senders, crashes, bad>>
Resume(a) == /\ s.up /\ a > s.ended /\ s.st # "released"
             /\ \/ a < log.a \/ (a = log.a /\ log.st = "aborted")
                \/ Is("source_resumes_by_timeout") /\ a = s.a /\ s.st = "captured"
             /\ s' = IF s.a = a /\ s.st \in {"quiesced", "captured"}
                     THEN [s EXCEPT !.st = "serving", !.ended = a, !.q = @ \o s.tail, !.tail = <<>>]
                     ELSE [s EXCEPT !.ended = a]
             /\ UNCHANGED <<log, t, coord, ringS, ringT, senders, crashes, bad>>
Committed == log.st = "committed" /\ log.a = s.a
\* Takes from the ring in every state, so that the ring never fills: what comes after the capture is the tail.
SourceTakes == /\ s.up /\ ringS # <<>> /\ s.st # "released"
               /\ s' = IF s.st = "captured" THEN [s EXCEPT !.tail = Append(@, Head(ringS))] ELSE [s EXCEPT !.q = Append(@, Head(ringS))]
               /\ ringS' = Tail(ringS)
               /\ UNCHANGED <<log, t, coord, ringT, senders, crashes, bad>>
Forward == /\ s.up /\ s.st = "captured" /\ Committed /\ s.tail # <<>> /\ t.up /\ t.st = "active"
           /\ t' = IF Head(s.tail) = Marker THEN [t EXCEPT !.mark = TRUE] ELSE [t EXCEPT !.q = Append(@, Head(s.tail))]
           /\ s' = [s EXCEPT !.tail = Tail(@)]
           /\ UNCHANGED <<log, coord, ringS, ringT, senders, crashes, bad>>
Release == /\ s.up /\ s.st = "captured" /\ Committed
           /\ t.mark \/ Is("ringkernel_accept_during_quiesce")
           /\ s' = [s EXCEPT !.st = "released", !.tail = <<>>, !.q = <<>>]
           /\ UNCHANGED <<log, t, coord, ringS, ringT, senders, crashes, bad>>

(* The target. *)
Prepare(a) == /\ t.up /\ a <= log.a /\ a > t.a /\ t.st # "active"
              /\ t' = [t EXCEPT !.st = "prepared", !.a = a, !.x = 0, !.w = 0, !.acc = 0, !.q = <<>>]
              /\ prepared' = prepared \cup {a}
              /\ UNCHANGED <<log, s, snap, restored, ringS, ringT, senders, crashes, bad>>
Restore(a) == /\ t.up /\ t.st = "prepared" /\ snap[a].there
              /\ a = t.a \/ Is("stale_snapshot")
              /\ t' = [t EXCEPT !.st = "restored", !.x = snap[a].x, !.w = snap[a].w, !.acc = snap[a].acc, !.q = snap[a].q]
              /\ restored' = restored \cup {t.a}
              /\ UNCHANGED <<log, s, snap, prepared, ringS, ringT, senders, crashes, bad>>
Activate == /\ t.up /\ t.a = log.a
            /\ \/ t.st = "restored" /\ log.st \in IF Is("activate_before_commit") THEN {"moving", "committed"} ELSE {"committed"}
               \/ t.st = "prepared" /\ log.st = "committed" /\ Is("commit_before_restored")
            /\ t' = [t EXCEPT !.st = "active"]
            /\ UNCHANGED <<log, s, coord, ringS, ringT, senders, crashes, bad>>
TargetTakes == /\ t.up /\ t.st = "active" /\ ringT # <<>> /\ (t.mark \/ Is("held_not_held"))
               /\ t' = [t EXCEPT !.q = Append(@, Head(ringT))] /\ ringT' = Tail(ringT)
               /\ UNCHANGED <<log, s, coord, ringS, senders, crashes, bad>>
\* The marker died with the source, and perhaps a tail before it: what was held is dead-lettered and the channel reported lost.
HeldLost == /\ t.up /\ t.st = "active" /\ log.slost /\ ~t.mark /\ ~Is("marker_awaited_for_ever")
            /\ ringT' = <<>> /\ w' = [w EXCEPT !.lost = TRUE]
            /\ UNCHANGED <<log, s, t, coord, ringS, x, frames, crashes, bad>>

(* Handling: `bad` keeps what no actor may ever see. *)
Handle(node) == LET n == Head(node.q)[2]  m == Head(node.q)[1]  done == IF m = "x" THEN node.x ELSE node.w IN
  /\ bad' = IF n = done + 1 THEN bad ELSE bad \cup {IF n <= done THEN "duplicate" ELSE "gap"}
Handled(node) == IF Head(node.q)[1] = "x" THEN [node EXCEPT !.x = Head(node.q)[2], !.q = Tail(@)]
                                          ELSE [node EXCEPT !.w = Head(node.q)[2], !.q = Tail(@)]
SourceHandles == /\ s.up /\ s.q # <<>> /\ s.st \in IF Is("handles_after_capture") THEN {"serving", "captured"} ELSE {"serving"}
                 /\ Handle(s) /\ s' = Handled(s)
                 /\ UNCHANGED <<log, t, coord, ringS, ringT, senders, crashes>>
TargetHandles == /\ t.up /\ t.q # <<>> /\ t.st = "active" /\ Handle(t) /\ t' = Handled(t)
                 /\ UNCHANGED <<log, s, coord, ringS, ringT, senders, crashes>>

(* The senders. *)
WSends == /\ s.up /\ w.n < NW /\ w' = [w EXCEPT !.n = @ + 1]
          /\ IF w.to = "S" THEN ringS' = Append(ringS, <<"w", w.n + 1>>) /\ UNCHANGED ringT
                           ELSE ringT' = Append(ringT, <<"w", w.n + 1>>) /\ UNCHANGED ringS
          /\ UNCHANGED <<log, s, t, coord, x, frames, crashes, bad>>
WSwitches == /\ s.up /\ w.to = "S" /\ log.st = "committed"
             /\ w' = [w EXCEPT !.to = "T"] /\ ringS' = Append(ringS, Marker)
             /\ UNCHANGED <<log, s, t, coord, ringT, x, frames, crashes, bad>>
RestX == UNCHANGED <<log, coord, ringS, ringT, w, crashes, bad>>
XSends(n) == n > x.base /\ frames' = frames \cup {[to |-> x.to, n |-> n]} /\ UNCHANGED <<s, t, x>> /\ RestX
XRoutes == x.to = "S" /\ log.st = "committed" /\ x' = [x EXCEPT !.to = "T"] /\ UNCHANGED <<s, t, frames>> /\ RestX
XLearns(n) == n > x.base /\ x' = [x EXCEPT !.base = n] /\ UNCHANGED <<s, t, frames>> /\ RestX
Lose(f) == frames' = frames \ {f} /\ UNCHANGED <<s, t, x>> /\ RestX
XArrives(f) == /\ \/ /\ f.to = "S" /\ s.up /\ f.n = s.acc + 1 /\ UNCHANGED t
                     /\ \/ s.st = "serving" /\ s' = [s EXCEPT !.acc = f.n, !.q = Append(@, <<"x", f.n>>)]
                        \/ /\ s.st = "captured" /\ Is("session_accepted_after_capture")
                           /\ s' = [s EXCEPT !.acc = f.n, !.tail = Append(@, <<"x", f.n>>)]
                  \/ /\ f.to = "T" /\ t.up /\ t.st = "active" /\ f.n = t.acc + 1 /\ UNCHANGED s
                     /\ t' = [t EXCEPT !.acc = f.n, !.q = Append(@, <<"x", f.n>>)]
               /\ UNCHANGED <<x, frames>> /\ RestX

CrashSource == /\ s.up /\ crashes < CrashesMax /\ crashes' = crashes + 1 /\ s' = [s EXCEPT !.up = FALSE]
               /\ UNCHANGED <<log, t, coord, ringS, ringT, senders, bad>>
CrashTarget == /\ t.up /\ crashes < CrashesMax /\ crashes' = crashes + 1 /\ t' = [t EXCEPT !.up = FALSE]
               /\ UNCHANGED <<log, s, coord, ringS, ringT, senders, bad>>
\* Another target, or another incarnation of the machine: no earlier command is addressed to it.
NewTarget == /\ ~t.up /\ log.st = "aborted"
             /\ t' = [t EXCEPT !.up = TRUE, !.st = "idle", !.a = log.a, !.x = 0, !.w = 0, !.acc = 0, !.q = <<>>]
             /\ UNCHANGED <<log, s, coord, ringS, ringT, senders, crashes, bad>>

Coordinate == Begin \/ Commit \/ SourceLost \/ TargetLost \/ NewTarget
Work == Capture \/ SourceTakes \/ Forward \/ Release \/ Activate \/ TargetTakes \/ HeldLost \/ SourceHandles \/ TargetHandles
AtAttempt(a) == Quiesce(a) \/ Resume(a) \/ Prepare(a) \/ Restore(a)
Learns == \/ s.up /\ XLearns(s.x)
          \/ t.up /\ t.st = "active" /\ XLearns(t.x)
Next == \/ Coordinate \/ Abort \/ Work \/ WSends \/ WSwitches \/ XRoutes \/ Learns \/ CrashSource \/ CrashTarget
        \/ \E a \in 1..Attempts : AtAttempt(a)
        \/ \E n \in 1..NX : XSends(n)
        \/ \E f \in frames : XArrives(f) \/ Lose(f)
\* The log's outcome is repeated, migrations have a deadline, workers work, senders send again. No phase is obliged to succeed.
Fair == /\ WF_vars(Commit) /\ WF_vars(SourceLost) /\ WF_vars(TargetLost) /\ WF_vars(Work) /\ WF_vars(WSends) /\ WF_vars(WSwitches)
        /\ WF_vars(XRoutes) /\ WF_vars(Learns)
        /\ \A n \in 1..NX : WF_vars(XSends(n)) /\ \A to \in {"S", "T"} : SF_vars(XArrives([to |-> to, n |-> n]))
        /\ IF Is("no_deadline") THEN TRUE ELSE WF_vars(Abort)
        /\ IF Is("abort_not_repeated") THEN TRUE ELSE \A a \in 1..Attempts : WF_vars(Resume(a))
Spec == Init /\ [][Next]_vars /\ Fair

-----------------------------------------------------------------------------
SourceExecutes == s.up /\ s.st = "serving"
TargetExecutes == t.up /\ t.st = "active"
OfW(items) == Cardinality({i \in DOMAIN items : items[i][1] = "w"})
Owner == IF log.st = "committed" THEN t ELSE s
TypeOK == /\ log.a \in 0..Attempts /\ log.st \in {"idle", "moving", "committed", "aborted", "lost"} /\ Len(ringS) <= NW + 1
          /\ s.st \in {"serving", "quiesced", "captured", "released"} /\ t.st \in {"idle", "prepared", "restored", "active"}
C2_OneEffectiveIncarnation == /\ SourceExecutes => log.st # "committed"
                              /\ TargetExecutes => log.st \in {"committed", "lost"}
C3_InOrderOnce == bad = {}
C3_AcknowledgedIsHandled == log.st # "lost" => x.base <= Owner.x
\* Every message of W is handled or in one place, unless a crash took it; then it is reported (C3_Settled).
C7_Conservation == (log.st # "lost" /\ s.up /\ t.up) =>
  w.n = Owner.w + OfW(Owner.q) + OfW(ringS) + OfW(s.tail) + IF log.st = "committed" THEN OfW(ringT) ELSE 0
C8_NeverBoth == TargetExecutes => s.ended < t.a
C8_CommitsOrAborts == log.st = "moving" ~> log.st # "moving"
C10_Served == <>[](log.st = "lost" \/ SourceExecutes \/ TargetExecutes)
\* In the end everything is handled, or its loss was reported: that of the shard by the log, that of W's channel by the target.
C3_Settled == <>[](log.st = "lost" \/ (Owner.x = NX /\ (w.lost \/ (Owner.w = w.n /\ (w.n = NW \/ log.slost)))))
C3_NothingHeldForEver == (TargetExecutes /\ ringT # <<>>) ~> (ringT = <<>> \/ log.st = "lost")
=============================================================================
