//! The I/O ports of Xen and of the platform device. xen_abi::platform has the protocol.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use xen_abi::platform::*;

use crate::hypercall::guard;
use crate::{Source, Xen};

/// Longest line kept; longer ones are cut, as Xen cuts them.
const MAX_LINE: usize = 256;

#[derive(Default)]
struct State {
    xen_line: Vec<u8>,
    model_line: Vec<u8>,
    product: u16,
    build: u32,
}

#[derive(Default)]
pub(crate) struct Io(Mutex<State>);

fn push(line: &mut Vec<u8>, byte: u8) -> Option<String> {
    if byte != b'\n' && byte != 0 {
        if byte != b'\r' {
            line.push(byte);
        }
        if line.len() < MAX_LINE {
            return None;
        }
    }
    let text = String::from_utf8_lossy(line).into_owned();
    line.clear();
    Some(text)
}

impl Xen {
    /// `in` of `size` bytes (1, 2 or 4). A port nobody answers reads all ones.
    pub fn io_read(&self, port: u16, size: u8) -> u32 {
        match (port, size) {
            (PORT_UNPLUG, 2) if self.config.unplug_refused => u32::from(MAGIC_BLACKLISTED),
            (PORT_UNPLUG, 2) => u32::from(MAGIC),
            (PORT_PRODUCT, 1) => 1,
            (PORT_XEN_LOG, 1) => u32::from(PORT_XEN_LOG),
            (_, 1) => 0xFF,
            (_, 2) => 0xFFFF,
            _ => 0xFFFF_FFFF,
        }
    }

    /// `out` of `size` bytes.
    pub fn io_write(&self, port: u16, size: u8, value: u32) {
        let mut state = guard(self.io.0.lock());
        match (port, size) {
            (PORT_XEN_LOG, 1) => {
                if let Some(line) = push(&mut state.xen_line, value as u8) {
                    drop(state);
                    self.log(Source::Guest, &line);
                }
            }
            (PORT_PRODUCT, 1) => {
                if let Some(line) = push(&mut state.model_line, value as u8) {
                    drop(state);
                    self.log(Source::GuestToDeviceModel, &line);
                }
            }
            (PORT_PRODUCT, 2) => state.product = value as u16,
            (PORT_UNPLUG, 4) => {
                state.build = value;
                let line = format!(
                    "PV drivers: product {:#x}, build {:#x}",
                    state.product, value
                );
                drop(state);
                self.log(Source::Dom0, &line);
            }
            (PORT_UNPLUG, 2) => {
                drop(state);
                let all =
                    UNPLUG_ALL_DISKS | UNPLUG_ALL_NICS | UNPLUG_AUX_IDE_DISKS | UNPLUG_NVME_DISKS;
                self.unplugged
                    .fetch_or(value & u32::from(all), Ordering::AcqRel);
                self.log(Source::Dom0, &format!("unplug {value:#x}"));
            }
            _ => {}
        }
    }
}
