//! Interrupts: what a device is given, the forms of connecting, interrupt spin locks. `signals.rs` has those that happen.

use core::ptr::null_mut;
use core::sync::atomic::AtomicU32;

use crate::child::{self, Child};
use crate::suite::{Finding, Outcome, failed};
use crate::support::*;
use crate::wdk::*;

/// An interrupt as the translated list of a child's START tells it.
struct Given {
    flags: u16,
    share: u8,
    level: u8,
    vector: u32,
    affinity: usize,
}

/// Plugs a child in that asks for an interrupt. Where the system has none to give to such a bus, nothing is checked.
fn plug(slot: u32, plan: u32) -> Result<(Child, Given), Finding> {
    child::forget();
    let child = Child::plug(slot, plan)
        .map_err(|_| Finding::Skipped("no interrupt for a device on a bus of software"))?;
    let words: [u32; 5] = core::array::from_fn(|at| read(&child::RESOURCES[1][5 + at]));
    if words[0] as u8 != CmResourceTypeInterrupt {
        return Err(failed(format_args!(
            "the translated list has type {}",
            words[0] as u8
        )));
    }
    let given = Given {
        flags: (words[0] >> 16) as u16,
        share: (words[0] >> 8) as u8,
        level: words[1] as u8,
        vector: words[2],
        affinity: words[3] as usize | (words[4] as usize) << 32,
    };
    Ok((child, given))
}

fn sound(given: &Given) -> Outcome {
    // Above DISPATCH_LEVEL, below CLOCK_LEVEL.
    check!(
        (3..13).contains(&given.level),
        "the IRQL is {}",
        given.level
    );
    let mut active = 0;
    KeQueryActiveProcessorCount(&raw mut active);
    check!(
        given.affinity != 0 && given.affinity & !active == 0,
        "the affinity is {:#x}",
        given.affinity
    );
    Ok(())
}

/// Learn, CM_PARTIAL_RESOURCE_DESCRIPTOR: a translated line has IRQL, vector and processors.
fn a_line_has_an_irql_and_processors() -> Outcome {
    let (child, given) = plug(0, child::LINE)?;
    sound(&given)?;
    equal!(given.share, CmResourceShareShared, "the share disposition");
    equal!(
        given.flags & 3,
        CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE,
        "the flags"
    );
    child.unplug()
}

/// Learn, "Using Interrupt Resource Descriptors": a message is latched, and says that it is one.
fn a_message_has_an_irql_and_processors() -> Outcome {
    let (child, given) = plug(0, child::MESSAGE)?;
    sound(&given)?;
    let wanted = CM_RESOURCE_INTERRUPT_LATCHED | CM_RESOURCE_INTERRUPT_MESSAGE;
    equal!(given.flags & 3, wanted, "the flags");
    child.unplug()
}

unsafe extern "system" fn serve(_: PVOID, _: PVOID) -> BOOLEAN {
    // Of a line that is shared: never this device's.
    0
}

/// A connected interrupt, disconnected with its owner.
struct Connected {
    object: PVOID,
    version: u32,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut parameters = IO_DISCONNECT_INTERRUPT_PARAMETERS {
            Version: self.version,
            ConnectionContext: self.object,
        };
        IoDisconnectInterruptEx(&raw mut parameters);
    }
}

fn parameters(child: &Child, object: *mut PVOID) -> IO_CONNECT_INTERRUPT_PARAMETERS {
    IO_CONNECT_INTERRUPT_PARAMETERS {
        Version: CONNECT_LINE_BASED,
        PhysicalDeviceObject: child.pdo(),
        InterruptObject: object,
        ServiceRoutine: serve,
        ServiceContext: null_mut(),
        SpinLock: null_mut(),
        SynchronizeIrql: 0,
        FloatingSave: 0,
        ShareVector: 0,
        Vector: 0,
        Irql: 0,
        InterruptMode: 0,
        ProcessorEnableMask: 0,
        Group: 0,
    }
}

/// Connects by the numbers of the translated list.
fn fully(child: &Child, given: &Given, irql: u8) -> Result<Connected, Finding> {
    let mut object = null_mut();
    let mut all = parameters(child, &raw mut object);
    all.Version = CONNECT_FULLY_SPECIFIED;
    all.SynchronizeIrql = irql;
    all.ShareVector = u8::from(given.share == CmResourceShareShared);
    all.Vector = given.vector;
    all.Irql = given.level;
    // KINTERRUPT_MODE: LevelSensitive 0, Latched 1.
    all.InterruptMode = i32::from(given.flags & CM_RESOURCE_INTERRUPT_LATCHED);
    all.ProcessorEnableMask = given.affinity;
    let status = IoConnectInterruptEx((&raw mut all).cast());
    equal!(
        status,
        STATUS_SUCCESS,
        "IoConnectInterruptEx, fully specified"
    );
    check!(!object.is_null(), "there is no interrupt object");
    Ok(Connected {
        object,
        version: all.Version,
    })
}

