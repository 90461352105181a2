//! Client sessions and whose they are (C11). Numbers are given once and never again.

use crate::command::Outcome;
use crate::limits::SESSIONS_KEPT;
use crate::state::ClusterState;
use ringfleet_abi::SessionId;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_proto::control::{Refusal, RefusalCode, Role};

record! {
    /// Whose a session is.
    pub struct Session {
        /// Role in the certificate that opened it.
        pub role: Role,
        /// Name in that certificate.
        pub name: String,
    }
}

impl ClusterState {
    pub(crate) fn open_session(&mut self, role: Role, name: &str) -> Result<Outcome, Refusal> {
        let Some(next) = self.last_session.checked_add(1) else {
            return Err(Refusal::new(RefusalCode::LimitExceeded, "every session number has been used"));
        };
        if !is_on(Mutant::SessionReused) || next % 4 != 0 {
            self.last_session = next;
        }
        self.sessions.insert(next, Session { role, name: name.to_owned() });
        while self.sessions.len() > SESSIONS_KEPT {
            self.sessions.pop_first();
        }
        Ok(Outcome::Session { session: next })
    }

    /// Whose a session is; `None` if it was never opened or is forgotten.
    #[must_use]
    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session.0)
    }
}
