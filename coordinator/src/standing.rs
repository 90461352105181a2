//! Whether this coordinator belongs to the group: founding it, joining it, having been removed from it (C1).
//!
//! A coordinator's number in the group is drawn when its data folder is made, and stays with the folder. So a number is never reused: a
//! coordinator that has lost its data has another number, no message of the group is addressed to it, and it cannot vote a second time
//! in a term in which it has voted.
//!
//! ```text
//!   empty folder --all of --peers answer, all are empty, this name is the first--> found the group with all of them
//!                --a leader has this name under another number--------------------> stop: remove it, and add it anew
//!                --a leader does not have this name------------------------------> wait for `ringfleet coordinators add`
//!   used folder  --a leader's younger list of members does not have its number---> stop: it has been removed
//! ```
//! A group is founded only when every coordinator of the first list has answered: one that cannot be reached may have been there
//! before. Only who says that it leads convicts; the list of anybody else may be old.

use crate::config::Peer;
use crate::raft::{Group, Introduction};
use ringfleet_env::Env;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the others may take to say who they are.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// How long a coordinator may hear nothing of a leader before it asks where it stands.
pub const UNHEARD_MAX: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Nothing: it belongs, or nobody can say.
    Go,
    /// Nothing yet, for this reason.
    Wait(String),
    /// Found the group with these members.
    Found(BTreeMap<u64, Peer>),
    /// Stop, for this reason.
    Stop(String),
}

/// Where `own` stands, given what the others of its list said, `None` for who did not answer.
#[must_use]
pub fn stand(own: &Introduction, others: &[(Peer, Option<Introduction>)]) -> Stand {
    let answers = || others.iter().filter_map(|(_, answer)| answer.as_ref());
    let (name, addr) = (&own.name, &own.addr);
    if let Some(leader) = answers().filter(|answer| answer.leads).max_by_key(|answer| answer.members_index) {
        if leader.members.iter().any(|(id, _)| *id == own.id) {
            return Stand::Go;
        }
        // A leader that was cut off goes on believing that it leads; its list may be older than this one's.
        if own.initialized && leader.members_index <= own.members_index {
            return Stand::Go;
        }
        if own.initialized {
            return Stand::Stop(format!(
                "coordinator `{name}` has been removed from the cluster; to have it back, start it with an empty data folder and run `ringfleet coordinators add {name} {addr}`"
            ));
        }
        if let Some((id, _)) = leader.members.iter().find(|(_, known)| known == name) {
            return Stand::Stop(format!(
                "the cluster has a coordinator `{name}` with other data (number {id:x}, this folder has {:x}), and one that has lost its data must not vote again; run `ringfleet coordinators remove {name}`, start it with an empty data folder, and run `ringfleet coordinators add {name} {addr}`",
                own.id
            ));
        }
        return Stand::Wait(format!(
            "coordinator `{name}` is no member of the cluster yet; run `ringfleet coordinators add {name} {addr}`"
        ));
    }
    if own.initialized {
        return Stand::Go;
    }
    if let Some(old) = answers().find(|answer| answer.initialized) {
        return Stand::Wait(format!(
            "coordinator `{}` has data, and no coordinator leads; waiting for a leader",
            old.name
        ));
    }
    let silent: Vec<&str> =
        others.iter().filter(|(_, answer)| answer.is_none()).map(|(peer, _)| peer.name.as_str()).collect();
    if !silent.is_empty() {
        return Stand::Wait(format!(
            "the cluster is founded when all its coordinators answer; waiting for {}",
            silent.join(", ")
        ));
    }
    if let Some(other) = answers().find(|answer| answer.started_with != own.started_with) {
        return Stand::Wait(format!(
            "coordinator `{}` was started with the coordinators {}, this one with {}; give all the same list",
            other.name,
            other.started_with.join(", "),
            own.started_with.join(", ")
        ));
    }
    if let Some(first) = answers().map(|answer| &answer.name).min().filter(|first| *first < name) {
        return Stand::Wait(format!("coordinator `{first}` founds the cluster"));
    }
    let all = answers().chain([own]);
    Stand::Found(all.map(|who| (who.id, Peer { name: who.name.clone(), addr: who.addr.clone() })).collect())
}

/// Kept by a task without which a coordinator must not go on: its end, also by a panic, is a reason to stop the process.
pub(crate) struct Ends {
    /// Which task.
    pub(crate) what: &'static str,
    /// Where the reason goes.
    pub(crate) fatal: watch::Sender<Option<String>>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        // A reason that was given is the better one.
        self.fatal.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert_with(|| format!("its {} ended", self.what));
            first
        });
    }
}

/// The loop.
pub struct Standing {
    /// Timers.
    pub env: Env,
    /// The group.
    pub group: Arc<Group>,
    /// Where a reason to stop the process goes.
    pub fatal: watch::Sender<Option<String>>,
}

