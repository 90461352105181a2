//! Several GPUs that send to each other (C3, C9), of one process or of one each: who reaches whose rings.
//!
//! A ring lies in the memory of its receiver's device, as do the tails that its senders publish; the heads that a receiver gives back
//! lie in the memory of the sender's device. So every worker polls its own memory only, and writes the others'.

use std::os::fd::BorrowedFd;

use super::driver::DeviceMemory;
use super::error::CudaError;
use super::kernel::Resident;
use super::memory_map::fabric_parts;
use super::nvshmem::{Nvshmem, UniqueId};

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
    // What is mapped as a whole is not reached by peer access alone.
    for (device, resident) in residents.iter().enumerate() {
        for (_, other) in gpus.iter().enumerate().filter(|(peer, _)| *peer != device) {
            resident.memory.fabric.allow(other)?;
        }
    }
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

/// Maps the fabric of device `peer`, which is another process's, before this one is launched.
///
/// # Errors
/// [`CudaError::Peers`] if it is not of this geometry; the driver's, if the two cannot reach each other.
pub fn attach(resident: &mut Resident, peer: u32, file: BorrowedFd<'_>, bytes: u64) -> Result<(), CudaError> {
    let geometry = resident.geometry;
    if bytes < fabric_parts(&geometry).bytes || peer >= geometry.devices {
        return Err(CudaError::Peers { devices: geometry.devices });
    }
    let memory = DeviceMemory::import(&resident.gpu, file, bytes)?;
    place(resident, peer, memory.address());
    resident.memory.peers.push(memory);
    Ok(())
}

/// Puts what others write of this device, number `device` of its group, into a heap that NVSHMEM makes, where each finds the others' part.
/// `tell` hands the id of the first to the others: it is given that of this device if it is the first, and gives the first's. All devices
/// of the group come here before any is launched, and wait for each other.
///
/// # Errors
/// [`CudaError::Nvshmem`]; the driver's.
pub fn join_heap(
    resident: &mut Resident,
    device: u32,
    tell: impl FnOnce(Option<UniqueId>) -> Result<UniqueId, CudaError>,
) -> Result<(), CudaError> {
    let (geometry, gpu) = (resident.geometry, resident.gpu.clone());
    let bytes = fabric_parts(&geometry).bytes;
    let nvshmem = Nvshmem::load()?;
    let id = tell(if device == 0 { Some(nvshmem.unique_id()?) } else { None })?;
    gpu.make_current()?;
    let heap = nvshmem.join(&id, device, geometry.devices, bytes)?;
    let memory = DeviceMemory::of_heap(&gpu, &heap, bytes as usize)?;
    resident.memory.replace_fabric(&geometry, memory);
    seat(resident, device);
    for peer in (0..geometry.devices).filter(|peer| *peer != device) {
        place(resident, peer, heap.part_of(peer)?);
    }
    // Whoever comes first into the next loop writes into memory that its owner has zeroed.
    heap.barrier()?;
    gpu.make_current()
}

/// Says which device of its node this one is: what it sends to itself goes through its own memory.
pub fn seat(resident: &mut Resident, device: u32) {
    resident.memory.params.device = device;
    place(resident, device, resident.memory.fabric.address());
}

fn place(resident: &mut Resident, device: u32, fabric: u64) {
    let parts = fabric_parts(&resident.geometry);
    let (params, at) = (&mut resident.memory.params, device as usize);
    params.peer_rings[at] = fabric;
    params.peer_tails[at] = fabric + parts.tails;
    params.peer_heads[at] = fabric + parts.heads;
}
