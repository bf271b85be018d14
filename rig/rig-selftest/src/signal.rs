//! The function device of a PCI function that raises interrupts when it is asked to, by messages or by its line.
//!
//! | port | read | written |
//! |---|---|---|
//! | 0 | [`MARK`] | bit n sends message n; without messages it is a cause for the line, which is up while there is one |
//! | 4 | the causes | bits written are causes no longer |
//!
//! A case chooses between the two: the driver then filters the requirements, and has the PnP manager stop the device and
//! start it with other resources.
#![allow(non_upper_case_globals, reason = "Microsoft's names, in patterns")]

use core::arch::asm;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use crate::device::{self, complete, forward_and_wait, pass};
use crate::suite::Finding;
use crate::support::*;
use crate::wdk::*;

/// What port 0 reads: "SELF".
pub const MARK: u32 = u32::from_le_bytes(*b"SELF");
/// Messages that the function has.
pub const MESSAGES: u32 = 4;

/// Ports from the first one.
const SIGNAL: u16 = 0;
const CAUSE: u16 = 4;

static PDO: AtomicPtr<DEVICE_OBJECT> = AtomicPtr::new(null_mut());
/// Whether the driver takes the messages that it is offered.
static TAKES_MESSAGES: AtomicBool = AtomicBool::new(true);
static CHANGED: AtomicBool = AtomicBool::new(false);
static REFUSES_STOP: AtomicBool = AtomicBool::new(false);
static PORTS: AtomicU32 = AtomicU32::new(0);
/// The translated descriptors of its interrupts, as many as START gave.
static GIVEN: [[AtomicU32; 5]; MESSAGES as usize] =
    [const { [const { AtomicU32::new(0) }; 5] }; MESSAGES as usize];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// How often each of these requests came, by its minor function.
static REQUESTS: [AtomicU32; 0x20] = [const { AtomicU32::new(0) }; 0x20];

/// An interrupt of the function, as START gave it.
#[derive(Clone, Copy)]
pub struct Given {
    pub flags: u16,
    pub share: u8,
    pub level: u8,
    pub vector: u32,
    pub affinity: usize,
}

/// The started function.
#[derive(Clone, Copy)]
pub struct Function {
    pub pdo: *mut DEVICE_OBJECT,
}

impl Function {
    /// The function, started with messages or with its line.
    pub fn with(messages: bool) -> Result<Self, Finding> {
        let pdo = PDO.load(Ordering::SeqCst);
        if pdo.is_null() {
            return Err(Finding::Skipped("no function that raises interrupts"));
        }
        let function = Self { pdo };
        until(|| read(&PORTS) != 0, "the start of the signalling function")?;
        if TAKES_MESSAGES.swap(messages, Ordering::SeqCst) != messages {
            function.restart()?;
        }
        equal!(input(SIGNAL), MARK, "what the function's first port reads");
        let wanted = if messages { MESSAGES } else { 1 };
        equal!(read(&COUNT), wanted, "interrupts that START gave");
        Ok(function)
    }

    /// Has the device stopped, and started again.
    pub fn restart(&self) -> Result<(), Finding> {
        let starts = requests(IRP_MN_START_DEVICE);
        self.change();
        until(
            || requests(IRP_MN_START_DEVICE) > starts && read(&PORTS) != 0,
            "a restart of the signalling function",
        )
    }

    /// Says that the requirements are others.
    pub fn change(&self) {
        CHANGED.store(true, Ordering::SeqCst);
        IoInvalidateDeviceState(self.pdo);
    }

    /// Whether the driver lets its device be stopped.
    pub fn refuse_stop(&self, refuses: bool) {
        REFUSES_STOP.store(refuses, Ordering::SeqCst);
    }

    /// An interrupt as START gave it.
    pub fn given(&self, index: u32) -> Given {
        let words: [u32; 5] = core::array::from_fn(|at| read(&GIVEN[index as usize][at]));
        Given {
            flags: (words[0] >> 16) as u16,
            share: (words[0] >> 8) as u8,
            level: words[1] as u8,
            vector: words[2],
            affinity: words[3] as usize | (words[4] as usize) << 32,
        }
    }
}

/// How often a request with this minor function came.
pub fn requests(minor: u8) -> u32 {
    read(&REQUESTS[usize::from(minor)])
}

/// Sends these messages, or makes these causes for the line. Any IRQL.
pub fn signal(bits: u32) {
    output(SIGNAL, bits);
}

/// The causes for the line. Any IRQL.
pub fn causes() -> u32 {
    input(CAUSE)
}

/// Takes causes away. Any IRQL.
pub fn settle(bits: u32) {
    output(CAUSE, bits);
}

fn port(offset: u16) -> u16 {
    read(&PORTS) as u16 + offset
}

fn input(offset: u16) -> u32 {
    let value;
    // SAFETY: a port of this driver's device; no memory is touched.
    unsafe { asm!("in eax, dx", out("eax") value, in("dx") port(offset), options(nomem, nostack)) };
    value
}

fn output(offset: u16, value: u32) {
    // SAFETY: as above. The write may end in an interrupt routine, which touches memory.
    unsafe { asm!("out dx, eax", in("eax") value, in("dx") port(offset), options(nostack)) };
}

