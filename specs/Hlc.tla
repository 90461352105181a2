-------------------------------- MODULE Hlc --------------------------------
(* C6: hybrid logical clocks of actors, packed as `ms * C + counter`.

   handling:  h = max(actor, message, now) + 1;   the k-th send of the handler: h + k;   the actor's clock is then at its last stamp
   arrival:   a stamp more than Ahead ms ahead of the local wall clock is refused and counted, and nothing is merged

   Wall clocks are within Drift of real time and may be set back and forth within that at any moment. A node whose clock is wrong
   beyond that, and which is not quarantined yet, may send any stamp. A shard keeps a floor for its actors that are passivated. An
   actor whose node is lost begins again elsewhere with nothing, at the earliest Outage ms after its last act: the margin of a lease.
   Messages stay in the network for ever: they may arrive late, twice, or never.                                                    *)
EXTENDS Naturals, FiniteSets

CONSTANTS Actors,
          C,          \* stamps of one ms; the real one is 65,536
          Drift, Ahead, Outage, TimeMax, \* ms
          Sends,      \* most messages of one handling
          EventsMax, RoguesMax, Mutant
Is(m) == Mutant = m

VARIABLES
  now,        \* real time, ms
  fast,       \* actors whose node's wall clock is Drift ahead; the others' is Drift behind. What lies between does no worse
  hlc,        \* actor -> its clock; 0 while it is passive
  floor,      \* actor -> what its shard keeps of it
  lost,       \* actor -> when its node was lost; Never while it is up
  net,        \* messages [from, to, stamp]; from is Rogue if the clock behind it is wrong
  past,       \* ghost: actor -> highest stamp of everything that happened before its next event
  events, rogues,
  bad         \* ghost: what must not be
vars == <<now, fast, hlc, floor, lost, net, past, events, rogues, bad>>

Rogue == "rogue"
Never == TimeMax + 1
Max(a, b) == IF a > b THEN a ELSE b
Wall(a) == IF a \in fast THEN now + Drift ELSE now - Drift
Up(a) == lost[a] = Never

Init == /\ now = Drift /\ fast \in SUBSET Actors
        /\ hlc = [a \in Actors |-> 0] /\ floor = hlc /\ past = hlc /\ lost = [a \in Actors |-> Never]
        /\ net = {} /\ events = 0 /\ rogues = 0 /\ bad = {}

Tick == now < TimeMax /\ now' = now + 1 /\ UNCHANGED <<fast, hlc, floor, lost, net, past, events, rogues, bad>>
SetClock(a) == /\ fast' = IF a \in fast THEN fast \ {a} ELSE fast \cup {a}
               /\ UNCHANGED <<now, hlc, floor, lost, net, past, events, rogues, bad>>

Last(a) == IF hlc[a] # 0 \/ Is("floor_forgotten") THEN hlc[a] ELSE floor[a]
Stamp(a, message) == CASE Is("message_not_merged") -> Max(Last(a), Wall(a) * C) + 1
                       [] Is("own_clock_not_merged") -> Max(message, Wall(a) * C) + 1
                       [] OTHER -> Max(Max(Last(a), message), Wall(a) * C) + 1
\* One handling, of a message or a timer (0), with k sends. `cause` is the stamp that happened before, if it is an honest one.
Handle(a, message, cause, k, to) ==
  LET h == Stamp(a, message)
      new == {[from |-> a, to |-> to, stamp |-> h + (IF Is("sends_share_a_stamp") THEN 1 ELSE i)] : i \in 1..k}
      named == {[from |-> m.from, stamp |-> m.stamp] : m \in new}
  IN /\ Up(a) /\ events < EventsMax /\ events' = events + 1
     /\ hlc' = [hlc EXCEPT ![a] = IF Is("sends_not_counted") THEN h ELSE h + k]
     /\ past' = [past EXCEPT ![a] = Max(Max(@, cause), h + k)]
     /\ net' = net \cup new
     /\ bad' = bad \cup (IF h > cause THEN {} ELSE {"not after its cause"})
                   \cup (IF h > past[a] \/ Is("sends_not_counted") THEN {} ELSE {"went back"})
                   \cup (IF Cardinality(named) = k /\ \A m \in net : [from |-> m.from, stamp |-> m.stamp] \notin named THEN {} ELSE {"same name"})
     /\ UNCHANGED <<now, fast, floor, lost, rogues>>
