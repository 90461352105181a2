//! The state as bytes: magic, version, digest, rkyv archive.
//!
//! ```text
//!   0..4 magic `RFS1`   4..6 version   6..8 zero   8..16 digest (FNV-1a of the archive)   16.. archive
//! ```

use crate::state::ClusterState;
use ringfleet_abi::hash::fnv1a64;
use rkyv::rancor::Error as RkyvError;
use rkyv::util::AlignedVec;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"RFS1";
/// The version of the archive's layout. A snapshot of another one is refused.
pub const VERSION: u16 = 4;
const HEADER_BYTES: usize = 16;

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Too short, or another magic.
    #[error("not a snapshot of cluster state")]
    Magic,
    /// Written by another version.
    #[error("snapshot of format version {found}; this build reads version {VERSION}")]
    Version {
        /// The version in the header.
        found: u16,
    },
    /// The archive is not the one that was written.
    #[error("snapshot is damaged: its digest is {found:016x}, the header says {expected:016x}")]
    Digest {
        /// Of the archive.
        found: u64,
        /// In the header.
        expected: u64,
    },
    /// The archive cannot be written or read.
    #[error("archiving cluster state")]
    Archive(#[source] RkyvError),
}

impl ClusterState {
    /// The state as bytes. Equal states give equal bytes.
    ///
    /// # Errors
    /// [`SnapshotError::Archive`].
    pub fn to_snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let archive = rkyv::to_bytes::<RkyvError>(self).map_err(SnapshotError::Archive)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + archive.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&fnv1a64(&archive).to_le_bytes());
        bytes.extend_from_slice(&archive);
        Ok(bytes)
    }

    /// The state in `bytes`. Never panics, whatever they are.
    ///
    /// # Errors
    /// Every variant of [`SnapshotError`].
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(SnapshotError::Magic);
        };
        let [m0, m1, m2, m3, v0, v1, _, _, digest @ ..] = *header;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(SnapshotError::Magic);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        let (found, expected) = (fnv1a64(body), u64::from_le_bytes(digest));
        if found != expected {
            return Err(SnapshotError::Digest { found, expected });
        }
        let mut archive: AlignedVec = AlignedVec::with_capacity(body.len());
        archive.extend_from_slice(body);
        rkyv::from_bytes::<Self, RkyvError>(&archive).map_err(SnapshotError::Archive)
    }
}
