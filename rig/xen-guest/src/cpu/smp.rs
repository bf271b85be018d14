//! Starting the other processors: Xen puts a vCPU straight into 64-bit mode with the registers it is given, in PVH and
//! HVM guests alike, so there is no trampoline in low memory.

use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::Ordering;

use super::{STARTED, apic, become_processor, control, count_me, descriptors, enable_interrupts};
use crate::clock;
use crate::memory::paging;
use crate::xen::{self, ProcessorStart};

/// Bytes of a processor's own stack, on which its scheduler runs.
const STACK: usize = 128 << 10;
/// How long a processor may take to begin, in 100 ns units: 10 s.
const PATIENCE: u64 = 100_000_000;

/// Starts processors 1 to `count - 1`; the executive exists. What went wrong, if anything.
pub fn start(count: u32) -> Result<(), alloc::string::String> {
    let (cr0, cr4, efer) = control();
    for cpu in 1..count {
        let stack: &'static mut [u128] = Box::leak(vec![0u128; STACK / 16].into_boxed_slice());
        let start = ProcessorStart {
            entry: begin as *const () as u64,
            stack: stack.as_ptr_range().end as u64,
            cr0,
            cr3: paging::root(),
            cr4,
            efer,
        };
        let before = STARTED.load(Ordering::Acquire);
        // SAFETY: the stack is the processor's own, the tables show the kernel and the heap.
        unsafe { xen::start_vcpu(cpu, &start) }
            .map_err(|error| alloc::format!("Xen does not start processor {cpu}: error {error}"))?;
        let end = clock::interrupt_time() + PATIENCE;
        while STARTED.load(Ordering::Acquire) == before {
            if clock::interrupt_time() > end {
                return Err(alloc::format!("processor {cpu} does not begin"));
            }
            core::hint::spin_loop();
        }
    }
    Ok(())
}

extern "sysv64" fn begin(cpu: u32) -> ! {
    descriptors::load();
    become_processor(cpu);
    apic::initialise(cpu);
    count_me();
    run(cpu)
}

/// Runs the executive on this processor.
pub fn run(cpu: u32) -> ! {
    crate::platform::timer(cpu);
    // SAFETY: the interrupt table is loaded.
    unsafe { enable_interrupts() };
    nt_host::ke::cpu_main(cpu);
    super::stop_for_ever()
}
