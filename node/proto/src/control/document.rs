//! The actor-set document: what a user applies. Data only; the coordinator's core checks it.
//!
//! ```yaml
//! apiVersion: ringfleet.io/v1alpha1
//! kind: ActorSet
//! metadata: { name: flights.carrier }
//! spec:
//!   type: flights.carrier
//!   keys: hashed              # or: { dense: { count: 1000000 } }
//!   shards: 256               # fixed for the life of the set
//!   workers: 6                # the most workers that it may occupy; what `scale` changes
//!   placement: { nodes: [] }  # empty: anywhere
//!   durability: volatile
//!   on_failure: { policy: restart, max_restarts: 3, window_ms: 60000, parent: flights.supervisor }
//!   tenant: default
//! ```
//! Unknown fields are errors: a misspelt one would silently take its default.

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::limits::SHARDS_DEFAULT;
use ringfleet_abi::{KeySpace, RestartMode};

/// The `apiVersion` of this build.
pub const API_VERSION: &str = "ringfleet.io/v1alpha1";
/// The `kind` of an actor set.
pub const KIND: &str = "ActorSet";
/// The only tenant of this build.
pub const TENANT_DEFAULT: &str = "default";

wire! {
    /// A deployed population of one actor type.
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub struct ActorSet {
        /// [`API_VERSION`].
        pub api_version: String,
        /// [`KIND`].
        pub kind: String,
        /// Its name.
        pub metadata: Metadata,
        /// What is wanted.
        pub spec: SetSpec,
    }
}

wire! {
    /// How a document is called.
    #[serde(deny_unknown_fields)]
    pub struct Metadata {
        /// Letters, digits, `.`, `-` and `_`; begins with a letter or digit.
        pub name: String,
    }
}

wire! {
    /// What is wanted of a set.
    #[serde(deny_unknown_fields)]
    pub struct SetSpec {
        /// The actor type.
        #[serde(rename = "type")]
        pub actor_type: String,
        /// The key space. Fixed.
        #[serde(default)]
        pub keys: Keys,
        /// Number of shards. Fixed.
        #[serde(default = "shards_default")]
        pub shards: u16,
        /// The most workers that the set may occupy; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub workers: Option<u32>,
        /// Where it may live.
        #[serde(default)]
        pub placement: Placement,
        /// What survives a loss (C5).
        #[serde(default)]
        pub durability: Durability,
        /// What becomes of a failed actor, if `on_failure` does not say it.
        #[serde(default)]
        pub restart: Restart,
        /// What becomes of a failed actor. Fixed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub on_failure: Option<OnFailure>,
        /// Whose it is.
        #[serde(default = "tenant_default")]
        pub tenant: String,
    }
}

wire! {
    /// The keys of a set.
    #[derive(Copy, Default)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    pub enum Keys {
        /// Any 64-bit key.
        #[default]
        Hashed,
        /// The keys `0..count`.
        Dense {
            /// How many, at least 1.
            count: u64,
        },
    }
}

impl From<Keys> for KeySpace {
    fn from(keys: Keys) -> Self {
        match keys {
            Keys::Hashed => KeySpace::Hashed,
            Keys::Dense { count } => KeySpace::Dense { count },
        }
    }
}

wire! {
    /// Where a set may live.
    #[derive(Default)]
    #[serde(deny_unknown_fields)]
    pub struct Placement {
        /// Names of the only nodes it may live on; empty: anywhere.
        #[serde(default)]
        pub nodes: Vec<String>,
    }
}

wire! {
    /// What survives the loss of a device (C5).
    #[derive(Copy, Default, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum Durability {
        /// Nothing, and the loss is reported.
        #[default]
        Volatile,
        /// The last cut. Refused in this build.
        Snapshot,
        /// Every acknowledged message and its effect. Refused in this build.
        Journal,
    }
}

wire! {
    /// What becomes of an actor whose handler failed.
    #[derive(Copy, Default, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum Restart {
        /// It stays failed; its messages are dead-lettered `actor_failed`.
        #[default]
        Stop,
        /// Its state goes back to the initial one, counted.
        Restart,
    }
}

wire! {
    /// What becomes of an actor whose handler failed, with bounds.
    #[serde(deny_unknown_fields)]
    pub struct OnFailure {
        /// What is done first.
        pub policy: FailurePolicy,
        /// For `restart`: how often in a window; absent: however often it fails. Behind the last an actor stays failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub max_restarts: Option<u32>,
        /// For `restart`: the length of a window, which begins with the first restart after the one before has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub window_ms: Option<u32>,
        /// The set whose actor of the same key fails when one of this set has failed for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub parent: Option<String>,
    }
}

wire! {
    /// What is done with an actor whose handler failed.
    #[derive(Copy, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum FailurePolicy {
        /// It stays failed; its messages are dead-lettered `actor_failed`.
        Stop,
        /// Its state goes back to the initial one.
        Restart,
        /// It stays failed, and the actor of its key in the parent set fails with `child_failed`.
        Escalate,
    }
}

/// What a device is told of a set's policy.
#[must_use]
pub fn restart_mode(restart: Restart, on_failure: Option<&OnFailure>) -> RestartMode {
    let Some(on_failure) = on_failure else {
        return match restart {
            Restart::Stop => RestartMode::Stop,
            Restart::Restart => RestartMode::Restart,
        };
    };
    let parent = on_failure.parent.as_ref().map_or(0, |name| fnv1a32(name.as_bytes()));
    match (on_failure.policy, on_failure.max_restarts) {
        (FailurePolicy::Restart, Some(restarts)) => {
            RestartMode::Limited { restarts, window_ms: on_failure.window_ms.unwrap_or(u32::MAX), parent }
        }
        (FailurePolicy::Restart, None) => RestartMode::Restart,
        (FailurePolicy::Escalate, _) if parent != 0 => RestartMode::Escalate { parent },
        (FailurePolicy::Stop | FailurePolicy::Escalate, _) => RestartMode::Stop,
    }
}

fn shards_default() -> u16 {
    SHARDS_DEFAULT
}

fn tenant_default() -> String {
    TENANT_DEFAULT.to_owned()
}

impl ActorSet {
    /// A document with every default.
    #[must_use]
    pub fn new(name: &str, actor_type: &str) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata { name: name.to_owned() },
            spec: SetSpec {
                actor_type: actor_type.to_owned(),
                keys: Keys::Hashed,
                shards: SHARDS_DEFAULT,
                workers: None,
                placement: Placement::default(),
                durability: Durability::Volatile,
                restart: Restart::Stop,
                on_failure: None,
                tenant: tenant_default(),
            },
        }
    }
}
