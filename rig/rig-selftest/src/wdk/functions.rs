//! The kernel's functions that the cases call, as Microsoft Learn declares them.

use super::*;

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    // Printing and the end.
    pub safe fn vDbgPrintEx(component: u32, level: u32, format: *const u8, list: *const u64)
    -> u32;
    pub safe fn KeBugCheckEx(code: u32, a: usize, b: usize, c: usize, d: usize) -> !;

    // IRQL and time.
    pub safe fn KeGetCurrentIrql() -> KIRQL;
    pub safe fn KfRaiseIrql(new: KIRQL) -> KIRQL;
    pub safe fn KeLowerIrql(new: KIRQL);
    pub safe fn KeQueryInterruptTime() -> u64;
    pub safe fn KeQueryInterruptTimePrecise(counter: *mut u64) -> u64;
    pub safe fn KeQuerySystemTimePrecise(time: *mut i64);
    pub safe fn KeQueryTimeIncrement() -> u32;
    pub safe fn KeQueryPerformanceCounter(frequency: *mut i64) -> i64;
    pub safe fn KeStallExecutionProcessor(microseconds: u32);
    pub safe fn RtlTimeToTimeFields(time: *const i64, fields: *mut TIME_FIELDS);

    // Dispatcher objects.
    pub safe fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: BOOLEAN);
    pub safe fn KeSetEvent(event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32;
    pub safe fn KeResetEvent(event: *mut KEVENT) -> i32;
    pub safe fn KeClearEvent(event: *mut KEVENT);
    pub safe fn KeReadStateEvent(event: *mut KEVENT) -> i32;
    pub safe fn KeInitializeSemaphore(semaphore: *mut KSEMAPHORE, count: i32, limit: i32);
    pub safe fn KeReleaseSemaphore(
        semaphore: *mut KSEMAPHORE,
        increment: i32,
        adjustment: i32,
        wait: BOOLEAN,
    ) -> i32;
    pub safe fn KeReadStateSemaphore(semaphore: *mut KSEMAPHORE) -> i32;
    pub safe fn KeInitializeMutex(mutex: *mut KMUTANT, level: u32);
    pub safe fn KeReleaseMutex(mutex: *mut KMUTANT, wait: BOOLEAN) -> i32;
    pub safe fn KeReadStateMutex(mutex: *mut KMUTANT) -> i32;
    pub safe fn KeWaitForSingleObject(
        object: PVOID,
        reason: i32,
        mode: i8,
        alertable: BOOLEAN,
        timeout: *const i64,
    ) -> NTSTATUS;
    pub safe fn KeWaitForMultipleObjects(
        count: u32,
        objects: *const PVOID,
        kind: i32,
        reason: i32,
        mode: i8,
        alertable: BOOLEAN,
        timeout: *const i64,
        blocks: PVOID,
    ) -> NTSTATUS;
    pub safe fn KeDelayExecutionThread(
        mode: i8,
        alertable: BOOLEAN,
        interval: *const i64,
    ) -> NTSTATUS;

    // Timers and DPCs.
    pub safe fn KeInitializeTimer(timer: *mut KTIMER);
    pub safe fn KeInitializeTimerEx(timer: *mut KTIMER, kind: i32);
    pub safe fn KeSetTimer(timer: *mut KTIMER, due: i64, dpc: *mut KDPC) -> BOOLEAN;
    pub safe fn KeSetTimerEx(timer: *mut KTIMER, due: i64, period: i32, dpc: *mut KDPC) -> BOOLEAN;
    pub safe fn KeCancelTimer(timer: *mut KTIMER) -> BOOLEAN;
    pub safe fn KeReadStateTimer(timer: *mut KTIMER) -> BOOLEAN;
    pub safe fn KeInitializeDpc(dpc: *mut KDPC, routine: KDEFERRED_ROUTINE, context: PVOID);
    pub safe fn KeInitializeThreadedDpc(dpc: *mut KDPC, routine: KDEFERRED_ROUTINE, context: PVOID);
    pub safe fn KeInsertQueueDpc(dpc: *mut KDPC, first: PVOID, second: PVOID) -> BOOLEAN;
    pub safe fn KeRemoveQueueDpc(dpc: *mut KDPC) -> BOOLEAN;
    pub safe fn KeSetTargetProcessorDpcEx(
        dpc: *mut KDPC,
        number: *const PROCESSOR_NUMBER,
    ) -> NTSTATUS;
    pub safe fn KeSetImportanceDpc(dpc: *mut KDPC, importance: i32);
    pub safe fn KeFlushQueuedDpcs();

    // Spin locks.
    pub safe fn KeInitializeSpinLock(lock: *mut KSPIN_LOCK);
    pub safe fn KeAcquireSpinLockRaiseToDpc(lock: *mut KSPIN_LOCK) -> KIRQL;
    pub safe fn KeReleaseSpinLock(lock: *mut KSPIN_LOCK, old: KIRQL);
    pub safe fn KeAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK);
    pub safe fn KeReleaseSpinLockFromDpcLevel(lock: *mut KSPIN_LOCK);
    pub safe fn KeTryToAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK) -> BOOLEAN;
    pub safe fn KeAcquireInStackQueuedSpinLock(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    );
    pub safe fn KeReleaseInStackQueuedSpinLock(handle: *mut KLOCK_QUEUE_HANDLE);
    pub safe fn KeAcquireInStackQueuedSpinLockAtDpcLevel(
        lock: *mut KSPIN_LOCK,
        handle: *mut KLOCK_QUEUE_HANDLE,
    );
    pub safe fn KeReleaseInStackQueuedSpinLockFromDpcLevel(handle: *mut KLOCK_QUEUE_HANDLE);

    // Threads and processors.
    pub safe fn PsCreateSystemThread(
        handle: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        process: HANDLE,
        client: PVOID,
        routine: KSTART_ROUTINE,
        context: PVOID,
    ) -> NTSTATUS;
    pub safe fn PsTerminateSystemThread(status: NTSTATUS) -> NTSTATUS;
    pub safe fn KeSetPriorityThread(thread: PVOID, priority: i32) -> i32;
    pub safe fn ObReferenceObjectByHandle(
        handle: HANDLE,
        access: u32,
        kind: PVOID,
        mode: i8,
        object: *mut PVOID,
        information: PVOID,
    ) -> NTSTATUS;
    pub safe fn ObfReferenceObject(object: PVOID) -> isize;
    pub safe fn ObfDereferenceObject(object: PVOID) -> isize;
    pub safe fn KeIpiGenericCall(routine: IPI_BROADCAST, context: usize) -> usize;
    pub safe fn KeQueryActiveProcessorCountEx(group: u16) -> u32;
    pub safe fn KeQueryMaximumProcessorCountEx(group: u16) -> u32;
    pub safe fn KeQueryActiveProcessorCount(active: *mut usize) -> u32;
    pub safe fn KeQueryActiveGroupCount() -> u16;
    pub safe fn KeQueryGroupAffinity(group: u16) -> usize;
    pub safe fn KeGetCurrentProcessorNumberEx(number: *mut PROCESSOR_NUMBER) -> u32;
    pub safe fn KeGetProcessorNumberFromIndex(
        index: u32,
        number: *mut PROCESSOR_NUMBER,
    ) -> NTSTATUS;
    pub safe fn KeGetProcessorIndexFromNumber(number: *const PROCESSOR_NUMBER) -> u32;
    pub safe fn KeSetSystemGroupAffinityThread(
        affinity: *const GROUP_AFFINITY,
        previous: *mut GROUP_AFFINITY,
    );
    pub safe fn KeRevertToUserGroupAffinityThread(previous: *const GROUP_AFFINITY);
    pub safe fn KeRegisterProcessorChangeCallback(
        routine: unsafe extern "system" fn(PVOID, *const u32, *mut NTSTATUS),
        context: PVOID,
        flags: u32,
    ) -> PVOID;
    pub safe fn KeDeregisterProcessorChangeCallback(handle: PVOID);

    // Bug checks.
    pub safe fn KeRegisterBugCheckCallback(
        record: *mut KBUGCHECK_CALLBACK_RECORD,
        routine: BUGCHECK_CALLBACK,
        buffer: PVOID,
        length: u32,
        component: *const u8,
    ) -> BOOLEAN;
    pub safe fn KeDeregisterBugCheckCallback(record: *mut KBUGCHECK_CALLBACK_RECORD) -> BOOLEAN;
    pub safe fn KeRegisterBugCheckReasonCallback(
        record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
        routine: BUGCHECK_REASON_CALLBACK,
        reason: i32,
        component: *const u8,
    ) -> BOOLEAN;
    pub safe fn KeDeregisterBugCheckReasonCallback(
        record: *mut KBUGCHECK_REASON_CALLBACK_RECORD,
    ) -> BOOLEAN;

    // Pool and memory.
    pub safe fn ExAllocatePoolWithTag(kind: i32, bytes: usize, tag: u32) -> PVOID;
    pub safe fn ExFreePoolWithTag(block: PVOID, tag: u32);
    pub safe fn ExFreePool(block: PVOID);
    pub safe fn MmGetPhysicalAddress(address: PVOID) -> i64;
    pub safe fn MmIsAddressValid(address: PVOID) -> BOOLEAN;
    pub safe fn MmMapIoSpace(address: i64, bytes: usize, caching: i32) -> PVOID;
    pub safe fn MmUnmapIoSpace(address: PVOID, bytes: usize);
    pub safe fn MmGetPhysicalMemoryRanges() -> *mut PHYSICAL_MEMORY_RANGE;
    pub safe fn MmGetSystemRoutineAddress(name: *const UNICODE_STRING) -> PVOID;
    pub safe fn MmAllocateContiguousMemory(bytes: usize, highest: i64) -> PVOID;
    pub safe fn MmFreeContiguousMemory(address: PVOID);
    pub safe fn IoAllocateMdl(
        address: PVOID,
        length: u32,
        secondary: BOOLEAN,
        quota: BOOLEAN,
        irp: *mut IRP,
    ) -> *mut MDL;
    pub safe fn IoFreeMdl(mdl: *mut MDL);
    pub safe fn MmBuildMdlForNonPagedPool(mdl: *mut MDL);
    pub safe fn MmAllocatePagesForMdlEx(
        low: i64,
        high: i64,
        skip: i64,
        bytes: usize,
        caching: i32,
        flags: u32,
    ) -> *mut MDL;
    pub safe fn MmFreePagesFromMdl(mdl: *mut MDL);
    pub safe fn MmMapLockedPagesSpecifyCache(
        mdl: *mut MDL,
        mode: i8,
        caching: i32,
        address: PVOID,
        bug_check: u32,
        priority: u32,
    ) -> PVOID;
    pub safe fn MmUnmapLockedPages(address: PVOID, mdl: *mut MDL);
    pub safe fn MmProbeAndLockPages(mdl: *mut MDL, mode: i8, operation: i32);
    pub safe fn MmUnlockPages(mdl: *mut MDL);
    pub safe fn MmSizeOfMdl(base: PVOID, length: usize) -> usize;

    // Strings, versions, callbacks.
    pub safe fn RtlInitUnicodeString(target: *mut UNICODE_STRING, source: *const u16);
    pub safe fn RtlCopyUnicodeString(target: *mut UNICODE_STRING, source: *const UNICODE_STRING);
    pub safe fn RtlAppendUnicodeToString(
        target: *mut UNICODE_STRING,
        source: *const u16,
    ) -> NTSTATUS;
    pub safe fn RtlAppendUnicodeStringToString(
        target: *mut UNICODE_STRING,
        source: *const UNICODE_STRING,
    ) -> NTSTATUS;
    pub safe fn RtlUpcaseUnicodeString(
        target: *mut UNICODE_STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS;
    pub safe fn RtlCompareUnicodeString(
        first: *const UNICODE_STRING,
        second: *const UNICODE_STRING,
        insensitive: BOOLEAN,
    ) -> i32;
    pub safe fn RtlEqualUnicodeString(
        first: *const UNICODE_STRING,
        second: *const UNICODE_STRING,
        insensitive: BOOLEAN,
    ) -> BOOLEAN;
    pub safe fn RtlUnicodeStringToInteger(
        string: *const UNICODE_STRING,
        base: u32,
        value: *mut u32,
    ) -> NTSTATUS;
    pub safe fn RtlStringFromGUID(guid: *const GUID, string: *mut UNICODE_STRING) -> NTSTATUS;
    pub safe fn RtlFreeUnicodeString(string: *mut UNICODE_STRING);
    pub safe fn RtlInitAnsiString(target: *mut ANSI_STRING, source: *const u8);
    pub safe fn RtlAnsiStringToUnicodeString(
        target: *mut UNICODE_STRING,
        source: *const ANSI_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS;
    pub safe fn RtlUnicodeStringToAnsiString(
        target: *mut ANSI_STRING,
        source: *const UNICODE_STRING,
        allocate: BOOLEAN,
    ) -> NTSTATUS;
    pub safe fn RtlFreeAnsiString(string: *mut ANSI_STRING);
    pub safe fn RtlCompareMemory(first: PVOID, second: PVOID, bytes: usize) -> usize;
    pub safe fn RtlRandomEx(seed: *mut u32) -> u32;
    pub safe fn RtlGetVersion(version: *mut OSVERSIONINFOW) -> NTSTATUS;
    pub safe fn ExCreateCallback(
        object: *mut PVOID,
        attributes: *const OBJECT_ATTRIBUTES,
        create: BOOLEAN,
        multiple: BOOLEAN,
    ) -> NTSTATUS;
    pub safe fn ExRegisterCallback(
        object: PVOID,
        routine: CALLBACK_FUNCTION,
        context: PVOID,
    ) -> PVOID;
    pub safe fn ExUnregisterCallback(registration: PVOID);
    pub safe fn ExNotifyCallback(object: PVOID, first: PVOID, second: PVOID);

    // Registry.
    pub safe fn ZwOpenKey(
        key: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
    ) -> NTSTATUS;
    pub safe fn ZwCreateKey(
        key: *mut HANDLE,
        access: u32,
        attributes: *const OBJECT_ATTRIBUTES,
        title: u32,
        class: *const UNICODE_STRING,
        options: u32,
        disposition: *mut u32,
    ) -> NTSTATUS;
    pub safe fn ZwQueryValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        class: i32,
        out: PVOID,
        room: u32,
        needed: *mut u32,
    ) -> NTSTATUS;
    pub safe fn ZwEnumerateValueKey(
        key: HANDLE,
        index: u32,
        class: i32,
        out: PVOID,
        room: u32,
        needed: *mut u32,
    ) -> NTSTATUS;
    pub safe fn ZwSetValueKey(
        key: HANDLE,
        name: *const UNICODE_STRING,
        title: u32,
        kind: u32,
        data: PVOID,
        bytes: u32,
    ) -> NTSTATUS;
    pub safe fn ZwDeleteValueKey(key: HANDLE, name: *const UNICODE_STRING) -> NTSTATUS;
    pub safe fn ZwDeleteKey(key: HANDLE) -> NTSTATUS;
    pub safe fn ZwEnumerateKey(
        key: HANDLE,
        index: u32,
        class: i32,
        out: PVOID,
        room: u32,
        needed: *mut u32,
    ) -> NTSTATUS;
    pub safe fn ZwQueryKey(
        key: HANDLE,
        class: i32,
        out: PVOID,
        room: u32,
        needed: *mut u32,
    ) -> NTSTATUS;
    pub safe fn ZwClose(handle: HANDLE) -> NTSTATUS;

    // Devices and IRPs.
    pub safe fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension: u32,
        name: *const UNICODE_STRING,
        kind: u32,
        characteristics: u32,
        exclusive: BOOLEAN,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS;
    pub safe fn IoDeleteDevice(device: *mut DEVICE_OBJECT);
    pub safe fn IoAttachDeviceToDeviceStack(
        source: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
    ) -> *mut DEVICE_OBJECT;
    pub safe fn IoDetachDevice(target: *mut DEVICE_OBJECT);
    pub safe fn IoGetAttachedDeviceReference(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT;
    pub safe fn IofCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS;
    pub safe fn IofCompleteRequest(irp: *mut IRP, boost: i8);
    pub safe fn IoAllocateIrp(stack: i8, quota: BOOLEAN) -> *mut IRP;
    pub safe fn IoFreeIrp(irp: *mut IRP);
    pub safe fn IoCancelIrp(irp: *mut IRP) -> BOOLEAN;
    pub safe fn IoAcquireCancelSpinLock(old: *mut KIRQL);
    pub safe fn IoReleaseCancelSpinLock(old: KIRQL);
    pub safe fn IoCsqInitializeEx(
        csq: *mut IO_CSQ,
        insert: unsafe extern "system" fn(*mut IO_CSQ, *mut IRP, PVOID) -> NTSTATUS,
        remove: unsafe extern "system" fn(*mut IO_CSQ, *mut IRP),
        peek: unsafe extern "system" fn(*mut IO_CSQ, *mut IRP, PVOID) -> *mut IRP,
        acquire: unsafe extern "system" fn(*mut IO_CSQ, *mut KIRQL),
        release: unsafe extern "system" fn(*mut IO_CSQ, KIRQL),
        complete: unsafe extern "system" fn(*mut IO_CSQ, *mut IRP),
    ) -> NTSTATUS;
    pub safe fn IoCsqInsertIrpEx(
        csq: *mut IO_CSQ,
        irp: *mut IRP,
        context: *mut IO_CSQ_IRP_CONTEXT,
        insert_context: PVOID,
    ) -> NTSTATUS;
    pub safe fn IoCsqRemoveIrp(csq: *mut IO_CSQ, context: *mut IO_CSQ_IRP_CONTEXT) -> *mut IRP;
    pub safe fn IoCsqRemoveNextIrp(csq: *mut IO_CSQ, context: PVOID) -> *mut IRP;
    pub safe fn IoReuseIrp(irp: *mut IRP, status: NTSTATUS);
    pub safe fn IoBuildSynchronousFsdRequest(
        major: u32,
        device: *mut DEVICE_OBJECT,
        buffer: PVOID,
        length: u32,
        offset: *const i64,
        event: *mut KEVENT,
        status: *mut IO_STATUS_BLOCK,
    ) -> *mut IRP;
    pub safe fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> PVOID;
    pub safe fn IoFreeWorkItem(item: PVOID);
    pub safe fn IoQueueWorkItem(
        item: PVOID,
        routine: IO_WORKITEM_ROUTINE,
        queue: i32,
        context: PVOID,
    );
    pub safe fn IoInitializeRemoveLockEx(
        lock: *mut IO_REMOVE_LOCK,
        tag: u32,
        minutes: u32,
        high: u32,
        size: u32,
    );
    pub safe fn IoAcquireRemoveLockEx(
        lock: *mut IO_REMOVE_LOCK,
        tag: PVOID,
        file: *const u8,
        line: u32,
        size: u32,
    ) -> NTSTATUS;
    pub safe fn IoReleaseRemoveLockEx(lock: *mut IO_REMOVE_LOCK, tag: PVOID, size: u32);
    pub safe fn IoReleaseRemoveLockAndWaitEx(lock: *mut IO_REMOVE_LOCK, tag: PVOID, size: u32);
    pub safe fn IoInvalidateDeviceRelations(device: *mut DEVICE_OBJECT, kind: i32);
    pub safe fn IoInvalidateDeviceState(device: *mut DEVICE_OBJECT);
    pub safe fn IoRequestDeviceEject(device: *mut DEVICE_OBJECT);
    pub safe fn IoGetDeviceProperty(
        device: *mut DEVICE_OBJECT,
        property: i32,
        room: u32,
        out: PVOID,
        needed: *mut u32,
    ) -> NTSTATUS;
    pub safe fn IoOpenDeviceRegistryKey(
        device: *mut DEVICE_OBJECT,
        which: u32,
        access: u32,
        key: *mut HANDLE,
    ) -> NTSTATUS;
    pub safe fn IoRegisterDeviceInterface(
        pdo: *mut DEVICE_OBJECT,
        class: *const GUID,
        reference: *const UNICODE_STRING,
        link: *mut UNICODE_STRING,
    ) -> NTSTATUS;
    pub safe fn IoSetDeviceInterfaceState(link: *const UNICODE_STRING, enable: BOOLEAN)
    -> NTSTATUS;
    pub safe fn IoGetDeviceInterfaces(
        class: *const GUID,
        pdo: *mut DEVICE_OBJECT,
        flags: u32,
        list: *mut *mut u16,
    ) -> NTSTATUS;
    pub safe fn IoOpenDeviceInterfaceRegistryKey(
        link: *const UNICODE_STRING,
        access: u32,
        key: *mut HANDLE,
    ) -> NTSTATUS;
    pub safe fn IoWMIRegistrationControl(device: *mut DEVICE_OBJECT, action: u32) -> NTSTATUS;
    pub safe fn IoWMISuggestInstanceName(
        pdo: *mut DEVICE_OBJECT,
        link: *const UNICODE_STRING,
        combine: BOOLEAN,
        name: *mut UNICODE_STRING,
    ) -> NTSTATUS;
    pub safe fn PoRequestPowerIrp(
        device: *mut DEVICE_OBJECT,
        minor: u8,
        state: i32,
        routine: Option<REQUEST_POWER_COMPLETE>,
        context: PVOID,
        irp: *mut *mut IRP,
    ) -> NTSTATUS;
    pub safe fn PoSetPowerState(device: *mut DEVICE_OBJECT, kind: i32, state: i32) -> i32;
    pub safe fn PoStartNextPowerIrp(irp: *mut IRP);
    pub safe fn PoCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS;

    // Text.
    pub safe fn RtlCompareString(
        first: *const ANSI_STRING,
        second: *const ANSI_STRING,
        insensitive: BOOLEAN,
    ) -> i32;
    pub safe fn RtlEqualString(
        first: *const ANSI_STRING,
        second: *const ANSI_STRING,
        insensitive: BOOLEAN,
    ) -> BOOLEAN;
    pub safe fn RtlGUIDFromString(string: *const UNICODE_STRING, guid: *mut GUID) -> NTSTATUS;
    pub safe fn _vsnprintf(
        buffer: *mut u8,
        count: usize,
        format: *const u8,
        list: *const u64,
    ) -> i32;
    pub safe fn _stricmp(first: *const u8, second: *const u8) -> i32;
    pub safe fn isalnum(character: i32) -> i32;
    pub safe fn isprint(character: i32) -> i32;

    // Reader-writer spin locks, interlocked lists.
    pub safe fn ExAcquireSpinLockShared(lock: *mut i32) -> KIRQL;
    pub safe fn ExReleaseSpinLockShared(lock: *mut i32, old: KIRQL);
    pub safe fn ExAcquireSpinLockExclusive(lock: *mut i32) -> KIRQL;
    pub safe fn ExReleaseSpinLockExclusive(lock: *mut i32, old: KIRQL);
    pub safe fn ExInterlockedInsertHeadList(
        head: *mut LIST_ENTRY,
        entry: *mut LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut LIST_ENTRY;
    pub safe fn ExInterlockedInsertTailList(
        head: *mut LIST_ENTRY,
        entry: *mut LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut LIST_ENTRY;
    pub safe fn ExInterlockedRemoveHeadList(
        head: *mut LIST_ENTRY,
        lock: *mut KSPIN_LOCK,
    ) -> *mut LIST_ENTRY;

    pub safe fn IoCreateNotificationEvent(
        name: *const UNICODE_STRING,
        handle: *mut HANDLE,
    ) -> *mut KEVENT;

    // Interrupts.
    pub safe fn IoConnectInterruptEx(parameters: PVOID) -> NTSTATUS;
    pub safe fn IoDisconnectInterruptEx(parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS);
    pub safe fn KeAcquireInterruptSpinLock(interrupt: PVOID) -> KIRQL;
    pub safe fn KeReleaseInterruptSpinLock(interrupt: PVOID, old: KIRQL);
    pub safe fn KeSynchronizeExecution(
        interrupt: PVOID,
        routine: unsafe extern "system" fn(PVOID) -> BOOLEAN,
        context: PVOID,
    ) -> BOOLEAN;

    // What the compiler calls on its own.
    pub fn memcpy(target: PVOID, source: PVOID, bytes: usize) -> PVOID;
    fn memmove(target: PVOID, source: PVOID, bytes: usize) -> PVOID;
    pub fn memset(target: PVOID, value: i32, bytes: usize) -> PVOID;
    fn memcmp(first: PVOID, second: PVOID, bytes: usize) -> i32;
    fn strlen(text: *const u8) -> usize;
}

#[link(name = "ksecdd.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    // Hashes. bcrypt.h.
    pub safe fn BCryptOpenAlgorithmProvider(
        algorithm: *mut HANDLE,
        name: *const u16,
        implementation: *const u16,
        flags: u32,
    ) -> NTSTATUS;
    pub safe fn BCryptCloseAlgorithmProvider(algorithm: HANDLE, flags: u32) -> NTSTATUS;
    pub safe fn BCryptGetProperty(
        object: HANDLE,
        property: *const u16,
        out: *mut u8,
        room: u32,
        needed: *mut u32,
        flags: u32,
    ) -> NTSTATUS;
    pub safe fn BCryptCreateHash(
        algorithm: HANDLE,
        hash: *mut HANDLE,
        object: *mut u8,
        room: u32,
        secret: *const u8,
        length: u32,
        flags: u32,
    ) -> NTSTATUS;
    pub safe fn BCryptHashData(hash: HANDLE, input: *const u8, length: u32, flags: u32)
    -> NTSTATUS;
    pub safe fn BCryptFinishHash(hash: HANDLE, out: *mut u8, length: u32, flags: u32) -> NTSTATUS;
    pub safe fn BCryptDestroyHash(hash: HANDLE) -> NTSTATUS;
}

#[link(name = "wmilib.sys", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "system" {
    pub safe fn WmiFireEvent(
        device: *mut DEVICE_OBJECT,
        guid: *const GUID,
        instance: u32,
        bytes: u32,
        data: PVOID,
    ) -> NTSTATUS;
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    // The kernel's variables, whose addresses the import slots hold: what C writes as `*PsThreadType`.
    pub static PsThreadType: PVOID;
    pub static ExEventObjectType: PVOID;
}

// Inline functions of the headers, as the documentation describes what they do.

/// The IRP's location of the driver that holds it.
pub fn IoGetCurrentIrpStackLocation<'a>(irp: *mut IRP) -> &'a mut IO_STACK_LOCATION {
    // SAFETY: the holder of an IRP may use its location.
    unsafe { &mut *(*irp).CurrentStackLocation }
}

/// The location of the driver below.
pub fn IoGetNextIrpStackLocation<'a>(irp: *mut IRP) -> &'a mut IO_STACK_LOCATION {
    // SAFETY: the holder of an IRP fills in the location below its own.
    unsafe { &mut *(*irp).CurrentStackLocation.sub(1) }
}

/// Gives the driver below this one's own location.
pub fn IoSkipCurrentIrpStackLocation(irp: *mut IRP) {
    let irp = fields(irp);
    irp.CurrentLocation += 1;
    irp.CurrentStackLocation = irp.CurrentStackLocation.wrapping_add(1);
}

/// Makes the location above current, for an IRP of this driver's own making.
pub fn IoSetNextIrpStackLocation(irp: *mut IRP) {
    let irp = fields(irp);
    irp.CurrentLocation -= 1;
    irp.CurrentStackLocation = irp.CurrentStackLocation.wrapping_sub(1);
}

/// Copies this driver's parameters for the one below, without the completion routine.
pub fn IoCopyCurrentIrpStackLocationToNext(irp: *mut IRP) {
    let copy = *IoGetCurrentIrpStackLocation(irp);
    let next = IoGetNextIrpStackLocation(irp);
    *next = copy;
    next.CompletionRoutine = None;
    next.Context = core::ptr::null_mut();
    next.Control = 0;
}

/// Sets what runs when the drivers below have completed the IRP.
pub fn IoSetCompletionRoutine(
    irp: *mut IRP,
    routine: IO_COMPLETION_ROUTINE,
    context: PVOID,
    on: u8,
) {
    let next = IoGetNextIrpStackLocation(irp);
    next.CompletionRoutine = Some(routine);
    next.Context = context;
    next.Control = on;
}

/// Sets the routine that cancellation calls; the former one.
pub fn IoSetCancelRoutine(irp: *mut IRP, routine: Option<DRIVER_CANCEL>) -> bool {
    let place = (&raw mut fields(irp).CancelRoutine).cast::<usize>();
    // SAFETY: a field of an IRP that the case holds, of a pointer's size.
    let word = unsafe { core::sync::atomic::AtomicUsize::from_ptr(place) };
    let routine = routine.map_or(0, |routine| routine as usize);
    word.swap(routine, core::sync::atomic::Ordering::SeqCst) != 0
}

/// Every occasion for a completion routine.
pub const ALWAYS: u8 = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;

pub fn IoMarkIrpPending(irp: *mut IRP) {
    IoGetCurrentIrpStackLocation(irp).Control |= SL_PENDING_RETURNED;
}

/// The public fields of an IRP.
pub fn fields<'a>(irp: *mut IRP) -> &'a mut IRP {
    // SAFETY: a case only looks at IRPs that it holds.
    unsafe { &mut *irp }
}

/// The page frame numbers behind an MDL.
pub fn MmGetMdlPfnArray(mdl: *mut MDL) -> *mut usize {
    mdl.wrapping_add(1).cast()
}

/// `InitializeObjectAttributes`.
pub fn object_attributes(
    name: *const UNICODE_STRING,
    flags: u32,
    root: HANDLE,
) -> OBJECT_ATTRIBUTES {
    OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: root,
        ObjectName: name,
        Attributes: flags,
        SecurityDescriptor: core::ptr::null_mut(),
        SecurityQualityOfService: core::ptr::null_mut(),
    }
}
