//! The adapter: finds disks in xenstore, and holds what they share. Its thread does whatever may wait.

use crate::disk::{Disk, Goal, RunningDisk, State};
use crate::once::Once;
use crate::session::{Offers, Session};
use crate::{io, pnp, settings};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use blkfront::VirtualDevice;
use blkfront::features::Overrides;
use bus::Distribution;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use nt::{
    DeviceObject, Event, EventKind, NtStatus, Result, SpinLock, Thread, processor, time, try_arc,
    try_box,
};
use pv_client::debug::{Dump, Printer};
use pv_client::store::Watch;
use pv_client::suspend::Late;
use pv_client::unplug::{Emulated, is_disk_emulated};
use pv_client::{CText, c_text, distribution};
use storport::{Config, Miniport, Next, Srb};

/// Targets of the bus: numbers 0 to 254.
const TARGETS: usize = 255;
/// Targets an emulated IDE disk may stand behind.
const EMULATED_TARGETS: u32 = 4;
/// How long disks may take to connect before the system is told of those that are ready.
const SCAN_TIME: Duration = Duration::from_secs(15);
/// After a look for disks, or a way up, that failed.
const AGAIN: Duration = Duration::from_secs(1);

const DISTRIBUTION: Distribution<'static> = Distribution::ours("XENVBD", env!("CARGO_PKG_VERSION"));

/// The miniport.
pub(crate) struct Adapter {
    core: Arc<Core>,
    /// Joined when dropped.
    _thread: Thread,
}

/// What the adapter's thread and everybody else share.
pub(crate) struct Core {
    handle: storport::Adapter,
    function: *mut nt::sys::DEVICE_OBJECT,
    offers: Arc<Offers>,
    overrides: Overrides,
    boot_emulated: bool,
    unplugged: bool,
    /// By target number.
    disks: Vec<Once<RunningDisk>>,
    wake: Arc<Event>,
    settled: Event,
    /// Scans asked for, and the number of the last one done. The first is asked for when the adapter has started, before
    /// which storport must not hear of disks.
    scans_wanted: AtomicU32,
    scans_done: AtomicU32,
    resumed: AtomicBool,
    over: AtomicBool,
    /// There is no power to be, so nobody looks for disks.
    asleep: AtomicBool,
    /// A power request that waits for the thread.
    power: SpinLock<Option<Next>>,
    started: SpinLock<Option<Result<()>>>,
}

// SAFETY: the device object's address is only compared.
unsafe impl Send for Core {}
// SAFETY: as above; all else is Send and Sync.
unsafe impl Sync for Core {}

/// How far the adapter is up.
enum Power {
    /// It is not to be.
    Off,
    /// It is to be, and something failed: tried again. After a resume there is a session already.
    Pending(Option<Awake>),
    /// All of it.
    On(Powered),
}

/// What exists while there is power, in the order of its ending.
struct Powered {
    _dump: Option<Dump>,
    _watch: Watch,
    awake: Awake,
}

/// What a suspend leaves in force. The registration ends with the session and never before: a second suspend may come
/// while the first one's resume is at work, and the disks must hear of both.
struct Awake {
    _late: Late,
    session: Arc<Session>,
}

impl Miniport for Adapter {
    const CONFIG: Config = Config {
        max_transfer: 4 << 20,
        // A transfer that begins within a page touches one page more than it has.
        max_fragments: 1023,
        max_targets: TARGETS as u8,
    };

