//! Who may do what: the one table of roles x verbs (C11). Every service asks [`allowed`] before it looks at a request;
//! a test reads the table cell by cell.

use super::{AdminVerb, NodeRequest};

wire! {
    /// The role in a certificate: `spiffe://ringfleet/<cluster>/<role>/<name>`.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    #[serde(rename_all = "lowercase")]
    pub enum Role {
        /// A coordinator.
        Coordinator,
        /// A node.
        Node,
        /// A program that tells and asks.
        Client,
        /// A person or program that looks.
        Viewer,
        /// A person or program that changes things.
        Operator,
    }
}

impl Role {
    /// All roles, in the order of the table's columns.
    pub const ALL: [Role; 5] = [Role::Coordinator, Role::Node, Role::Client, Role::Viewer, Role::Operator];

    /// The word in a certificate.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Node => "node",
            Role::Client => "client",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }

    /// The role with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! access_table {
    ($($(#[$doc:meta])* $verb:ident $text:literal [$($cell:literal)*];)*) => {
        /// What can be asked of a coordinator or of a node.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Verb { $($(#[$doc])* $verb,)* }

        impl Verb {
            /// All verbs, in the order of the table's rows.
            pub const ALL: &'static [Verb] = &[$(Verb::$verb,)*];

            /// The word used in logs, metrics and refusals.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Verb::$verb => $text,)* }
            }

            const fn row(self) -> [u8; 5] {
                match self { $(Verb::$verb => [$($cell),*],)* }
            }
        }
    };
}

access_table! {
    // columns:                          coordinator node client viewer operator
    /// Messages of the Raft group.
    Raft            "raft"              [1 0 0 0 0];
    /// Become a member.
    Join            "join"              [0 1 0 0 0];
    /// Keep a lease.
    Renew           "renew"             [0 1 0 0 0];
    /// Compare clocks with the leader.
    ReadClock       "read_clock"        [0 1 0 0 0];
    /// Follow the placement.
    WatchView       "watch_view"        [0 1 0 0 0];
    /// Report released shards.
    ReportReleased  "report_released"   [0 1 0 0 0];
    /// Report that a device was lost, or is back.
    ReportDevice    "report_device"     [0 1 0 0 0];
    /// Learn whose a session is.
    LookupSession   "lookup_session"    [0 1 0 0 0];
    /// Leave the cluster.
    Leave           "leave"             [0 1 0 0 0];
    /// Create or change a set.
    Apply           "apply"             [0 0 0 0 1];
    /// Change how many workers a set may occupy.
    Scale           "scale"             [0 0 0 0 1];
    /// Delete a set.
    Delete          "delete"            [0 0 0 0 1];
    /// Make a coordinator a member.
    AddCoordinator  "add_coordinator"   [0 0 0 0 1];
    /// Take a coordinator out.
    RemoveCoordinator "remove_coordinator" [0 0 0 0 1];
    /// List nodes.
    Nodes           "nodes"             [0 0 0 1 1];
    /// List coordinators.
    Coordinators    "coordinators"      [0 0 0 1 1];
    /// List sets.
    Sets            "sets"              [0 0 0 1 1];
    /// List shards.
    Shards          "shards"            [0 0 0 1 1];
    /// List actor types and their messages.
    Types           "types"             [0 0 1 1 1];
    /// One set or node in full.
    Describe        "describe"          [0 0 0 1 1];
    /// Where shards live, for routing.
    Directory       "directory"         [0 0 1 1 1];
    /// Open a client session.
    OpenSession     "open_session"      [0 0 1 0 1];
    /// The cluster in one page.
    Status          "status"            [0 0 0 1 1];
    /// Deliver messages from actors of another node (asked of a node).
    Deliver         "deliver"           [0 1 0 0 0];
    /// Tell an actor (asked of a node).
    Tell            "tell"              [0 0 1 0 1];
    /// Ask an actor (asked of a node).
    Ask             "ask"               [0 0 1 0 1];
    /// List actors by node and worker: the ctl asks for `nodes`, then reads the open metrics page of each.
    Actors          "actors"            [0 0 0 1 1];
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether `role` may do `verb`.
#[must_use]
pub const fn allowed(role: Role, verb: Verb) -> bool {
    verb.row()[role as usize] == 1
}

impl NodeRequest {
    /// The verb that this request is.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            NodeRequest::Join { .. } => Verb::Join,
            NodeRequest::Renew { .. } => Verb::Renew,
            NodeRequest::ReadClock => Verb::ReadClock,
            NodeRequest::WatchView { .. } => Verb::WatchView,
            NodeRequest::ReportReleased { .. } => Verb::ReportReleased,
            NodeRequest::ReportDevice { .. } => Verb::ReportDevice,
            NodeRequest::LookupSession { .. } => Verb::LookupSession,
            NodeRequest::Leave { .. } => Verb::Leave,
        }
    }
}

impl AdminVerb {
    /// The verb that this request is.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            AdminVerb::Apply { .. } => Verb::Apply,
            AdminVerb::Scale { .. } => Verb::Scale,
            AdminVerb::Delete { .. } => Verb::Delete,
            AdminVerb::Nodes => Verb::Nodes,
            AdminVerb::Coordinators => Verb::Coordinators,
            AdminVerb::AddCoordinator { .. } => Verb::AddCoordinator,
            AdminVerb::RemoveCoordinator { .. } => Verb::RemoveCoordinator,
            AdminVerb::Sets => Verb::Sets,
            AdminVerb::Shards { .. } => Verb::Shards,
            AdminVerb::Types => Verb::Types,
            AdminVerb::DescribeSet { .. } | AdminVerb::DescribeNode { .. } => Verb::Describe,
            AdminVerb::Directory { .. } => Verb::Directory,
            AdminVerb::OpenSession => Verb::OpenSession,
            AdminVerb::Status => Verb::Status,
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
