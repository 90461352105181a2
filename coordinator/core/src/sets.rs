//! Actor sets: apply, scale, delete (C1).
//!
//! A set is bound to one code and one state layout of its type when it is created. Its shards go only to nodes that
//! report both. When the last node with the bound code is gone, an apply binds the set to the code that live nodes report,
//! if the layout is the same; another layout is refused while anything is resident.

use crate::command::Outcome;
use crate::planner::{self, Slot};
use crate::shards::{Residence, ShardRecord};
use crate::state::ClusterState;
use crate::validate;
use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::limits::SETS_MAX;
use ringfleet_abi::{KeySpace, SetId, ShardId, ShardIndex};
use ringfleet_proto::control::limits::{SETS_AT_ONCE_MAX, SHARDS_TOTAL_MAX};
use ringfleet_proto::control::{ActorSet, Refusal, RefusalCode, SetChange, SetState, ShardState, TypeReport};
use std::collections::{BTreeMap, BTreeSet};

record! {
    /// A set.
    pub struct SetRecord {
        /// Its id.
        pub set: u16,
        /// Its document, `workers` as scaled last.
        pub document: ActorSet,
        /// Hash of its name, by which device code finds it.
        pub tag: u32,
        /// The code it is bound to.
        pub code_hash: u64,
        /// The state layout it is bound to.
        pub layout_hash: u64,
        /// That layout in words.
        pub layout: String,
        /// What it is doing.
        pub state: SetState,
        /// The record that created it.
        pub since_index: u64,
    }
}

impl SetRecord {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.document.metadata.name
    }

    /// The most workers that it may occupy.
    #[must_use]
    pub fn bound(&self) -> u32 {
        self.document.spec.workers.unwrap_or(u32::MAX)
    }
}

/// What a planned change would do to resident shards.
struct Plan {
    releases: Vec<ShardId>,
    resident: usize,
}

impl ClusterState {
    pub(crate) fn apply_set(&mut self, index: u64, document: &ActorSet) -> Result<Outcome, Refusal> {
        validate::document(document)?;
        self.check_placement(document)?;
        match self.set_named(&document.metadata.name).map(|record| record.set) {
            Some(set) => self.change_set(index, set, document),
            None => self.create_set(index, document),
        }
    }

    fn check_placement(&self, document: &ActorSet) -> Result<(), Refusal> {
        let known: BTreeSet<&str> = self.members().map(|member| member.name.as_str()).collect();
        match document.spec.placement.nodes.iter().find(|node| !known.contains(node.as_str())) {
            None => Ok(()),
            Some(node) => {
                let message = format!("spec.placement.nodes names `{node}`; known nodes: {}", list(known));
                Err(Refusal::new(RefusalCode::UnknownNode, message))
            }
        }
    }

    fn create_set(&mut self, index: u64, document: &ActorSet) -> Result<Outcome, Refusal> {
        let (name, spec) = (&document.metadata.name, &document.spec);
        let tag = fnv1a32(name.as_bytes());
        if let Some(other) = self.sets.values().find(|record| record.tag == tag) {
            let message =
                format!("the name `{name}` has the same tag {tag:#010x} as `{}`; choose another", other.name());
            return Err(Refusal::new(RefusalCode::TagCollision, message));
        }
        if self.last_set >= SETS_MAX {
            let message = format!("the cluster has had its {SETS_MAX} sets; ids are never reused");
            return Err(Refusal::new(RefusalCode::LimitExceeded, message));
        }
        if self.sets.len() >= SETS_AT_ONCE_MAX {
            let message = format!("the cluster has its {SETS_AT_ONCE_MAX} sets; delete one first");
            return Err(Refusal::new(RefusalCode::LimitExceeded, message));
        }
        if self.shards.len() + usize::from(spec.shards) > SHARDS_TOTAL_MAX {
            let message = format!(
                "the cluster has {} of at most {SHARDS_TOTAL_MAX} shards; {} more do not fit",
                self.shards.len(),
                spec.shards
            );
            return Err(Refusal::new(RefusalCode::LimitExceeded, message));
        }
        self.check_parents(document)?;
        let report = self.sole_variant(&spec.actor_type)?;
        let record = SetRecord {
            set: self.last_set + 1,
            document: document.clone(),
            tag,
            code_hash: report.code_hash,
            layout_hash: report.layout_hash,
            layout: report.layout.clone(),
            state: SetState::Active,
            since_index: index,
        };
        let set = record.set;
        self.last_set = set;
        self.sets.insert(set, record);
        for shard in 0..spec.shards {
            self.shards.insert(ShardId::new(SetId(set), ShardIndex(shard)).pack(), ShardRecord::new(index));
        }
        self.view_index = index;
        self.place_pending(index);
        Ok(Outcome::Set { set, change: SetChange::Created, index })
    }

