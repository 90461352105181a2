----------------------------- MODULE FenceTrace -----------------------------
(* Behaviours of Fence that were recorded: `Traces` is a sequence of traces, a trace a sequence of steps, each of them the name of an
   action of Fence with its parameters. A behaviour takes the steps of one trace in their order, and nothing else, so it is one of Fence
   as far as it goes. A trace that is none of Fence stops before its end: a deadlock.

   <<"tick", n>> stands for n ticks. Everything else is one step.                                                                     *)
EXTENDS Fence, Sequences

CONSTANT Traces

VARIABLES trace, at, turn   \* which trace, its next step, and which tick of it
recorded == <<trace, at, turn>>

Message(op) == [i |-> op[2], age |-> op[3]]
Step(op) ==
  CASE op[1] = "tick"     -> Tick
    [] op[1] = "renew"    -> Renew(op[2])
    [] op[1] = "grant"    -> Message(op) \in asks /\ Grant(Message(op), op[4])
    [] op[1] = "deposed"  -> Message(op) \in asks /\ GrantDeposed(Message(op))
    [] op[1] = "granted"  -> Message(op) \in grants /\ Granted(Message(op))
    [] op[1] = "give up"  -> GiveUp
    [] op[1] = "lost"     -> Lost /\ epoch' = op[2]
    [] op[1] = "elect"    -> Elect /\ proposed' = FALSE
    [] op[1] = "ready"    -> Ready
    [] op[1] = "own"      -> SeesOwn(op[2])
    [] op[1] = "disown"   -> SeesLost(op[2])
    [] op[1] = "crash"    -> Crash(op[2])
    [] op[1] = "execute"  -> Execute(op[2], 1)
    [] op[1] = "see"      -> ReceiverSees /\ seen' = op[2]
    [] op[1] = "accept"   -> Message(op) \in frames /\ Accept(Message(op))

Ended == at > Len(Traces[trace])
TraceNext == IF Ended THEN UNCHANGED <<vars, recorded>>
             ELSE LET op == Traces[trace][at]
                      again == op[1] = "tick" /\ turn < op[2]
                  IN /\ Step(op)
                     /\ trace' = trace
                     /\ at' = IF again THEN at ELSE at + 1
                     /\ turn' = IF again THEN turn + 1 ELSE 1
TraceSpec == Init /\ trace \in 1..Len(Traces) /\ at = 1 /\ turn = 1 /\ [][TraceNext]_<<vars, recorded>>

\* For traces that were damaged: none is a behaviour of Fence to its end.
NoneEnds == ~Ended
=============================================================================
