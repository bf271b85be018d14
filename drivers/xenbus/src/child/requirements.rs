//! The resources that a child asks for.

use core::mem::offset_of;
use nt::{PagedPool, Result};
use nt_sys::{
    ALL_PROCESSOR_GROUPS, CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE, CM_RESOURCE_MEMORY_PREFETCHABLE,
    CM_RESOURCE_MEMORY_READ_WRITE, CmResourceShareDeviceExclusive, CmResourceTypeInterrupt,
    CmResourceTypeMemory, IO_INTERRUPT, IO_RANGE, IO_RESOURCE, IO_RESOURCE_DESCRIPTOR,
    IO_RESOURCE_LIST, IO_RESOURCE_REQUIREMENTS_LIST, Internal, IrqPriorityUndefined, PAGE_SIZE,
};

/// IRQ_DEVICE_POLICY: wdm.h, `IrqPolicyOneCloseProcessor`.
const ONE_CLOSE_PROCESSOR: u16 = 2;
/// CM_RESOURCE_MEMORY_CACHEABLE (wdm.h).
const MEMORY_CACHEABLE: u16 = 0x0020;

/// A page of memory and an interrupt, which nobody uses: some class drivers will not start a device without resources.
pub(super) fn requirements() -> Result<PagedPool> {
    let memory = IO_RESOURCE_DESCRIPTOR {
        Option: 0,
        Type: CmResourceTypeMemory,
        ShareDisposition: CmResourceShareDeviceExclusive,
        Spare1: 0,
        Flags: CM_RESOURCE_MEMORY_READ_WRITE | CM_RESOURCE_MEMORY_PREFETCHABLE | MEMORY_CACHEABLE,
        Spare2: 0,
        u: IO_RESOURCE {
            Memory: IO_RANGE {
                Length: PAGE_SIZE as u32,
                Alignment: PAGE_SIZE as u32,
                MinimumAddress: 0,
                MaximumAddress: -1,
            },
        },
    };
    let interrupt = IO_RESOURCE_DESCRIPTOR {
        Option: 0,
        Type: CmResourceTypeInterrupt,
        ShareDisposition: CmResourceShareDeviceExclusive,
        Spare1: 0,
        Flags: CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE,
        Spare2: 0,
        u: IO_RESOURCE {
            Interrupt: IO_INTERRUPT {
                MinimumVector: 0,
                MaximumVector: u32::MAX,
                AffinityPolicy: ONE_CLOSE_PROCESSOR,
                Group: ALL_PROCESSOR_GROUPS,
                PriorityPolicy: IrqPriorityUndefined,
                TargetedProcessors: 0,
            },
        },
    };
    const SIZE: usize =
        size_of::<IO_RESOURCE_REQUIREMENTS_LIST>() + size_of::<IO_RESOURCE_DESCRIPTOR>();
    const SECOND: usize = offset_of!(IO_RESOURCE_REQUIREMENTS_LIST, List)
        + offset_of!(IO_RESOURCE_LIST, Descriptors)
        + size_of::<IO_RESOURCE_DESCRIPTOR>();
    let list = IO_RESOURCE_REQUIREMENTS_LIST {
        ListSize: SIZE as u32,
        InterfaceType: Internal,
        BusNumber: 0,
        SlotNumber: 0,
        Reserved: [0; 3],
        AlternativeLists: 1,
        List: [IO_RESOURCE_LIST {
            Version: 1,
            Revision: 1,
            Count: 2,
            Descriptors: [memory],
        }],
    };
    let mut block = PagedPool::zeroed(SIZE)?;
    let start = block.bytes_mut().as_mut_ptr();
    // SAFETY: the block is long enough for the list with a second descriptor behind it.
    unsafe {
        start
            .cast::<IO_RESOURCE_REQUIREMENTS_LIST>()
            .write_unaligned(list)
    };
    let second = start.wrapping_add(SECOND).cast::<IO_RESOURCE_DESCRIPTOR>();
    // SAFETY: as above.
    unsafe { second.write_unaligned(interrupt) };
    Ok(block)
}
