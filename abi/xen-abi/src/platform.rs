//! The Xen platform device: PCI identity, I/O ports, the protocol that unplugs emulated devices.
//! Xen's docs/misc/hvm-emulated-unplug.pandoc; QEMU hw/i386/xen/xen_platform.c.

/// PCI vendor: XenSource.
pub const PCI_VENDOR: u16 = 0x5853;
/// PCI device of the platform device.
pub const PCI_DEVICE: u16 = 0x0001;
/// Class code of the platform device, as QEMU sets it: unclassified, 0x80.
pub const PCI_CLASS: u32 = 0x00FF_8000;

/// Read 16 bits: [`MAGIC`]. Write 16 bits: which devices to unplug. Write 32 bits: the driver's build.
pub const PORT_UNPLUG: u16 = 0x10;
/// Read 8 bits: protocol version. Write 16 bits: product number. Write 8 bits: a character for the device model's log.
pub const PORT_PRODUCT: u16 = 0x12;
/// Write 8 bits: a character for Xen's log (`XEN_HVM_DEBUGCONS_IOPORT`).
pub const PORT_XEN_LOG: u16 = 0xE9;

/// The protocol is there.
pub const MAGIC: u16 = 0x49D2;
/// The protocol is there, and refuses this driver.
pub const MAGIC_BLACKLISTED: u16 = 0xD249;

/// Unplug all IDE and SCSI disks.
pub const UNPLUG_ALL_DISKS: u16 = 1 << 0;
/// Unplug all network cards.
pub const UNPLUG_ALL_NICS: u16 = 1 << 1;
/// Unplug all IDE disks but the primary master.
pub const UNPLUG_AUX_IDE_DISKS: u16 = 1 << 2;
/// Unplug NVMe disks.
pub const UNPLUG_NVME_DISKS: u16 = 1 << 3;
/// public/hvm/pvdrivers.h: product number of experimental drivers.
pub const PRODUCT_EXPERIMENTAL: u16 = 0xFFFF;
