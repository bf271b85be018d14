//! ntoskrnl.exe: the kernel's exports.

use crate::*;

/// An object type, of which drivers only hold the pointer.
#[repr(C)]
pub struct OBJECT_TYPE {
    _opaque: [u8; 0],
}

#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "win64" {
    pub static PsThreadType: *mut OBJECT_TYPE;
    /// Not 0 when the system was started in safe mode.
    pub static InitSafeBootMode: u32;

    // Pool
    pub fn ExAllocatePoolWithTag(pool: i32, bytes: usize, tag: u32) -> PVOID;
    pub fn ExFreePoolWithTag(address: PVOID, tag: u32);

    // Debugging and bug checks
    pub fn vDbgPrintEx(component: u32, level: u32, format: *const u8, arguments: *const u64)
    -> u32;
    pub fn KeBugCheckEx(code: u32, p1: usize, p2: usize, p3: usize, p4: usize) -> !;
    pub fn KeRegisterBugCheckCallback(
        record: *mut KBUGCHECK_CALLBACK_RECORD,
        routine: KBUGCHECK_CALLBACK_ROUTINE,
        buffer: PVOID,
        length: u32,
        component: *const u8,
    ) -> BOOLEAN;
    pub fn KeDeregisterBugCheckCallback(record: *mut KBUGCHECK_CALLBACK_RECORD) -> BOOLEAN;

    // Processors and IRQL
    pub fn KeQueryActiveProcessorCountEx(group: u16) -> u32;
    pub fn KeQueryMaximumProcessorCountEx(group: u16) -> u32;
    pub fn KeGetCurrentProcessorNumberEx(number: *mut PROCESSOR_NUMBER) -> u32;
    pub fn KeGetProcessorNumberFromIndex(index: u32, number: *mut PROCESSOR_NUMBER) -> NTSTATUS;
    pub fn KeGetProcessorIndexFromNumber(number: *mut PROCESSOR_NUMBER) -> u32;
    pub fn KeGetCurrentIrql() -> KIRQL;
    pub fn KfRaiseIrql(irql: KIRQL) -> KIRQL;
    pub fn KeLowerIrql(irql: KIRQL);
    pub fn KeIpiGenericCall(function: KIPI_BROADCAST_WORKER, context: usize) -> usize;

    // Spin locks
    pub fn KeAcquireSpinLockRaiseToDpc(lock: *mut KSPIN_LOCK) -> KIRQL;
    pub fn KeReleaseSpinLock(lock: *mut KSPIN_LOCK, irql: KIRQL);
    pub fn KeAcquireSpinLockAtDpcLevel(lock: *mut KSPIN_LOCK);
    pub fn KeReleaseSpinLockFromDpcLevel(lock: *mut KSPIN_LOCK);
    pub fn KeAcquireInterruptSpinLock(interrupt: *mut KINTERRUPT) -> KIRQL;
    pub fn KeReleaseInterruptSpinLock(interrupt: *mut KINTERRUPT, irql: KIRQL);

    // Dispatcher objects
    pub fn KeInitializeEvent(event: *mut KEVENT, kind: i32, state: BOOLEAN);
    pub fn KeSetEvent(event: *mut KEVENT, increment: i32, wait: BOOLEAN) -> i32;
    pub fn KeResetEvent(event: *mut KEVENT) -> i32;
    pub fn KeClearEvent(event: *mut KEVENT);
    pub fn KeReadStateEvent(event: *mut KEVENT) -> i32;
    pub fn KeInitializeMutex(mutex: *mut KMUTEX, level: u32);
    pub fn KeReleaseMutex(mutex: *mut KMUTEX, wait: BOOLEAN) -> i32;
    pub fn KeWaitForSingleObject(
        object: PVOID,
        reason: i32,
        mode: i8,
        alertable: BOOLEAN,
        timeout: *const LARGE_INTEGER,
    ) -> NTSTATUS;
    pub fn KeWaitForMultipleObjects(
        count: u32,
        objects: *const PVOID,
        kind: i32,
        reason: i32,
        mode: i8,
        alertable: BOOLEAN,
        timeout: *const LARGE_INTEGER,
        blocks: *mut KWAIT_BLOCK,
    ) -> NTSTATUS;
    pub fn KeDelayExecutionThread(
        mode: i8,
        alertable: BOOLEAN,
        interval: *const LARGE_INTEGER,
    ) -> NTSTATUS;

    // DPCs, timers, time
    pub fn KeInitializeDpc(dpc: *mut KDPC, routine: KDEFERRED_ROUTINE, context: PVOID);
    pub fn KeInitializeThreadedDpc(dpc: *mut KDPC, routine: KDEFERRED_ROUTINE, context: PVOID);
    pub fn KeInsertQueueDpc(dpc: *mut KDPC, argument1: PVOID, argument2: PVOID) -> BOOLEAN;
    pub fn KeRemoveQueueDpc(dpc: *mut KDPC) -> BOOLEAN;
    pub fn KeFlushQueuedDpcs();
    pub fn KeSetTargetProcessorDpcEx(dpc: *mut KDPC, number: *mut PROCESSOR_NUMBER) -> NTSTATUS;
    pub fn KeSetImportanceDpc(dpc: *mut KDPC, importance: i32);
    pub fn KeInitializeTimerEx(timer: *mut KTIMER, kind: i32);
    pub fn KeSetTimerEx(
        timer: *mut KTIMER,
        due: LARGE_INTEGER,
        period: i32,
        dpc: *mut KDPC,
    ) -> BOOLEAN;
    pub fn KeCancelTimer(timer: *mut KTIMER) -> BOOLEAN;
    pub fn KeQueryTimeIncrement() -> u32;
    pub fn KeQueryInterruptTime() -> u64;

    // Threads
    pub fn PsCreateSystemThread(
        handle: *mut HANDLE,
        access: ACCESS_MASK,
        attributes: *mut OBJECT_ATTRIBUTES,
        process: HANDLE,
        client_id: PVOID,
        routine: KSTART_ROUTINE,
        context: PVOID,
    ) -> NTSTATUS;
    pub fn PsTerminateSystemThread(status: NTSTATUS) -> NTSTATUS;
    pub fn KeSetSystemGroupAffinityThread(
        affinity: *mut GROUP_AFFINITY,
        previous: *mut GROUP_AFFINITY,
    );
    pub fn KeRevertToUserGroupAffinityThread(previous: *mut GROUP_AFFINITY);

    // Objects
    pub fn ObReferenceObjectByHandle(
        handle: HANDLE,
        access: ACCESS_MASK,
        kind: *mut OBJECT_TYPE,
        mode: i8,
        object: *mut PVOID,
        information: PVOID,
    ) -> NTSTATUS;
    pub fn ObfReferenceObject(object: PVOID) -> isize;
    pub fn ObfDereferenceObject(object: PVOID) -> isize;
    pub fn ZwClose(handle: HANDLE) -> NTSTATUS;

    // Registry
    pub fn ZwOpenKey(
        key: *mut HANDLE,
        access: ACCESS_MASK,
        attributes: *mut OBJECT_ATTRIBUTES,
    ) -> NTSTATUS;
    pub fn ZwCreateKey(
        key: *mut HANDLE,
        access: ACCESS_MASK,
        attributes: *mut OBJECT_ATTRIBUTES,
        title: u32,
        class: *mut UNICODE_STRING,
        options: u32,
        disposition: *mut u32,
    ) -> NTSTATUS;
    pub fn ZwDeleteKey(key: HANDLE) -> NTSTATUS;
    pub fn ZwQueryKey(
        key: HANDLE,
        class: i32,
        information: PVOID,
        length: u32,
        result: *mut u32,
    ) -> NTSTATUS;
    pub fn ZwEnumerateKey(
        key: HANDLE,
        index: u32,
        class: i32,
        information: PVOID,
        length: u32,
        result: *mut u32,
    ) -> NTSTATUS;
    pub fn ZwQueryValueKey(
        key: HANDLE,
        name: *mut UNICODE_STRING,
        class: i32,
        information: PVOID,
        length: u32,
        result: *mut u32,
    ) -> NTSTATUS;
    pub fn ZwEnumerateValueKey(
        key: HANDLE,
        index: u32,
        class: i32,
        information: PVOID,
        length: u32,
        result: *mut u32,
    ) -> NTSTATUS;
    pub fn ZwSetValueKey(
        key: HANDLE,
        name: *mut UNICODE_STRING,
        title: u32,
        kind: u32,
        data: PVOID,
        length: u32,
    ) -> NTSTATUS;
    pub fn ZwDeleteValueKey(key: HANDLE, name: *mut UNICODE_STRING) -> NTSTATUS;

    // Memory
    pub fn MmAllocatePagesForMdlEx(
        low: PHYSICAL_ADDRESS,
        high: PHYSICAL_ADDRESS,
        skip: PHYSICAL_ADDRESS,
        bytes: usize,
        cache: i32,
        flags: u32,
    ) -> *mut MDL;
    pub fn MmFreePagesFromMdl(mdl: *mut MDL);
    pub fn MmMapLockedPagesSpecifyCache(
        mdl: *mut MDL,
        mode: i8,
        cache: i32,
        address: PVOID,
        bug_check: u32,
        priority: u32,
    ) -> PVOID;
    pub fn MmUnmapLockedPages(address: PVOID, mdl: *mut MDL);
    pub fn MmMapIoSpace(address: PHYSICAL_ADDRESS, bytes: usize, cache: i32) -> PVOID;
    pub fn MmUnmapIoSpace(address: PVOID, bytes: usize);
    pub fn MmGetPhysicalAddress(address: PVOID) -> PHYSICAL_ADDRESS;
    pub fn MmGetPhysicalMemoryRanges() -> *mut PHYSICAL_MEMORY_RANGE;
    pub fn MmGetSystemRoutineAddress(name: *mut UNICODE_STRING) -> PVOID;
    pub fn IoAllocateMdl(
        address: PVOID,
        length: u32,
        secondary: BOOLEAN,
        charge_quota: BOOLEAN,
        irp: *mut IRP,
    ) -> *mut MDL;
    pub fn IoFreeMdl(mdl: *mut MDL);
    pub fn MmBuildMdlForNonPagedPool(mdl: *mut MDL);

    // Devices and requests
    pub fn IoCreateDevice(
        driver: *mut DRIVER_OBJECT,
        extension_size: u32,
        name: *mut UNICODE_STRING,
        kind: u32,
        characteristics: u32,
        exclusive: BOOLEAN,
        device: *mut *mut DEVICE_OBJECT,
    ) -> NTSTATUS;
    pub fn IoDeleteDevice(device: *mut DEVICE_OBJECT);
    pub fn IoAttachDeviceToDeviceStack(
        source: *mut DEVICE_OBJECT,
        target: *mut DEVICE_OBJECT,
    ) -> *mut DEVICE_OBJECT;
    pub fn IoDetachDevice(target: *mut DEVICE_OBJECT);
    pub fn IoGetAttachedDeviceReference(device: *mut DEVICE_OBJECT) -> *mut DEVICE_OBJECT;
    pub fn IofCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS;
    pub fn IofCompleteRequest(irp: *mut IRP, boost: CCHAR);
    pub fn IoAllocateIrp(stack_size: CCHAR, charge_quota: BOOLEAN) -> *mut IRP;
    pub fn IoFreeIrp(irp: *mut IRP);
    pub fn IoReuseIrp(irp: *mut IRP, status: NTSTATUS);
    pub fn IoInvalidateDeviceRelations(device: *mut DEVICE_OBJECT, kind: i32);
    pub fn IoInvalidateDeviceState(device: *mut DEVICE_OBJECT);
    pub fn IoRequestDeviceEject(device: *mut DEVICE_OBJECT);
    pub fn IoConnectInterruptEx(parameters: *mut IO_CONNECT_INTERRUPT_PARAMETERS) -> NTSTATUS;
    pub fn IoDisconnectInterruptEx(parameters: *mut IO_DISCONNECT_INTERRUPT_PARAMETERS);
    pub fn IoAllocateWorkItem(device: *mut DEVICE_OBJECT) -> *mut IO_WORKITEM;
    pub fn IoQueueWorkItem(
        item: *mut IO_WORKITEM,
        routine: IO_WORKITEM_ROUTINE,
        queue: i32,
        context: PVOID,
    );
    pub fn IoFreeWorkItem(item: *mut IO_WORKITEM);
    pub fn IoOpenDeviceRegistryKey(
        device: *mut DEVICE_OBJECT,
        kind: u32,
        access: ACCESS_MASK,
        key: *mut HANDLE,
    ) -> NTSTATUS;
    pub fn IoGetDeviceProperty(
        device: *mut DEVICE_OBJECT,
        property: i32,
        length: u32,
        buffer: PVOID,
        result: *mut u32,
    ) -> NTSTATUS;
    pub fn IoInitializeRemoveLockEx(
        lock: *mut IO_REMOVE_LOCK,
        tag: u32,
        minutes: u32,
        high_watermark: u32,
        size: u32,
    );
    pub fn IoAcquireRemoveLockEx(
        lock: *mut IO_REMOVE_LOCK,
        tag: PVOID,
        file: *const u8,
        line: u32,
        size: u32,
    ) -> NTSTATUS;
    pub fn IoReleaseRemoveLockEx(lock: *mut IO_REMOVE_LOCK, tag: PVOID, size: u32);
    pub fn IoReleaseRemoveLockAndWaitEx(lock: *mut IO_REMOVE_LOCK, tag: PVOID, size: u32);
    pub fn IoRegisterShutdownNotification(device: *mut DEVICE_OBJECT) -> NTSTATUS;
    pub fn IoUnregisterShutdownNotification(device: *mut DEVICE_OBJECT);

    // Power
    pub fn PoRequestPowerIrp(
        device: *mut DEVICE_OBJECT,
        minor: UCHAR,
        state: POWER_STATE,
        complete: Option<REQUEST_POWER_COMPLETE>,
        context: PVOID,
        irp: *mut *mut IRP,
    ) -> NTSTATUS;
    pub fn PoSetPowerState(
        device: *mut DEVICE_OBJECT,
        kind: i32,
        state: POWER_STATE,
    ) -> POWER_STATE;
    pub fn PoStartNextPowerIrp(irp: *mut IRP);
    pub fn PoCallDriver(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS;

    // System
    pub fn RtlGetVersion(information: *mut RTL_OSVERSIONINFOW) -> NTSTATUS;
    pub fn RtlRandomEx(seed: *mut u32) -> u32;
    pub fn RtlCaptureStackBackTrace(
        skip: u32,
        count: u32,
        frames: *mut PVOID,
        hash: *mut u32,
    ) -> u16;

    // C's memory functions, which the compiler calls of its own accord. The kernel's are made for the processor.
    pub fn memcpy(target: PVOID, source: *const core::ffi::c_void, bytes: usize) -> PVOID;
    pub fn memmove(target: PVOID, source: *const core::ffi::c_void, bytes: usize) -> PVOID;
    pub fn memset(target: PVOID, value: i32, bytes: usize) -> PVOID;
    pub fn memcmp(
        first: *const core::ffi::c_void,
        second: *const core::ffi::c_void,
        bytes: usize,
    ) -> i32;
    pub fn strlen(text: *const u8) -> usize;
}
