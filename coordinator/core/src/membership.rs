//! Nodes and their incarnations (C2, C10).
//!
//! ```text
//!   Join --> Alive --lease ended--> Lost --Join--> Alive, the same node id, a NEW incarnation
//!              |--------Leave-----> Left --Join--> the same
//!              |--Join, same boot-> the same answer (its reply was lost)
//!              |--Join, other boot-> refused `name_in_use`, until the lease of the first has ended
//!              '--Quarantine-------> Alive, but no shard is placed on it and its lease is not renewed, until it is let go (C6)
//! ```
//! An incarnation is the index of the record that admitted it: unique, growing, never given again, and comparable with
//! the placement index (`NodeView::fence`).

use crate::command::Outcome;
use crate::devices::DeviceState;
use crate::limits::GONE_KEPT;
use crate::state::ClusterState;
use crate::validate;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Incarnation, NodeId};
use ringfleet_proto::control::limits::{MEMBERS_MAX, MEMBERS_VIEW_BYTES_MAX};
use ringfleet_proto::control::{DeviceReport, MemberView, Refusal, RefusalCode, TypeReport};

record! {
    /// What a member is doing.
    #[derive(Copy)]
    pub enum MemberState {
        /// Its lease lives, as far as the log knows.
        Alive,
        /// Its lease ended.
        Lost,
        /// It left.
        Left,
    }
}

record! {
    /// A node.
    pub struct Member {
        /// Its id; stays with the name.
        pub node: u32,
        /// Its name.
        pub name: String,
        /// Its last incarnation.
        pub incarnation: u64,
        /// The random number of that start.
        pub boot: u128,
        /// What it is doing.
        pub state: MemberState,
        /// The record of its last change.
        pub since_index: u64,
        /// Where nodes and clients reach it.
        pub data_addr: String,
        /// Where it serves health and metrics.
        pub http_addr: String,
        /// How far its clock was off when it was quarantined, ms; `None`: it is not.
        pub quarantine_ms: Option<i64>,
        /// Its devices, as they were when it joined.
        pub devices: Vec<DeviceReport>,
        /// What became of them since, by index.
        pub device_states: Vec<DeviceState>,
        /// Its actor types.
        pub types: Vec<TypeReport>,
    }
}

impl Member {
    /// Whether its lease lives, as far as the log knows.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.state == MemberState::Alive
    }

    /// Bytes that it takes in a view, at most.
    fn view_bytes_max(&self) -> usize {
        MemberView::bytes_max(&self.name, &self.data_addr, &self.http_addr, self.devices.len())
    }

    /// Whether a device is up.
    #[must_use]
    pub fn is_up(&self, device: u16) -> bool {
        self.device_states.get(usize::from(device)).is_some_and(|state| state.up)
    }

    /// The actor type of this name, if the node carries it.
    #[must_use]
    pub fn actor_type(&self, name: &str) -> Option<&TypeReport> {
        self.types.iter().find(|report| report.name == name)
    }
}

impl ClusterState {
    #[allow(clippy::too_many_arguments, reason = "one argument per field of the command")]
    pub(crate) fn join(
        &mut self,
        index: u64,
        name: &str,
        boot: u128,
        data_addr: &str,
        http_addr: &str,
        devices: &[DeviceReport],
        types: &[TypeReport],
    ) -> Result<Outcome, Refusal> {
        validate::node_report(name, data_addr, http_addr, devices, types)?;
        let known = self.members.values().find(|member| member.name == name);
        if let Some(member) = known.filter(|member| member.is_alive()) {
            if member.boot == boot {
                return Ok(Outcome::Joined { node: member.node, incarnation: member.incarnation });
            }
            let message =
                format!("a node `{name}` is alive at {}; stop it, or wait until its lease has ended", member.data_addr);
            return Err(Refusal::new(RefusalCode::NameInUse, message));
        }
        // Also for a node that has been here before: whoever is gone does not count.
        if self.alive().count() >= MEMBERS_MAX {
            let message = format!("the cluster has its {MEMBERS_MAX} nodes");
            return Err(Refusal::new(RefusalCode::LimitExceeded, message));
        }
        let taken: usize = self.alive().map(Member::view_bytes_max).sum();
        let more = MemberView::bytes_max(name, data_addr, http_addr, devices.len());
        if taken + more > MEMBERS_VIEW_BYTES_MAX {
            let message = format!(
                "the nodes of the cluster take {taken} bytes of a view, at most {MEMBERS_VIEW_BYTES_MAX}; the {more} of node `{name}` do not fit (each device and each letter of name and addresses counts)"
            );
            return Err(Refusal::new(RefusalCode::LimitExceeded, message));
        }
        let node = match known {
            Some(member) => member.node,
            None => {
                self.last_node += 1;
                self.last_node
            }
        };
        let incarnation = match known {
            Some(member) if is_on(Mutant::IncarnationReused) => member.incarnation,
            _ => index,
        };
        self.members.insert(
            node,
            Member {
                node,
                name: name.to_owned(),
                incarnation,
                boot,
                state: MemberState::Alive,
                since_index: index,
                data_addr: data_addr.to_owned(),
                http_addr: http_addr.to_owned(),
                quarantine_ms: None,
                devices: devices.to_vec(),
                device_states: vec![DeviceState::joined(index); devices.len()],
                types: types.to_vec(),
            },
        );
        self.view_index = index;
        self.place_pending(index);
        Ok(Outcome::Joined { node, incarnation })
    }

    pub(crate) fn member_lost(&mut self, index: u64, incarnation: u64) -> Outcome {
        self.member_gone(index, incarnation, MemberState::Lost)
    }

    /// Notes that a clock is off, or right again. Nothing to do if the incarnation is gone.
    pub(crate) fn quarantine(&mut self, index: u64, incarnation: u64, offset_ms: Option<i64>) -> Outcome {
        if let Some(member) = self.members.values_mut().find(|m| m.incarnation == incarnation && m.is_alive()) {
            member.quarantine_ms = offset_ms;
            self.place_pending(index);
        }
        Outcome::Done
    }

    pub(crate) fn leave(&mut self, index: u64, incarnation: u64) -> Outcome {
        self.member_gone(index, incarnation, MemberState::Left)
    }

    /// Whatever it owned is placed elsewhere, empty, at the next epoch. Nothing to do if it is gone already.
    fn member_gone(&mut self, index: u64, incarnation: u64, state: MemberState) -> Outcome {
        let Some(member) = self.members.values_mut().find(|m| m.incarnation == incarnation && m.is_alive()) else {
            return Outcome::Done;
        };
        member.state = state;
        member.since_index = index;
        self.view_index = index;
        self.orphan_shards(index, |owner| owner.incarnation == incarnation);
        self.place_pending(index);
        self.forget_gone();
        Outcome::Done
    }

    fn forget_gone(&mut self) {
        let mut gone: Vec<(u64, u32)> =
            self.members.values().filter(|m| !m.is_alive()).map(|m| (m.since_index, m.node)).collect();
        gone.sort_unstable();
        let surplus = gone.len().saturating_sub(GONE_KEPT);
        for (_, node) in gone.into_iter().take(surplus) {
            self.members.remove(&node);
        }
    }

    /// Members whose lease lives, as far as the log knows, by id.
    pub fn alive(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.is_alive())
    }

    /// All members that are remembered, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member by id.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node.0)
    }

    /// The live member with this incarnation; `None` means that it is fenced (C2).
    #[must_use]
    pub fn live(&self, incarnation: Incarnation) -> Option<&Member> {
        self.alive().find(|member| member.incarnation == incarnation.0)
    }
}
