//! What a certificate is for.

use std::fmt;

/// The role in a certificate. What a role may do is decided where requests are handled; a listener
/// only decides which roles it talks to at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A coordinator replica.
    Coordinator,
    /// A node's agent.
    Node,
    /// A program that tells and asks actors.
    Client,
    /// A person or program that may look at everything and change nothing.
    Viewer,
    /// A person or program that administers the cluster.
    Operator,
}

impl Role {
    /// All roles, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Coordinator, Self::Node, Self::Client, Self::Viewer, Self::Operator];

    /// The word for it in certificates, tables and flags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Node => "node",
            Self::Client => "client",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }

    /// The role of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether processes of this role listen, and so need a certificate for servers.
    pub const fn listens(self) -> bool {
        matches!(self, Self::Coordinator | Self::Node)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RoleSet(u8);

impl RoleSet {
    /// Every role.
    pub const ALL: Self = Self::of(&Role::ALL);

    /// The set of these roles.
    pub const fn of(roles: &[Role]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < roles.len() {
            bits |= roles[index].bit();
            index += 1;
        }
        Self(bits)
    }

    /// Whether it has this role.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Its roles, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |&role| self.contains(role))
    }
}

impl From<Role> for RoleSet {
    fn from(role: Role) -> Self {
        Self::of(&[role])
    }
}

impl fmt::Display for RoleSet {
    /// Roles joined by "or".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.iter().enumerate() {
            write!(f, "{}{role}", if index == 0 { "" } else { " or " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_the_parse_of_its_word_and_only_in_sets_that_have_it() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
            assert!(RoleSet::ALL.contains(role));
            for other in Role::ALL {
                assert_eq!(RoleSet::from(role).contains(other), role == other);
            }
        }
        assert_eq!(Role::parse("Node"), None);
        assert_eq!(RoleSet::of(&[Role::Operator, Role::Node]).to_string(), "node or operator");
    }
}