    fn start(handle: storport::Adapter) -> Result<Box<Self>> {
        handle.optimise(processor::active_count());
        let objects = handle.device_objects()?;
        // SAFETY: storport keeps its lower device while the adapter lives.
        let lower =
            unsafe { DeviceObject::reference(objects.lower) }.ok_or(NtStatus::NO_SUCH_DEVICE)?;
        let offers = try_arc(
            Offers::query(&lower).inspect_err(|status| nt::error!("no interfaces: {status}"))?,
        )?;
        let unplug = Emulated::disks(offers.unplug.acquire()?);
        let mut disks = Vec::new();
        disks.try_reserve_exact(TARGETS)?;
        disks.extend((0..TARGETS).map(|_| Once::new()));
        let core = try_arc(Core {
            handle,
            function: objects.function,
            overrides: settings::read(),
            boot_emulated: unplug.boot_is_emulated(),
            unplugged: unplug.are_unplugged(),
            offers,
            disks,
            wake: try_arc(Event::new(EventKind::Synchronization, false)?)?,
            settled: Event::new(EventKind::Synchronization, false)?,
            scans_wanted: AtomicU32::new(0),
            scans_done: AtomicU32::new(0),
            resumed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            power: SpinLock::new(None),
            started: SpinLock::new(None),
        })?;
        let body = core.clone();
        let thread = Thread::spawn(move || body.run())?;
        let adapter = Adapter {
            core,
            _thread: thread,
        };
        loop {
            let _ = adapter.core.settled.wait_for(Duration::from_millis(50));
            let started = *adapter.core.started.lock();
            match started {
                Some(Ok(())) => break,
                Some(Err(status)) => return Err(status),
                None => {}
            }
        }
        // The next boot leaves the disks to us.
        unplug.request_unplug(true);
        try_box(adapter)
    }

    fn prepare(&self, srb: Srb) -> Option<Srb> {
        io::prepare(self, srb)
    }

    fn start_io(&self, srb: Srb) {
        io::start(self, srb);
    }

    fn reset(&self) {
        self.reset_disks();
    }

    fn pnp(adapter: Option<&'static Self>, next: Next) -> NtStatus {
        match adapter {
            Some(adapter) => pnp::dispatch(adapter, next),
            None => next.forward(),
        }
    }

    fn power(adapter: Option<&'static Self>, next: Next) -> NtStatus {
        match adapter {
            Some(adapter) => pnp::power(adapter, next),
            None => next.forward(),
        }
    }
}

impl Adapter {
    /// The disk with this target number, seen or not. Any IRQL.
    pub(crate) fn disk(&self, target: u8) -> Option<&Disk> {
        self.core
            .disks
            .get(usize::from(target))?
            .get()
            .map(|running| &*running.disk)
    }

    /// All disks.
    pub(crate) fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.core.disks()
    }

    /// Whether `device` is the adapter's own device object.
    pub(crate) fn is_function(&self, device: *mut nt::sys::DEVICE_OBJECT) -> bool {
        self.core.function == device
    }

    pub(crate) fn set_queue_depth(&self, disk: &Disk, depth: u32) {
        // A refusal leaves storport's default.
        let _ = self.core.handle.set_queue_depth(disk.target as u8, depth);
    }

    /// Resets every disk. IRQL ≤ DISPATCH_LEVEL.
    pub(crate) fn reset_disks(&self) {
        self.disks().for_each(Disk::reset);
    }

    /// Looks for disks now, and waits until that is done; without power it is done when there is some. PASSIVE_LEVEL.
    pub(crate) fn scan(&self) {
        let core = &self.core;
        let wanted = core
            .scans_wanted
            .fetch_add(1, Ordering::AcqRel)
            .wrapping_add(1);
        core.wake.set();
        let end = time::since_boot().saturating_add(SCAN_TIME.saturating_mul(2));
        while (core.scans_done.load(Ordering::Acquire).wrapping_sub(wanted) as i32) < 0
            && !core.asleep.load(Ordering::Acquire)
            && time::since_boot() < end
        {
            let _ = core.settled.wait_for(Duration::from_millis(50));
        }
    }

    /// Tells storport that disks came or went.
    pub(crate) fn bus_changed(&self) {
        self.core.handle.bus_changed();
    }

    /// Leaves a power request to the thread. IRQL ≤ DISPATCH_LEVEL.
    pub(crate) fn defer_power(&self, next: Next) {
        let old = self.core.power.lock().replace(next);
        self.core.wake.set();
        // Windows sends a device one power request at a time.
        if let Some(old) = old {
            let _ = old.forward();
        }
    }

    /// The adapter is being removed: closes everything. PASSIVE_LEVEL.
    pub(crate) fn end(&self) {
        if let Ok(unplug) = self.core.offers.unplug.acquire() {
            Emulated::disks(unplug).request_unplug(false);
        }
        self.core.close_disks(Goal::Over);
        self.core.over.store(true, Ordering::Release);
        self.core.wake.set();
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.core.over.store(true, Ordering::Release);
        self.core.wake.set();
    }
}

