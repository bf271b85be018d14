//! Kernel functions that lack memory when somebody wants to see what drivers do about it.
//!
//! ```text
//!   driver ──► thunk ──► strikes: function, stack of the driver ──► Shortage ──► all: NULL or a status, at once
//!                │                                                         └───► part: the function, which takes note
//!                └─────────────────────────────────────────────────────────────► nothing: the function
//! ```
//! Only calls of drivers can fail, only functions whose documentation says that they can, and only if the executive was
//! made with a [`Shortage`]; otherwise thunks are what they always are.

use core::sync::atomic::Ordering;

use crate::host::host;
use crate::ke::{backtrace, processor};

/// What a call lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Nothing.
    Nothing,
    /// Half of what it asks for, where its caller takes less; all of it where not.
    Part,
    /// All of it.
    All,
}

/// Decides which calls fail.
pub trait Shortage: Sync {
    /// What this call of `function` lacks. `stack` are the return addresses in images, innermost first, up to where
    /// the executive called them. At any IRQL.
    fn strikes(&self, function: &'static str, stack: &[u64]) -> Lack;
}

/// A function that can lack memory, for a thunk.
#[derive(Clone, Copy)]
pub struct Fallible {
    /// Which of [`FUNCTIONS`].
    pub index: u32,
    /// What it then returns in EAX; the upper half of RAX is 0.
    pub answer: u32,
}

/// `STATUS_INSUFFICIENT_RESOURCES`, for functions that return a status.
const STATUS: u32 = nt_sys::STATUS_INSUFFICIENT_RESOURCES as u32;
/// For functions that return an address.
const NULL: u32 = 0;

/// The functions, in order of their names, and what they return without memory (Microsoft Learn, each one's page).
const FUNCTIONS: &[(&str, u32)] = &[
    ("ExAllocatePool", NULL),
    ("ExAllocatePool2", NULL),
    ("ExAllocatePoolWithQuotaTag", NULL),
    ("ExAllocatePoolWithTag", NULL),
    ("ExAllocateTimer", NULL),
    ("ExCreateCallback", STATUS),
    ("IoAllocateIrp", NULL),
    ("IoAllocateMdl", NULL),
    ("IoAllocateWorkItem", NULL),
    ("IoBuildAsynchronousFsdRequest", NULL),
    ("IoBuildDeviceIoControlRequest", NULL),
    ("IoBuildSynchronousFsdRequest", NULL),
    ("IoConnectInterruptEx", STATUS),
    ("IoCreateDevice", STATUS),
    ("IoCreateSymbolicLink", STATUS),
    ("IoGetDeviceProperty", STATUS),
    ("IoOpenDeviceRegistryKey", STATUS),
    ("IoRegisterDeviceInterface", STATUS),
    ("IoRegisterShutdownNotification", STATUS),
    ("KeRegisterProcessorChangeCallback", NULL),
    ("MmAllocateContiguousMemory", NULL),
    ("MmAllocateContiguousMemorySpecifyCache", NULL),
    ("MmAllocatePagesForMdl", NULL),
    ("MmAllocatePagesForMdlEx", NULL),
    ("MmGetPhysicalMemoryRanges", NULL),
    ("MmMapIoSpace", NULL),
    ("MmMapIoSpaceEx", NULL),
    ("MmMapLockedPagesSpecifyCache", NULL),
    ("NdisAllocateIoWorkItem", NULL),
    ("NdisAllocateMdl", NULL),
    ("NdisAllocateMemoryWithTag", STATUS),
    ("NdisAllocateMemoryWithTagPriority", NULL),
    ("NdisAllocateNetBuffer", NULL),
    ("NdisAllocateNetBufferAndNetBufferList", NULL),
    ("NdisAllocateNetBufferList", NULL),
    ("NdisAllocateNetBufferListPool", NULL),
    ("NdisAllocateNetBufferMdlAndData", NULL),
    ("NdisAllocateNetBufferPool", NULL),
    ("NdisAllocateTimerObject", STATUS),
    ("NdisMAllocateNetBufferSGList", STATUS),
    ("NdisMRegisterMiniportDriver", STATUS),
    ("NdisMRegisterScatterGatherDma", STATUS),
    ("NdisOpenConfigurationEx", STATUS),
    ("NdisRetreatNetBufferDataStart", STATUS),
    ("NdisRetreatNetBufferListDataStart", STATUS),
    ("PoRequestPowerIrp", STATUS),
    ("PsCreateSystemThread", STATUS),
    ("PsSetCreateProcessNotifyRoutine", STATUS),
    ("PsSetLoadImageNotifyRoutine", STATUS),
    ("RtlAnsiStringToUnicodeString", STATUS),
    ("RtlStringFromGUID", STATUS),
    ("RtlUnicodeStringToAnsiString", STATUS),
    ("RtlUpcaseUnicodeString", STATUS),
    ("StorPortGetScatterGatherList", NULL),
    ("StorPortGetUncachedExtension", NULL),
    ("ZwCreateKey", STATUS),
    ("ZwDeleteValueKey", STATUS),
    ("ZwEnumerateKey", STATUS),
    ("ZwEnumerateValueKey", STATUS),
    ("ZwOpenKey", STATUS),
    ("ZwQueryKey", STATUS),
    ("ZwQueryValueKey", STATUS),
    ("ZwSetValueKey", STATUS),
];

/// The function `name`, if shortages are played and it can lack memory.
pub(crate) fn of(name: &str) -> Option<Fallible> {
    host().config().shortage?;
    let index = FUNCTIONS
        .binary_search_by_key(&name, |(name, _)| name)
        .ok()?;
    let (_, answer) = FUNCTIONS.get(index)?;
    Some(Fallible {
        index: index as u32,
        answer: *answer,
    })
}

/// Functions that can give less than they are asked for (Microsoft Learn: "might return an MDL that describes fewer
/// pages").
pub const DIVISIBLE: &[&str] = &["MmAllocatePagesForMdl", "MmAllocatePagesForMdlEx"];

/// What thunks ask: whether the call of function `index` that is under way fails.
pub(crate) extern "win64" fn strikes(index: u32) -> bool {
    let function = FUNCTIONS.get(index as usize);
    let lack = match (host().config().shortage, function) {
        (Some(shortage), Some((name, _))) => match shortage.strikes(name, &backtrace::of_call()) {
            Lack::Part if !DIVISIBLE.contains(name) => Lack::All,
            lack => lack,
        },
        _ => Lack::Nothing,
    };
    if lack == Lack::Part {
        processor::current().part.store(true, Ordering::Relaxed);
    }
    lack == Lack::All
}

/// How many of `count` pages the call under way may have.
pub(crate) fn part_of(count: u64) -> u64 {
    let Some(cpu) = processor::try_current() else {
        return count;
    };
    match cpu.part.swap(false, Ordering::Relaxed) {
        true => count / 2,
        false => count,
    }
}

#[cfg(test)]
mod tests {
    use super::{DIVISIBLE, FUNCTIONS};

    #[test]
    fn functions_are_in_order() {
        assert!(FUNCTIONS.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn what_gives_less_can_give_nothing() {
        let is_known = |name: &&str| FUNCTIONS.iter().any(|(known, _)| known == name);
        assert!(DIVISIBLE.iter().all(is_known));
    }
}
