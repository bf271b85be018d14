//! At which IRQLs each exported function may be called (Microsoft Learn: "IRQL" in each function's requirements).
//!
//! The import thunk of a function ([`crate::pe::thunk`]) compares the current IRQL before it jumps there, so that only
//! calls by drivers are checked, and each of them. What depends on an argument (the pool type, a wait's timeout) is
//! checked by the function itself, with [`crate::ke::bugcheck::irql_at_most`].

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use nt_sys::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, IPI_LEVEL, KIRQL, PASSIVE_LEVEL};

use super::Rule;
use crate::ke::irql;
use crate::sync::Mutex;

/// The IRQLs at which a function may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub lowest: KIRQL,
    /// The highest.
    pub highest: KIRQL,
}

/// The functions with one range.
#[derive(Debug)]
pub struct Row {
    /// Their IRQLs.
    pub range: Range,
    /// Their names, in alphabetical order, with white space between.
    names: &'static str,
}

impl Row {
    fn functions(&self) -> impl Iterator<Item = &'static str> {
        self.names.split_ascii_whitespace()
    }
}

const fn up_to(highest: KIRQL) -> Range {
    Range {
        lowest: PASSIVE_LEVEL,
        highest,
    }
}

const fn from(lowest: KIRQL) -> Range {
    Range {
        lowest,
        highest: HIGH_LEVEL,
    }
}

impl Range {
    fn describe(self) -> String {
        match (self.lowest, self.highest) {
            (PASSIVE_LEVEL, highest) => format!("IRQL <= {highest}"),
            (lowest, HIGH_LEVEL) => format!("IRQL >= {lowest}"),
            (lowest, highest) if lowest == highest => format!("IRQL {lowest}"),
            (lowest, highest) => format!("IRQL {lowest} to {highest}"),
        }
    }
}

/// A function and its range: what a thunk passes on when the IRQL is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// The function.
    pub name: &'static str,
    /// Its range.
    pub range: Range,
}

/// The range of an exported function.
pub fn of(name: &str) -> Option<Range> {
    ROWS.iter()
        .find(|row| row.functions().any(|function| function == name))
        .map(|row| row.range)
}

