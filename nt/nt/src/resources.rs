//! Hardware resources of a device: reading what it was given, and adding to what it asks for.

use crate::{Irp, NtStatus, PagedPool, Result};
use core::marker::PhantomData;
use core::mem::offset_of;
use nt_sys::{
    CM_FULL_RESOURCE_DESCRIPTOR, CM_PARTIAL_RESOURCE_DESCRIPTOR, CM_PARTIAL_RESOURCE_LIST,
    CM_RESOURCE_LIST, IO_RESOURCE_DESCRIPTOR, IO_RESOURCE_LIST, IO_RESOURCE_REQUIREMENTS_LIST,
};

/// One resource, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// I/O ports.
    Port {
        /// First port.
        start: u64,
        /// Number of ports.
        length: u32,
    },
    /// Memory.
    Memory {
        /// Physical address.
        start: u64,
        /// Bytes.
        length: u32,
    },
    /// An interrupt. In a translated list, what `Interrupt::connect` needs.
    Interrupt {
        /// IRQL (translated) or the bus's own number (raw).
        level: u16,
        /// Processor group.
        group: u16,
        /// Vector (translated) or line (raw).
        vector: u32,
        /// Processors.
        affinity: u64,
    },
    /// Something else.
    Other,
}

/// A resource with its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// `CmResourceType*`.
    pub kind: u8,
    /// `CmResourceShare*`.
    pub share: u8,
    /// `CM_RESOURCE_*`.
    pub flags: u16,
    /// What it is.
    pub resource: Resource,
}

/// The descriptors of the first bus in a resource list of the PnP manager.
#[derive(Debug)]
pub struct ResourceList<'a> {
    first: *mut CM_PARTIAL_RESOURCE_DESCRIPTOR,
    count: u32,
    _irp: PhantomData<&'a ()>,
}

impl<'a> ResourceList<'a> {
    /// # Safety
    /// `list` is null or a valid list that lives as long as `'a`.
    pub(crate) unsafe fn from_raw(list: *mut CM_RESOURCE_LIST) -> ResourceList<'a> {
        let empty = ResourceList {
            first: core::ptr::null_mut(),
            count: 0,
            _irp: PhantomData,
        };
        if list.is_null() {
            return empty;
        }
        // SAFETY: the list is valid.
        if unsafe { (*list).Count } == 0 {
            return empty;
        }
        const PARTIAL: usize = offset_of!(CM_RESOURCE_LIST, List)
            + offset_of!(CM_FULL_RESOURCE_DESCRIPTOR, PartialResourceList);
        // SAFETY: a list that is not empty holds a full descriptor.
        let partial = unsafe { list.byte_add(PARTIAL) }.cast::<CM_PARTIAL_RESOURCE_LIST>();
        // SAFETY: as above.
        let count = unsafe { (*partial).Count };
        // SAFETY: the descriptors start inside the list.
        let first =
            unsafe { partial.byte_add(offset_of!(CM_PARTIAL_RESOURCE_LIST, PartialDescriptors)) };
        ResourceList {
            first: first.cast(),
            count,
            _irp: PhantomData,
        }
    }

    /// The descriptors in order.
    pub fn iter(&self) -> impl Iterator<Item = Descriptor> + '_ {
        (0..self.count as usize).map(|index| {
            // SAFETY: the list holds `count` descriptors.
            let raw = unsafe { self.first.add(index) };
            // SAFETY: as above; the packed structure is copied.
            describe(unsafe { raw.read_unaligned() })
        })
    }

    /// Changes the kind of each descriptor for which `change` gives a new one, in the PnP manager's own list.
    pub fn retype(&mut self, change: impl Fn(&Descriptor) -> Option<u8>) {
        for index in 0..self.count as usize {
            // SAFETY: the list holds `count` descriptors.
            let raw = unsafe { self.first.add(index) };
            // SAFETY: as above; the packed structure is copied.
            let descriptor = describe(unsafe { raw.read_unaligned() });
            if let Some(kind) = change(&descriptor) {
                // SAFETY: as above; the type is a byte.
                unsafe { (*raw).Type = kind };
            }
        }
    }
}

fn describe(raw: CM_PARTIAL_RESOURCE_DESCRIPTOR) -> Descriptor {
    let resource = match raw.Type {
        nt_sys::CmResourceTypePort | nt_sys::CmResourceTypeMemory => {
            // SAFETY: the type says which member is meant.
            let range = unsafe { raw.u.Generic };
            let (start, length) = (range.Start as u64, range.Length);
            if raw.Type == nt_sys::CmResourceTypePort {
                Resource::Port { start, length }
            } else {
                Resource::Memory { start, length }
            }
        }
        nt_sys::CmResourceTypeInterrupt => {
            // SAFETY: the type says which member is meant.
            let interrupt = unsafe { raw.u.Interrupt };
            Resource::Interrupt {
                level: interrupt.Level,
                group: interrupt.Group,
                vector: interrupt.Vector,
                affinity: interrupt.Affinity,
            }
        }
        _ => Resource::Other,
    };
    Descriptor {
        kind: raw.Type,
        share: raw.ShareDisposition,
        flags: raw.Flags,
        resource,
    }
}

