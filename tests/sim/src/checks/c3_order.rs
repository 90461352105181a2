//! C3 order: what a sender sends to a receiver is handled in that order, without gap or duplicate; a gap is told to the sender.
//!
//! A stream is what one session told one relay, and again what that relay handed on to its sink. At both hops numbers only rise,
//! through every reconnect and residence. What a client told and no relay handled must have been reported lost, in number; so the
//! gaps of a session's streams together are never more than its losses. Between relay and sink a gap needs a node that died or a
//! channel that broke, so it is counted there, and forbidden where nothing goes wrong.

use std::collections::BTreeMap;

use super::Violation;
use crate::actors::Hop;

/// A stream: hop, session, key.
pub type Stream = (Hop, u64, u64);

#[derive(Debug, Default, Clone, Copy)]
struct Handled {
    last: u64,
    count: u64,
}

/// What was told and handled.
#[derive(Debug, Default)]
pub struct Order {
    streams: BTreeMap<Stream, Handled>,
    told: BTreeMap<(u64, u64), u64>,
    gaps_between_actors: u64,
    handled: u64,
}

impl Order {
    /// A client has told a key the message of this number.
    pub fn tell(&mut self, session: u64, key: u64, seq: u64) {
        self.told.insert((session, key), seq);
    }

    /// A message of a stream was handled.
    ///
    /// # Errors
    /// What broke.
    pub fn handle(&mut self, hop: Hop, session: u64, key: u64, seq: u64) -> Result<(), Violation> {
        self.handled += 1;
        let told = self.told.get(&(session, key)).copied().unwrap_or(0);
        if seq == 0 || seq > told {
            return Err(format!(
                "C3: {hop:?} {key} handled number {seq} of session {session}, of which {told} were told"
            ));
        }
        let stream = self.streams.entry((hop, session, key)).or_default();
        if seq <= stream.last {
            return Err(format!(
                "C3: {hop:?} {key} handled number {seq} of session {session} after number {}: a duplicate or out of order",
                stream.last
            ));
        }
        if hop == Hop::Sink {
            self.gaps_between_actors += seq - stream.last - 1;
        }
        *stream = Handled { last: seq, count: stream.count + 1 };
        Ok(())
    }

    /// Numbers that the relays skipped in a session's streams, so far as later ones were handled.
    #[must_use]
    pub fn skipped(&self, session: u64) -> u64 {
        let of = self.streams.iter().filter(|((hop, of, _), _)| *hop == Hop::Relay && *of == session);
        of.map(|(_, stream)| stream.last - stream.count).sum()
    }

    /// A session has reported so many messages lost: its gaps may not be more.
    ///
    /// # Errors
    /// What broke.
    pub fn losses(&self, session: u64, lost: u64) -> Result<(), Violation> {
        let skipped = self.skipped(session);
        if skipped > lost {
            return Err(format!("C3: {skipped} messages of session {session} were skipped, only {lost} reported lost"));
        }
        Ok(())
    }

    /// Everything that a session told has been answered: what was not lost was acknowledged, and what was acknowledged was handled.
    ///
    /// # Errors
    /// What broke.
    pub fn drained(&self, session: u64, lost: u64) -> Result<(), Violation> {
        let told: u64 = self.told.iter().filter(|((of, _), _)| *of == session).map(|(_, seq)| seq).sum();
        let of = self.streams.iter().filter(|((hop, of, _), _)| *hop == Hop::Relay && *of == session);
        let handled: u64 = of.map(|(_, stream)| stream.count).sum();
        if handled + lost < told {
            return Err(format!(
                "C3: session {session} told {told} messages, {handled} were handled and {lost} reported lost"
            ));
        }
        Ok(())
    }

    /// Numbers skipped between actors.
    #[must_use]
    pub fn gaps_between_actors(&self) -> u64 {
        self.gaps_between_actors
    }

    /// Messages handled.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(handled: &[(Hop, u64)]) -> Result<Order, Violation> {
        let mut order = Order::default();
        order.tell(7, 1, 5);
        for (hop, seq) in handled {
            order.handle(*hop, 7, 1, *seq)?;
        }
        Ok(order)
    }

    #[test]
    fn good_histories_pass() {
        let order =
            history(&[(Hop::Relay, 1), (Hop::Relay, 2), (Hop::Sink, 1), (Hop::Relay, 5), (Hop::Sink, 2)]).unwrap();
        order.losses(7, 2).unwrap();
        order.drained(7, 2).unwrap();
        assert_eq!(order.gaps_between_actors(), 0);
    }

    #[test]
    fn damaged_histories_are_flagged() {
        for damaged in [&[(Hop::Relay, 2), (Hop::Relay, 1)][..], &[(Hop::Sink, 1), (Hop::Sink, 1)], &[(Hop::Relay, 6)]]
        {
            assert!(history(damaged).unwrap_err().starts_with("C3: "));
        }
        let gap = history(&[(Hop::Relay, 1), (Hop::Relay, 4), (Hop::Sink, 3)]).unwrap();
        assert!(gap.losses(7, 1).unwrap_err().contains("2 messages of session 7 were skipped"));
        assert!(gap.drained(7, 2).is_err(), "neither handled nor lost");
        assert_eq!(gap.gaps_between_actors(), 2);
    }
}
