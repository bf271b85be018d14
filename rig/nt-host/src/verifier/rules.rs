//! The table of rules: the name by which code reports a breach, the name by which people know it, what it says.

use self::Rule::*;

/// A rule's line in the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The rule.
    pub rule: Rule,
    /// Its name for people; never changes its meaning.
    pub id: &'static str,
    /// What breaks it, as a sentence without its full stop.
    pub about: &'static str,
    /// The bug check code that Windows uses for it (Microsoft Learn, "Bug check code reference"); 0xC4 is
    /// `DRIVER_VERIFIER_DETECTED_VIOLATION`.
    pub code: u32,
    /// What it is about: the heading in lists.
    pub chapter: &'static str,
}

macro_rules! rules {
    ($($chapter:literal { $($rule:ident $id:literal $code:literal $about:literal)* })*) => {
        /// A rule of the verifier.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[doc = $about] $rule,)*)*
        }

        /// Every rule, in the order of the enumeration.
        pub static RULES: &[Row] = &[
            $($(Row { rule: $rule, id: $id, about: $about, code: $code, chapter: $chapter },)*)*
        ];
    };
}

rules! {
    "IRQL" {
        IrqlCall "irql-call" 0xc4
            "a function is called at an IRQL that its documentation does not allow"
        IrqlRaise "irql-raise" 0x09
            "KfRaiseIrql lowers the IRQL"
        IrqlLower "irql-lower" 0x0a
            "KeLowerIrql raises the IRQL"
        IrqlAfterDpc "irql-after-dpc" 0xc4
            "a DPC routine returns at another IRQL than DISPATCH_LEVEL"
        IrqlAfterInterrupt "irql-after-interrupt" 0xc4
            "an interrupt routine returns at another IRQL than it was called at"
        IrqlAfterDispatch "irql-after-dispatch" 0xc8
            "a dispatch routine returns at another IRQL than it was called at"
        IrqlAfterWorkItem "irql-after-work-item" 0xc4
            "a work item's routine returns at another IRQL than PASSIVE_LEVEL"
        IrqlAtThreadEnd "irql-at-thread-end" 0xc4
            "a system thread ends at another IRQL than PASSIVE_LEVEL"
        WaitInDpc "wait-in-dpc" 0xc4
            "a DPC or interrupt routine waits"
        DpcTime "dpc-time" 0x133
            "a DPC routine runs for 100 ms of its processor's time"
        InterruptTime "interrupt-time" 0x133
            "an interrupt routine runs for 100 ms of its processor's time"
    }
    "Pool" {
        PoolNotAllocated "pool-not-allocated" 0xc2
            "memory is freed that is no pool allocation"
        PoolDoubleFree "pool-double-free" 0xc2
            "a pool allocation is freed twice"
        PoolWrongTag "pool-wrong-tag" 0xc2
            "a pool allocation is freed with another tag than it was made with"
        PoolOverrun "pool-overrun" 0x19
            "memory behind a pool allocation was written"
        PoolUnderrun "pool-underrun" 0x19
            "memory before a pool allocation was written"
        PoolWriteAfterFree "pool-write-after-free" 0xc1
            "a pool allocation was written after it was freed"
        TimerFreed "timer-freed" 0xc7
            "memory is freed with a timer in it that is set, or with the DPC of one"
        DpcFreed "dpc-freed" 0xc7
            "memory is freed with a DPC in it that is queued"
        ObjectFreed "object-freed" 0xc4
            "memory is freed with an object in it for which a thread waits"
        PoolZeroSize "pool-zero-size" 0xc4
            "pool of no bytes is allocated"
        PoolLeak "pool-leak" 0xc4
            "a driver is unloaded and leaves a pool allocation behind"
    }
    "Objects and waits" {
        ObjectUninitialized "object-uninitialized" 0xc4
            "an event, timer, mutex or semaphore is used that was not initialised"
        ObjectType "object-type" 0xc4
            "a thread waits for what cannot be waited for"
        WaitTooMany "wait-too-many" 0x0c
            "a thread waits for more objects than a wait takes"
        MutexOwner "mutex-owner" 0x11
            "a mutex is released by a thread that does not own it"
        SemaphoreLimit "semaphore-limit" 0xc4
            "a semaphore is released beyond its limit"
        ThreadPriority "thread-priority" 0xc4
            "a thread is given a priority that does not exist"
        StackOverflow "stack-overflow" 0x7f
            "a driver uses more stack than a thread or a DPC has"
        StackLimit "stack-limit" 0x7f
            "drivers together use more of a stack than the 24 KiB that Windows gives"
        RemoveLock "remove-lock" 0xc4
            "a remove lock is released more often than acquired, or with a wrong tag"
    }
    "Spin locks" {
        LockRecursion "lock-recursion" 0x0f
            "a processor acquires a spin lock that it holds"
        LockUninitialized "lock-uninitialized" 0x81
            "a spin lock is acquired that was not initialised"
        LockNotHeld "lock-not-held" 0x10
            "a processor releases a spin lock that it does not hold"
        LockReleaseIrql "lock-release-irql" 0xc4
            "a spin lock is released at another IRQL than it is held at: DISPATCH_LEVEL, or its interrupt's"
        LockKind "lock-kind" 0xc4
            "a spin lock is acquired by the functions of one kind, and released or waited for by those of another"
        LockStuck "lock-stuck" 0xea
            "a spin lock is waited for without end"
        LockTime "lock-time" 0xc4
            "a spin lock is held for 100 ms of its processor's time"
        LockOrder "lock-order" 0xc4
            "two spin locks are acquired in one order here and in the other there"
        LockHeldAtReturn "lock-held-at-return" 0xc4
            "a DPC, interrupt or dispatch routine returns with a spin lock held that it acquired"
        LockHeldBelowDispatch "lock-held-below-dispatch" 0xc4
            "the IRQL is lowered below DISPATCH_LEVEL, or an interrupt's, while its spin lock is held"
        LockFreed "lock-freed" 0xc4
            "memory is freed with a spin lock in it that is held"
    }
    "Code" {
        CodePageable "code-pageable" 0xd3
            "pageable code runs, or is to run, at DISPATCH_LEVEL or above"
        CodeDiscarded "code-discarded" 0xc4
            "discardable code or data is used after DriverEntry has returned"
        CodeUnloaded "code-unloaded" 0xce
            "code or data of an image is used after it was unloaded"
    }
    "IRPs and devices" {
        IrpInvalid "irp-invalid" 0xc4
            "what is passed as an IRP is none, or was freed"
        IrpDoubleCompletion "irp-double-completion" 0x44
            "an IRP is completed or sent after it was completed"
        IrpNotHolder "irp-not-holder" 0xc4
            "a driver completes an IRP that another driver has"
        IrpPendingStatus "irp-pending-status" 0xc4
            "an IRP is completed with STATUS_PENDING"
        IrpNotMarked "irp-not-marked" 0xc4
            "a dispatch routine returns STATUS_PENDING for an IRP that it did not mark pending"
        IrpMarked "irp-marked" 0xc4
            "a dispatch routine marks an IRP pending and does not return STATUS_PENDING"
        IrpForgotten "irp-forgotten" 0xc4
            "a dispatch routine neither completes an IRP nor passes it on nor returns STATUS_PENDING"
        IrpNotKept "irp-not-kept" 0xc4
            "an IRP from IoAllocateIrp goes through its whole stack and no completion routine of its maker keeps it"
        IrpNoLocation "irp-no-location" 0x35
            "an IRP without a stack location left is sent on"
        IrpFreedInUse "irp-freed-in-use" 0xc4
            "an IRP is freed that a driver still has"
        IrpCancelRoutine "irp-cancel-routine" 0xc4
            "an IRP is completed with its cancel routine still set"
        IrpLeak "irp-leak" 0xc4
            "a driver never completes an IRP that it has"
        IrpTouched "irp-touched" 0xc4
            "an IRP is read, written or marked pending by a driver that has completed it or passed it on"
        DeviceInvalid "device-invalid" 0xc4
            "what is passed as a device object is none, or was deleted"
        DeviceNoDispatch "device-no-dispatch" 0xc4
            "an IRP is sent to a driver that set its dispatch routine to null"
        DeviceDeletedTwice "device-deleted-twice" 0xc4
            "a device object is deleted twice"
        DeviceAttached "device-attached" 0xc4
            "a device object is deleted to which another is attached, other than by REMOVE_DEVICE, or stays attached after REMOVE_DEVICE"
        DeviceDetach "device-detach" 0xc4
            "a device object is detached to which nothing is attached"
        DeviceInitializing "device-initializing" 0xc4
            "AddDevice leaves DO_DEVICE_INITIALIZING set"
        RemoveRefused "remove-refused" 0xc4
            "a driver fails REMOVE_DEVICE"
        PnpFatal "pnp-fatal" 0xca
            "a bus driver reports a device twice, a deleted one, or two with the same identity"
        WorkItemQueued "work-item-queued" 0xc4
            "a work item is freed or queued while it is queued"
        InterruptConnect "interrupt-connect" 0xc4
            "an interrupt is connected that the device was not started with, or at too low an IRQL"
    }
    "Memory descriptions and mappings" {
        MdlInvalid "mdl-invalid" 0xc4
            "an MDL is null, or describes no nonpaged memory where it must"
        MdlMapped "mdl-mapped" 0xc4
            "an MDL or its pages are freed or mapped while they are mapped"
        MdlUnmap "mdl-unmap" 0xc4
            "an MDL is unmapped where it is not mapped"
        MdlPages "mdl-pages" 0xc4
            "pages of an MDL are freed that were not allocated for it, or twice"
        MdlLocked "mdl-locked" 0xc4
            "an MDL is freed whose pages are locked, or locked while they are"
        MdlUnlock "mdl-unlock" 0xc4
            "pages of an MDL are unlocked that are not locked"
        IoSpaceUnmap "io-space-unmap" 0xc4
            "I/O space is unmapped that is not mapped"
        IoSpaceLeak "io-space-leak" 0xc4
            "a driver is unloaded and leaves I/O space mapped"
        MdlLeak "mdl-leak" 0xc4
            "a driver is unloaded and leaves pages behind that it allocated for an MDL"
        MdlNotFreed "mdl-not-freed" 0xc4
            "a driver is unloaded and leaves an MDL behind that it made with IoAllocateMdl"
        MdlLockLeak "mdl-lock-leak" 0xcb
            "a driver is unloaded and leaves pages of an MDL locked"
        MdlMapLeak "mdl-map-leak" 0xc4
            "a driver is unloaded and leaves pages of an MDL mapped"
        ThreadLeak "thread-leak" 0xc4
            "a driver is unloaded and leaves a system thread running"
        HandleLeak "handle-leak" 0xc4
            "a driver is unloaded and leaves a handle open"
        ReferenceLeak "reference-leak" 0xc4
            "a driver is unloaded and leaves an object referenced"
        TimerLeak "timer-leak" 0xc4
            "a driver is unloaded and leaves a timer set"
        DpcLeak "dpc-leak" 0xc4
            "a driver is unloaded and leaves a DPC queued"
        WorkItemLeak "work-item-leak" 0xc4
            "a driver is unloaded and leaves a work item queued"
        InterruptLeak "interrupt-leak" 0xc4
            "a driver is unloaded and leaves an interrupt connected"
        CallbackLeak "callback-leak" 0xc4
            "a driver is unloaded and leaves a callback registered"
    }
    "Xen" {
        GrantLeak "grant-leak" 0xc4
            "drivers are unloaded and leave a page granted to another domain"
        GrantFreed "grant-freed" 0xc4
            "memory is freed while another domain may use it"
        GrantChanged "grant-changed" 0xc4
            "a grant is ended or changed while another domain uses the page"
        GrantMapLeak "grant-map-leak" 0xc4
            "drivers are unloaded and leave a page of another domain mapped"
        EventChannelLeak "event-channel-leak" 0xc4
            "drivers are unloaded and leave an event channel open"
    }
    "Storport" {
        SrbInvalid "srb-invalid" 0xc4
            "what a miniport passes as an SRB is none of the port driver's"
        SrbCompletedTwice "srb-completed-twice" 0xc4
            "a miniport completes an SRB twice, or one that it does not have"
        SrbPendingStatus "srb-pending-status" 0xc4
            "a miniport completes an SRB with SRB_STATUS_PENDING"
        SrbLength "srb-length" 0xc4
            "a miniport completes an SRB with more data than were asked for"
        SrbShort "srb-short" 0xc4
            "a miniport completes a read or write with success and fewer data than were asked for"
        SrbAfterReset "srb-after-reset" 0xc4
            "a miniport completes an SRB that a reset completed before"
        SrbTouched "srb-touched" 0xc4
            "a miniport writes an SRB after it was completed"
        SrbLost "srb-lost" 0xc4
            "a miniport keeps an SRB past its time and the reset that followed"
        SrbAtStop "srb-at-stop" 0xc4
            "a miniport still has SRBs when its adapter is stopped"
        BuildIoFalse "build-io-false" 0xc4
            "HwBuildIo returns FALSE without having completed the SRB"
        NotificationType "notification-type" 0xc4
            "StorPortNotification is called with an unknown type"
        ExtensionInvalid "extension-invalid" 0xc4
            "what a miniport passes as its device extension is none"
    }
    "NDIS" {
        NdisHandle "ndis-handle" 0xc4
            "what a miniport passes as a handle of NDIS is none, or was closed"
        NdisHeader "ndis-header" 0xc4
            "a structure that a miniport passes to NDIS has a wrong type, revision or size"
        NdisAttributes "ndis-attributes" 0xc4
            "a miniport says of an adapter or a pool what cannot be, or says it too late or not at all"
        NdisRegistered "ndis-registered" 0xc4
            "a miniport is unloaded and stays registered"
        NdisHandlerIrql "ndis-handler-irql" 0xc4
            "a miniport's handler returns at another IRQL than it was called at"
        NdisState "ndis-state" 0xc4
            "a miniport ends a pause or restart that is not under way, never ends one, or returns what a handler must not"
        NdisHalted "ndis-halted" 0xc4
            "a miniport moves frames or indicates a status for an adapter that is halted"
        NdisLeak "ndis-leak" 0xc4
            "an adapter is halted, or its driver unloaded, and leaves a configuration, timer, work item or DMA registration"
        NblInvalid "nbl-invalid" 0xc4
            "what a miniport passes as a NET_BUFFER_LIST or NET_BUFFER is none, or was freed"
        NblCompletedTwice "nbl-completed-twice" 0xc4
            "a miniport completes a NET_BUFFER_LIST twice, or one that it was not given to send"
        NblStatus "nbl-status" 0xc4
            "a miniport completes a NET_BUFFER_LIST without having set its status, or what became of a large send"
        NblChanged "nbl-changed" 0xc4
            "a NET_BUFFER_LIST that was sent, its NET_BUFFERs, MDLs or headers come back changed"
        NblFlags "nbl-flags" 0xc4
            "flags of a completion or indication do not exist, or say DISPATCH_LEVEL below it"
        NblLost "nbl-lost" 0xc4
            "a miniport keeps a NET_BUFFER_LIST that it was given to send"
        NblIndicatedTwice "nbl-indicated-twice" 0xc4
            "a miniport indicates a NET_BUFFER_LIST that it does not have"
        NblMalformed "nbl-malformed" 0xc4
            "a received NET_BUFFER_LIST contradicts itself: its number, source, MDLs, lengths or checksums"
        NblHash "nbl-hash" 0xc4
            "a received frame's hash is wrong, of a type that the frame is not, or was not asked for"
        NblFreedInUse "nbl-freed-in-use" 0xc4
            "a miniport frees a NET_BUFFER_LIST that is above NDIS, or not its own"
        NblTouched "nbl-touched" 0xc4
            "a miniport writes a NET_BUFFER_LIST after it was freed, or changes it while it is indicated"
        NblAtPause "nbl-at-pause" 0xc4
            "a miniport completes its pause and has NET_BUFFER_LISTs indicated that have not come back"
        ReceivePaused "receive-paused" 0xc4
            "a miniport indicates frames while it is paused"
        NblPoolLeak "nbl-pool-leak" 0xc4
            "a pool is freed before what came from it, or left behind by an adapter or driver"
        OidCompletedTwice "oid-completed-twice" 0xc4
            "a miniport completes an OID request twice, or one that it does not have"
        OidPending "oid-pending" 0xc4
            "a miniport completes an OID request with NDIS_STATUS_PENDING"
        OidLost "oid-lost" 0xc4
            "a miniport never completes an OID request"
        OidLength "oid-length" 0xc4
            "a miniport writes beyond an OID request's buffer, or says so"
        StatusMalformed "status-malformed" 0xc4
            "a status indication has a wrong source, size or content"
        StatisticsMalformed "statistics-malformed" 0xc4
            "a miniport answers OID_GEN_STATISTICS with another structure than NDIS_STATISTICS_INFO"
    }
}

impl Rule {
    /// Its line in the table.
    pub fn row(self) -> &'static Row {
        &RULES[self as usize]
    }

    /// The rule of that name.
    pub fn named(id: &str) -> Option<Self> {
        RULES.iter().find(|row| row.id == id).map(|row| row.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_finds_its_own_line_by_number_and_by_name() {
        for row in RULES {
            assert_eq!(row.rule.row().id, row.id);
            assert_eq!(Rule::named(row.id), Some(row.rule), "{}", row.id);
        }
    }

    #[test]
    fn names_are_lower_case_words_with_hyphens() {
        for row in RULES {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(row.id.bytes().all(legal), "{}", row.id);
            assert!(!row.about.ends_with('.'), "{}", row.about);
        }
    }
}