/// What a thunk of an exported function passes on; lives as long as the process, once for each function.
pub fn checked(name: &'static str) -> Option<&'static Checked> {
    let range = of(name)?;
    let mut known = CHECKED.lock();
    let found = known.entry(name);
    Some(*found.or_insert_with(|| Box::leak(Box::new(Checked { name, range }))))
}

static CHECKED: Mutex<BTreeMap<&'static str, &'static Checked>> = Mutex::new(BTreeMap::new());

/// Where a thunk goes that found a wrong IRQL, in place of the function.
pub extern "win64" fn wrong(function: &'static Checked) -> ! {
    let current = irql::current();
    let Range { lowest, highest } = function.range;
    Rule::IrqlCall.bug_check(
        [u64::from(current), u64::from(lowest), u64::from(highest), 0],
        format_args!(
            "calls {} at IRQL {current}; it may be called at {}",
            function.name,
            function.range.describe(),
        ),
    )
}

/// The table.
pub static ROWS: &[Row] = &[
    // PASSIVE_LEVEL.
    Row {
        range: up_to(PASSIVE_LEVEL),
        names: "
            CancelMibChangeNotify2 DbgSetDebugFilterState ExCreateCallback ExDeleteResourceLite
            ExInitializeResourceLite FreeMibTable GetIfTable2 GetUnicastIpAddressTable IoConnectInterruptEx
            IoCreateNotificationEvent IoCreateSymbolicLink IoCreateSynchronizationEvent IoDeleteSymbolicLink
            IoDetachDevice IoDisconnectInterruptEx IoGetDeviceInterfaces IoGetDeviceObjectPointer
            IoGetDeviceProperty IoInitializeRemoveLockEx IoOpenDeviceInterfaceRegistryKey IoOpenDeviceRegistryKey
            IoOpenDriverRegistryKey IoRegisterDeviceInterface IoRegisterPlugPlayNotification
            IoRegisterShutdownNotification IoReleaseRemoveLockAndWaitEx IoSetDeviceInterfaceState
            IoUnregisterPlugPlayNotification IoUnregisterPlugPlayNotificationEx IoUnregisterShutdownNotification
            IoWMIRegistrationControl IoWMISuggestInstanceName KeFlushQueuedDpcs KeSetPriorityThread
            MmAddPhysicalMemory MmGetPhysicalMemoryRanges MmGetSystemRoutineAddress NdisAllocateTimerObject
            NdisCloseConfiguration NdisFreeTimerObject NdisMAllocateSharedMemory NdisMDeregisterMiniportDriver
            NdisMDeregisterScatterGatherDma NdisMFreeSharedMemory NdisMRegisterMiniportDriver
            NdisMRegisterScatterGatherDma NdisMSetMiniportAttributes NdisMSleep NdisOpenConfigurationEx
            NdisReadConfiguration NdisReadNetworkAddress NdisWaitEvent NdisWriteConfiguration
            NotifyUnicastIpAddressChange ObReferenceObjectByHandle PsCreateSystemThread PsGetVersion
            PsRemoveLoadImageNotifyRoutine PsSetCreateProcessNotifyRoutine PsSetLoadImageNotifyRoutine
            PsTerminateSystemThread RtlAnsiStringToUnicodeString RtlAppendUnicodeStringToString
            RtlAppendUnicodeToString RtlCompareString RtlCompareUnicodeString RtlEqualString RtlEqualUnicodeString
            RtlFreeAnsiString RtlFreeUnicodeString RtlGUIDFromString RtlGetVersion RtlIntegerToUnicodeString
            RtlQueryModuleInformation RtlQueryRegistryValues RtlStringFromGUID RtlUnicodeStringToAnsiString
            RtlUnicodeStringToInteger RtlUpcaseUnicodeChar RtlUpcaseUnicodeString RtlVerifyVersionInfo
            StorPortGetUncachedExtension StorPortInitialize ZwClose ZwCreateKey ZwDeleteKey ZwDeleteValueKey
            ZwEnumerateKey ZwEnumerateValueKey ZwFlushKey ZwOpenKey ZwOpenKeyEx ZwQueryKey ZwQuerySystemInformation
            ZwQueryValueKey ZwSetValueKey",
    },
    // APC_LEVEL or below.
    Row {
        range: up_to(APC_LEVEL),
        names: "
            ExAcquireFastMutex ExAcquireResourceExclusiveLite ExAcquireResourceSharedLite ExRaiseAccessViolation
            ExRaiseDatatypeMisalignment ExRaiseStatus ExRegisterCallback ExReleaseFastMutex ExTryToAcquireFastMutex ExUnregisterCallback IoBuildDeviceIoControlRequest
            IoBuildSynchronousFsdRequest IoCreateDevice IoDeleteDevice KeDelayExecutionThread
            KeDeregisterProcessorChangeCallback KeEnterCriticalRegion KeLeaveCriticalRegion
            KeRegisterProcessorChangeCallback KeRevertToUserGroupAffinityThread KeSetSystemGroupAffinityThread
            KeStackAttachProcess KeUnstackDetachProcess MmAllocatePagesForMdl MmAllocatePagesForMdlEx
            MmFreePagesFromMdl ProbeForRead ProbeForWrite RtlRaiseStatus RtlRandomEx",
    },
    // DISPATCH_LEVEL or below.
    Row {
        range: up_to(DISPATCH_LEVEL),
        names: "
            BCryptCloseAlgorithmProvider BCryptCreateHash BCryptDestroyHash BCryptFinishHash BCryptGetProperty
            BCryptHashData BCryptOpenAlgorithmProvider ExAcquireSpinLockExclusive ExAcquireSpinLockShared
            ExAllocatePool2 ExAllocatePool3 ExAllocatePoolWithQuotaTag ExAllocatePoolWithTag
            ExDeleteNPagedLookasideList ExFreePool ExFreePool2 ExFreePoolWithTag ExInitializeNPagedLookasideList
            ExNotifyCallback ExReleaseResourceLite IoAcquireCancelSpinLock IoAcquireRemoveLockEx
            IoAllocateErrorLogEntry IoAllocateIrp IoAllocateMdl IoAllocateWorkItem IoAttachDeviceToDeviceStack
            IoAttachDeviceToDeviceStackSafe IoBuildAsynchronousFsdRequest IoBuildPartialMdl IoCancelIrp
            IoCsqInitialize IoCsqInitializeEx IoCsqInsertIrp IoCsqInsertIrpEx IoCsqRemoveIrp IoCsqRemoveNextIrp
            IoFreeIrp IoFreeMdl IoFreeWorkItem IoGetAttachedDevice IoGetAttachedDeviceReference IoInitializeIrp
            IoInitializeWorkItem IoInvalidateDeviceRelations IoInvalidateDeviceState IoQueueWorkItem
            IoQueueWorkItemEx IoReleaseRemoveLockEx IoRequestDeviceEject IoReuseIrp IoSetCompletionRoutineEx
            IoSizeofWorkItem IoUninitializeWorkItem IoWriteErrorLogEntry IofCallDriver IofCompleteRequest
            KeAcquireInStackQueuedSpinLock KeAcquireSpinLockRaiseToDpc KeCancelTimer KeClearEvent
            KeInsertDeviceQueue KePulseEvent KeRaiseIrqlToDpcLevel KeReleaseMutex KeReleaseSemaphore KeResetEvent
            KeRevertToUserAffinityThreadEx KeSetCoalescableTimer KeSetEvent KeSetSystemAffinityThreadEx KeSetTimer
            KeSetTimerEx KeWaitForMultipleObjects KeWaitForSingleObject MmAllocateContiguousMemory
            MmBuildMdlForNonPagedPool MmFreeContiguousMemory MmIsAddressValid MmMapIoSpace MmMapIoSpaceEx
            MmMapLockedPagesSpecifyCache MmProbeAndLockPages MmProtectMdlSystemAddress MmUnlockPages MmUnmapIoSpace
            MmUnmapLockedPages NdisAdvanceNetBufferDataStart NdisAdvanceNetBufferListDataStart
            NdisAllocateIoWorkItem NdisAllocateMdl NdisAllocateMemoryWithTag NdisAllocateMemoryWithTagPriority
            NdisAllocateNetBuffer NdisAllocateNetBufferAndNetBufferList NdisAllocateNetBufferList
            NdisAllocateNetBufferListPool NdisAllocateNetBufferMdlAndData NdisAllocateNetBufferPool
            NdisCancelTimerObject NdisCopyFromNetBufferToNetBuffer NdisFreeIoWorkItem NdisFreeMdl NdisFreeMemory
            NdisFreeNetBuffer NdisFreeNetBufferList NdisFreeNetBufferListPool NdisFreeNetBufferPool
            NdisGetDataBuffer NdisMGetDeviceProperty NdisMIndicateReceiveNetBufferLists NdisMIndicateStatusEx
            NdisMOidRequestComplete NdisMPauseComplete NdisMRestartComplete NdisMSendNetBufferListsComplete
            NdisQueueIoWorkItem NdisResetEvent NdisRetreatNetBufferDataStart NdisRetreatNetBufferListDataStart
            NdisSetEvent NdisSetTimerObject NdisWriteErrorLogEntry ObDereferenceObjectDeferDelete
            ObReferenceObjectByPointer ObfDereferenceObject ObfReferenceObject PoCallDriver PoRequestPowerIrp
            PoSetPowerState PoStartNextPowerIrp RtlCopyString RtlCopyUnicodeString StorPortGetScatterGatherList
            WmiFireEvent",
    },
    // Exactly DISPATCH_LEVEL.
    Row {
        range: Range { lowest: DISPATCH_LEVEL, highest: DISPATCH_LEVEL },
        names: "
            ExReleaseSpinLockExclusive ExReleaseSpinLockShared IoReleaseCancelSpinLock
            KeReleaseInStackQueuedSpinLock KeReleaseSpinLock NdisMAllocateNetBufferSGList NdisMFreeNetBufferSGList",
    },
    // DISPATCH_LEVEL or above.
    Row {
        range: from(DISPATCH_LEVEL),
        names: "
            ExAcquireSpinLockExclusiveAtDpcLevel ExAcquireSpinLockSharedAtDpcLevel
            ExReleaseSpinLockExclusiveFromDpcLevel ExReleaseSpinLockSharedFromDpcLevel
            KeAcquireInStackQueuedSpinLockAtDpcLevel KeAcquireSpinLockAtDpcLevel
            KeReleaseInStackQueuedSpinLockFromDpcLevel KeReleaseSpinLockFromDpcLevel
            KeTryToAcquireSpinLockAtDpcLevel",
    },
    // Below IPI_LEVEL.
    Row {
        range: up_to(IPI_LEVEL - 1),
        names: "
            KeIpiGenericCall",
    },
    // Every IRQL; where an argument decides, the function looks itself.
    Row {
        range: from(PASSIVE_LEVEL),
        names: "
            DbgPrint DbgPrintEx DbgSetDebugPrintCallback ExInterlockedInsertHeadList ExInterlockedInsertTailList
            ExInterlockedPopEntryList ExInterlockedPushEntryList ExInterlockedRemoveHeadList ExQueryDepthSList
            ExpInterlockedPopEntrySList ExpInterlockedPushEntrySList InitializeSListHead IoGetCurrentProcess
            IoGetRemainingStackSize IoGetStackLimits IoIs32bitProcess IoWMIWriteEvent KeAcquireInterruptSpinLock
            KeBugCheck KeBugCheckEx KeDeregisterBugCheckCallback KeDeregisterBugCheckReasonCallback KeGetCurrentIrql
            KeGetCurrentProcessorNumberEx KeGetCurrentThread KeGetProcessorIndexFromNumber
            KeGetProcessorNumberFromIndex KeInitializeDpc KeInitializeEvent KeInitializeMutex KeInitializeSemaphore
            KeInitializeSpinLock KeInitializeThreadedDpc KeInitializeTimer KeInitializeTimerEx KeInsertQueueDpc
            KeLowerIrql KeQueryActiveGroupCount KeQueryActiveProcessorCount KeQueryActiveProcessorCountEx
            KeQueryActiveProcessors KeQueryGroupAffinity KeQueryInterruptTime KeQueryInterruptTimePrecise
            KeQueryMaximumGroupCount KeQueryMaximumProcessorCount KeQueryMaximumProcessorCountEx
            KeQueryPerformanceCounter KeQuerySystemTimePrecise KeQueryTickCount KeQueryTimeIncrement
            KeReadStateEvent KeReadStateMutex KeReadStateSemaphore KeReadStateTimer KeRegisterBugCheckCallback
            KeRegisterBugCheckReasonCallback KeReleaseInterruptSpinLock KeRemoveQueueDpc KeSetImportanceDpc
            KeSetTargetProcessorDpc KeSetTargetProcessorDpcEx KeStallExecutionProcessor KeSynchronizeExecution
            KeTestSpinLock KfRaiseIrql MmGetPhysicalAddress MmSizeOfMdl NdisGetCurrentSystemTime
            NdisGetSystemUpTimeEx NdisGetVersion NdisInitializeEvent PsGetCurrentProcess PsGetCurrentProcessId
            PsGetCurrentThreadId PsGetProcessImageFileName RtlCaptureContext RtlCaptureStackBackTrace
            RtlCompareMemory RtlInitAnsiString RtlInitString RtlInitUnicodeString RtlLookupFunctionEntry
            RtlPcToFileHeader RtlRaiseException RtlTimeFieldsToTime RtlTimeToTimeFields RtlUnwind RtlUnwindEx
            RtlVirtualUnwind StorPortAllocateRegistryBuffer StorPortBusy StorPortCompleteRequest
            StorPortConvertUlongToPhysicalAddress StorPortDebugPrint StorPortDeviceBusy StorPortDeviceReady
            StorPortExtendedFunction StorPortFreeDeviceBase StorPortFreeRegistryBuffer StorPortGetBusData
            StorPortGetDeviceBase StorPortGetLogicalUnit StorPortGetPhysicalAddress StorPortGetVirtualAddress
            StorPortLogError StorPortMoveMemory StorPortNotification StorPortPause StorPortPauseDevice
            StorPortQuerySystemTime StorPortReadPortUchar StorPortReadPortUlong StorPortReadPortUshort
            StorPortReadRegisterUchar StorPortReadRegisterUlong StorPortReadRegisterUshort StorPortReady
            StorPortRegistryRead StorPortRegistryWrite StorPortResume StorPortResumeDevice
            StorPortSetBusDataByOffset StorPortSetDeviceQueueDepth StorPortStallExecution StorPortSynchronizeAccess
            StorPortValidateRange StorPortWritePortUchar StorPortWritePortUlong StorPortWritePortUshort
            StorPortWriteRegisterUchar StorPortWriteRegisterUlong StorPortWriteRegisterUshort __C_specific_handler
            __chkstk _local_unwind _snprintf _snwprintf _stricmp _strnicmp _vsnprintf _vsnwprintf _wcsicmp _wcsnicmp
            atoi isalnum isalpha isdigit islower isprint isspace isupper isxdigit memcmp memcpy memcpy_s memmove
            memmove_s memset sprintf sprintf_s strcat strchr strcmp strcpy strlen strncmp strncpy strnlen strrchr
            strstr strtol strtoul swprintf swprintf_s tolower toupper towlower towupper vDbgPrintEx
            vDbgPrintExWithPrefix vsprintf_s vswprintf_s wcscat wcschr wcscmp wcscpy wcslen wcsncmp wcsncpy wcsnlen
            wcsrchr wcsstr",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{self, Kind};
    use alloc::vec::Vec;

    #[test]
    fn every_exported_function_has_a_range() {
        let missing: Vec<_> = export::tables()
            .flatten()
            .filter(|export| export.kind == Kind::Function && of(export.name).is_none())
            .map(|export| export.name)
            .collect();
        assert!(
            missing.is_empty(),
            "no IRQL range for {missing:?}: verifier/irql.rs"
        );
    }

    #[test]
    fn a_function_has_one_range() {
        let mut names: Vec<_> = ROWS.iter().flat_map(Row::functions).collect();
        assert!(ROWS.iter().all(|row| row.functions().is_sorted()));
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn ranges_read_as_in_the_documentation() {
        let told = |name| of(name).map(Range::describe);
        assert_eq!(told("ZwClose").as_deref(), Some("IRQL <= 0"));
        assert_eq!(told("KeReleaseSpinLock").as_deref(), Some("IRQL 2"));
        assert_eq!(
            told("KeAcquireSpinLockAtDpcLevel").as_deref(),
            Some("IRQL >= 2")
        );
        assert_eq!(told("NoSuchFunction"), None);
    }
}
