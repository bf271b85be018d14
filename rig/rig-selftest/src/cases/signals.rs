//! Interrupts that happen: by a line and by messages, their routines, spin locks and DPCs.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use crate::signal::{self, Function, MESSAGES};
use crate::suite::{Finding, Outcome, at_irql};
use crate::support::*;
use crate::wdk::*;

/// How long a routine gets to run where it must not.
const WHILE: u32 = 200;
/// The message of a routine for a line.
const NO_MESSAGE: u32 = 0xFF;

/// What a case and its interrupt routines share.
#[repr(C)]
struct Watch {
    runs: AtomicU32,
    /// Of the last run.
    irql: AtomicU32,
    message: AtomicU32,
    object: AtomicPtr<core::ffi::c_void>,
    /// How often each message came.
    messages: [AtomicU32; MESSAGES as usize],
    /// Runs that leave the line up.
    ignore: AtomicU32,
    /// The DPC that a run queues, once it is ready.
    has_dpc: AtomicBool,
    dpc: KDPC,
    dpc_runs: AtomicU32,
    /// What the DPC found: runs of the routine so far, its IRQL.
    dpc_saw: AtomicU32,
    dpc_irql: AtomicU32,
    done: Signal,
    /// What a synchronised routine found.
    during: AtomicU32,
}

impl Watch {
    fn new() -> Result<Pool<Self>, Finding> {
        let mut watch = Pool::<Self>::zeroed()?;
        watch.done.init(SynchronizationEvent);
        Ok(watch)
    }

    /// Queues a DPC from the next interrupt on.
    fn add_dpc(watch: &mut Pool<Self>) {
        let context = watch.context();
        KeInitializeDpc(&raw mut watch.dpc, deferred, context);
        watch.has_dpc.store(true, Ordering::SeqCst);
    }

    fn serve(&self, object: PVOID, message: u32) {
        write(&self.irql, KeGetCurrentIrql().into());
        write(&self.message, message);
        self.object.store(object, Ordering::SeqCst);
        if let Some(count) = self.messages.get(message as usize) {
            add(count);
        }
        if self.has_dpc.load(Ordering::SeqCst) {
            let dpc = (&raw const self.dpc).cast_mut();
            KeInsertQueueDpc(dpc, null_mut(), null_mut());
        }
        add(&self.runs);
    }

    /// Waits for so many runs.
    fn ran(&self, times: u32) -> Outcome {
        until(|| read(&self.runs) >= times, "an interrupt routine")
    }
}

unsafe extern "system" fn line(object: PVOID, watch: PVOID) -> BOOLEAN {
    // SAFETY: the watch lives as long as the connection.
    let watch = unsafe { context::<Watch>(watch) };
    let causes = signal::causes();
    if causes == 0 {
        return 0;
    }
    match read(&watch.ignore) {
        0 => signal::settle(causes),
        left => write(&watch.ignore, left - 1),
    }
    watch.serve(object, NO_MESSAGE);
    1
}

unsafe extern "system" fn message(object: PVOID, watch: PVOID, message: u32) -> BOOLEAN {
    // SAFETY: the watch lives as long as the connection.
    unsafe { context::<Watch>(watch) }.serve(object, message);
    1
}

/// A routine for one message that is connected by its vector.
unsafe extern "system" fn one_message(object: PVOID, watch: PVOID) -> BOOLEAN {
    // SAFETY: the watch lives as long as the connection.
    unsafe { context::<Watch>(watch) }.serve(object, NO_MESSAGE);
    1
}

unsafe extern "system" fn deferred(_: *mut KDPC, watch: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the case waits for the DPC.
    let watch = unsafe { context::<Watch>(watch) };
    write(&watch.dpc_saw, read(&watch.runs));
    write(&watch.dpc_irql, KeGetCurrentIrql().into());
    add(&watch.dpc_runs);
    watch.done.set();
}

/// A connection, ended with its owner.
struct Connected {
    context: PVOID,
    version: u32,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: self.version,
            ConnectionContext: self.context,
        };
        IoDisconnectInterruptEx(&raw mut parameters);
    }
}