impl Core {
    fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks
            .iter()
            .filter_map(Once::get)
            .map(|running| &*running.disk)
    }

    /// The thread.
    fn run(self: Arc<Self>) {
        let mut power = match self.power_on() {
            Ok(powered) => Power::On(powered),
            Err(status) => {
                nt::error!("cannot start: {status}");
                *self.started.lock() = Some(Err(status));
                self.settled.set();
                return;
            }
        };
        *self.started.lock() = Some(Ok(()));
        self.settled.set();
        while !self.over.load(Ordering::Acquire) {
            let request = self.power.lock().take();
            if let Some(next) = request {
                power = self.change_power(power, next);
            }
            self.asleep
                .store(matches!(power, Power::Off), Ordering::Release);
            if self.resumed.swap(false, Ordering::AcqRel)
                && let Power::On(Powered { awake, .. }) = power
            {
                // The watch is dead and the store may be another host's.
                power = Power::Pending(Some(awake));
            }
            if let Power::Pending(awake) = power {
                power = self.bring_up(awake);
            }
            let mut done = !matches!(power, Power::Pending(_));
            if let Power::On(powered) = &power {
                let wanted = self.scans_wanted.load(Ordering::Acquire);
                if wanted != 0 {
                    let looked = self.scan(&powered.awake.session);
                    if let Err(status) = looked {
                        nt::warning!("looking for disks: {status}");
                        done = false;
                    }
                    self.scans_done.store(wanted, Ordering::Release);
                }
            }
            self.settled.set();
            match done {
                true => self.wake.wait(),
                false => drop(self.wake.wait_for(AGAIN)),
            }
        }
        self.close_disks(Goal::Over);
        self.power_off(power);
    }

    /// Makes what power needs, with the session of before a resume if there is one.
    #[inline(never)]
    fn bring_up(self: &Arc<Self>, awake: Option<Awake>) -> Power {
        let outcome = match awake {
            None => self.power_on().map_err(|status| (status, None)),
            Some(awake) => self
                .announce(awake)
                .map_err(|(status, awake)| (status, Some(awake))),
        };
        outcome.map_or_else(
            |(status, awake)| {
                nt::error!("cannot come up: {status}");
                Power::Pending(awake)
            },
            Power::On,
        )
    }

    fn power_on(self: &Arc<Self>) -> Result<Powered> {
        let awake = self.awaken()?;
        self.announce(awake).map_err(|(status, awake)| {
            drop(awake);
            self.offers.close();
            status
        })
    }

    /// Acquires the interfaces, and has the disks told of each resume.
    fn awaken(self: &Arc<Self>) -> Result<Awake> {
        let session = self.offers.open()?;
        let core = self.clone();
        let late = Late::register(&session.suspend, move || {
            core.resumed.store(true, Ordering::Release);
            core.wake.set();
            core.disks().for_each(Disk::resumed);
        });
        match late {
            Ok(_late) => Ok(Awake { _late, session }),
            Err(status) => {
                self.offers.close();
                Err(status)
            }
        }
    }

    /// Makes what a suspend would void.
    #[inline(never)]
    fn announce(
        self: &Arc<Self>,
        awake: Awake,
    ) -> core::result::Result<Powered, (NtStatus, Awake)> {
        let session = &awake.session;
        if let Err(status) = distribution::write(&session.store, &DISTRIBUTION) {
            nt::warning!("cannot write the distribution line: {status}");
        }
        let hotplug =
            session
                .store
                .plain()
                .write(None, &c_text!("feature/hotplug/vbd"), &c_text!("1"));
        if let Err(status) = hotplug {
            nt::warning!("cannot write feature/hotplug/vbd: {status}");
        }
        let watch = session
            .store
            .watch(Some(&c_text!("device")), &c_text!("vbd"), &self.wake);
        let watch = match watch {
            Ok(watch) => watch,
            Err(status) => return Err((status, awake)),
        };
        let core = self.clone();
        let dump = Dump::register(&session.debug, &c_text!("XENVBD"), move |printer| {
            core.dump(printer)
        });
        Ok(Powered {
            _dump: dump.ok(),
            _watch: watch,
            awake,
        })
    }

    #[inline(never)]
    fn power_off(&self, power: Power) {
        let powered = match power {
            Power::Off | Power::Pending(None) => return,
            Power::Pending(Some(awake)) => {
                drop(awake);
                return self.offers.close();
            }
            Power::On(powered) => powered,
        };
        let store = powered.awake.session.store.clone();
        let _ = store.plain().remove(None, &c_text!("feature/hotplug/vbd"));
        if let Err(status) = distribution::remove(&store, &DISTRIBUTION) {
            nt::warning!("cannot remove the distribution line: {status}");
        }
        drop(powered);
        self.offers.close();
    }

    #[inline(never)]
    fn change_power(self: &Arc<Self>, power: Power, next: Next) -> Power {
        let on = next
            .irp()
            .power()
            .is_some_and(|power| power.state == nt::sys::PowerDeviceD0);
        let power = match (power, on) {
            (Power::Off, true) => {
                let power = self.bring_up(None);
                for disk in self.disks().filter(|disk| disk.goal() == Goal::Closed) {
                    disk.set_goal(Goal::Connected);
                }
                // Who is told of the power uses the disks at once, perhaps to page.
                if matches!(power, Power::On(_)) {
                    self.await_disks();
                }
                power
            }
            (power @ (Power::On(_) | Power::Pending(_)), false) => {
                self.close_disks(Goal::Closed);
                self.power_off(power);
                Power::Off
            }
            (power, _) => power,
        };
        let _ = next.forward();
        power
    }

    /// Gives all disks that are connected the same goal, and waits for them.
    #[inline(never)]
    fn close_disks(&self, goal: Goal) {
        for disk in self
            .disks()
            .filter(|disk| goal == Goal::Over || disk.goal() == Goal::Connected)
        {
            disk.set_goal(goal);
        }
        for disk in self.disks() {
            disk.wait(SCAN_TIME);
        }
    }

    /// Compares what xenstore lists with the disks there are.
    ///
    /// # Errors
    /// It should be done again. Disks that could not be looked at stay as they are.
    #[inline(never)]
    fn scan(&self, session: &Session) -> Result<()> {
        let mut seen = Vec::new();
        seen.try_reserve_exact(TARGETS)?;
        seen.resize(TARGETS, None::<VirtualDevice>);
        let mut reboot = false;
        let mut outcome = Ok(());
        let list = session
            .store
            .plain()
            .list(Some(&c_text!("device")), &c_text!("vbd"));
        let list = match list {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND | NtStatus::OBJECT_PATH_NOT_FOUND) => None,
            list => Some(list?),
        };
        if let Some(list) = list {
            for name in list.names() {
                let Some((device, target)) = number_of(name) else {
                    continue;
                };
                let Some(slot) = seen.get_mut(target as usize) else {
                    continue;
                };
                match is_ours(session, device) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    // What cannot be read now is neither there nor gone.
                    Err(status) => {
                        outcome = Err(status);
                        let known = self.disks.get(target as usize).and_then(Once::get);
                        *slot = slot.or(known
                            .filter(|running| running.disk.goal() != Goal::Gone)
                            .map(|running| running.disk.device()));
                        continue;
                    }
                }
                if let Some(first) = slot {
                    nt::warning!(
                        "vbd/{}: target {target} is vbd/{}'s already; ignored",
                        device.0,
                        first.0
                    );
                    continue;
                }
                if self.is_emulated(target) {
                    nt::warning!(
                        "vbd/{}: its emulated disk is there until the next boot",
                        device.0
                    );
                    reboot = true;
                    continue;
                }
                if target == 0 && self.boot_emulated {
                    continue;
                }
                *slot = Some(device);
            }
        }
        for (index, (slot, seen)) in self.disks.iter().zip(seen).enumerate() {
            match (slot.get(), seen) {
                (Some(running), Some(device)) if running.disk.goal() == Goal::Gone => {
                    running.disk.return_as(device)
                }
                (Some(running), None)
                    if matches!(running.disk.goal(), Goal::Connected | Goal::Closed) =>
                {
                    nt::info!("vbd/{}: is gone", running.disk.device().0);
                    running.disk.set_goal(Goal::Gone);
                }
                (None, Some(device)) => {
                    let (offers, overrides) = (self.offers.clone(), self.overrides);
                    let running =
                        RunningDisk::start(index as u32, device, self.handle, offers, overrides)
                            .and_then(try_box);
                    match running {
                        // Only this thread fills places.
                        Ok(running) => drop(slot.set(running)),
                        Err(status) => {
                            nt::error!("vbd/{}: cannot make the disk: {status}", device.0);
                            outcome = Err(status);
                        }
                    }
                }
                _ => {}
            }
        }
        if reboot && let Ok(unplug) = self.offers.unplug.acquire() {
            Emulated::disks(unplug).ask_for_reboot(&c_text!("XENVBD"));
        }
        self.await_disks();
        outcome
    }

    /// Waits for all disks on their way, for a while.
    fn await_disks(&self) {
        let end = time::since_boot().saturating_add(SCAN_TIME);
        for disk in self.disks() {
            disk.wait(time::left_until(end));
        }
    }

    /// Whether an emulated disk with the same contents may be in use.
    ///
    /// xenfilt knows. Where it is not asked, the unplug of this boot decides; and where it is not even installed, this
    /// is a system without emulated disks (an installed package always has it).
    fn is_emulated(&self, target: u32) -> bool {
        if target >= EMULATED_TARGETS {
            return false;
        }
        match &self.offers.emulated {
            Some(offer) => match offer.acquire() {
                Ok(emulated) => is_disk_emulated(&emulated, target),
                Err(_) => true,
            },
            None => !self.unplugged && settings::has_filter(),
        }
    }

    /// Prints the state of all disks. HIGH_LEVEL, no locks.
    fn dump(&self, printer: &Printer<'_>) {
        for disk in self.disks() {
            let state = match disk.state() {
                State::Moving => "moving",
                State::Settled => "settled",
                State::Failed => "failed",
                State::Broken => "broken",
            };
            printer.line(format_args!(
                "target {}: vbd/{}, {:?}, {state}, {} blocks of {} bytes",
                disk.target,
                disk.device().0,
                disk.goal(),
                disk.shape().blocks(),
                disk.shape().block_size()
            ));
            for (index, queue) in disk.queues().iter().enumerate() {
                printer.line(format_args!(
                    "  queue {index}: {} submitted, {} completed, {} events",
                    queue.submitted.load(Ordering::Relaxed),
                    queue.completed.load(Ordering::Relaxed),
                    queue.events.load(Ordering::Relaxed)
                ));
            }
        }
    }
}

/// The number and target of an entry of `device/vbd`.
fn number_of(name: &[u8]) -> Option<(VirtualDevice, u32)> {
    let device = VirtualDevice::parse(name)?;
    let target = device.target()?;
    ((target as usize) < TARGETS).then_some((device, target))
}

/// Whether an entry of `device/vbd` is a disk for us. Others are none of our business.
#[inline(never)]
fn is_ours(session: &Session, device: VirtualDevice) -> Result<bool> {
    let directory = c_text!("device/vbd/{}", device.0);
    let is = |key: &str, test: fn(&[u8]) -> bool| {
        let key = CText::from_bytes(key.as_bytes());
        match session.store.plain().read(&directory, &key) {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => Ok(false),
            value => value.map(|value| test(value.as_bytes())),
        }
    };
    let ejected = is("ejected", |value| value != b"0")?;
    let disk = is("device-type", |value| value == b"disk")?;
    Ok(disk && !ejected)
}
