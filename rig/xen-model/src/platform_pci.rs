//! The Xen platform device on the guest's PCI bus, as plain data for whoever plays that bus.
//! QEMU hw/i386/xen/xen_platform.c.

use xen_abi::platform::{PCI_CLASS, PCI_DEVICE, PCI_VENDOR};

/// Where it sits: bus 0, this slot, function 0.
pub const SLOT: u8 = 2;
/// I/O BAR: base.
pub const IO_BASE: u16 = 0xC000;
/// I/O BAR: bytes.
pub const IO_SIZE: u16 = 0x100;
/// Memory BAR: base. Frames of Xen's are shown in it when the guest asks for that.
pub const MEMORY_BASE: u64 = 0xF200_0000;
/// Memory BAR: bytes.
pub const MEMORY_SIZE: u64 = 16 << 20;

/// The global system interrupt behind a PCI interrupt pin (0 is INTA). xen/include/asm-x86/hvm/irq.h: `hvm_pci_intx_gsi`.
pub const fn intx_gsi(slot: u8, pin: u8) -> u32 {
    let line = ((slot as u32) << 2) + ((slot as u32) >> 3) + pin as u32;
    (line & 31) + 16
}

/// Its interrupt line.
pub const GSI: u32 = intx_gsi(SLOT, 0);

/// A PCI function of the guest.
#[derive(Clone, Debug)]
pub struct PciFunction {
    /// Bus number.
    pub bus: u8,
    /// Slot.
    pub slot: u8,
    /// Configuration space.
    pub config: [u8; 256],
    /// I/O BAR: base and bytes.
    pub io_bar: (u16, u16),
    /// Memory BAR: base and bytes.
    pub mem_bar: (u64, u64),
    /// Interrupt line, level-triggered.
    pub gsi: u32,
}

/// The platform device, its BARs assigned.
pub fn platform_device() -> PciFunction {
    let mut config = [0; 256];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x00, &PCI_VENDOR.to_le_bytes());
    put(0x02, &PCI_DEVICE.to_le_bytes());
    // Command: I/O and memory decoding, bus master.
    put(0x04, &0x0007u16.to_le_bytes());
    // Revision 1, then the class.
    put(0x08, &(PCI_CLASS << 8 | 1).to_le_bytes());
    put(0x10, &(u32::from(IO_BASE) | 1).to_le_bytes());
    // 32-bit, prefetchable.
    put(0x14, &(MEMORY_BASE as u32 | 8).to_le_bytes());
    put(0x2C, &PCI_VENDOR.to_le_bytes());
    put(0x2E, &PCI_DEVICE.to_le_bytes());
    put(0x3C, &[GSI as u8, 1]);
    PciFunction {
        bus: 0,
        slot: SLOT,
        config,
        io_bar: (IO_BASE, IO_SIZE),
        mem_bar: (MEMORY_BASE, MEMORY_SIZE),
        gsi: GSI,
    }
}