impl Connected {
    /// The description of the messages.
    fn table(&self) -> &IO_INTERRUPT_MESSAGE_INFO {
        // SAFETY: of a connection of messages, until it ends.
        unsafe { &*self.context.cast() }
    }
}

/// Connects `line` by the device.
fn by_line(function: Function, watch: &Pool<Watch>) -> Result<Connected, Finding> {
    let mut object = null_mut();
    let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
        Version: CONNECT_LINE_BASED,
        PhysicalDeviceObject: function.pdo,
        InterruptObject: &raw mut object,
        ServiceRoutine: line,
        ServiceContext: watch.context(),
        SpinLock: null_mut(),
        SynchronizeIrql: 0,
        FloatingSave: 0,
        ShareVector: 0,
        Vector: 0,
        Irql: 0,
        InterruptMode: 0,
        ProcessorEnableMask: 0,
        Group: 0,
    };
    let status = IoConnectInterruptEx((&raw mut parameters).cast());
    equal!(status, STATUS_SUCCESS, "IoConnectInterruptEx, line-based");
    Ok(Connected {
        context: object,
        version: parameters.Version,
    })
}

fn message_parameters(
    function: Function,
    watch: &Pool<Watch>,
    out: *mut PVOID,
) -> IO_CONNECT_INTERRUPT_MESSAGE_PARAMETERS {
    IO_CONNECT_INTERRUPT_MESSAGE_PARAMETERS {
        Version: CONNECT_MESSAGE_BASED,
        PhysicalDeviceObject: function.pdo,
        ConnectionContext: out,
        MessageServiceRoutine: message,
        ServiceContext: watch.context(),
        SpinLock: null_mut(),
        SynchronizeIrql: 0,
        FloatingSave: 0,
        FallBackServiceRoutine: None,
        _Rest: [0; 2],
    }
}

/// Connects `message` to every message of the device.
fn by_messages(
    function: Function,
    watch: &Pool<Watch>,
    lock: *mut KSPIN_LOCK,
) -> Result<Connected, Finding> {
    let mut table = null_mut();
    let mut parameters = message_parameters(function, watch, &raw mut table);
    parameters.SpinLock = lock;
    let status = IoConnectInterruptEx((&raw mut parameters).cast());
    equal!(
        (status, parameters.Version),
        (STATUS_SUCCESS, CONNECT_MESSAGE_BASED),
        "IoConnectInterruptEx, message-based, and the version"
    );
    check!(!table.is_null(), "there is no table of messages");
    Ok(Connected {
        context: table,
        version: CONNECT_MESSAGE_BASED,
    })
}

/// Learn, "Introduction to Interrupt Service Routines": the routine runs at DIRQL with its own object and context.
fn a_line_runs_its_routine() -> Outcome {
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    let connected = by_line(function, &watch)?;
    let object = connected.context;
    signal::signal(1);
    watch.ran(1)?;
    let level = function.given(0).level;
    drop(connected);
    equal!(
        read(&watch.irql),
        u32::from(level),
        "the IRQL of the routine"
    );
    equal!(
        watch.object.load(Ordering::SeqCst),
        object,
        "the routine's object"
    );
    equal!(read(&watch.runs), 1, "runs");
    equal!(signal::causes(), 0, "causes that are left");
    Ok(())
}

/// Learn, "Servicing an Interrupt": a level-triggered line interrupts until its cause is gone.
fn a_line_that_stays_up_interrupts_again() -> Outcome {
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    write(&watch.ignore, 3);
    let connected = by_line(function, &watch)?;
    signal::signal(2);
    watch.ran(4)?;
    drop(connected);
    equal!(
        read(&watch.runs),
        4,
        "runs, of which three left the line up"
    );
    Ok(())
}

/// Learn, IoDisconnectInterruptEx: the routine is called no more, and what comes meanwhile is there when it is connected.
fn a_disconnected_routine_is_not_called() -> Outcome {
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    drop(by_line(function, &watch)?);
    signal::signal(4);
    sleep(5);
    let meanwhile = read(&watch.runs);
    let connected = by_line(function, &watch)?;
    watch.ran(1)?;
    drop(connected);
    equal!(meanwhile, 0, "runs while it was disconnected");
    equal!(read(&watch.runs), 1, "runs afterwards");
    Ok(())
}