    /// Failures go from set to set, and must come to an end: every set was created below sets that were there, but a parent may have
    /// been deleted and be created again.
    fn check_parents(&self, document: &ActorSet) -> Result<(), Refusal> {
        let mut chain = vec![document.metadata.name.as_str()];
        let mut of = document;
        while let Some(parent) = of.spec.on_failure.as_ref().and_then(|on_failure| on_failure.parent.as_deref()) {
            if parent == chain[0] {
                chain.push(parent);
                let message = format!("spec.on_failure.parent leads back to the set: {}", chain.join(" -> "));
                return Err(Refusal::new(RefusalCode::BadRequest, message));
            }
            let Some(record) = self.set_named(parent).filter(|record| record.state == SetState::Active) else {
                // Only its own parent has to be there: one further up may have been deleted.
                if chain.len() > 1 {
                    return Ok(());
                }
                let Refusal { message, .. } = self.no_set(parent);
                return Err(Refusal::new(RefusalCode::UnknownSet, format!("spec.on_failure.parent: {message}")));
            };
            chain.push(parent);
            of = &record.document;
        }
        Ok(())
    }

    fn change_set(&mut self, index: u64, set: u16, document: &ActorSet) -> Result<Outcome, Refusal> {
        let Some(old) = self.sets.get(&set).cloned() else { panic!("C1: set {set} was just found") };
        if old.state == SetState::Deleting {
            let message = format!("set `{}` is being deleted; apply it again when it is gone", old.name());
            return Err(Refusal::new(RefusalCode::SetDeleting, message));
        }
        check_fixed(&old.document, document)?;
        let mut new = old.clone();
        let workers = document.spec.workers.or(old.document.spec.workers);
        new.document = document.clone();
        new.document.spec.workers = workers;
        self.rebind(&mut new)?;
        if new == old {
            return Ok(Outcome::Set { set, change: SetChange::Unchanged, index });
        }
        let moves_shards = new.bound() != old.bound() || new.document.spec.placement != old.document.spec.placement;
        self.sets.insert(set, new);
        if moves_shards {
            let plan = self.plan(set);
            if !plan.releases.is_empty() {
                let refusal = would_lose(old.name(), &plan, "use `scale` with discard_state");
                self.sets.insert(set, old);
                return Err(refusal);
            }
        }
        self.view_index = index;
        self.place_pending(index);
        Ok(Outcome::Set { set, change: SetChange::Changed, index })
    }

    /// Binds a set to what live nodes report now, where that is possible without touching resident state.
    fn rebind(&self, record: &mut SetRecord) -> Result<(), Refusal> {
        let variants = self.variants(&record.document.spec.actor_type);
        let resident = self.shards_of(SetId(record.set)).any(|(_, shard)| shard.owner.is_some());
        if resident && let Some(other) = variants.iter().find(|report| report.layout_hash != record.layout_hash) {
            let message = format!(
                "set `{}` is resident with the state layout {:016x} {{ {} }}, and a node reports `{}` with the layout {:016x} {{ {} }}; delete the set first",
                record.name(),
                record.layout_hash,
                record.layout,
                other.name,
                other.layout_hash,
                other.layout
            );
            return Err(Refusal::new(RefusalCode::LayoutChanged, message));
        }
        let bound =
            |report: &&TypeReport| report.code_hash == record.code_hash && report.layout_hash == record.layout_hash;
        if variants.is_empty() || variants.iter().any(bound) {
            return Ok(());
        }
        let report = self.sole_variant(&record.document.spec.actor_type)?;
        record.code_hash = report.code_hash;
        record.layout_hash = report.layout_hash;
        record.layout.clone_from(&report.layout);
        Ok(())
    }

    pub(crate) fn scale_set(
        &mut self,
        index: u64,
        name: &str,
        workers: u32,
        discard_state: bool,
    ) -> Result<Outcome, Refusal> {
        if workers == 0 {
            return Err(Refusal::new(RefusalCode::BadRequest, "workers is 0; it must be at least 1"));
        }
        let set = self.active_set(name)?;
        let Some(record) = self.sets.get_mut(&set) else { panic!("C1: set {set} was just found") };
        let before = record.document.spec.workers.replace(workers);
        let plan = self.plan(set);
        if !plan.releases.is_empty() && !discard_state {
            if let Some(record) = self.sets.get_mut(&set) {
                record.document.spec.workers = before;
            }
            return Err(would_lose(name, &plan, "agree with discard_state (ctl: --discard-state)"));
        }
        for &shard in &plan.releases {
            self.release(index, shard);
        }
        self.place_pending(index);
        let same = before == Some(workers) && plan.releases.is_empty();
        let change = if same { SetChange::Unchanged } else { SetChange::Changed };
        Ok(Outcome::Set { set, change, index })
    }

