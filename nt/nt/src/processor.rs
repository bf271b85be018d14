//! Processors: how many, which, and running on a certain one.

use crate::{NtStatus, Result};
use nt_sys::imports::{
    KeGetCurrentProcessorNumberEx, KeGetProcessorIndexFromNumber, KeGetProcessorNumberFromIndex,
    KeIpiGenericCall, KeQueryActiveProcessorCountEx, KeQueryMaximumProcessorCountEx,
    KeRevertToUserGroupAffinityThread, KeSetSystemGroupAffinityThread,
};
use nt_sys::{ALL_PROCESSOR_GROUPS, GROUP_AFFINITY, PROCESSOR_NUMBER};

/// A processor by group and number within it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcessorNumber {
    /// The group.
    pub group: u16,
    /// The number within the group, below 64.
    pub number: u8,
}

impl From<ProcessorNumber> for PROCESSOR_NUMBER {
    fn from(processor: ProcessorNumber) -> PROCESSOR_NUMBER {
        PROCESSOR_NUMBER {
            Group: processor.group,
            Number: processor.number,
            Reserved: 0,
        }
    }
}

impl From<PROCESSOR_NUMBER> for ProcessorNumber {
    fn from(processor: PROCESSOR_NUMBER) -> ProcessorNumber {
        ProcessorNumber {
            group: processor.Group,
            number: processor.Number,
        }
    }
}

impl ProcessorNumber {
    /// The system-wide index of the processor. Fails when there is no such processor.
    pub fn index(self) -> Result<u32> {
        let mut number = self.into();
        // SAFETY: the number is only read.
        let index = unsafe { KeGetProcessorIndexFromNumber(&mut number) };
        if index == u32::MAX {
            Err(NtStatus::INVALID_PARAMETER)
        } else {
            Ok(index)
        }
    }

    /// The processor with the system-wide index `index`.
    pub fn from_index(index: u32) -> Result<ProcessorNumber> {
        let mut number = PROCESSOR_NUMBER {
            Group: 0,
            Number: 0,
            Reserved: 0,
        };
        // SAFETY: the out parameter is live.
        NtStatus::check(unsafe { KeGetProcessorNumberFromIndex(index, &mut number) })?;
        Ok(number.into())
    }
}

/// Processors that run now, in all groups.
pub fn active_count() -> u32 {
    // SAFETY: no pointers.
    unsafe { KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS) }
}

/// Processors that there can ever be, in all groups.
pub fn maximum_count() -> u32 {
    // SAFETY: no pointers.
    unsafe { KeQueryMaximumProcessorCountEx(ALL_PROCESSOR_GROUPS) }
}

/// The system-wide index of the processor this runs on. Stable only at DISPATCH_LEVEL and above.
pub fn current_index() -> u32 {
    // SAFETY: the out parameter may be null.
    unsafe { KeGetCurrentProcessorNumberEx(core::ptr::null_mut()) }
}

/// The processor this runs on, with its index. Stable only at DISPATCH_LEVEL and above.
pub fn current() -> (u32, ProcessorNumber) {
    let mut number = PROCESSOR_NUMBER {
        Group: 0,
        Number: 0,
        Reserved: 0,
    };
    // SAFETY: the out parameter is live.
    let index = unsafe { KeGetCurrentProcessorNumberEx(&mut number) };
    (index, number.into())
}

/// Runs `body` on `processor`, by moving this thread there for the while. PASSIVE_LEVEL.
pub fn run_on<R>(processor: ProcessorNumber, body: impl FnOnce() -> R) -> R {
    let mut wanted = GROUP_AFFINITY {
        Mask: 1u64.checked_shl(processor.number.into()).unwrap_or(0),
        Group: processor.group,
        Reserved: [0; 3],
    };
    let mut previous = GROUP_AFFINITY {
        Mask: 0,
        Group: 0,
        Reserved: [0; 3],
    };
    // SAFETY: both structures are live.
    unsafe { KeSetSystemGroupAffinityThread(&mut wanted, &mut previous) };
    let result = body();
    // SAFETY: `previous` is what the call above left.
    unsafe { KeRevertToUserGroupAffinityThread(&mut previous) };
    result
}

/// Runs `body` on every processor at once, at IPI_LEVEL, and returns when all have. IRQL ≤ DISPATCH_LEVEL.
pub fn run_on_all<F: Fn() + Sync>(body: &F) {
    unsafe extern "win64" fn run<F: Fn()>(context: usize) -> usize {
        // SAFETY: the context is the reference that outlives the call below.
        let body = unsafe { &*(context as *const F) };
        body();
        0
    }
    // SAFETY: routine and context fit each other; the call waits for every processor.
    unsafe { KeIpiGenericCall(run::<F>, core::ptr::from_ref(body) as usize) };
}