/// Learn, KeAcquireInterruptSpinLock: while a driver holds it, the routine does not run on any processor.
fn the_spin_lock_keeps_the_routine_away() -> Outcome {
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    let connected = by_line(function, &watch)?;
    let old = KeAcquireInterruptSpinLock(connected.context);
    signal::signal(1);
    KeStallExecutionProcessor(WHILE);
    let held = read(&watch.runs);
    KeReleaseInterruptSpinLock(connected.context, old);
    watch.ran(1)?;
    drop(connected);
    equal!(held, 0, "runs while the lock was held");
    Ok(())
}

/// Learn, KeSynchronizeExecution: the interrupt routine does not run while the synchronised one does.
fn a_synchronised_routine_keeps_the_routine_away() -> Outcome {
    unsafe extern "system" fn inside(watch: PVOID) -> BOOLEAN {
        // SAFETY: KeSynchronizeExecution returns after this.
        let watch = unsafe { context::<Watch>(watch) };
        signal::signal(1);
        KeStallExecutionProcessor(WHILE);
        write(&watch.during, read(&watch.runs));
        1
    }
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    let connected = by_line(function, &watch)?;
    let result = KeSynchronizeExecution(connected.context, inside, watch.context());
    watch.ran(1)?;
    drop(connected);
    equal!(result, 1, "the routine's result");
    equal!(read(&watch.during), 0, "runs meanwhile");
    Ok(())
}

/// Learn, "Managing Hardware Priorities": a processor at an interrupt's IRQL is not interrupted by it.
fn a_raised_irql_keeps_the_routine_away() -> Outcome {
    let (function, watch) = (Function::with(true)?, Watch::new()?);
    let connected = by_messages(function, &watch, null_mut())?;
    let entry = connected.table().entry(0);
    let (level, set) = (entry.Irql, entry.TargetProcessorSet);
    check!(set != 0, "the message goes to no processor");
    // Where a message could go to several processors, another one takes it.
    let alone = set.count_ones() == 1 || KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS) == 1;
    let held = on_cpu(set.trailing_zeros(), || {
        at_irql(level, || {
            signal::signal(1);
            KeStallExecutionProcessor(WHILE);
            read(&watch.runs)
        })
    });
    watch.ran(1)?;
    drop(connected);
    check!(held == 0 || !alone, "it ran at its own IRQL");
    Ok(())
}

/// Learn, "Introduction to DPC Objects": what a routine queues runs after it at DISPATCH_LEVEL, and can wake a thread.
fn a_routine_queues_its_dpc() -> Outcome {
    for messages in [false, true] {
        let (function, mut watch) = (Function::with(messages)?, Watch::new()?);
        Watch::add_dpc(&mut watch);
        let connected = match messages {
            false => by_line(function, &watch)?,
            true => by_messages(function, &watch, null_mut())?,
        };
        signal::signal(1);
        let woken = watch.done.arrives();
        drop(connected);
        KeFlushQueuedDpcs();
        check!(woken, "the DPC did not run");
        equal!(
            read(&watch.dpc_saw),
            1,
            "runs of the routine before the DPC"
        );
        equal!(
            read(&watch.dpc_irql),
            u32::from(DISPATCH_LEVEL),
            "the IRQL of the DPC"
        );
        equal!(read(&watch.dpc_runs), 1, "runs of the DPC");
    }
    Ok(())
}