    pub(crate) fn delete_set(&mut self, index: u64, name: &str) -> Result<Outcome, Refusal> {
        let set = match self.active_set(name) {
            Ok(set) => set,
            Err(refusal) if refusal.code == RefusalCode::SetDeleting => {
                let set = self.set_named(name).map_or(0, |record| record.set);
                return Ok(Outcome::Set { set, change: SetChange::Deleting, index });
            }
            Err(refusal) => return Err(refusal),
        };
        if let Some(record) = self.sets.get_mut(&set) {
            record.state = SetState::Deleting;
        }
        let shards: Vec<(ShardId, ShardState)> =
            self.shards_of(SetId(set)).map(|(shard, record)| (shard, record.state)).collect();
        for (shard, state) in shards {
            match state {
                ShardState::Pending => drop(self.shards.remove(&shard.pack())),
                ShardState::Resident => self.release(index, shard),
                ShardState::Releasing => {}
            }
        }
        if self.shards_of(SetId(set)).next().is_none() {
            self.sets.remove(&set);
        }
        self.view_index = index;
        Ok(Outcome::Set { set, change: SetChange::Deleting, index })
    }

    /// Gives every pending shard a worker, where there is one. Called after every record that may have changed that.
    pub(crate) fn place_pending(&mut self, index: u64) {
        let active: Vec<u16> =
            self.sets.values().filter(|record| record.state == SetState::Active).map(|record| record.set).collect();
        for set in active {
            let pending: Vec<ShardId> = self
                .shards_of(SetId(set))
                .filter(|(_, record)| record.state == ShardState::Pending)
                .map(|(shard, _)| shard)
                .collect();
            if pending.is_empty() {
                continue;
            }
            let Some(record) = self.sets.get(&set) else { continue };
            let mut counts: BTreeMap<Residence, u32> = BTreeMap::new();
            for (_, owner) in self.resident(SetId(set)) {
                *counts.entry(owner).or_default() += 1;
            }
            let placed = planner::place(&self.slots(record, true), &counts, record.bound(), pending.len());
            for (shard, owner) in pending.into_iter().zip(placed) {
                self.settle(index, shard, owner);
            }
        }
    }

    fn plan(&self, set: u16) -> Plan {
        let Some(record) = self.sets.get(&set) else { panic!("C1: set {set} was just found") };
        let resident: Vec<_> = self.resident(SetId(set)).collect();
        let total = self.shards_of(SetId(set)).count();
        let releases = planner::releases(&self.slots(record, false), &resident, record.bound(), total);
        Plan { releases, resident: resident.len() }
    }

    /// Shards that stay with their owner, as far as is planned.
    fn resident(&self, set: SetId) -> impl Iterator<Item = (ShardId, Residence)> {
        self.shards_of(set)
            .filter(|(_, record)| record.state == ShardState::Resident)
            .filter_map(|(shard, record)| record.owner.map(|owner| (shard, owner)))
    }

    /// The workers that may own shards of the set: those of quarantined nodes may keep what they own, and may not be given more.
    fn slots(&self, record: &SetRecord, given_more: bool) -> Vec<Slot> {
        let bytes = self.shard_bytes();
        let bytes = |set: u16| bytes.get(&set).copied().unwrap_or(0);
        let mut others: BTreeMap<Residence, u32> = BTreeMap::new();
        let mut taken: BTreeMap<(u64, u16), u64> = BTreeMap::new();
        for (shard, owned) in self.shards() {
            let Some(owner) = owned.owner else { continue };
            let taken = taken.entry((owner.incarnation, owner.device)).or_default();
            *taken = taken.saturating_add(bytes(shard.set.0));
            if shard.set.0 != record.set {
                *others.entry(owner).or_default() += 1;
            }
        }
        let spec = &record.document.spec;
        let mut slots = Vec::new();
        for member in self.alive().filter(|member| !given_more || member.quarantine_ms.is_none()) {
            let allowed = spec.placement.nodes.is_empty() || spec.placement.nodes.contains(&member.name);
            let carries = member
                .actor_type(&spec.actor_type)
                .is_some_and(|report| report.code_hash == record.code_hash && report.layout_hash == record.layout_hash);
            if !(allowed && carries) {
                continue;
            }
            let islands = planner::islands(&member.devices);
            for device in member.devices.iter().filter(|device| member.is_up(device.index)) {
                let island = islands[usize::from(device.index)];
                let taken = taken.get(&(member.incarnation, device.index)).copied().unwrap_or(0);
                let left_bytes = device.memory_bytes.saturating_sub(taken);
                let room = match left_bytes.checked_div(bytes(record.set)) {
                    Some(shards) if device.memory_bytes > 0 => u32::try_from(shards).unwrap_or(u32::MAX),
                    _ => u32::MAX,
                };
                for worker in 0..device.workers {
                    let worker =
                        Residence { node: member.node, device: device.index, worker, incarnation: member.incarnation };
                    let others = others.get(&worker).copied().unwrap_or(0);
                    slots.push(Slot { worker, others, island, room });
                }
            }
        }
        slots
    }

