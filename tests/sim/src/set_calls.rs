//! Creating, deleting and looking up one set, and what an answer says of that set ([`c1_directory`](crate::checks::c1_directory)).

use ringfleet_client::CallError;
use ringfleet_proto::control::{ActorSet, AdminAnswer, AdminVerb, RefusalCode, SetChange, SetState};

use crate::checks::c1_directory::{Is, SetOp};

/// What an operator does with a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCall {
    /// Applies its document.
    Create,
    /// Deletes it.
    Delete,
    /// Describes it.
    Look,
}

impl SetCall {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Create, Self::Delete, Self::Look];

    /// The request; a set that is created has two shards of `actor_type`.
    #[must_use]
    pub fn verb(self, name: &str, actor_type: &str) -> AdminVerb {
        match self {
            Self::Create => {
                let mut document = ActorSet::new(name, actor_type);
                document.spec.shards = 2;
                AdminVerb::Apply { document }
            }
            Self::Delete => AdminVerb::Delete { set: name.to_owned() },
            Self::Look => AdminVerb::DescribeSet { name: name.to_owned() },
        }
    }

    /// What the answer says of the set before the call. `None`: nothing, and nothing was done.
    #[must_use]
    pub fn told(self, answer: &Result<AdminAnswer, CallError>) -> Option<SetOp> {
        let was = match answer {
            Ok(AdminAnswer::Set { change: SetChange::Created, .. }) => Some(Is::Absent),
            Ok(AdminAnswer::Set { change: SetChange::Changed | SetChange::Unchanged, .. }) => Some(Is::Active),
            // Of a delete: it was there, or on its way out already.
            Ok(AdminAnswer::Set { change: SetChange::Deleting, .. }) => None,
            Ok(AdminAnswer::SetDetail(detail)) => Some(match detail.info.state {
                SetState::Active => Is::Active,
                SetState::Deleting => Is::Deleting,
            }),
            Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::SetDeleting => Some(Is::Deleting),
            Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::UnknownSet => Some(Is::Absent),
            Err(CallError::Unknown { .. }) => None,
            _ => return None,
        };
        match self {
            Self::Create => Some(SetOp::Create(was)),
            Self::Delete => Some(SetOp::Delete(was)),
            Self::Look => was.map(SetOp::Look),
        }
    }
}
