//! A PCI function that raises interrupts when its driver asks for it: what rig-selftest.sys drives.
//!
//! | port | read | written |
//! |---|---|---|
//! | 0 | "SELF" | bit n sends message n; without messages it is a cause for the line, which is up while there is one |
//! | 4 | the causes | bits written are causes no longer |

use std::sync::{Arc, Mutex, PoisonError};

use nt_host::ke::interrupt;
use nt_host::pnp::{Bar, MessageTable, Messages, PciFunction};

/// Messages that it can send.
const MESSAGES: u32 = 4;
/// Its ports.
const PORTS: std::ops::Range<u16> = 0xc200..0xc210;
/// Its line: one that no other function of the rig has.
const GSI: u32 = 30;
const MARK: u32 = u32::from_le_bytes(*b"SELF");
/// Device 4 of bus 0.
const SLOT: u8 = 4 << 3;

/// The device.
#[derive(Default)]
pub struct Interrupter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Processor and vector of each message; none while it is to use its line.
    messages: Vec<(u32, u8)>,
    causes: u32,
}

impl Interrupter {
    /// What the PCI bus shows of it.
    pub fn function(self: &Arc<Self>) -> PciFunction {
        let mut config = [0; 256];
        // Vendor and device, a base peripheral of another kind (class 0x0880), interrupt pin A.
        config[..4].copy_from_slice(&[0x34, 0x12, 0x1f, 0x5e]);
        (config[0x0a], config[0x0b], config[0x3d]) = (0x80, 0x08, 1);
        PciFunction {
            bus: 0,
            slot: SLOT,
            config,
            space: None,
            io_bar: Some(Bar {
                start: PORTS.start.into(),
                length: PORTS.len() as u32,
            }),
            mem_bar: None,
            gsi: GSI,
            messages: Some(Messages {
                count: MESSAGES,
                table: Arc::<Self>::clone(self),
            }),
        }
    }

    /// What a port reads; none if it is not the device's.
    pub fn read(&self, port: u16) -> Option<u32> {
        match port.checked_sub(PORTS.start) {
            Some(0) => Some(MARK),
            Some(4) => Some(self.state().causes),
            _ => None,
        }
    }

    /// A write to a port; whether it is the device's.
    pub fn write(&self, port: u16, value: u32) -> bool {
        let mut state = self.state();
        match port.checked_sub(PORTS.start) {
            Some(0) if !state.messages.is_empty() => {
                let sent = state.messages.iter().enumerate();
                for (_, &(cpu, vector)) in sent.filter(|(index, _)| value >> index & 1 != 0) {
                    interrupt::raise(cpu, vector);
                }
                return true;
            }
            Some(0) => state.causes |= value,
            Some(4) => state.causes &= !value,
            _ => return false,
        }
        interrupt::set_gsi(GSI, state.causes != 0);
        true
    }

    /// Only a vCPU's instruction and the PnP manager come here, and neither is stopped with the lock held.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageTable for Interrupter {
    fn program(&self, messages: &[(u64, u32)]) {
        let mut state = self.state();
        // Bits 12 to 19 of a message's address name the processor, the low byte of its data the vector (Intel SDM).
        let route = |&(address, data): &(u64, u32)| ((address >> 12 & 0xff) as u32, data as u8);
        state.messages = messages.iter().map(route).collect();
        state.causes = 0;
        interrupt::set_gsi(GSI, false);
    }
}
