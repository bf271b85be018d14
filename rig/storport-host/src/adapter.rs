//! An adapter: the miniport's device, from AddDevice to its removal.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use nt_host::io::driver;
use nt_host::mm::{frames, pool};
use nt_host::sync::Mutex;
use nt_host::verifier::Rule;
use nt_sys::storport::{
    HW_INITIALIZATION_DATA, HW_PASSIVE_INITIALIZE_ROUTINE, PORT_CONFIGURATION_INFORMATION,
};
use nt_sys::{DEVICE_OBJECT, DRIVER_OBJECT, KINTERRUPT, KSPIN_LOCK, PVOID};

use crate::slot::{Slot, SlotPtr};
use crate::unit::Unit;

/// Requests a unit may have at the miniport until StorPortSetDeviceQueueDepth says otherwise.
pub const INITIAL_DEPTH: u32 = 20;

/// What precedes a miniport's device extension.
#[repr(C, align(16))]
struct Prefix {
    magic: usize,
    adapter: *const Adapter,
}

const MAGIC: usize = 0x6461_726f_7453_7061;

/// See the module.
pub struct Adapter {
    /// The miniport's driver object.
    pub driver: *mut DRIVER_OBJECT,
    /// The number of the miniport's image, 0 for one of the host's.
    pub module: u32,
    /// The adapter's own device object.
    pub fdo: *mut DEVICE_OBJECT,
    /// The physical device object of its bus.
    pub pdo: *mut DEVICE_OBJECT,
    /// The device below the FDO.
    pub lower: *mut DEVICE_OBJECT,
    /// What the miniport registered.
    pub hw: HW_INITIALIZATION_DATA,
    /// What HwFindAdapter was given and left.
    pub config: Mutex<Config>,
    /// The miniport's device extension.
    extension: AtomicPtr<u8>,
    /// The routine for passive initialisation, as a number.
    passive: AtomicUsize,
    /// StartIo locks: one, or one per channel when the miniport takes concurrent channels.
    start_locks: Box<[StartLock]>,
    /// Channels in use.
    pub channels: AtomicU32,
    /// A bit for each control type (SCSI_ADAPTER_CONTROL_TYPE) that the miniport takes.
    pub controls: AtomicU32,
    /// The uncached extension: first frame and number of frames.
    pub uncached: Mutex<Option<(u64, u64)>>,
    /// Its disks by target.
    pub units: Mutex<BTreeMap<u8, Arc<Unit>>>,
    /// Queue depths by target.
    pub depths: [AtomicU32; 256],
    /// The connected interrupt.
    pub interrupt: Mutex<Interrupt>,
    free: Box<[FreeList]>,
    /// Slots whose SRBs a reset completed.
    reset: FreeList,
    /// A reset is under way.
    pub resetting: AtomicBool,
    all: Mutex<Vec<SlotPtr>>,
    /// What is to be tried again later, and the thread that does.
    pub watch: crate::watch::Watch,
}

/// Slots that nobody uses; boxed, since an SRB keeps its address.
type FreeList = Mutex<Vec<Box<Slot>>>;

/// The connected interrupt's object, or null.
pub struct Interrupt(pub *mut KINTERRUPT);
// SAFETY: the object is only handed back to the kernel.
unsafe impl Send for Interrupt {}

/// A configuration, whose pointers lead to the adapter's own memory.
pub struct Config(pub PORT_CONFIGURATION_INFORMATION);
// SAFETY: the pointers are only followed while HwFindAdapter runs.
unsafe impl Send for Config {}

struct StartLock(UnsafeCell<KSPIN_LOCK>);

// SAFETY: a spin lock is made to be shared.
unsafe impl Sync for StartLock {}
// SAFETY: the device objects live until the adapter is removed, and are only handed back to the I/O manager.
unsafe impl Send for Adapter {}
// SAFETY: what changes is atomic or locked.
unsafe impl Sync for Adapter {}

