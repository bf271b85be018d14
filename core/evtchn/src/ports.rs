//! From a port to the channel that owns it, without a lock.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::Port;

/// No memory for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// For each port the slot of its channel and the CPU that handles it.
///
/// An entry is one word, so a reader on any CPU sees slot and CPU that belong together. The reader has to check in the
/// slot itself, under the slot's lock, that the channel is still the one: the entry may change after the look-up.
#[derive(Debug)]
pub struct Ports {
    /// `cpu` in the high half, `slot + 1` in the low half; 0 is nobody's.
    entries: Vec<AtomicU64>,
}

impl Ports {
    /// A table for ports below `count`, all nobody's.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn new(count: u32) -> Result<Self, NoMemory> {
        let mut entries = Vec::new();
        entries
            .try_reserve_exact(count as usize)
            .map_err(|_| NoMemory)?;
        entries.extend((0..count).map(|_| AtomicU64::new(0)));
        Ok(Self { entries })
    }

    /// Names the owner of a port. `false` if the port is beyond the table or the slot not representable.
    pub fn set(&self, port: Port, slot: u32, cpu: u32) -> bool {
        match (self.entries.get(port.0 as usize), slot.checked_add(1)) {
            (Some(entry), Some(slot)) => {
                entry.store((u64::from(cpu) << 32) | u64::from(slot), Ordering::SeqCst);
                true
            }
            _ => false,
        }
    }

    /// Makes a port nobody's.
    pub fn clear(&self, port: Port) {
        if let Some(entry) = self.entries.get(port.0 as usize) {
            entry.store(0, Ordering::SeqCst);
        }
    }

    /// The slot of the channel that owns `port`, if it is handled on `cpu`.
    pub fn slot_on(&self, port: Port, cpu: u32) -> Option<u32> {
        let entry = self.entries.get(port.0 as usize)?.load(Ordering::SeqCst);
        let slot = ((entry & u64::from(u32::MAX)) as u32).checked_sub(1)?;
        (entry >> 32 == u64::from(cpu)).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_on_its_own_cpu_alone() {
        let ports = Ports::new(16).unwrap();
        assert!(ports.set(Port(3), 0, 1));
        assert_eq!(ports.slot_on(Port(3), 1), Some(0));
        assert_eq!(ports.slot_on(Port(3), 0), None);
        ports.clear(Port(3));
        assert_eq!(ports.slot_on(Port(3), 1), None);
    }

    #[test]
    fn ports_and_slots_out_of_range_are_refused() {
        let ports = Ports::new(16).unwrap();
        assert!(!ports.set(Port(16), 0, 0));
        assert!(!ports.set(Port(0), u32::MAX, 0));
        assert_eq!(ports.slot_on(Port(u32::MAX), 0), None);
        ports.clear(Port(u32::MAX));
    }
}
