//! The table: which case breaks which rule, and what the report says besides.

use nt_host::verifier::Rule::{self, *};

/// A case.
pub struct Case {
    /// Its name: in rig-breaker.sys, or in [`crate::posing`].
    pub name: &'static str,
    /// The rule that it breaks.
    pub rule: Rule,
    /// A part of what the report says.
    pub says: &'static str,
    /// It shows in the findings at the end, and no bug check ends the machine.
    pub is_finding: bool,
    /// Code of this program poses as a driver.
    pub is_posed: bool,
}

const fn case(name: &'static str, rule: Rule, says: &'static str) -> Case {
    Case {
        name,
        rule,
        says,
        is_finding: false,
        is_posed: false,
    }
}

const fn finding(name: &'static str, rule: Rule, says: &'static str) -> Case {
    Case {
        name,
        rule,
        says,
        is_finding: true,
        is_posed: false,
    }
}

const fn posed(name: &'static str, rule: Rule, says: &'static str) -> Case {
    Case {
        name,
        rule,
        says,
        is_finding: false,
        is_posed: true,
    }
}

/// Every case.
pub const CASES: &[Case] = &[
    // IRQL.
    case(
        "calls-above-its-irql",
        IrqlCall,
        "calls ZwClose at IRQL 2; it may be called at IRQL <= 0",
    ),
    case(
        "calls-below-its-irql",
        IrqlCall,
        "calls KeAcquireSpinLockAtDpcLevel at IRQL 0; it may be called at IRQL >= 2",
    ),
    case(
        "waits-at-dispatch",
        IrqlCall,
        "calls KeWaitForSingleObject at IRQL 2",
    ),
    case(
        "allocates-paged-pool-at-dispatch",
        IrqlCall,
        "calls ExAllocatePoolWithTag at IRQL 2",
    ),
    case("raises-down", IrqlRaise, "KfRaiseIrql from IRQL 2 to 0"),
    case("lowers-up", IrqlLower, "KeLowerIrql from IRQL 0 to 2"),
    case(
        "lowers-in-a-dpc",
        IrqlAfterDpc,
        "returns from a DPC routine at IRQL 0",
    ),
    case("waits-in-a-dpc", WaitInDpc, "waits in a DPC"),
    case("stalls-in-a-dpc", DpcTime, "runs a DPC routine for 100 ms"),
    posed(
        "stalls-in-an-interrupt",
        InterruptTime,
        "runs an interrupt routine for 100 ms",
    ),
    case("holds-a-lock-for-a-second", LockTime, "for 100 ms"),
    posed(
        "raises-in-an-interrupt",
        IrqlAfterInterrupt,
        "returns from an interrupt routine at IRQL 15",
    ),
    case(
        "raises-in-a-dispatch-routine",
        IrqlAfterDispatch,
        "returned at another IRQL",
    ),
    case("raises-in-a-work-item", IrqlAfterWorkItem, "at IRQL 2"),
    case(
        "ends-a-thread-raised",
        IrqlAtThreadEnd,
        "ends a system thread at IRQL 1",
    ),
    // Pool.
    case(
        "frees-no-pool",
        PoolNotAllocated,
        "which is no pool allocation",
    ),
    case("frees-twice", PoolDoubleFree, "which was freed before"),
    case("frees-with-another-tag", PoolWrongTag, "with another tag"),
    case("writes-behind-its-pool", PoolOverrun, "beyond its end"),
    case(
        "writes-before-its-pool",
        PoolUnderrun,
        "whose header was overwritten",
    ),
    case(
        "writes-what-it-freed",
        PoolWriteAfterFree,
        "was written at +0x5 after it was freed",
    ),
    case("frees-a-set-timer", TimerFreed, "which is set"),
    case("frees-the-dpc-of-a-timer", TimerFreed, "in it, which timer"),
    case("frees-a-queued-dpc", DpcFreed, "which is queued"),
    case(
        "frees-an-event-with-a-waiter",
        ObjectFreed,
        "for which thread",
    ),
    case(
        "deletes-a-device-with-a-waiter",
        ObjectFreed,
        "for which thread",
    ),
    finding("leaks-pool", PoolLeak, "100 bytes of pool with tag Brkr"),
    // Objects and waits.
    case(
        "sets-an-uninitialized-event",
        ObjectUninitialized,
        "not initialised",
    ),
    case("waits-for-no-object", ObjectType, "unknown type"),
    case("waits-for-too-many", WaitTooMany, "for 70 objects"),
    case("releases-a-mutex-of-nobody", MutexOwner, "0x00000011"),
    case(
        "releases-a-semaphore-beyond-its-limit",
        SemaphoreLimit,
        "beyond its limit 1",
    ),
    case("sets-priority-0", ThreadPriority, "with priority 0"),
    case(
        "uses-25-kilobytes-of-stack",
        StackLimit,
        "bytes of stack, with the drivers that called it",
    ),
    case(
        "releases-a-remove-lock-too-often",
        RemoveLock,
        "remove lock",
    ),
    // Spin locks.
    case(
        "acquires-twice",
        LockRecursion,
        "which this processor holds already",
    ),
    case(
        "acquires-an-uninitialized-lock",
        LockUninitialized,
        "which was never initialised",
    ),
    case(
        "releases-what-it-does-not-hold",
        LockNotHeld,
        "which this processor does not hold",
    ),
    case(
        "waits-without-end-for-a-lock",
        LockStuck,
        "for 20 s; processor 1 holds it",
    ),
    case("releases-above-dispatch", LockReleaseIrql, "new IRQL 15"),
    case(
        "acquires-a-queued-lock-twice",
        LockRecursion,
        "which this processor holds already",
    ),
    case(
        "releases-a-queued-lock-twice",
        LockNotHeld,
        "which holds none",
    ),
    case(
        "mixes-kinds-of-locks",
        LockKind,
        "as an ordinary one, which was acquired as a queued one",
    ),
    case("reads-twice", LockRecursion, "acquires reader/writer lock"),
    case(
        "reads-an-uninitialized-lock",
        LockUninitialized,
        "acquires reader/writer lock",
    ),
    case(
        "releases-as-a-reader-what-it-writes",
        LockNotHeld,
        "which is not held by a reader",
    ),
    case(
        "releases-a-reader-above-dispatch",
        LockReleaseIrql,
        "ExReleaseSpinLockShared at IRQL 2 (new IRQL 15)",
    ),
    case(
        "mixes-orders-of-kinds",
        LockOrder,
        "the other way round it was",
    ),
    case(
        "keeps-a-reader-in-a-dpc",
        LockHeldAtReturn,
        "returns from a DPC routine with spin lock",
    ),
    posed(
        "releases-an-interrupts-lock-below-it",
        LockReleaseIrql,
        "KeReleaseInterruptSpinLock at IRQL 2",
    ),
    posed(
        "lowers-with-an-interrupts-lock",
        LockHeldBelowDispatch,
        "lowers the IRQL to 2",
    ),
    posed(
        "acquires-an-interrupts-lock-twice",
        LockRecursion,
        "which this processor holds already",
    ),
    // Code.
    case(
        "runs-pageable-code-raised",
        CodePageable,
        "which is pageable, at IRQL 2",
    ),
    case(
        "defers-to-pageable-code",
        CodePageable,
        "gives KeInitializeDpc",
    ),
    case(
        "runs-discarded-code",
        CodeDiscarded,
        "which was discarded when DriverEntry had returned",
    ),
    posed(
        "runs-unloaded-code",
        CodeUnloaded,
        "which is no longer loaded",
    ),
    // IRPs and devices.
    case("passes-on-what-is-no-irp", IrpInvalid, "is no IRP"),
    case("completes-twice", IrpDoubleCompletion, "is completed"),
    case(
        "completes-with-pending",
        IrpPendingStatus,
        "with STATUS_PENDING",
    ),
    case(
        "returns-pending-unmarked",
        IrpNotMarked,
        "without IoMarkIrpPending",
    ),
    case(
        "marks-and-does-not-return-pending",
        IrpMarked,
        "did not return STATUS_PENDING",
    ),
    case(
        "forgets-an-irp",
        IrpForgotten,
        "returned without having completed the IRP",
    ),
    case(
        "does-not-keep-its-irp",
        IrpNotKept,
        "without a completion routine of its maker",
    ),
    case(
        "sends-without-a-location",
        IrpNoLocation,
        "no stack location left",
    ),
    case("frees-an-irp-in-use", IrpFreedInUse, "is still at"),
    posed(
        "completes-what-another-has",
        IrpNotHolder,
        "completes an IRP that is at",
    ),
    case(
        "attaches-to-no-device",
        DeviceInvalid,
        "is no device object",
    ),
    case(
        "has-no-dispatch-routine",
        DeviceNoDispatch,
        "has no dispatch routine 0x4",
    ),
    case("deletes-twice", DeviceDeletedTwice, "was deleted before"),
    case(
        "deletes-below-another",
        DeviceAttached,
        "another device is still attached",
    ),
    case(
        "stays-attached",
        DeviceAttached,
        "is still attached after REMOVE_DEVICE",
    ),
    case("detaches-nothing", DeviceDetach, "nothing is attached"),
    case(
        "leaves-initializing",
        DeviceInitializing,
        "left DO_DEVICE_INITIALIZING",
    ),
    case(
        "fails-remove",
        RemoveRefused,
        "REMOVE_DEVICE was completed with 0xc0000001",
    ),
    case("reports-no-device", PnpFatal, "is no device object"),
    case(
        "connects-anothers-interrupt",
        InterruptConnect,
        "vector 0x99 is none",
    ),
    case(
        "queues-a-work-item-twice",
        WorkItemQueued,
        "is queued already",
    ),
    case(
        "frees-a-queued-work-item",
        WorkItemQueued,
        "the item is queued",
    ),
    // Memory descriptions and mappings.
    case("frees-no-mdl", MdlInvalid, "with a null MDL"),
    case("frees-a-mapped-mdl", MdlMapped, "still mapped"),
    case(
        "unmaps-what-is-not-mapped",
        MdlUnmap,
        "where it is not mapped",
    ),
    case("frees-pages-twice", MdlPages, "freed before"),
    case("frees-a-locked-mdl", MdlLocked, "are still locked"),
    case("locks-an-mdl-twice", MdlLocked, "which are locked already"),
    case(
        "frees-the-memory-of-a-locked-mdl",
        MdlLocked,
        "frees memory with MDL",
    ),
    case(
        "unlocks-what-is-not-locked",
        MdlUnlock,
        "which MmProbeAndLockPages did not lock",
    ),
    case("unmaps-no-io-space", IoSpaceUnmap, "which are not mapped"),
    // Xen.
    finding(
        "leaves-a-page-granted",
        GrantLeak,
        "granted by entry 8 to domain 0",
    ),
    case(
        "frees-a-granted-page",
        GrantFreed,
        "in it, granted by entry 8 to domain 0",
    ),
    case(
        "frees-granted-pages-of-an-mdl",
        GrantFreed,
        "frees pages of an MDL with frame",
    ),
    finding(
        "changes-a-grant-in-use",
        GrantChanged,
        "changed grant 8 of frame",
    ),
    finding(
        "leaves-a-grant-mapped",
        GrantMapLeak,
        "left grant 8 of domain 1 mapped",
    ),
    finding(
        "leaves-an-event-channel",
        EventChannelLeak,
        "rig-breaker.sys left event channel 3, waiting for domain 0",
    ),
    // Storport.
    posed(
        "completes-no-srb",
        SrbInvalid,
        "is no SRB of the port driver",
    ),
    posed(
        "completes-an-srb-twice",
        SrbCompletedTwice,
        "which was completed before",
    ),
    posed(
        "completes-an-srb-as-pending",
        SrbPendingStatus,
        "with SRB_STATUS_PENDING",
    ),
    posed("keeps-an-srb", SrbLost, "after a reset"),
    posed("keeps-an-srb-while-stopped", SrbAtStop, "still has 1 SRBs"),
    posed(
        "returns-false-from-build-io",
        BuildIoFalse,
        "HwBuildIo returned FALSE",
    ),
    posed(
        "notifies-of-nonsense",
        NotificationType,
        "with unknown type 0x7777",
    ),
    posed(
        "passes-no-extension",
        ExtensionInvalid,
        "is no device extension",
    ),
    posed("transfers-too-much", SrbLength, "bytes of data, of"),
    posed(
        "transfers-too-little",
        SrbShort,
        "with success and 0 bytes of data, of 512",
    ),
    posed(
        "completes-what-a-reset-completed",
        SrbAfterReset,
        "which a reset completed before",
    ),
    posed(
        "completes-again-after-a-reset",
        SrbAfterReset,
        "which a reset completed before",
    ),
    posed("writes-a-completed-srb", SrbTouched, "at +0x"),
    case(
        "allocates-no-bytes",
        PoolZeroSize,
        "allocates pool of no bytes",
    ),
    case(
        "acquires-in-two-orders",
        LockOrder,
        "the other way round it was",
    ),
    case(
        "keeps-a-lock-in-a-dpc",
        LockHeldAtReturn,
        "returns from a DPC routine with spin lock",
    ),
    case(
        "lowers-with-a-lock",
        LockHeldBelowDispatch,
        "lowers the IRQL to 0 with spin lock",
    ),
    case("frees-a-held-lock", LockFreed, "which processor 0 holds"),
    case(
        "completes-a-cancelable-irp",
        IrpCancelRoutine,
        "with its cancel routine still set",
    ),
    case(
        "reads-a-completed-irp",
        IrpTouched,
        "of an IRP that is gone since rig-breaker.sys ended it",
    ),
    case(
        "marks-a-completed-irp",
        IrpTouched,
        "of an IRP that is gone since",
    ),
    case(
        "writes-an-irp-that-it-passed-on",
        IrpTouched,
        "of an IRP that is gone since",
    ),
    case(
        "marks-a-completed-irp-that-its-maker-keeps",
        IrpTouched,
        "marked it pending, or wrote another flag, after that",
    ),
    finding("keeps-an-irp", IrpLeak, "holds IRP_MJ 0x03"),
    finding("leaks-io-space", IoSpaceLeak, "0x1000 bytes of I/O space"),
    finding("leaks-pages", MdlLeak, "1 pages allocated for MDLs"),
    finding("leaks-an-mdl", MdlNotFreed, "made by"),
    finding("leaves-pages-locked", MdlLockLeak, "left 1 pages of MDL"),
    finding("leaves-pages-mapped", MdlMapLeak, "left 1 pages of MDL"),
    finding("leaks-a-thread", ThreadLeak, "1 threads running"),
    finding("leaks-a-handle", HandleLeak, "to a Thread open"),
    finding(
        "leaks-a-reference",
        ReferenceLeak,
        "1 reference to the Thread",
    ),
    finding("leaves-a-timer", TimerLeak, "left timer"),
    finding("leaves-a-dpc", DpcLeak, "a DPC queued, rig-breaker.sys!"),
    finding("leaves-a-work-item", WorkItemLeak, "a work item queued"),
    finding(
        "leaves-a-callback",
        CallbackLeak,
        "a callback for processors",
    ),
    Case {
        is_posed: true,
        ..finding(
            "leaves-an-interrupt",
            InterruptLeak,
            "vector 0x51 connected",
        )
    },
    case(
        "overflows-its-stack",
        StackOverflow,
        "uses more stack than it has",
    ),
    // NDIS.
    posed(
        "closes-a-configuration-twice",
        NdisHandle,
        "is no handle of a configuration, or was closed",
    ),
    posed(
        "passes-an-unknown-revision",
        NdisHeader,
        "of type 0x9e, revision 9",
    ),
    posed(
        "has-an-address-of-a-group",
        NdisAttributes,
        "with an address of a group, or none",
    ),
    posed(
        "stays-registered",
        NdisRegistered,
        "without having called NdisMDeregisterMiniportDriver",
    ),
    posed(
        "returns-at-another-irql",
        NdisHandlerIrql,
        "returns from MiniportRestart at IRQL 2; it was called at 0",
    ),
    posed(
        "ends-a-pause-that-is-none",
        NdisState,
        "calls NdisMPauseComplete for an adapter that is Running",
    ),
    posed(
        "indicates-a-status-when-halted",
        NdisHalted,
        "of an adapter that is halted",
    ),
    posed(
        "leaves-a-configuration",
        NdisLeak,
        "returns from MiniportHaltEx and leaves the configuration",
    ),
    posed(
        "completes-what-is-no-list",
        NblInvalid,
        "is no NET_BUFFER_LIST of NDIS",
    ),
    posed(
        "completes-a-list-twice",
        NblCompletedTwice,
        "NdisMSendNetBufferListsComplete: list",
    ),
    posed(
        "completes-a-list-without-a-status",
        NblStatus,
        "has the status NDIS_STATUS_PENDING",
    ),
    posed("shortens-a-list", NblChanged, "its NET_BUFFERs of list"),
    posed(
        "completes-with-unknown-flags",
        NblFlags,
        "of which 0x80 do not exist",
    ),
    posed(
        "says-dispatch-level-below-it",
        NblFlags,
        "say DISPATCH_LEVEL, and the IRQL is 0",
    ),
    posed(
        "keeps-a-list",
        NblLost,
        "has 1 NET_BUFFER_LISTs that it was given to send long ago",
    ),
    posed(
        "indicates-what-it-is-to-send",
        NblIndicatedTwice,
        "it was given to send",
    ),
    posed("indicates-a-runt", NblMalformed, "has a frame of 10 bytes"),
    posed(
        "indicates-more-than-its-mtu",
        NblMalformed,
        "is longer than 1518 and not coalesced",
    ),
    posed(
        "forgets-that-a-send-was-large",
        NblStatus,
        "says 0x422003e8 of the large send that it was, not 0x40000000",
    ),
    posed("indicates-a-wrong-hash", NblHash, "which its frame is not"),
    posed(
        "frees-what-it-is-to-send",
        NblFreedInUse,
        "it was given to send",
    ),
    posed("writes-a-freed-list", NblTouched, "wrote NET_BUFFER_LIST"),
    posed(
        "changes-an-indicated-list",
        NblTouched,
        "changed its NET_BUFFERs of list",
    ),
    posed(
        "pauses-with-lists-out",
        NblAtPause,
        "with 1 NET_BUFFER_LISTs indicated",
    ),
    posed(
        "indicates-while-paused",
        ReceivePaused,
        "the adapter is Paused",
    ),
    posed("leaves-a-pool", NblPoolLeak, "leaves a pool with tag Wire"),
    posed(
        "completes-an-oid-request-twice",
        OidCompletedTwice,
        "which it has completed with NdisMOidRequestComplete",
    ),
    posed(
        "completes-an-oid-request-as-pending",
        OidPending,
        "with NDIS_STATUS_PENDING",
    ),
    posed(
        "keeps-an-oid-request",
        OidLost,
        "never completes a request for OID 0x0001010e",
    ),
    posed(
        "writes-too-much",
        OidLength,
        "has written 4096 and read 0 of the 4 bytes",
    ),
    posed(
        "indicates-half-a-link-state",
        StatusMalformed,
        "with 20 bytes; it has 40",
    ),
    posed(
        "has-short-statistics",
        StatisticsMalformed,
        "answers OID_GEN_STATISTICS with 4 bytes",
    ),
];