/// Learn, KeAcquireInterruptSpinLock: raises to the interrupt's SynchronizeIrql and returns the former IRQL.
fn an_interrupt_spin_lock_raises_to_its_irql() -> Outcome {
    for plan in [child::LINE, child::MESSAGE] {
        let (child, given) = plug(0, plan)?;
        let connected = fully(&child, &given, given.level)?;
        let old = KeAcquireInterruptSpinLock(connected.object);
        let held = KeGetCurrentIrql();
        KeReleaseInterruptSpinLock(connected.object, old);
        let after = KeGetCurrentIrql();
        drop(connected);
        equal!(
            (old, held, after),
            (PASSIVE_LEVEL, given.level, PASSIVE_LEVEL),
            "the IRQL before, inside, after"
        );
        child.unplug()?;
    }
    Ok(())
}

/// Learn, IoConnectInterruptEx: SynchronizeIrql may be higher than the interrupt's own IRQL.
fn an_interrupt_is_synchronised_at_the_irql_asked_for() -> Outcome {
    let (child, given) = plug(0, child::LINE)?;
    let connected = fully(&child, &given, given.level + 1)?;
    let old = KeAcquireInterruptSpinLock(connected.object);
    let held = KeGetCurrentIrql();
    KeReleaseInterruptSpinLock(connected.object, old);
    drop(connected);
    equal!(held, given.level + 1, "the IRQL inside");
    child.unplug()
}

#[repr(C)]
struct Inside {
    irql: AtomicU32,
    runs: AtomicU32,
}

/// Learn, KeSynchronizeExecution: the routine runs at the interrupt's IRQL with its context; its result is returned.
fn execution_is_synchronised_with_the_interrupt() -> Outcome {
    unsafe extern "system" fn note(inside: PVOID) -> BOOLEAN {
        // SAFETY: KeSynchronizeExecution returns after the routine has.
        let inside = unsafe { context::<Inside>(inside) };
        write(&inside.irql, KeGetCurrentIrql().into());
        u8::from(add(&inside.runs) == 0)
    }
    let inside = Pool::<Inside>::zeroed()?;
    let (child, given) = plug(0, child::LINE)?;
    let connected = fully(&child, &given, given.level)?;
    let first = KeSynchronizeExecution(connected.object, note, inside.context());
    let second = KeSynchronizeExecution(connected.object, note, inside.context());
    drop(connected);
    equal!((first, second), (1, 0), "the results of the two runs");
    equal!(
        read(&inside.irql),
        u32::from(given.level),
        "the IRQL inside"
    );
    equal!(KeGetCurrentIrql(), PASSIVE_LEVEL, "the IRQL afterwards");
    child.unplug()
}

/// Learn, "Using the CONNECT_LINE_BASED Version": the system finds the line by the physical device.
fn a_line_is_connected_by_its_device() -> Outcome {
    let (child, given) = plug(0, child::LINE)?;
    let mut object = null_mut();
    let mut line = parameters(&child, &raw mut object);
    let status = IoConnectInterruptEx((&raw mut line).cast());
    equal!(status, STATUS_SUCCESS, "IoConnectInterruptEx, line-based");
    let connected = Connected {
        object,
        version: line.Version,
    };
    let old = KeAcquireInterruptSpinLock(connected.object);
    let held = KeGetCurrentIrql();
    KeReleaseInterruptSpinLock(connected.object, old);
    drop(connected);
    equal!(line.Version, CONNECT_LINE_BASED, "the version");
    equal!(
        held,
        given.level,
        "the IRQL of a connection that leaves the choice"
    );
    child.unplug()
}

/// Learn, CM_RESOURCE_SHARE: devices that share a line have one vector, and each connects its routine.
fn two_devices_share_a_line() -> Outcome {
    let (first, one) = plug(0, child::LINE)?;
    let (second, other) = plug(1, child::LINE)?;
    let connected = (
        fully(&first, &one, one.level)?,
        fully(&second, &other, other.level)?,
    );
    let different = connected.0.object != connected.1.object;
    drop(connected);
    equal!(other.vector, one.vector, "the vector of the second device");
    check!(different, "both have one interrupt object");
    second.unplug()?;
    first.unplug()
}

/// Learn, IoDisconnectInterruptEx: what was disconnected can be connected again.
fn an_interrupt_is_connected_again() -> Outcome {
    let (child, given) = plug(0, child::MESSAGE)?;
    for _ in 0..3 {
        drop(fully(&child, &given, given.level)?);
    }
    child.unplug()
}

group!("interrupts":
    a_line_has_an_irql_and_processors,
    a_message_has_an_irql_and_processors,
    an_interrupt_spin_lock_raises_to_its_irql,
    an_interrupt_is_synchronised_at_the_irql_asked_for,
    execution_is_synchronised_with_the_interrupt,
    a_line_is_connected_by_its_device,
    two_devices_share_a_line,
    an_interrupt_is_connected_again,
);
