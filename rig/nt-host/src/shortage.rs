//! Kernel functions that lack memory when somebody wants to see what drivers do about it.
//!
//! ```text
//!   driver ──► thunk ──► strikes: function, stack of the driver ──► Shortage ──► yes: NULL or a status, at once
//!                └────────────────────────────────────────────────────────────► no: the function
//! ```
//! Only calls of drivers can fail, only functions whose documentation says that they can, and only if the executive was
//! made with a [`Shortage`]; otherwise thunks are what they always are.

use crate::host::host;
use crate::ke::backtrace;

/// Decides which calls fail.
pub trait Shortage: Sync {
    /// Whether this call of `function` fails. `stack` are the return addresses in images, innermost first, up to where
    /// the executive called them. At any IRQL.
    fn strikes(&self, function: &'static str, stack: &[u64]) -> bool;
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

/// What thunks ask: whether the call of function `index` that is under way fails.
pub(crate) extern "win64" fn strikes(index: u32) -> bool {
    let function = FUNCTIONS.get(index as usize);
    match (host().config().shortage, function) {
        (Some(shortage), Some((name, _))) => shortage.strikes(name, &backtrace::of_call()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::FUNCTIONS;

    #[test]
    fn functions_are_in_order() {
        assert!(FUNCTIONS.is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
