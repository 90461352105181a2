------------------------------ MODULE Journal ------------------------------
(* C5 of a `journal` set: an acknowledged message and its effect survive the loss of any minority of the journal's replicas and of the
   owner, and the effect is there exactly once.

   The owner of epoch e appends what it handles to the replicas; a replica answers when it is on disk; a quorum of answers makes the
   message acknowledged. A new owner first makes a quorum promise its epoch, which fences the old owner, takes the best log of that
   quorum, appends it again under its own epoch, and serves when a quorum has it. State and duplicate filter are what the replay of the
   log gives. Messages 1..N are of different senders, each repeated until acknowledged; the order of one sender's is C3's.
   An owner that crashes is one that takes no step any more; nothing obliges it to.

   An append carries the whole log: the code sends the suffix after a point that matches, which is the same for one owner per epoch.
   Requests are a set that only grows, so they are late, repeated or lost at will; answers are a set as well.                        *)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS Replicas, N, Epochs, CrashesMax, Mutant
Is(m) == Mutant = m
Quorum == IF Is("quorum_minus_one") THEN Cardinality(Replicas) \div 2 ELSE Cardinality(Replicas) \div 2 + 1
Owners == 1..Epochs

VARIABLES
  epoch,      \* by the Raft log: the owner that should be. Older ones may go on, paused or cut off
  own,        \* owner -> [st, log, from: replicas that promised, best: the best log they had, with its epoch]
  disk, page, \* replica -> [promised, le: epoch of the last append, log]: synced; and as the process has it
  appends,    \* [e, log] ever sent
  answers,    \* [e, r, len] ever given
  acked,      \* ghost: message -> lowest epoch that has acknowledged it, 0 if none
  crashes
vars == <<epoch, own, disk, page, appends, answers, acked, crashes>>

Nothing == [promised |-> 0, le |-> 0, log |-> <<>>]
Init == /\ epoch = 1
        /\ own = [e \in Owners |-> [st |-> IF e = 1 THEN "serving" ELSE "none", log |-> <<>>, from |-> {}, le |-> 0]]
        /\ disk = [r \in Replicas |-> Nothing] /\ page = disk
        /\ appends = {} /\ answers = {} /\ acked = [n \in 1..N |-> 0] /\ crashes = 0

\* Another start, for what lies deep: the first owner died when one replica had its message 2, and the second is to recover.
Divided == LET one == [promised |-> 1, le |-> 1, log |-> <<2>>]  r1 == CHOOSE r \in Replicas : TRUE IN
        /\ epoch = 2
        /\ own = [e \in Owners |-> [st |-> IF e = 2 THEN "fencing" ELSE "none", log |-> <<>>, from |-> {}, le |-> 0]]
        /\ disk = [r \in Replicas |-> IF r = r1 THEN one ELSE Nothing] /\ page = disk
        /\ appends = {[e |-> 1, log |-> <<2>>]} /\ answers = {[e |-> 1, r |-> r1, len |-> 1]}
        /\ acked = [n \in 1..N |-> 0] /\ crashes = 0

Holds(log, n) == \E i \in DOMAIN log : log[i] = n
\* What an owner knows to be on the disks of a quorum.
Safe(e, len) == Cardinality({r \in Replicas : \E a \in answers : a.e = e /\ a.r = r /\ a.len >= len}) >= Quorum

(* The owner. *)
Better(p, o) == IF Is("longest_log_wins") THEN Len(p.log) > Len(o.log) ELSE p.le > o.le \/ (p.le = o.le /\ Len(p.log) > Len(o.log))
Fence(e, r) == /\ own[e].st = "fencing" /\ r \notin own[e].from /\ page[r].promised <= e
               /\ page' = IF Is("recovery_without_promise") THEN page ELSE [page EXCEPT ![r].promised = e]
               \* The promise is synced before it is given.
               /\ disk' = CASE Is("promise_not_synced") -> disk
                            [] OTHER -> [disk EXCEPT ![r] = page'[r]]
               /\ own' = [own EXCEPT ![e].from = @ \cup {r},
                                     ![e].log = IF Better(page[r], own[e]) THEN page[r].log ELSE @,
                                     ![e].le = IF Better(page[r], own[e]) THEN page[r].le ELSE @]
               /\ UNCHANGED <<epoch, appends, answers, acked, crashes>>
Recover(e) == /\ own[e].st = "fencing" /\ Cardinality(own[e].from) >= Quorum
              /\ own' = [own EXCEPT ![e].st = IF Is("serves_before_rewriting") THEN "serving" ELSE "recovering"]
              /\ appends' = IF Is("serves_before_rewriting") THEN appends ELSE appends \cup {[e |-> e, log |-> own[e].log]}
              /\ UNCHANGED <<epoch, disk, page, answers, acked, crashes>>
Serve(e) == /\ own[e].st = "recovering" /\ Safe(e, Len(own[e].log))
            /\ own' = [own EXCEPT ![e].st = "serving"]
            /\ UNCHANGED <<epoch, disk, page, appends, answers, acked, crashes>>
