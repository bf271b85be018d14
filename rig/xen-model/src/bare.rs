//! A machine of plain memory, without a processor: tests play the guest by calling hypercalls themselves.
//!
//! Guest-virtual addresses are guest-physical ones. Upcalls and shutdowns are recorded, time stands still until told.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;

use xen_abi::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::hypercall::guard;
use crate::{Fault, Machine, P2m, Upcall, Xen};

/// Guest-physical address of the page that [`BareMachine::call`] puts arguments in.
const ARGUMENTS: u64 = 0;
/// Frame numbers end here, as in a guest with 4 GiB of address space.
const END_GFN: u64 = 1 << 20;

struct Memory {
    base: *mut u8,
    layout: Layout,
}

// SAFETY: the block is reached through atomics or raw copies only, and freed when the machine is dropped.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(frames: u64) -> Self {
        let bytes = frames.max(1) as usize * PAGE_SIZE;
        let layout = Layout::from_size_align(bytes, PAGE_SIZE)
            .expect("a machine's memory fits an address space");
        // SAFETY: the layout's size is not 0.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        Self { base, layout }
    }

    fn frame(&self, n: u64) -> *mut u8 {
        let offset = n as usize * PAGE_SIZE;
        assert!(offset < self.layout.size());
        // SAFETY: within the block, as just checked.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { dealloc(self.base, self.layout) }
    }
}

/// See the module's description.
pub struct BareMachine {
    vcpus: u32,
    ram_frames: u64,
    xen_frames: u64,
    ram: Memory,
    xen: Memory,
    p2m: Mutex<HashMap<u64, P2m>>,
    now: AtomicU64,
    upcalls: Mutex<Vec<(u32, Upcall)>>,
    shutdown: Mutex<Option<u32>>,
}

impl BareMachine {
    /// A machine with so many vCPUs, frames of RAM and frames for Xen.
    pub fn new(vcpus: u32, ram_frames: u64, xen_frames: u64) -> Self {
        Self {
            vcpus,
            ram_frames,
            xen_frames,
            ram: Memory::new(ram_frames),
            xen: Memory::new(xen_frames),
            p2m: Mutex::default(),
            now: AtomicU64::new(1_000_000_000),
            upcalls: Mutex::default(),
            shutdown: Mutex::default(),
        }
    }

    /// Upcalls since the last call.
    pub fn take_upcalls(&self) -> Vec<(u32, Upcall)> {
        std::mem::take(&mut *guard(self.upcalls.lock()))
    }

    /// The reason of the last shutdown.
    pub fn shutdown_reason(&self) -> Option<u32> {
        *guard(self.shutdown.lock())
    }

    /// Lets time pass.
    pub fn advance(&self, ns: u64) {
        self.now.fetch_add(ns, Ordering::Relaxed);
    }

    /// The bytes the guest sees at a frame.
    pub fn page(&self, gfn: u64) -> Option<&[AtomicU8]> {
        let at = match guard(self.p2m.lock()).get(&gfn) {
            Some(P2m::Ram(n)) => self.ram.frame(*n),
            Some(P2m::Xen(i)) => self.xen.frame(*i),
            Some(P2m::Hole) => return None,
            None if gfn < self.ram_frames => self.ram.frame(gfn),
            None => return None,
        };
        // SAFETY: a whole frame of a block that lives as long as `self`; bytes are only reached as atomics.
        Some(unsafe { std::slice::from_raw_parts(at.cast::<AtomicU8>(), PAGE_SIZE) })
    }

    /// Makes a hypercall whose one structure is `argument`, as `(cmd, &argument, count)`.
    pub fn call<T>(&self, xen: &Xen, nr: u32, cmd: u32, argument: &mut T) -> i64
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        self.write(ARGUMENTS, argument.as_bytes())
            .expect("frame 0 is RAM");
        let result = xen.hypercall(0, u64::from(nr), [u64::from(cmd), ARGUMENTS, 1, 0, 0]);
        self.read(ARGUMENTS, argument.as_mut_bytes())
            .expect("frame 0 is RAM");
        result
    }

    fn byte(&self, va: u64) -> Result<&AtomicU8, Fault> {
        let page = self
            .page(va / PAGE_SIZE as u64)
            .ok_or(Fault { address: va })?;
        Ok(&page[va as usize % PAGE_SIZE])
    }
}

// SAFETY: frames lie side by side in two blocks aligned to 4096 that live as long as the machine.
unsafe impl Machine for BareMachine {
    fn read(&self, va: u64, out: &mut [u8]) -> Result<(), Fault> {
        for (i, to) in out.iter_mut().enumerate() {
            *to = self
                .byte(va.wrapping_add(i as u64))?
                .load(Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, va: u64, data: &[u8]) -> Result<(), Fault> {
        for (i, from) in data.iter().enumerate() {
            self.byte(va.wrapping_add(i as u64))?
                .store(*from, Ordering::Relaxed);
        }
        Ok(())
    }

    fn vcpus(&self) -> u32 {
        self.vcpus
    }

    fn ram_frames(&self) -> u64 {
        self.ram_frames
    }

    fn ram(&self, n: u64) -> *mut u8 {
        self.ram.frame(n)
    }

    fn xen_frames(&self) -> u64 {
        self.xen_frames
    }

    fn xen_frame(&self, i: u64) -> *mut u8 {
        self.xen.frame(i)
    }

    fn set_p2m(&self, gfn: u64, to: P2m) -> bool {
        if gfn < END_GFN {
            guard(self.p2m.lock()).insert(gfn, to);
        }
        gfn < END_GFN
    }

    fn upcall(&self, vcpu: u32, how: Upcall) {
        guard(self.upcalls.lock()).push((vcpu, how));
    }

    fn tsc(&self) -> u64 {
        self.now_ns()
    }

    fn tsc_khz(&self) -> u64 {
        1_000_000
    }

    fn now_ns(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn wall_ns(&self) -> u64 {
        self.now_ns() + 1_700_000_000_000_000_000
    }

    fn relax(&self, _vcpu: u32) {
        thread::yield_now();
    }

    fn shutdown(&self, _vcpu: Option<u32>, reason: u32) {
        *guard(self.shutdown.lock()) = Some(reason);
    }
}