/// Learn, IO_INTERRUPT_MESSAGE_INFO: an entry for each message, as START gave them, all at one IRQL.
fn the_messages_are_described() -> Outcome {
    let (function, watch) = (Function::with(true)?, Watch::new()?);
    let connected = by_messages(function, &watch, null_mut())?;
    let table = connected.table();
    equal!(table.MessageCount, MESSAGES, "messages");
    let mut highest = 0;
    for index in 0..MESSAGES {
        let (entry, given) = (table.entry(index), function.given(index));
        equal!(
            (entry.Vector, entry.Irql, entry.TargetProcessorSet),
            (given.vector, given.level, given.affinity),
            "vector, IRQL and processors of message {index}"
        );
        // KINTERRUPT_MODE: Latched.
        equal!(entry.Mode, 1, "the mode of message {index}");
        check!(
            !entry.InterruptObject.is_null(),
            "message {index} has no interrupt object"
        );
        for other in 0..index {
            check!(
                table.entry(other).InterruptObject != entry.InterruptObject,
                "messages {other} and {index} have one object"
            );
        }
        highest = highest.max(entry.Irql);
    }
    equal!(table.UnifiedIrql, highest, "the IRQL of the routine");
    Ok(())
}

/// Learn, InterruptMessageService: the routine gets its message's object and number.
fn each_message_runs_the_routine() -> Outcome {
    let (function, watch) = (Function::with(true)?, Watch::new()?);
    let connected = by_messages(function, &watch, null_mut())?;
    for (run, index) in (0..MESSAGES).rev().enumerate() {
        signal::signal(1 << index);
        watch.ran(run as u32 + 1)?;
        equal!(read(&watch.message), index, "the message's number");
        equal!(
            watch.object.load(Ordering::SeqCst),
            connected.table().entry(index).InterruptObject,
            "the object of message {index}"
        );
        equal!(
            read(&watch.irql),
            u32::from(connected.table().UnifiedIrql),
            "the IRQL of the routine"
        );
    }
    let all = (1 << MESSAGES) - 1;
    for round in 1..50 {
        signal::signal(all);
        watch.ran((round + 1) * MESSAGES)?;
    }
    drop(connected);
    for (index, count) in watch.messages.iter().enumerate() {
        equal!(read(count), 50, "how often message {index} came");
    }
    Ok(())
}

/// Learn, IO_CONNECT_INTERRUPT_PARAMETERS: a spin lock of the driver's is every message's.
fn messages_share_a_spin_lock() -> Outcome {
    let (function, watch) = (Function::with(true)?, Watch::new()?);
    let mut lock = Pool::<KSPIN_LOCK>::zeroed()?;
    KeInitializeSpinLock(&raw mut *lock);
    let connected = by_messages(function, &watch, &raw mut *lock)?;
    let first = connected.table().entry(0).InterruptObject;
    let old = KeAcquireInterruptSpinLock(first);
    let level = KeGetCurrentIrql();
    signal::signal(0b1110);
    KeStallExecutionProcessor(WHILE);
    let held = read(&watch.runs);
    KeReleaseInterruptSpinLock(first, old);
    watch.ran(3)?;
    let unified = connected.table().UnifiedIrql;
    drop(connected);
    equal!(held, 0, "runs while the lock was held");
    equal!(level, unified, "the IRQL at which the lock was held");
    Ok(())
}

/// Learn, "Using the CONNECT_FULLY_SPECIFIED Version": one message is connected by its vector, without the others.
fn one_message_is_connected_by_its_vector() -> Outcome {
    let (function, watch) = (Function::with(true)?, Watch::new()?);
    let (given, mut object) = (function.given(2), null_mut());
    let mut parameters = IO_CONNECT_INTERRUPT_PARAMETERS {
        Version: CONNECT_FULLY_SPECIFIED,
        PhysicalDeviceObject: function.pdo,
        InterruptObject: &raw mut object,
        ServiceRoutine: one_message,
        ServiceContext: watch.context(),
        SpinLock: null_mut(),
        SynchronizeIrql: given.level,
        FloatingSave: 0,
        ShareVector: u8::from(given.share == CmResourceShareShared),
        Vector: given.vector,
        Irql: given.level,
        InterruptMode: 1,
        ProcessorEnableMask: given.affinity,
        Group: 0,
    };
    let status = IoConnectInterruptEx((&raw mut parameters).cast());
    equal!(
        status,
        STATUS_SUCCESS,
        "IoConnectInterruptEx, fully specified"
    );
    let connected = Connected {
        context: object,
        version: parameters.Version,
    };
    signal::signal(0b1011);
    sleep(2);
    let others = read(&watch.runs);
    signal::signal(0b0100);
    watch.ran(1)?;
    drop(connected);
    equal!(others, 0, "runs for other messages");
    equal!(
        watch.object.load(Ordering::SeqCst),
        object,
        "the routine's object"
    );
    Ok(())
}