impl Adapter {
    /// A new adapter over its three devices: its own, the physical one, the one below.
    pub fn new(
        driver: *mut DRIVER_OBJECT,
        devices: [*mut DEVICE_OBJECT; 3],
        hw: HW_INITIALIZATION_DATA,
    ) -> Self {
        let cpus = nt_host::host().platform().cpus().max(1) as usize;
        let [fdo, pdo, lower] = devices;
        // SAFETY: an all-zero configuration is valid.
        let config = unsafe { core::mem::zeroed() };
        Self {
            driver,
            module: driver::module_of(driver).unwrap_or(0),
            fdo,
            pdo,
            lower,
            hw,
            config: Mutex::new(Config(config)),
            extension: AtomicPtr::new(null_mut()),
            passive: AtomicUsize::new(0),
            start_locks: (0..cpus).map(|_| StartLock(UnsafeCell::new(0))).collect(),
            channels: AtomicU32::new(1),
            controls: AtomicU32::new(0),
            uncached: Mutex::new(None),
            units: Mutex::new(BTreeMap::new()),
            depths: [const { AtomicU32::new(INITIAL_DEPTH) }; 256],
            interrupt: Mutex::new(Interrupt(null_mut())),
            free: (0..cpus).map(|_| Mutex::new(Vec::new())).collect(),
            reset: Mutex::new(Vec::new()),
            resetting: AtomicBool::new(false),
            all: Mutex::new(Vec::new()),
            watch: crate::watch::Watch::new(),
        }
    }

    /// Gives the miniport a zeroed device extension that leads back to this adapter.
    pub fn allocate_extension(self: &Arc<Self>) -> bool {
        let size = size_of::<Prefix>().saturating_add(self.hw.DeviceExtensionSize as usize);
        let Some(memory) = pool::allocate_zeroed(size, *b"SpEx") else {
            return false;
        };
        let prefix = Prefix {
            magic: MAGIC,
            adapter: Arc::as_ptr(self),
        };
        // SAFETY: fresh memory that long, aligned to 16.
        unsafe { memory.cast::<Prefix>().write(prefix) };
        self.extension.store(
            memory.as_ptr().wrapping_add(size_of::<Prefix>()),
            Ordering::Release,
        );
        true
    }

    /// Whether the miniport takes a control type.
    pub fn takes_control(&self, kind: i32) -> bool {
        self.controls.load(Ordering::Relaxed) & 1u32.checked_shl(kind.cast_unsigned()).unwrap_or(0)
            != 0
    }

    /// Frees the device extension and the uncached one; the miniport has been removed.
    pub fn free_extension(&self) {
        if let Some((first, count)) = self.uncached.lock().take() {
            frames::free(first, count);
        }
        let extension = self.extension.swap(null_mut(), Ordering::AcqRel);
        if let Some(memory) = NonNull::new(extension.wrapping_sub(size_of::<Prefix>()))
            .filter(|_| !extension.is_null())
        {
            // SAFETY: allocated above.
            unsafe { pool::free(memory) };
        }
    }

    /// The miniport's device extension.
    pub fn extension(&self) -> PVOID {
        self.extension.load(Ordering::Acquire).cast()
    }

    /// The adapter that a miniport names by its device extension.
    pub fn of(extension: PVOID, function: &str) -> Arc<Adapter> {
        let prefix = extension
            .cast::<u8>()
            .wrapping_sub(size_of::<Prefix>())
            .cast::<Prefix>();
        let platform = nt_host::host().platform();
        let good = prefix.is_aligned() && platform.readable(prefix as u64, size_of::<Prefix>());
        // SAFETY: the memory is readable, and any bytes are a valid number.
        if !good || unsafe { (*prefix).magic } != MAGIC {
            Rule::ExtensionInvalid.breach(format_args!(
                "{function}: {extension:p} is no device extension of the port driver's"
            ));
        }
        // SAFETY: the prefix is that of `allocate_extension`.
        let adapter = unsafe { (*prefix).adapter };
        // SAFETY: the extension is freed before the adapter, so the adapter is counted at least once.
        unsafe { Arc::increment_strong_count(adapter) };
        // SAFETY: counted just now.
        unsafe { Arc::from_raw(adapter) }
    }