TooFar(m) == m.stamp \div C > Wall(m.to) + (IF Is("tolerance_below_twice_drift") THEN Drift ELSE Ahead) /\ ~Is("any_stamp_merged")
Arrive(m, k, to) == ~TooFar(m) /\ Handle(m.to, m.stamp, IF m.from = Rogue THEN 0 ELSE m.stamp, k, to)
\* Without wrong clocks about, nobody's message may be refused.
Refuse(m) == /\ Up(m.to) /\ TooFar(m) /\ RoguesMax = 0 /\ bad' = bad \cup {"honest message refused"}
             /\ UNCHANGED <<now, fast, hlc, floor, lost, net, past, events, rogues>>
WrongClock(a, stamp) == /\ rogues < RoguesMax /\ rogues' = rogues + 1
                        /\ net' = net \cup {[from |-> Rogue, to |-> a, stamp |-> stamp]}
                        /\ UNCHANGED <<now, fast, hlc, floor, lost, past, events, bad>>

Passivate(a) == /\ Up(a) /\ hlc[a] # 0 /\ floor' = [floor EXCEPT ![a] = hlc[a]] /\ hlc' = [hlc EXCEPT ![a] = 0]
                /\ UNCHANGED <<now, fast, lost, net, past, events, rogues, bad>>
\* The actor's name stays, so `past` does: it must not go back even across the loss of its state.
Lose(a) == /\ Up(a) /\ hlc[a] # 0 /\ lost' = [lost EXCEPT ![a] = now]
           /\ hlc' = [hlc EXCEPT ![a] = 0] /\ floor' = [floor EXCEPT ![a] = 0]
           /\ UNCHANGED <<now, fast, net, past, events, rogues, bad>>
Again(a) == /\ ~Up(a) /\ (now >= lost[a] + Outage \/ Is("restarted_at_once")) /\ lost' = [lost EXCEPT ![a] = Never]
            /\ UNCHANGED <<now, fast, hlc, floor, net, past, events, rogues, bad>>

Next == \/ Tick
        \/ \E a \in Actors : SetClock(a) \/ Passivate(a) \/ Lose(a) \/ Again(a)
        \/ \E a \in Actors, ms \in {TimeMax + 5 * Ahead, now + Drift + Ahead} : WrongClock(a, ms * C)
        \/ \E a, to \in Actors, k \in 0..Sends : Handle(a, 0, 0, k, to)
        \/ \E m \in net, to \in Actors, k \in 0..Sends : Arrive(m, k, to) \/ Refuse(m)
Fair == WF_vars(Tick) /\ \A a \in Actors : IF Is("never_again") THEN TRUE ELSE WF_vars(Again(a))
Spec == Init /\ [][Next]_vars /\ Fair

TypeOK == now \in Drift..TimeMax /\ fast \subseteq Actors /\ events \in 0..EventsMax /\ 2 * Drift <= Ahead /\ EventsMax * (Sends + 1) < C
\* happens-before(x, y) implies hlc(x) < hlc(y): within an actor, from a send to its handling, and so along every chain of these.
C6_HappensBefore == "not after its cause" \notin bad
C6_NeverBack == "went back" \notin bad
C6_NamesAreUnique == "same name" \notin bad
C6_HonestNotRefused == "honest message refused" \notin bad
C6_BoundedAhead == \A a \in Actors : hlc[a] < (now + Drift + Ahead + 1) * C
C10_BeginsAgain == \A a \in Actors : (lost[a] + Outage <= TimeMax) ~> Up(a)
=============================================================================