    /// The least bytes that a shard of each set takes; 0: not known. What a record takes beside the state is not counted.
    fn shard_bytes(&self) -> BTreeMap<u16, u64> {
        let bytes = |record: &SetRecord| {
            let spec = &record.document.spec;
            let mut types = self.alive().filter_map(|member| member.actor_type(&spec.actor_type));
            let bound = types.find(|report| report.layout_hash == record.layout_hash);
            let state_bytes = bound.map_or(0, |report| u64::from(report.state_bytes));
            KeySpace::from(spec.keys).keys_per_shard(spec.shards).saturating_mul(state_bytes)
        };
        self.sets.values().map(|record| (record.set, bytes(record))).collect()
    }

    /// The differing reports that live nodes make of a type.
    fn variants(&self, actor_type: &str) -> Vec<&TypeReport> {
        let mut variants: BTreeMap<(u64, u64), &TypeReport> = BTreeMap::new();
        for report in self.alive().filter_map(|member| member.actor_type(actor_type)) {
            variants.entry((report.layout_hash, report.code_hash)).or_insert(report);
        }
        variants.into_values().collect()
    }

    fn sole_variant(&self, actor_type: &str) -> Result<&TypeReport, Refusal> {
        match self.variants(actor_type).as_slice() {
            [report] => Ok(report),
            [] => {
                let known: BTreeSet<&str> =
                    self.alive().flat_map(|member| &member.types).map(|report| report.name.as_str()).collect();
                let message =
                    format!("no live node carries the actor type `{actor_type}`; known types: {}", list(known));
                Err(Refusal::new(RefusalCode::UnknownType, message))
            }
            [one, other, ..] => {
                let message = format!(
                    "live nodes report `{actor_type}` with code {:016x} and layout {:016x} {{ {} }}, and with code {:016x} and layout {:016x} {{ {} }}; run one build on all nodes",
                    one.code_hash, one.layout_hash, one.layout, other.code_hash, other.layout_hash, other.layout
                );
                Err(Refusal::new(RefusalCode::TypeConflict, message))
            }
        }
    }

    fn active_set(&self, name: &str) -> Result<u16, Refusal> {
        match self.set_named(name) {
            Some(record) if record.state == SetState::Active => Ok(record.set),
            Some(_) => Err(Refusal::new(RefusalCode::SetDeleting, format!("set `{name}` is being deleted"))),
            None => Err(self.no_set(name)),
        }
    }

    /// The refusal for a set that is not there.
    #[must_use]
    pub fn no_set(&self, name: &str) -> Refusal {
        let known = self.sets.values().map(SetRecord::name).collect();
        Refusal::new(RefusalCode::UnknownSet, format!("there is no set `{name}`; known sets: {}", list(known)))
    }

    /// The set of this name.
    #[must_use]
    pub fn set_named(&self, name: &str) -> Option<&SetRecord> {
        self.sets.values().find(|record| record.name() == name)
    }

    /// All sets, by id.
    pub fn sets(&self) -> impl Iterator<Item = &SetRecord> {
        self.sets.values()
    }
}

fn check_fixed(old: &ActorSet, new: &ActorSet) -> Result<(), Refusal> {
    let name = &old.metadata.name;
    let differs = |field: &str, old: &dyn std::fmt::Debug, new: &dyn std::fmt::Debug| {
        let message =
            format!("spec.{field} of set `{name}` is {old:?} and cannot become {new:?}; delete the set first");
        Err(Refusal::new(RefusalCode::FieldFixed, message))
    };
    let (old, new) = (&old.spec, &new.spec);
    if old.actor_type != new.actor_type {
        return differs("type", &old.actor_type, &new.actor_type);
    }
    if old.keys != new.keys {
        return differs("keys", &old.keys, &new.keys);
    }
    if old.shards != new.shards {
        return differs("shards", &old.shards, &new.shards);
    }
    if old.on_failure != new.on_failure {
        return differs("on_failure", &old.on_failure, &new.on_failure);
    }
    Ok(())
}

fn would_lose(name: &str, plan: &Plan, remedy: &str) -> Refusal {
    let message = format!(
        "{} of {} resident shards of the volatile set `{name}` would move and start empty; {remedy}",
        plan.releases.len(),
        plan.resident
    );
    Refusal::new(RefusalCode::StateWouldBeLost, message)
}

fn list(names: BTreeSet<&str>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}
