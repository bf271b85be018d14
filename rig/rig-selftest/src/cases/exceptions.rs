//! Structured exceptions: who gets them, what they say, what runs on the way, and unwinding by hand.

use core::arch::asm;
use core::ptr::null_mut;

use crate::stage::{Act, Scene, Stage, skip};
use crate::suite::Outcome;
use crate::try_blocks::{attempt, finally, wrong_registers};
use crate::wdk::*;

const CODE: NTSTATUS = STATUS_INSUFFICIENT_RESOURCES;
const OTHER: NTSTATUS = STATUS_DEVICE_NOT_READY;

extern "system" fn take(_: *mut EXCEPTION_POINTERS, _: PVOID) -> i32 {
    1
}

extern "system" fn raise(_: PVOID) {
    ExRaiseStatus(CODE)
}

/// What happened, in order: a digit each.
#[derive(Default)]
struct Log(u64);

impl Log {
    fn as_pvoid(&mut self) -> PVOID {
        (&raw mut *self).cast()
    }
}

fn note(log: PVOID, digit: u64) {
    // SAFETY: each case passes its log, which lives on its stack.
    let log = unsafe { &mut *log.cast::<Log>() };
    log.0 = log.0 * 10 + digit;
}

/// Learn, ExRaiseStatus: raises an exception with the given status, which a handler of a caller takes.
fn a_raised_status_reaches_the_handler() -> Outcome {
    let code = attempt(raise, null_mut(), take, null_mut());
    equal!(code, Some(CODE as u32), "the code of the exception taken");
    Ok(())
}

/// Without an exception a handler does not run.
fn without_an_exception_nothing_is_taken() -> Outcome {
    extern "system" fn nothing(_: PVOID) {}
    let code = attempt(nothing, null_mut(), take, null_mut());
    equal!(code, None, "the code of the exception taken");
    Ok(())
}

/// Learn, EXCEPTION_RECORD: code, flags (1 is noncontinuable, as for ExRaiseStatus) and the address.
fn a_filter_sees_the_record() -> Outcome {
    #[derive(Default)]
    struct Seen(u32, u32, u64, u64);
    extern "system" fn look(pointers: *mut EXCEPTION_POINTERS, seen: PVOID) -> i32 {
        // SAFETY: the dispatcher's record and state, and the case's own structure.
        unsafe {
            let record = &*(*pointers).ExceptionRecord;
            let context = &*(*pointers).ContextRecord;
            *seen.cast::<Seen>() = Seen(
                record.ExceptionCode,
                record.ExceptionFlags,
                record.ExceptionAddress,
                context.Rip,
            );
        }
        1
    }
    let mut seen = Seen::default();
    attempt(raise, null_mut(), look, (&raw mut seen).cast());
    equal!(seen.0, CODE as u32, "ExceptionCode");
    equal!(seen.1 & 1, 1, "EXCEPTION_NONCONTINUABLE");
    check!(seen.2 != 0, "ExceptionAddress is null");
    check!(seen.3 != 0, "the state has no Rip");
    Ok(())
}

/// A filter that answers 0 leaves the exception to the callers' handlers.
fn a_filter_that_declines_is_passed_over() -> Outcome {
    extern "system" fn decline(_: *mut EXCEPTION_POINTERS, log: PVOID) -> i32 {
        note(log, 1);
        0
    }
    extern "system" fn inner(log: PVOID) {
        attempt(raise, null_mut(), decline, log);
        note(log, 9);
    }
    let mut log = Log::default();
    let code = attempt(inner, log.as_pvoid(), take, null_mut());
    equal!(code, Some(CODE as u32), "the code at the outer handler");
    equal!(log.0, 1, "what ran");
    Ok(())
}

extern "system" fn block_1(abnormal: u8, log: PVOID) {
    note(log, 1 + 4 * u64::from(abnormal));
}

extern "system" fn block_2(abnormal: u8, log: PVOID) {
    note(log, 2 + 4 * u64::from(abnormal));
}

/// Finally blocks between raise and handler run after the filters, the inner one first, and know that it is abnormal.
fn finally_blocks_run_from_the_inside() -> Outcome {
    extern "system" fn inner(log: PVOID) {
        finally(raise, null_mut(), block_1, log);
    }
    extern "system" fn outer(log: PVOID) {
        finally(inner, log, block_2, log);
    }
    extern "system" fn last(_: *mut EXCEPTION_POINTERS, log: PVOID) -> i32 {
        note(log, 9);
        1
    }
    let mut log = Log::default();
    let code = attempt(outer, log.as_pvoid(), last, log.as_pvoid());
    equal!(code, Some(CODE as u32), "the code at the handler");
    equal!(log.0, 956, "filter, inner block, outer block");
    Ok(())
}

