//! IRPs: memory for them, and the calls that make, reuse and free them.
//!
//! ```text
//!   IRP │ stack locations [0 .. StackCount) │ nobody's location │ Track (the host's own, behind what drivers know of)
//! ```
//! An IRP has pages of its own, which are out of reach when it is freed: a driver that touches it after it was completed
//! faults. Where its maker keeps it instead, nobody's location shows whether somebody marked it pending after it had gone
//! through its whole stack.

use core::ptr::{NonNull, null_mut};

use nt_sys::{
    BOOLEAN, CCHAR, DEVICE_OBJECT, IO_STACK_LOCATION, IO_STATUS_BLOCK, IO_TYPE_IRP, IRP,
    IRP_MJ_FLUSH_BUFFERS, IRP_MJ_PNP, IRP_MJ_READ, IRP_MJ_SHUTDOWN, IRP_MJ_WRITE,
    IRP_SYNCHRONOUS_API, KEVENT, LARGE_INTEGER, NTSTATUS, PVOID,
};

use crate::exports;
use crate::ke::processor;
use crate::mm::pool;
use crate::verifier::Rule;

/// Where an IRP is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// Its owner has it.
    Idle = 1,
    /// It went to a driver.
    Sent = 2,
    /// It went through all its completion routines.
    Completed = 3,
}

/// What the host remembers of an IRP.
#[repr(C)]
pub(super) struct Track {
    magic: usize,
    /// The module that made it.
    owner: u32,
    pub state: State,
    /// Made by IoBuildSynchronousFsdRequest: its completion sets the event and frees it.
    pub synchronous: bool,
    /// The dispatch routine that it went to last.
    pub last: usize,
}

const MAGIC: usize = 0x6b63_6172_5470_7249;
const TAG: [u8; 4] = *b"Irp ";

/// Bytes of an IRP as drivers know it (wdm.h: IoSizeOfIrp).
const fn size(stack: usize) -> usize {
    size_of::<IRP>() + stack * size_of::<IO_STACK_LOCATION>()
}

/// Where the track is: behind the location above the stack.
const fn track_offset(stack: usize) -> usize {
    size(stack) + size_of::<IO_STACK_LOCATION>()
}

/// What fills the location above the stack: its flags are none of SL_*.
const NOBODYS: u8 = 0x0C;

/// # Safety
/// `irp` is a live IRP of this module.
pub(super) unsafe fn fields<'a>(irp: *mut IRP) -> &'a mut IRP {
    // SAFETY: the caller's promise; uses of the reference end before driver code runs.
    unsafe { &mut *irp }
}

/// # Safety
/// `irp` is a live IRP of this module.
pub(super) unsafe fn track<'a>(irp: *mut IRP) -> &'a mut Track {
    // SAFETY: the caller's promise.
    let stack = unsafe { fields(irp) }.StackCount;
    let track = irp
        .cast::<u8>()
        .wrapping_add(track_offset(stack.max(0) as usize))
        .cast::<Track>();
    // SAFETY: every IRP was allocated with a track behind its stack.
    unsafe { &mut *track }
}

/// Checks that a pointer a driver passes is a live IRP.
pub(super) fn demand(irp: *mut IRP, function: &str) {
    let platform = crate::host::platform();
    let good = !irp.is_null()
        && (irp as usize).is_multiple_of(8)
        && platform.readable(irp as u64, size(0))
        // SAFETY: the memory is readable.
        && unsafe { fields(irp) }.Type == IO_TYPE_IRP
        // SAFETY: the memory is readable.
        && platform.readable(irp as u64, track_offset(unsafe { fields(irp) }.StackCount.max(0) as usize) + size_of::<Track>())
        // SAFETY: the memory is readable up to the end of the track.
        && unsafe { track(irp) }.magic == MAGIC;
    if !good {
        Rule::IrpInvalid.breach(format_args!(
            "{function}: {irp:p} is no IRP, or one that was freed"
        ));
    }
}

/// The place where an IRP keeps the address of its current location.
///
/// # Safety
/// `irp` is a live IRP.
unsafe fn current<'a>(irp: *mut IRP) -> &'a mut *mut IO_STACK_LOCATION {
    // SAFETY: the caller's promise; only an address is computed.
    let place = unsafe { &raw mut (*irp).Tail.Overlay.CurrentStackLocation };
    // SAFETY: a field of a live IRP; uses of the reference end before driver code runs.
    unsafe { &mut *place }
}

/// The address of the location that a driver sees as its own.
///
/// # Safety
/// `irp` is a live IRP that is at a driver.
pub unsafe fn current_location(irp: *mut IRP) -> *mut IO_STACK_LOCATION {
    // SAFETY: the caller's promise.
    *unsafe { current(irp) }
}

/// The location that a driver sees as its own.
///
/// # Safety
/// `irp` is a live IRP that is at a driver.
pub(super) unsafe fn location<'a>(irp: *mut IRP) -> &'a mut IO_STACK_LOCATION {
    // SAFETY: the caller's promise.
    let at = unsafe { current_location(irp) };
    // SAFETY: it points into the IRP's stack, as its counter says.
    unsafe { &mut *at }
}

