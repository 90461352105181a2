//! Devices that are lost and come back while their node lives (C2, C10).
//!
//! ```text
//!   Join --> up, generation 1 --lost 1--> down --back 2--> up, generation 2 --lost 2--> ...
//!                              |              '--lost or back of an older generation: passed over
//!                              '--back 2 (the loss was not heard)--> as lost 1, back 2
//! ```
//! What lived on a lost device is vacated and placed anew like what lived on a lost node: at the next epoch, empty, on any device
//! that is up; on this one only after it is back. The node keeps its incarnation, and its other devices keep their shards.
//!
//! No residence outlives its device: whoever marks a device as lost vacates its shards in the same record, and shards are only settled
//! on devices that are up. So a residence began after its device's [`DeviceState::since_index`].

use crate::command::Outcome;
use crate::state::ClusterState;
use ringfleet_proto::control::{Refusal, RefusalCode};

record! {
    /// One device of a live member.
    #[derive(Copy)]
    pub struct DeviceState {
        /// Its start within the incarnation, from 1.
        pub generation: u32,
        /// Whether that one is up.
        pub up: bool,
        /// The record that made it so.
        pub since_index: u64,
    }
}

impl DeviceState {
    /// A device that came with its node's join.
    #[must_use]
    pub(crate) const fn joined(index: u64) -> Self {
        Self { generation: 1, up: true, since_index: index }
    }
}

impl ClusterState {
    /// A device's loss or return, by its node's word. What is older than what is known is passed over, as is everything of an incarnation
    /// that is gone.
    pub(crate) fn device_changed(
        &mut self,
        index: u64,
        incarnation: u64,
        device: u16,
        generation: u32,
        up: bool,
    ) -> Result<Outcome, Refusal> {
        let Some(member) = self.members.values_mut().find(|m| m.incarnation == incarnation && m.is_alive()) else {
            return Ok(Outcome::Done);
        };
        let (name, count) = (member.name.clone(), member.device_states.len());
        let Some(state) = member.device_states.get_mut(usize::from(device)) else {
            let message = format!("node `{name}` has {count} devices and reports device {device}");
            return Err(Refusal::new(RefusalCode::BadRequest, message));
        };
        let before = *state;
        if generation < before.generation || (generation == before.generation && up == before.up) {
            return Ok(Outcome::Done);
        }
        if generation == before.generation && up {
            let message = format!(
                "generation {generation} of device {device} of node `{name}` is lost; a device that is back has a new generation"
            );
            return Err(Refusal::new(RefusalCode::BadRequest, message));
        }
        *state = DeviceState { generation, up, since_index: index };
        self.view_index = index;
        if before.up {
            self.orphan_shards(index, |owner| owner.incarnation == incarnation && owner.device == device);
        }
        self.place_pending(index);
        Ok(Outcome::Done)
    }
}