/// AddDevice for the function.
pub fn add_device(pdo: *mut DEVICE_OBJECT) -> NTSTATUS {
    match device::attach(pdo, device::Kind::Signal) {
        Ok(_) => {
            PDO.store(pdo, Ordering::SeqCst);
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

/// PnP requests to the function device.
pub fn pnp(device: *mut DEVICE_OBJECT, irp: *mut IRP) -> NTSTATUS {
    let minor = IoGetCurrentIrpStackLocation(irp).MinorFunction;
    if let Some(count) = REQUESTS.get(usize::from(minor)) {
        // A start counts when it is over.
        if minor != IRP_MN_START_DEVICE {
            add(count);
        }
    }
    match minor {
        IRP_MN_START_DEVICE => {
            let status = forward_and_wait(device, irp);
            if nt_success(status) {
                keep_resources(irp);
                add(&REQUESTS[usize::from(minor)]);
            }
            return complete(irp, status, 0);
        }
        IRP_MN_FILTER_RESOURCE_REQUIREMENTS => {
            let _ = forward_and_wait(device, irp);
            let list = fields(irp).IoStatus.Information as *mut u8;
            if !TAKES_MESSAGES.load(Ordering::SeqCst) && !list.is_null() {
                drop_messages(list);
            }
            return complete(irp, STATUS_SUCCESS, list as usize);
        }
        IRP_MN_QUERY_PNP_DEVICE_STATE => {
            let _ = forward_and_wait(device, irp);
            let mut state = fields(irp).IoStatus.Information;
            if CHANGED.swap(false, Ordering::SeqCst) {
                state |= PNP_DEVICE_RESOURCE_REQUIREMENTS_CHANGED;
            }
            return complete(irp, STATUS_SUCCESS, state);
        }
        IRP_MN_QUERY_STOP_DEVICE if REFUSES_STOP.load(Ordering::SeqCst) => {
            return complete(irp, STATUS_UNSUCCESSFUL, 0);
        }
        IRP_MN_STOP_DEVICE | IRP_MN_SURPRISE_REMOVAL => write(&PORTS, 0),
        IRP_MN_REMOVE_DEVICE => {
            write(&PORTS, 0);
            PDO.store(null_mut(), Ordering::SeqCst);
            fields(irp).IoStatus.Status = STATUS_SUCCESS;
            return device::remove(device, irp);
        }
        IRP_MN_QUERY_STOP_DEVICE
        | IRP_MN_CANCEL_STOP_DEVICE
        | IRP_MN_QUERY_REMOVE_DEVICE
        | IRP_MN_CANCEL_REMOVE_DEVICE => {}
        // SAFETY: the same arguments.
        _ => return unsafe { pass(device, irp) },
    }
    fields(irp).IoStatus.Status = STATUS_SUCCESS;
    // SAFETY: the same arguments.
    unsafe { pass(device, irp) }
}

/// Notes ports and interrupts of the translated list.
fn keep_resources(irp: *mut IRP) {
    // Parameters.StartDevice: AllocatedResources, AllocatedResourcesTranslated.
    let list = IoGetCurrentIrpStackLocation(irp).Arguments[1] as *const u32;
    if list.is_null() {
        return;
    }
    // SAFETY: within the list, as its count of descriptors says.
    let word = |at: usize| unsafe { list.wrapping_add(at).read_unaligned() };
    let mut interrupts = 0;
    for index in 0..word(4) as usize {
        let at = 5 + 5 * index;
        match word(at) as u8 {
            CmResourceTypePort => write(&PORTS, word(at + 1)),
            CmResourceTypeInterrupt => {
                if let Some(given) = GIVEN.get(interrupts) {
                    for (offset, place) in given.iter().enumerate() {
                        write(place, word(at + offset));
                    }
                    interrupts += 1;
                }
            }
            _ => {}
        }
    }
    write(&COUNT, interrupts as u32);
}

/// Leaves of a requirements list the alternatives without messages (IO_RESOURCE_REQUIREMENTS_LIST: 32 bytes, then for
/// each alternative version, revision, a count, and as many descriptors of 32 bytes).
fn drop_messages(list: *mut u8) {
    const HEAD: usize = 32;
    const DESCRIPTOR: usize = size_of::<IO_RESOURCE_DESCRIPTOR>();
    let number = |at: usize| list.wrapping_add(at).cast::<u32>();
    // SAFETY: the list is as long as its first word says, and holds what its counts say.
    let value = |at: usize| unsafe { number(at).read_unaligned() } as usize;
    let (alternatives, mut at, mut to, mut kept) = (value(28), HEAD, HEAD, 0);
    for _ in 0..alternatives {
        let (start, count) = (at, value(at + 4));
        at += 8 + count * DESCRIPTOR;
        let has_messages = (0..count).any(|index| {
            let descriptor = start + 8 + index * DESCRIPTOR;
            // Type is the second byte, Flags are the third word.
            let (kind, flags) = (value(descriptor) as u32, value(descriptor + 4) as u16);
            (kind >> 8) as u8 == CmResourceTypeInterrupt
                && flags & CM_RESOURCE_INTERRUPT_MESSAGE != 0
        });
        if !has_messages {
            // SAFETY: both within the list, and `to` is not behind `start`.
            unsafe { core::ptr::copy(list.wrapping_add(start), list.wrapping_add(to), at - start) };
            (to, kept) = (to + at - start, kept + 1);
        }
    }
    // SAFETY: the head of the list.
    unsafe { number(28).write_unaligned(kept) };
}
