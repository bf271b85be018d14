//! The Xen platform device, 5853:0001.
//!
//! An HVM guest has it on its PCI bus, where the firmware would have given it resources: this kernel is the firmware
//! and does. A PVH guest has no PCI bus; there the executive's virtual bus shows a function that looks the same.

use alloc::sync::Arc;
use core::arch::asm;

use nt_host::pnp::bus::Config;
use nt_host::pnp::{Bar, PciFunction};
use nt_host::sync::Mutex;
use xen_abi::platform::{PCI_CLASS, PCI_DEVICE, PCI_VENDOR};

/// Where its ports go.
const IO_BASE: u16 = 0xC000;
const IO_SIZE: u32 = 0x100;
/// Where its memory goes: above any RAM that Xen puts below 4 GiB.
const MEMORY_BASE: u64 = 0xF200_0000;
const MEMORY_SIZE: u32 = 16 << 20;
/// Its slot where it is not real.
const SLOT: u8 = 2;

/// Ports of the configuration mechanism (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const ADDRESS: u16 = 0xCF8;
const DATA: u16 = 0xCFC;
/// Offsets in configuration space, and bits of the command register.
const COMMAND: u8 = 0x04;
const BAR_IO: u8 = 0x10;
const BAR_MEMORY: u8 = 0x14;
const INTERRUPT_LINE: u8 = 0x3C;
const DECODE: u32 = 0b111;

/// The platform device.
pub struct Platform {
    /// Device number, if it is real.
    real: Option<u8>,
}

static PORTS: Mutex<()> = Mutex::new(());

fn read(device: u8, offset: u8) -> u32 {
    let _one = PORTS.lock();
    let address = 1 << 31 | u32::from(device) << 11 | u32::from(offset & 0xFC);
    let value: u32;
    // SAFETY: the configuration mechanism's address port.
    unsafe { asm!("out dx, eax", in("dx") ADDRESS, in("eax") address, options(nomem, nostack)) };
    // SAFETY: reading configuration space changes nothing.
    unsafe { asm!("in eax, dx", in("dx") DATA, out("eax") value, options(nomem, nostack)) };
    value
}

fn write(device: u8, offset: u8, value: u32) {
    let _one = PORTS.lock();
    let address = 1 << 31 | u32::from(device) << 11 | u32::from(offset & 0xFC);
    // SAFETY: as in `read`.
    unsafe { asm!("out dx, eax", in("dx") ADDRESS, in("eax") address, options(nomem, nostack)) };
    // SAFETY: the callers write to the platform device only, whose registers lead to no memory of ours.
    unsafe { asm!("out dx, eax", in("dx") DATA, in("eax") value, options(nomem, nostack)) };
}

impl Platform {
    /// Looks for the device; `absent` where a bus could only be somebody else's.
    pub fn find(absent: bool) -> Self {
        let wanted = u32::from(PCI_VENDOR) | u32::from(PCI_DEVICE) << 16;
        let real = (0..32).find(|device| !absent && read(*device, 0) == wanted);
        if let Some(device) = real {
            write(device, BAR_IO, u32::from(IO_BASE));
            write(device, BAR_MEMORY, MEMORY_BASE as u32);
            write(device, COMMAND, read(device, COMMAND) & !0xFFFF | DECODE);
            let line = read(device, INTERRUPT_LINE) & !0xFF;
            write(device, INTERRUPT_LINE, line | intx_gsi(device) & 0xFF);
        }
        Self { real }
    }

    /// Whether it is on a real bus.
    pub fn is_real(&self) -> bool {
        self.real.is_some()
    }

    /// Its memory, start and end.
    pub fn memory(&self) -> (u64, u64) {
        (MEMORY_BASE, MEMORY_BASE + u64::from(MEMORY_SIZE))
    }

    /// What the executive's bus shows.
    pub fn function(&self) -> PciFunction {
        let slot = self.real.unwrap_or(SLOT);
        let config = match self.real {
            Some(device) => {
                let mut config = [0; 256];
                for (offset, word) in (0..=252).step_by(4).zip(config.chunks_exact_mut(4)) {
                    word.copy_from_slice(&read(device, offset).to_le_bytes());
                }
                config
            }
            None => invented(),
        };
        PciFunction {
            bus: 0,
            slot: slot << 3,
            config,
            space: self
                .real
                .map(|device| Arc::new(Space { device }) as Arc<dyn Config>),
            io_bar: Some(Bar {
                start: u64::from(IO_BASE),
                length: IO_SIZE,
            }),
            mem_bar: Some(Bar {
                start: MEMORY_BASE,
                length: MEMORY_SIZE,
            }),
            gsi: intx_gsi(slot),
            messages: None,
        }
    }
}

/// The global system interrupt behind a device's pin A. xen/include/asm-x86/hvm/irq.h: `hvm_pci_intx_gsi`.
fn intx_gsi(device: u8) -> u32 {
    let line = (u32::from(device) << 2) + (u32::from(device) >> 3);
    (line & 31) + 16
}

/// Configuration space of a device as QEMU makes it, its resources assigned. QEMU hw/i386/xen/xen_platform.c.
fn invented() -> [u8; 256] {
    let mut config = [0; 256];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &PCI_VENDOR.to_le_bytes());
    put(0x02, &PCI_DEVICE.to_le_bytes());
    put(0x04, &(DECODE as u16).to_le_bytes());
    put(0x08, &(PCI_CLASS << 8 | 1).to_le_bytes());
    put(0x10, &(u32::from(IO_BASE) | 1).to_le_bytes());
    put(0x14, &(MEMORY_BASE as u32 | 8).to_le_bytes());
    put(0x2C, &PCI_VENDOR.to_le_bytes());
    put(0x2E, &PCI_DEVICE.to_le_bytes());
    put(0x3C, &[intx_gsi(SLOT) as u8, 1]);
    config
}

/// Configuration space of the real device.
struct Space {
    device: u8,
}

impl Config for Space {
    fn read(&self, offset: u32, out: &mut [u8]) -> u32 {
        let end = (offset as usize).saturating_add(out.len()).min(256);
        let places = (offset as usize)..end;
        let count = places.len();
        for (place, byte) in places.zip(out) {
            *byte = read(self.device, place as u8).to_le_bytes()[place % 4];
        }
        count as u32
    }

    fn write(&self, offset: u32, data: &[u8]) -> u32 {
        let end = (offset as usize).saturating_add(data.len()).min(256);
        let places = (offset as usize)..end;
        let count = places.len();
        for (place, byte) in places.zip(data) {
            let mut word = read(self.device, place as u8).to_le_bytes();
            word[place % 4] = *byte;
            write(self.device, place as u8, u32::from_le_bytes(word));
        }
        count as u32
    }
}