/// A finally block outside of the handler's frame does not run for an exception that is taken inside.
fn finally_blocks_further_out_run_only_at_their_end() -> Outcome {
    extern "system" fn inner(log: PVOID) {
        attempt(raise, null_mut(), take, null_mut());
        note(log, 3);
    }
    let mut log = Log::default();
    finally(inner, log.as_pvoid(), block_1, log.as_pvoid());
    equal!(log.0, 31, "the body's end, then the block, normally");
    Ok(())
}

/// Registers which functions preserve have the values of the handler's frame, however callees saved them.
fn preserved_registers_come_back() -> Outcome {
    equal!(
        wrong_registers(raise, null_mut()),
        0,
        "registers with a wrong value"
    );
    Ok(())
}

/// The processor's faults are exceptions with documented codes (Learn, "Bug Check 0x1E").
fn faults_of_the_processor_are_exceptions() -> Outcome {
    extern "system" fn divide(_: PVOID) {
        // SAFETY: the exception is taken.
        unsafe {
            asm!("xor edx, edx", "xor ecx, ecx", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
        };
    }
    extern "system" fn illegal(_: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { asm!("ud2") };
    }
    extern "system" fn breakpoint(_: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { asm!("int3") };
    }
    extern "system" fn null(_: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { asm!("mov rax, [rax + 0x10]", inout("rax") 0u64 => _) };
    }
    extern "system" fn not_canonical(_: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { asm!("mov rax, [rax]", inout("rax") 0x1234_5678_9abc_def0u64 => _) };
    }
    extern "system" fn call_of_null(_: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { asm!("call rax", inout("rax") 0u64 => _, clobber_abi("system")) };
    }
    let cases: [(&str, extern "system" fn(PVOID), u32); 6] = [
        ("div by 0", divide, 0xC000_0094),
        ("ud2", illegal, 0xC000_001D),
        ("int 3", breakpoint, 0x8000_0003),
        ("a read near null", null, 0xC000_0005),
        ("a non-canonical read", not_canonical, 0xC000_0005),
        ("a call of null", call_of_null, 0xC000_0005),
    ];
    for (what, body, code) in cases {
        let taken = attempt(body, null_mut(), take, null_mut());
        equal!(taken, Some(code), "the code of {what}");
    }
    Ok(())
}

/// EXCEPTION_CONTINUE_EXECUTION goes on with the state as the filter has changed it.
fn a_filter_can_let_execution_go_on() -> Outcome {
    extern "system" fn skip(pointers: *mut EXCEPTION_POINTERS, _: PVOID) -> i32 {
        // SAFETY: the dispatcher's state.
        let context = unsafe { &mut *(*pointers).ContextRecord };
        // Behind the one byte of int 3, with a result.
        context.Rip += 1;
        context.Rax = 77;
        -1
    }
    extern "system" fn body(result: PVOID) {
        let (value, kept): (u64, u64);
        // SAFETY: the filter steps over the instruction.
        unsafe {
            asm!("mov r12d, 5", "int3", "mov rcx, r12", out("rax") value, out("rcx") kept, out("r12") _)
        };
        // SAFETY: the case's own variable.
        unsafe { *result.cast::<u64>() = value * 100 + kept };
    }
    let mut result = 0u64;
    let code = attempt(body, (&raw mut result).cast(), skip, null_mut());
    equal!(code, None, "the code of the exception taken");
    equal!(result, 7705, "RAX as the filter set it, R12 as it was");
    Ok(())
}

/// Learn, RtlRaiseException: returns when a handler lets execution go on.
fn a_raised_exception_can_be_continued() -> Outcome {
    extern "system" fn go_on(_: *mut EXCEPTION_POINTERS, log: PVOID) -> i32 {
        note(log, 1);
        -1
    }
    extern "system" fn body(log: PVOID) {
        let mut record = EXCEPTION_RECORD::new(0x2000_0001);
        RtlRaiseException(&raw mut record);
        note(log, 2);
    }
    let mut log = Log::default();
    let code = attempt(body, log.as_pvoid(), go_on, log.as_pvoid());
    equal!(code, None, "the code of the exception taken");
    equal!(log.0, 12, "filter, then the body's end");
    Ok(())
}

/// An exception in a finally block takes the place of the one that is unwound.
fn an_exception_in_a_finally_block_replaces_the_first() -> Outcome {
    extern "system" fn raise_other(_abnormal: u8, _: PVOID) {
        ExRaiseStatus(OTHER)
    }
    extern "system" fn inner(_: PVOID) {
        finally(raise, null_mut(), raise_other, null_mut());
    }
    let code = attempt(inner, null_mut(), take, null_mut());
    equal!(code, Some(OTHER as u32), "the code at the handler");
    // The dispatcher is as before.
    let code = attempt(raise, null_mut(), take, null_mut());
    equal!(code, Some(CODE as u32), "the code of the next exception");
    Ok(())
}

/// An exception in a filter is an exception of its own, which handlers further out can take.
fn an_exception_in_a_filter_reaches_handlers_further_out() -> Outcome {
    extern "system" fn raise_once(pointers: *mut EXCEPTION_POINTERS, log: PVOID) -> i32 {
        // SAFETY: the dispatcher's record.
        let code = unsafe { (*(*pointers).ExceptionRecord).ExceptionCode };
        note(log, 1);
        if code == CODE as u32 {
            ExRaiseStatus(OTHER);
        }
        0
    }
    extern "system" fn inner(log: PVOID) {
        attempt(raise, null_mut(), raise_once, log);
    }
    extern "system" fn only_other(pointers: *mut EXCEPTION_POINTERS, _: PVOID) -> i32 {
        // SAFETY: the dispatcher's record.
        let code = unsafe { (*(*pointers).ExceptionRecord).ExceptionCode };
        i32::from(code == OTHER as u32)
    }
    let mut log = Log::default();
    let code = attempt(inner, log.as_pvoid(), only_other, null_mut());
    equal!(code, Some(OTHER as u32), "the code at the outer handler");
    equal!(log.0, 11, "the inner filter ran for both");
    Ok(())
}

/// Learn, ProbeForRead: raises STATUS_DATATYPE_MISALIGNMENT or STATUS_ACCESS_VIOLATION; a length of 0 is never probed.
fn probing_raises_for_what_is_no_users_memory() -> Outcome {
    struct Range(usize, usize, u32);
    extern "system" fn probe(range: PVOID) {
        // SAFETY: the case's own structure.
        let Range(start, length, alignment) = unsafe { &*range.cast::<Range>() };
        ProbeForRead(*start as PVOID, *length, *alignment);
        ProbeForWrite(*start as PVOID, *length, *alignment);
    }
    let own = 0u64;
    let here = (&raw const own) as usize;
    let cases = [
        (Range(0, 0, 1), None, "nothing"),
        (Range(1, 4, 4), Some(0x8000_0002), "a misaligned range"),
        (Range(0, 4, 4), Some(0xC000_0005), "the null pointer"),
        (
            Range(usize::MAX & !3, 64, 4),
            Some(0xC000_0005),
            "a range that wraps",
        ),
        (
            Range(here, 8, 8),
            Some(0xC000_0005),
            "the kernel's own memory",
        ),
    ];
    for (mut range, code, what) in cases {
        let taken = attempt(probe, (&raw mut range).cast(), take, null_mut());
        equal!(taken, code, "the exception for {what}");
    }
    Ok(())
}

/// Learn, MmProbeAndLockPages: raises an exception for an address range that is not valid.
fn locking_what_is_no_memory_raises() -> Outcome {
    extern "system" fn lock(mdl: PVOID) {
        MmProbeAndLockPages(mdl.cast(), KernelMode, 0);
    }
    let mdl = IoAllocateMdl(0x1000 as PVOID, 64, 0, 0, null_mut());
    check!(!mdl.is_null(), "no MDL");
    let taken = attempt(lock, mdl.cast(), take, null_mut());
    IoFreeMdl(mdl);
    equal!(taken, Some(0xC000_0005), "the exception");
    Ok(())
}

/// Copying from a bad address is the caller's fault, which its handler takes.
fn copying_from_nowhere_is_an_exception_of_the_caller() -> Outcome {
    extern "system" fn copy(target: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { memcpy(target, 0x1000 as PVOID, 64) };
    }
    extern "system" fn fill(target: PVOID) {
        // SAFETY: the exception is taken.
        unsafe { memset(target, 0, 64) };
    }
    let mut room = [0u64; 8];
    let taken = attempt(copy, (&raw mut room).cast(), take, null_mut());
    equal!(taken, Some(0xC000_0005), "the exception of memcpy");
    let taken = attempt(fill, 0x1000 as PVOID, take, null_mut());
    equal!(taken, Some(0xC000_0005), "the exception of memset");
    Ok(())
}

#[inline(never)]
fn unwound_once() -> Option<(u64, u64)> {
    let mut context = CONTEXT::zeroed();
    RtlCaptureContext(&raw mut context);
    let mut base = 0;
    let function = RtlLookupFunctionEntry(context.Rip, &raw mut base, null_mut());
    if function.is_null() {
        return None;
    }
    let (mut data, mut establisher) = (null_mut(), 0);
    RtlVirtualUnwind(
        0,
        base,
        context.Rip,
        function,
        &raw mut context,
        &raw mut data,
        &raw mut establisher,
        null_mut(),
    );
    Some((context.Rip, base))
}

/// A handler around IofCallDriver takes what the driver below raises; the request is its maker's again.
fn a_handler_above_a_request_takes_what_the_driver_below_raises() -> Outcome {
    struct Sent(*mut DEVICE_OBJECT, *mut IRP);
    extern "system" fn send(sent: PVOID) {
        // SAFETY: the case's own structure.
        let sent = unsafe { &*sent.cast::<Sent>() };
        IofCallDriver(sent.0, sent.1);
    }
    fn raises(_: &'static Scene, _: *mut DEVICE_OBJECT, _: *mut IRP) -> NTSTATUS {
        ExRaiseStatus(CODE)
    }
    // Through one driver's frames, and through two drivers'.
    for acts in [&[raises as Act][..], &[raises, skip]] {
        let stage = Stage::new(acts)?;
        let irp = IoAllocateIrp(acts.len() as i8, 0);
        check!(!irp.is_null(), "IoAllocateIrp failed");
        IoGetNextIrpStackLocation(irp).MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
        let mut sent = Sent(stage.top(), irp);
        let code = attempt(send, (&raw mut sent).cast(), take, null_mut());
        IoReuseIrp(irp, STATUS_SUCCESS);
        IoFreeIrp(irp);
        equal!(code, Some(CODE as u32), "the code at the handler above");
    }
    Ok(())
}

/// Learn, RtlVirtualUnwind: the context pointers say where the frame keeps the registers of its caller.
fn a_step_of_unwinding_says_where_registers_are() -> Outcome {
    let mut context = CONTEXT::zeroed();
    RtlCaptureContext(&raw mut context);
    let (pc, mut base) = (context.Rip, 0);
    let row = RtlLookupFunctionEntry(pc, &raw mut base, null_mut());
    check!(!row.is_null(), "RtlLookupFunctionEntry finds nothing");
    let (mut data, mut frame) = (null_mut(), 0);
    // KNONVOLATILE_CONTEXT_POINTERS: XMM0 to XMM15, then RAX to R15.
    let mut saved = [core::ptr::null::<u64>(); 32];
    RtlVirtualUnwind(
        0,
        base,
        pc,
        row,
        &raw mut context,
        &raw mut data,
        &raw mut frame,
        saved.as_mut_ptr().cast(),
    );
    let general = core::iter::once(context.Rax).chain(context.Registers);
    let mut count = 0;
    for (number, (place, value)) in saved[16..].iter().zip(general).enumerate() {
        // SAFETY: null, or a place in this function's frame.
        if let Some(&kept) = unsafe { place.as_ref() } {
            count += 1;
            equal!(kept, value, "what is kept of register {number}");
        }
    }
    check!(count != 0, "no register is kept in this frame");
    Ok(())
}

/// Learn, RtlVirtualUnwind: the state becomes that of the caller.
fn a_step_of_unwinding_leads_to_the_caller() -> Outcome {
    let Some((caller, base)) = core::hint::black_box(unwound_once()) else {
        check!(false, "RtlLookupFunctionEntry finds nothing");
        return Ok(());
    };
    let mut found_base = 0;
    let found = RtlLookupFunctionEntry(caller, &raw mut found_base, null_mut());
    let own = a_step_of_unwinding_leads_to_the_caller as *const () as u64;
    let expected = RtlLookupFunctionEntry(own, &raw mut found_base, null_mut());
    equal!(found_base, base, "the image's base");
    // SAFETY: rows of this image's own table.
    let rows = unsafe { ((*found).BeginAddress, (*expected).BeginAddress) };
    equal!(rows.0, rows.1, "the function that called");
    equal!(
        RtlLookupFunctionEntry(0x1000, &raw mut found_base, null_mut()).is_null(),
        true,
        "the row of no function is null"
    );
    Ok(())
}

group!("exceptions":
    a_raised_status_reaches_the_handler,
    without_an_exception_nothing_is_taken,
    a_filter_sees_the_record,
    a_filter_that_declines_is_passed_over,
    finally_blocks_run_from_the_inside,
    finally_blocks_further_out_run_only_at_their_end,
    preserved_registers_come_back,
    faults_of_the_processor_are_exceptions,
    a_filter_can_let_execution_go_on,
    a_raised_exception_can_be_continued,
    an_exception_in_a_finally_block_replaces_the_first,
    an_exception_in_a_filter_reaches_handlers_further_out,
    probing_raises_for_what_is_no_users_memory,
    locking_what_is_no_memory_raises,
    copying_from_nowhere_is_an_exception_of_the_caller,
    a_step_of_unwinding_leads_to_the_caller,
    a_step_of_unwinding_says_where_registers_are,
    a_handler_above_a_request_takes_what_the_driver_below_raises,
);