impl Standing {
    /// Runs until the process must stop.
    pub async fn run(self) {
        let _ends = Ends { what: "watch over its place in the group", fatal: self.fatal.clone() };
        let mut told = String::new();
        loop {
            if self.group.is_unheard(UNHEARD_MAX) {
                let others = self.group.ask_around(ANSWER_LIMIT).await;
                let stand = stand(&self.group.introduction(), &others);
                let waits = match stand {
                    Stand::Go => String::new(),
                    Stand::Wait(why) => why,
                    Stand::Found(members) => {
                        tracing::info!(members = members.len(), "founds the cluster");
                        self.group.found(members).await.err().map(|e| e.to_string()).unwrap_or_default()
                    }
                    Stand::Stop(why) => {
                        self.fatal.send_replace(Some(why));
                        return;
                    }
                };
                if waits != told && !waits.is_empty() {
                    tracing::info!(reason = waits, "not in the group yet");
                }
                told.clone_from(&waits);
                self.group.set_waiting(waits);
            } else {
                self.group.set_waiting(String::new());
            }
            self.env.sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(id: u64, name: &str) -> Introduction {
        Introduction {
            id,
            name: name.into(),
            addr: format!("{name}.test:1"),
            started_with: vec!["c1".into(), "c2".into()],
            ..Introduction::default()
        }
    }

    fn member(id: u64, name: &str, members: &[(u64, &str)]) -> Introduction {
        let members = members.iter().map(|(id, name)| (*id, (*name).to_owned())).collect();
        Introduction { initialized: true, members_index: 7, members, ..who(id, name) }
    }

    fn leader(id: u64, name: &str, members: &[(u64, &str)]) -> Introduction {
        Introduction { leads: true, ..member(id, name, members) }
    }

    fn said(answer: Introduction) -> (Peer, Option<Introduction>) {
        (Peer { name: answer.name.clone(), addr: answer.addr.clone() }, Some(answer))
    }

    fn silent(name: &str) -> (Peer, Option<Introduction>) {
        (Peer { name: name.into(), addr: String::new() }, None)
    }

    fn waits(stand: &Stand, text: &str) -> bool {
        matches!(stand, Stand::Wait(why) if why.contains(text))
    }

    fn stops(stand: &Stand, text: &str) -> bool {
        matches!(stand, Stand::Stop(why) if why.contains(text) && why.lines().count() == 1)
    }

    #[test]
    fn a_group_is_founded_by_the_first_name_when_all_have_answered_and_none_has_data() {
        let found = stand(&who(1, "c1"), &[said(who(2, "c2"))]);
        let Stand::Found(members) = found else { panic!("{found:?}") };
        assert_eq!(
            members.iter().map(|(id, peer)| (*id, peer.name.as_str())).collect::<Vec<_>>(),
            [(1, "c1"), (2, "c2")]
        );
        assert!(waits(&stand(&who(2, "c2"), &[said(who(1, "c1"))]), "`c1` founds"));
        assert!(waits(&stand(&who(1, "c1"), &[silent("c2")]), "waiting for c2"));
        let stranger = Introduction { started_with: vec!["c2".into()], ..who(2, "c2") };
        assert!(waits(&stand(&who(1, "c1"), &[said(stranger)]), "give all the same list"));
        assert!(waits(
            &stand(&who(1, "c1"), &[said(member(2, "c2", &[(9, "c1"), (2, "c2")]))]),
            "waiting for a leader"
        ));
        assert!(matches!(stand(&who(1, "c1"), &[]), Stand::Found(members) if members.len() == 1));
    }

    #[test]
    fn who_has_lost_its_data_or_was_removed_is_told_what_to_do() {
        let group = |members: &[(u64, &str)]| [said(leader(2, "c2", members))];
        assert!(stops(&stand(&who(1, "c1"), &group(&[(9, "c1"), (2, "c2")])), "ringfleet coordinators remove c1"));
        assert!(waits(&stand(&who(1, "c1"), &group(&[(2, "c2")])), "ringfleet coordinators add c1 c1.test:1"));
        assert_eq!(stand(&who(1, "c1"), &group(&[(1, "c1"), (2, "c2")])), Stand::Go);
        let old = Introduction { members_index: 3, ..member(1, "c1", &[(1, "c1"), (2, "c2")]) };
        assert!(stops(&stand(&old, &group(&[(2, "c2")])), "has been removed"));
        let young = Introduction { members_index: 8, ..old.clone() };
        assert_eq!(stand(&young, &[said(member(2, "c2", &[(2, "c2")]))]), Stand::Go, "only a leader convicts");
        assert_eq!(stand(&young, &group(&[(2, "c2")])), Stand::Go, "and only with a younger list");
        let anew = Introduction { members_index: 8, ..member(5, "c1", &[(5, "c1"), (2, "c2")]) };
        assert_eq!(
            stand(&anew, &group(&[(1, "c1"), (2, "c2")])),
            Stand::Go,
            "added anew, before a leader that was cut off knew"
        );
    }
}