    /// Notes the routine for passive initialisation.
    pub fn set_passive(&self, routine: HW_PASSIVE_INITIALIZE_ROUTINE) {
        self.passive.store(routine as usize, Ordering::Release);
    }

    /// Takes the routine for passive initialisation, if one was noted.
    pub fn take_passive(&self) -> Option<HW_PASSIVE_INITIALIZE_ROUTINE> {
        let routine = self.passive.swap(0, Ordering::AcqRel);
        // SAFETY: either zero or a routine of that type, which `Option` represents so.
        unsafe { core::mem::transmute::<usize, Option<HW_PASSIVE_INITIALIZE_ROUTINE>>(routine) }
    }

    /// Bytes of SrbExtension the miniport wants.
    pub fn srb_extension(&self) -> usize {
        self.hw.SrbExtensionSize as usize
    }

    /// The lock around HwStartIo for requests from a CPU.
    pub fn start_lock(&self, cpu: u32) -> *mut KSPIN_LOCK {
        let channels = self.channels.load(Ordering::Relaxed).max(1);
        let index = (cpu % channels) as usize % self.start_locks.len().max(1);
        self.start_locks[index].0.get()
    }

    /// Channels the miniport may use at most.
    pub fn most_channels(&self) -> u32 {
        self.start_locks.len() as u32
    }

    /// A free slot for a request from a CPU; none without memory.
    pub fn take_slot(self: &Arc<Self>, cpu: u32) -> Option<Box<Slot>> {
        if let Some(slot) = self.free_list(cpu).lock().pop() {
            return Some(slot);
        }
        let mut slot = Slot::new(self.clone())?;
        self.all.lock().push(SlotPtr(NonNull::from(&mut *slot)));
        Some(slot)
    }

    /// Gives a slot back to a CPU's free list.
    pub fn give_slot(&self, cpu: u32, slot: Box<Slot>) {
        self.free_list(cpu).lock().push(slot);
    }

    /// Puts a slot aside whose SRB a reset completed.
    pub fn put_aside(&self, slot: Box<Slot>) {
        self.reset.lock().push(slot);
    }

    /// The SRBs that the miniport has, of one target or of all.
    pub fn issued(&self, target: Option<u8>) -> Vec<SlotPtr> {
        let all = self.all.lock();
        let issued = all.iter().filter(|slot| {
            crate::queue::is_issued(slot.0)
                // SAFETY: slots are never freed while their adapter exists, and the target does not change meanwhile.
                && target.is_none_or(|target| unsafe { slot.0.as_ref() }.srb.TargetId == target)
        });
        issued.map(|slot| SlotPtr(slot.0)).collect()
    }

    fn free_list(&self, cpu: u32) -> &FreeList {
        &self.free[cpu as usize % self.free.len().max(1)]
    }

    /// Targets whose requests are too late at `now`.
    pub fn late(&self, now: u64) -> Vec<u8> {
        let all = self.all.lock();
        let late = all
            .iter()
            .filter_map(|slot| crate::queue::deadline_of(slot.0))
            .filter(|(due, _)| *due <= now);
        let mut targets: Vec<u8> = late.map(|(_, target)| target).collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }

    /// Requests that the miniport has.
    pub fn outstanding(&self) -> usize {
        self.all
            .lock()
            .iter()
            .filter(|slot| crate::queue::is_issued(slot.0))
            .count()
    }

    /// Frees every slot; the miniport has none of them any more.
    pub fn free_slots(&self) {
        self.all.lock().clear();
        for list in self.free.iter().chain([&self.reset]) {
            let slots = core::mem::take(&mut *list.lock());
            drop(slots);
        }
    }
}