/// The requirements of IRP_MN_FILTER_RESOURCE_REQUIREMENTS.
#[derive(Debug)]
pub struct RequirementsList<'a> {
    irp: &'a mut Irp,
    offered: *mut IO_RESOURCE_REQUIREMENTS_LIST,
}

impl<'a> RequirementsList<'a> {
    pub(crate) fn new(
        irp: &'a mut Irp,
        offered: *mut IO_RESOURCE_REQUIREMENTS_LIST,
    ) -> RequirementsList<'a> {
        RequirementsList { irp, offered }
    }

    /// Replaces the requirements by a copy whose first alternative is changed: `edit` sees each of its descriptors,
    /// then `added` follow them. The list becomes IoStatus.Information. PASSIVE_LEVEL.
    ///
    /// STATUS_NOT_SUPPORTED when there are no requirements.
    pub fn amend(
        self,
        mut edit: impl FnMut(&mut IO_RESOURCE_DESCRIPTOR),
        added: &[IO_RESOURCE_DESCRIPTOR],
    ) -> Result<()> {
        const FIRST: usize = offset_of!(IO_RESOURCE_REQUIREMENTS_LIST, List);
        const HEAD: usize = FIRST + offset_of!(IO_RESOURCE_LIST, Descriptors);
        const ONE: usize = size_of::<IO_RESOURCE_DESCRIPTOR>();
        let replaced = self.irp.information() as *mut IO_RESOURCE_REQUIREMENTS_LIST;
        let old = if replaced.is_null() {
            self.offered
        } else {
            replaced
        };
        if old.is_null() {
            return Err(NtStatus::NOT_SUPPORTED);
        }
        // SAFETY: the list is valid.
        let size = unsafe { (*old).ListSize } as usize;
        // SAFETY: `ListSize` is the whole list's size in bytes.
        let bytes = unsafe { core::slice::from_raw_parts(old.cast::<u8>(), size) };
        let count = bytes
            .get(FIRST + offset_of!(IO_RESOURCE_LIST, Count)..HEAD)
            .and_then(|count| count.first_chunk::<4>())
            .map(|count| u32::from_le_bytes(*count) as usize)
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        let split = count
            .checked_mul(ONE)
            .and_then(|length| length.checked_add(HEAD));
        let split = split.ok_or(NtStatus::INVALID_PARAMETER)?;
        let (first, rest) = bytes
            .split_at_checked(split)
            .ok_or(NtStatus::INVALID_PARAMETER)?;

        let grown = size + size_of_val(added);
        let mut block = PagedPool::zeroed(grown)?;
        let (target, middle, end) = block
            .bytes_mut()
            .split_at_mut_checked(split)
            .and_then(|(target, tail)| {
                let (middle, end) = tail.split_at_mut_checked(size_of_val(added))?;
                Some((target, middle, end))
            })
            .ok_or(NtStatus::INVALID_PARAMETER)?;
        for (to, from) in target.iter_mut().zip(first) {
            *to = *from;
        }
        for (slot, descriptor) in middle.chunks_exact_mut(ONE).zip(added) {
            // SAFETY: the slot is as long as a descriptor, which is plain data.
            unsafe {
                slot.as_mut_ptr()
                    .cast::<IO_RESOURCE_DESCRIPTOR>()
                    .write_unaligned(*descriptor)
            };
        }
        for (to, from) in end.iter_mut().zip(rest) {
            *to = *from;
        }
        for slot in target
            .get_mut(HEAD..)
            .unwrap_or_default()
            .chunks_exact_mut(ONE)
        {
            let slot = slot.as_mut_ptr().cast::<IO_RESOURCE_DESCRIPTOR>();
            // SAFETY: the slot is as long as a descriptor, which is plain data.
            let mut descriptor = unsafe { slot.read_unaligned() };
            edit(&mut descriptor);
            // SAFETY: as above.
            unsafe { slot.write_unaligned(descriptor) };
        }
        let new = block.into_raw().cast::<IO_RESOURCE_REQUIREMENTS_LIST>();
        // SAFETY: the block holds a list, and pool blocks are aligned for it.
        unsafe { (*new).ListSize = grown as u32 };
        // SAFETY: as above.
        let list = unsafe { &raw mut (*new).List }.cast::<IO_RESOURCE_LIST>();
        // SAFETY: the first list is inside the block.
        unsafe { (*list).Count = (count + added.len()) as u32 };
        if !replaced.is_null() {
            // SAFETY: a list in IoStatus.Information is a pool block, ours to replace.
            unsafe { nt_sys::imports::ExFreePoolWithTag(replaced.cast(), 0) };
        }
        self.irp.set_information(new as usize);
        Ok(())
    }
}