\* A message arrives, perhaps again. The filter is part of what the log replays to.
Handle(e, n) == /\ own[e].st = "serving"
                /\ IF Is("filter_not_replayed") THEN Len(own[e].log) < N + 1 ELSE ~Holds(own[e].log, n)
                /\ own' = [own EXCEPT ![e].log = Append(@, n)]
                /\ appends' = appends \cup {[e |-> e, log |-> Append(own[e].log, n)]}
                /\ UNCHANGED <<epoch, disk, page, answers, acked, crashes>>
Acknowledge(e, n) == /\ own[e].st = "serving" /\ (acked[n] = 0 \/ e < acked[n])
                     /\ \E i \in DOMAIN own[e].log : own[e].log[i] = n /\ (Safe(e, i) \/ Is("acknowledged_when_sent"))
                     /\ acked' = [acked EXCEPT ![n] = e]
                     /\ UNCHANGED <<epoch, own, disk, page, appends, answers, crashes>>

(* A replica. *)
Take(r, m) == /\ m.e >= page[r].promised \/ Is("fence_ignored")
              \* An append that came late takes nothing away.
              /\ m.e > page[r].le \/ (m.e = page[r].le /\ Len(m.log) > Len(page[r].log)) \/ (Is("late_append_truncates") /\ m.e = page[r].le)
                 \/ (Is("fence_ignored") /\ m.e < page[r].le)
              /\ page' = [page EXCEPT ![r] = [promised |-> IF m.e > @.promised THEN m.e ELSE @.promised, le |-> m.e, log |-> m.log]]
              /\ page' # page
              \* Where nothing crashes, when it is synced makes no difference.
              /\ disk' = IF CrashesMax = 0 THEN [disk EXCEPT ![r] = page'[r]] ELSE disk
              /\ answers' = IF CrashesMax = 0 \/ Is("answered_before_sync") THEN answers \cup {[e |-> m.e, r |-> r, len |-> Len(m.log)]} ELSE answers
              /\ UNCHANGED <<epoch, own, appends, acked, crashes>>
Sync(r) == /\ disk[r] # page[r] /\ disk' = [disk EXCEPT ![r] = page[r]]
           /\ answers' = answers \cup {[e |-> page[r].le, r |-> r, len |-> Len(page[r].log)]}
           /\ UNCHANGED <<epoch, own, page, appends, acked, crashes>>
\* It comes back with what was synced.
CrashReplica(r) == /\ crashes < CrashesMax /\ page[r] # disk[r] /\ page' = [page EXCEPT ![r] = disk[r]] /\ crashes' = crashes + 1
                   /\ UNCHANGED <<epoch, own, disk, appends, answers, acked>>
\* The Raft log gives the shard to a new owner; the old one may be dead, or not know it.
Replace == /\ epoch < Epochs /\ epoch' = epoch + 1
           /\ own' = [own EXCEPT ![epoch + 1].st = "fencing"]
           /\ UNCHANGED <<disk, page, appends, answers, acked, crashes>>

Next == \/ Replace
        \/ \E e \in 1..epoch : Recover(e) \/ Serve(e) \/ (\E r \in Replicas : Fence(e, r)) \/ \E n \in 1..N : Handle(e, n) \/ Acknowledge(e, n)
        \/ \E r \in Replicas : Sync(r) \/ CrashReplica(r) \/ \E m \in appends : Take(r, m)
\* The last owner works on, the sender repeats, appends are sent again, replicas that crash come back.
Fair == /\ WF_vars(Recover(epoch)) /\ WF_vars(Serve(epoch))
        /\ \A n \in 1..N : WF_vars(Handle(epoch, n)) /\ WF_vars(Acknowledge(epoch, n))
        /\ \A r \in Replicas : WF_vars(Fence(epoch, r))
        /\ \A r \in Replicas : WF_vars(Sync(r)) /\ (IF Is("append_not_repeated") THEN TRUE ELSE WF_vars(\E m \in appends : Take(r, m)))
Spec == Init /\ [][Next]_vars /\ Fair

TypeOK == /\ epoch \in Owners /\ \A e \in Owners : own[e].st \in {"none", "fencing", "recovering", "serving"}
          /\ \A r \in Replicas : page[r].promised >= page[r].le \/ Is("recovery_without_promise")
\* Whoever serves has every message that its epoch or an earlier one has acknowledged, ever: also one acknowledged by a zombie.
C5_AcknowledgedSurvives == \A e \in Owners, n \in 1..N : (own[e].st = "serving" /\ acked[n] \in 1..e) => Holds(own[e].log, n)
C5_ExactlyOnce == \A e \in Owners : \A i, j \in DOMAIN own[e].log : own[e].log[i] = own[e].log[j] => i = j
\* A disk never goes back behind a promise that was given, nor behind what was answered in its last epoch.
C5_PromisesKept == \A e \in Owners : own[e].st \in {"fencing", "recovering", "serving"} => \A r \in own[e].from : page[r].promised >= e
C5_AnsweredIsSynced == \A a \in answers : disk[a.r].le > a.e \/ (disk[a.r].le = a.e /\ Len(disk[a.r].log) >= a.len)
C5_EverythingAcknowledged == <>(\A n \in 1..N : acked[n] # 0)
Symmetry == Permutations(Replicas)
=============================================================================
