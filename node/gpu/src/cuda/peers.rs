//! Several GPUs of one process that send to each other (C3, C9): who reaches whose rings.
//!
//! A ring lies in the memory of its receiver's device, as do the tails that its senders publish; the heads that a receiver gives back
//! lie in the memory of the sender's device. So every worker polls its own memory only, and writes the others'.

use super::error::CudaError;
use super::kernel::Resident;

/// Connects devices before any of them is launched. Device i of `residents` is device i of the node: its worker w is peer
/// i · workers + w in route tables.
///
/// # Errors
/// [`CudaError::Peers`] if they were not built for each other; the driver's, if two cannot reach each other.
pub fn connect<'a>(residents: impl IntoIterator<Item = &'a mut Resident>) -> Result<(), CudaError> {
    let mut residents: Vec<&mut Resident> = residents.into_iter().collect();
    let count = residents.len() as u32;
    let geometry = residents.first().map(|resident| resident.geometry);
    if residents.iter().any(|resident| resident.geometry.devices != count || Some(resident.geometry) != geometry) {
        return Err(CudaError::Peers { devices: count });
    }
    let parts: Vec<_> = residents.iter().map(|resident| resident.memory.params).collect();
    let gpus: Vec<_> = residents.iter().map(|resident| resident.gpu.clone()).collect();
    for (device, resident) in residents.iter_mut().enumerate() {
        let params = &mut resident.memory.params;
        params.device = device as u32;
        for (peer, part) in parts.iter().enumerate() {
            if peer != device {
                gpus[device].reach(&gpus[peer])?;
            }
            params.peer_rings[peer] = part.rings;
            params.peer_tails[peer] = part.tails;
            params.peer_heads[peer] = part.heads;
        }
    }
    Ok(())
}