/// The location that the next driver down will see.
///
/// # Safety
/// `irp` is a live IRP with a location left.
pub unsafe fn next<'a>(irp: *mut IRP) -> &'a mut IO_STACK_LOCATION {
    // SAFETY: the caller's promise.
    let next = unsafe { current_location(irp) }.wrapping_sub(1);
    // SAFETY: the caller's promise: below the current location is another of the same stack.
    unsafe { &mut *next }
}

/// Moves the current location up (+1) or down (-1), its number with it.
///
/// # Safety
/// `irp` is a live IRP, and the location exists or is the one above the stack.
pub(super) unsafe fn step(irp: *mut IRP, by: i8) {
    // SAFETY: the caller's promise.
    let fields = unsafe { fields(irp) };
    fields.CurrentLocation = fields.CurrentLocation.saturating_add(by);
    // SAFETY: the caller's promise.
    let current = unsafe { current(irp) };
    *current = current.wrapping_offset(by.into());
}

/// Lets the next driver down use the caller's own location (wdm.h: IoSkipCurrentIrpStackLocation).
///
/// # Safety
/// `irp` is a live IRP that is at the caller.
pub unsafe fn skip(irp: *mut IRP) {
    // SAFETY: the caller's promise; above a location is another, or the end of the stack.
    unsafe { step(irp, 1) };
}

/// Makes the highest free location of an IRP its maker's own (wdm.h: IoSetNextIrpStackLocation).
///
/// # Safety
/// `irp` is a live IRP with more than one location left.
pub unsafe fn enter(irp: *mut IRP) {
    // SAFETY: the caller's promise.
    unsafe { step(irp, -1) };
}

/// A new IRP for `owner`.
fn allocate(stack: CCHAR, owner: u32, synchronous: bool) -> Option<NonNull<IRP>> {
    let count = usize::try_from(stack).ok().filter(|count| *count > 0)?;
    let total = track_offset(count) + size_of::<Track>();
    let memory = pool::allocate_apart(owner, total, TAG)?;
    // SAFETY: the allocation is that long.
    unsafe { memory.write_bytes(0, total) };
    let irp = memory.cast::<IRP>();
    // SAFETY: an all-zero IRP is valid, and nobody else has its address.
    let fields = unsafe { fields(irp.as_ptr()) };
    fields.StackCount = stack;
    // SAFETY: the IRP has its stack count.
    let track = unsafe { track(irp.as_ptr()) };
    *track = Track {
        magic: MAGIC,
        owner,
        state: State::Idle,
        synchronous,
        last: 0,
    };
    // SAFETY: the memory is that of an IRP with `count` locations.
    unsafe { initialize(irp.as_ptr(), stack) };
    Some(irp)
}

/// Gives an IRP its first state: current location one above the stack.
///
/// # Safety
/// `irp` is memory of an IRP with `stack` locations.
unsafe fn initialize(irp: *mut IRP, stack: CCHAR) {
    let count = stack.max(0) as usize;
    // SAFETY: the caller's promise.
    unsafe { irp.cast::<u8>().write_bytes(0, size(count)) };
    // SAFETY: the caller's promise.
    let fields = unsafe { fields(irp) };
    fields.Type = IO_TYPE_IRP;
    fields.Size = u16::try_from(size(count)).unwrap_or(u16::MAX);
    fields.StackCount = stack;
    fields.CurrentLocation = stack.saturating_add(1);
    let list = &raw mut fields.ThreadListEntry;
    fields.ThreadListEntry.Flink = list;
    fields.ThreadListEntry.Blink = list;
    let above = irp
        .cast::<u8>()
        .wrapping_add(size(count))
        .cast::<IO_STACK_LOCATION>();
    // SAFETY: the location above the stack is part of the IRP's memory.
    unsafe {
        above
            .cast::<u8>()
            .write_bytes(NOBODYS, size_of::<IO_STACK_LOCATION>())
    };
    // SAFETY: the IRP is laid out.
    *unsafe { current(irp) } = above;
}

/// Checks that nobody has written the location above the stack: by its maker, when he frees it or uses it again.
///
/// # Safety
/// `irp` is a live IRP.
pub(super) unsafe fn demand_untouched(irp: *mut IRP) {
    // SAFETY: the caller's promise.
    let stack = unsafe { fields(irp) }.StackCount.max(0) as usize;
    let above = irp.cast::<u8>().wrapping_add(size(stack));
    // SAFETY: the location above the stack is part of the IRP's memory.
    let bytes = unsafe { &*above.cast::<[u8; size_of::<IO_STACK_LOCATION>()]>() };
    if let Some(at) = bytes.iter().position(|&byte| byte != NOBODYS) {
        // SAFETY: the caller's promise.
        let last = unsafe { track(irp) }.last;
        let what = match at == core::mem::offset_of!(IO_STACK_LOCATION, Control) {
            true => "marked it pending, or wrote another flag,",
            false => "wrote a stack location",
        };
        Rule::IrpTouched.breach_of(
            last,
            format_args!("completed IRP {irp:p} and {what} after that"),
        );
    }
}