/// Learn, "Using the CONNECT_MESSAGE_BASED Version": without messages the fallback routine gets the line, and the version says so.
fn a_device_without_messages_falls_back_to_its_line() -> Outcome {
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    let mut out = null_mut();
    let mut parameters = message_parameters(function, &watch, &raw mut out);
    let status = IoConnectInterruptEx((&raw mut parameters).cast());
    check!(
        !nt_success(status),
        "without messages and a fallback routine it is {status:#x}"
    );
    parameters.FallBackServiceRoutine = Some(line);
    parameters.Version = CONNECT_MESSAGE_BASED;
    let status = IoConnectInterruptEx((&raw mut parameters).cast());
    equal!(
        (status, parameters.Version),
        (STATUS_SUCCESS, CONNECT_LINE_BASED),
        "IoConnectInterruptEx with a fallback routine, and the version"
    );
    let connected = Connected {
        context: out,
        version: parameters.Version,
    };
    signal::signal(1);
    watch.ran(1)?;
    drop(connected);
    equal!(
        (watch.object.load(Ordering::SeqCst), read(&watch.message)),
        (out, NO_MESSAGE),
        "the object and message of the fallback routine"
    );
    Ok(())
}

/// Learn, "Stopping a Device to Rebalance Resources": QUERY_STOP, STOP, and a START with other resources.
fn a_device_is_started_with_other_resources() -> Outcome {
    let function = Function::with(true)?;
    let count = |minor| signal::requests(minor);
    let before = (count(IRP_MN_QUERY_STOP_DEVICE), count(IRP_MN_STOP_DEVICE));
    let filtered = count(IRP_MN_FILTER_RESOURCE_REQUIREMENTS);
    // Looks itself at what START has given.
    Function::with(false)?;
    equal!(
        (count(IRP_MN_QUERY_STOP_DEVICE), count(IRP_MN_STOP_DEVICE)),
        (before.0 + 1, before.1 + 1),
        "QUERY_STOP and STOP requests"
    );
    check!(
        count(IRP_MN_FILTER_RESOURCE_REQUIREMENTS) > filtered,
        "the requirements were not filtered again"
    );
    equal!(
        function.given(0).flags & CM_RESOURCE_INTERRUPT_MESSAGE,
        0,
        "the flags of the line"
    );
    Ok(())
}

/// Learn, IRP_MN_QUERY_STOP_DEVICE: a driver may refuse; then CANCEL_STOP follows, and the device works on.
fn a_refused_stop_is_cancelled() -> Outcome {
    let (function, watch) = (Function::with(false)?, Watch::new()?);
    let connected = by_line(function, &watch)?;
    let cancelled = signal::requests(IRP_MN_CANCEL_STOP_DEVICE);
    let stopped = signal::requests(IRP_MN_STOP_DEVICE);
    function.refuse_stop(true);
    function.change();
    let outcome = until(
        || signal::requests(IRP_MN_CANCEL_STOP_DEVICE) > cancelled,
        "a CANCEL_STOP request",
    );
    function.refuse_stop(false);
    outcome?;
    signal::signal(1);
    watch.ran(1)?;
    drop(connected);
    equal!(
        signal::requests(IRP_MN_STOP_DEVICE),
        stopped,
        "STOP requests"
    );
    Ok(())
}

group!("signals":
    a_line_runs_its_routine,
    a_line_that_stays_up_interrupts_again,
    a_disconnected_routine_is_not_called,
    the_spin_lock_keeps_the_routine_away,
    a_synchronised_routine_keeps_the_routine_away,
    a_raised_irql_keeps_the_routine_away,
    a_routine_queues_its_dpc,
    the_messages_are_described,
    each_message_runs_the_routine,
    messages_share_a_spin_lock,
    one_message_is_connected_by_its_vector,
    a_device_without_messages_falls_back_to_its_line,
    a_device_is_started_with_other_resources,
    a_refused_stop_is_cancelled,
);