/// Microsoft Learn: IoAllocateIrp.
pub extern "win64" fn IoAllocateIrp(stack: CCHAR, _charge_quota: BOOLEAN) -> *mut IRP {
    let owner = processor::caller();
    allocate(stack, owner, false).map_or(null_mut(), NonNull::as_ptr)
}

/// Microsoft Learn: IoFreeIrp.
///
/// # Safety
/// `irp` is an IRP of the caller.
pub unsafe extern "win64" fn IoFreeIrp(irp: *mut IRP) {
    demand(irp, "IoFreeIrp");
    // SAFETY: just found to be an IRP.
    let fields = unsafe { fields(irp) };
    if fields.CurrentLocation <= fields.StackCount {
        Rule::IrpFreedInUse.breach(format_args!(
            "IoFreeIrp: the IRP is still at {}",
            super::complete::holder(irp)
        ));
    }
    // SAFETY: just found to be an IRP.
    unsafe { free(irp) };
}

/// # Safety
/// `irp` is a live IRP which nothing uses any more.
pub(super) unsafe fn free(irp: *mut IRP) {
    // SAFETY: the caller's promise.
    unsafe { demand_untouched(irp) };
    // SAFETY: the caller's promise.
    unsafe { track(irp) }.magic = 0;
    // SAFETY: the caller's promise.
    unsafe { fields(irp) }.Type = 0;
    if let Some(memory) = NonNull::new(irp.cast()) {
        // SAFETY: allocated so by `allocate`.
        unsafe { pool::free_late(memory, "an IRP", Rule::IrpTouched) };
    }
}

/// Microsoft Learn: IoReuseIrp.
///
/// # Safety
/// `irp` is an IRP of the caller, from IoAllocateIrp.
pub unsafe extern "win64" fn IoReuseIrp(irp: *mut IRP, status: NTSTATUS) {
    demand(irp, "IoReuseIrp");
    // SAFETY: just found to be an IRP.
    unsafe { demand_untouched(irp) };
    // SAFETY: just found to be an IRP.
    let stack = unsafe { fields(irp) }.StackCount;
    // SAFETY: just found to be an IRP of that stack.
    unsafe { initialize(irp, stack) };
    // SAFETY: as above.
    unsafe { track(irp) }.state = State::Idle;
    // SAFETY: as above.
    unsafe { fields(irp) }.IoStatus.Status = status;
}

/// Microsoft Learn: IoBuildSynchronousFsdRequest, for PnP, shutdown, flush, read and write requests.
///
/// # Safety
/// The pointers are valid as documented.
pub unsafe extern "win64" fn IoBuildSynchronousFsdRequest(
    major: u32,
    device: *mut DEVICE_OBJECT,
    buffer: PVOID,
    length: u32,
    offset: *const LARGE_INTEGER,
    event: *mut KEVENT,
    status: *mut IO_STATUS_BLOCK,
) -> *mut IRP {
    let owner = processor::caller();
    let major = u8::try_from(major).unwrap_or(u8::MAX);
    if !matches!(
        major,
        IRP_MJ_PNP | IRP_MJ_SHUTDOWN | IRP_MJ_FLUSH_BUFFERS | IRP_MJ_READ | IRP_MJ_WRITE
    ) {
        return null_mut();
    }
    // SAFETY: the caller's promise.
    let stack = unsafe { (*device).StackSize };
    let Some(irp) = allocate(stack, owner, true) else {
        return null_mut();
    };
    let irp = irp.as_ptr();
    // SAFETY: the IRP was just made.
    let fields = unsafe { fields(irp) };
    fields.UserEvent = event;
    fields.UserIosb = status;
    fields.Flags = IRP_SYNCHRONOUS_API;
    fields.Tail.Overlay.Thread = crate::ke::thread::current().as_pvoid().as_ptr();
    // SAFETY: the IRP was just made with at least one location.
    let next = unsafe { next(irp) };
    next.MajorFunction = major;
    if matches!(major, IRP_MJ_READ | IRP_MJ_WRITE) {
        fields.UserBuffer = buffer;
        next.Parameters.Read.Length = length;
        // SAFETY: the caller's promise: null or an offset.
        next.Parameters.Read.ByteOffset = unsafe { offset.as_ref() }.copied().unwrap_or(0);
    }
    irp
}

/// The module that made an IRP.
///
/// # Safety
/// `irp` is a live IRP.
pub(super) unsafe fn owner(irp: *mut IRP) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { track(irp) }.owner
}

exports!("ntoskrnl.exe": IoAllocateIrp, IoFreeIrp, IoReuseIrp, IoBuildSynchronousFsdRequest);
