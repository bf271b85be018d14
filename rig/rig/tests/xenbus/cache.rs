//! The CACHE interface as a client of xenbus.sys has it: its lock is not held while hundreds of objects are freed.

use std::ffi::c_void;
use std::hint::spin_loop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nt_host::pnp::node;
use nt_sys::{
    GUID, IO_QUERY_INTERFACE, IRP_MN_QUERY_INTERFACE, NTSTATUS, STATUS_SUCCESS, nt_success,
};
use pv_interfaces::cache::{Cache, CacheV2, GUID as CACHE};
use rig::boot::Machine;
use rig::vif::client::on_thread;

use crate::life::until;

/// Objects that are out at a time.
const OBJECTS: usize = 500;
/// Most that may be freed within one hold of the client's lock.
const AT_A_TIME: usize = 16;
/// Bytes of an object.
const SIZE: u32 = 64;

/// What the client's functions have seen.
#[derive(Default)]
struct Client {
    locked: AtomicBool,
    made: AtomicUsize,
    freed: AtomicUsize,
    /// Freed since the lock was taken, and the most that ever were.
    in_hold: AtomicUsize,
    most: AtomicUsize,
}

static CLIENT: Client = Client {
    locked: AtomicBool::new(false),
    made: AtomicUsize::new(0),
    freed: AtomicUsize::new(0),
    in_hold: AtomicUsize::new(0),
    most: AtomicUsize::new(0),
};

unsafe extern "win64" fn construct(_: *mut c_void, _: *mut c_void) -> NTSTATUS {
    CLIENT.made.fetch_add(1, Ordering::AcqRel);
    STATUS_SUCCESS
}

unsafe extern "win64" fn destruct(_: *mut c_void, _: *mut c_void) {
    CLIENT.freed.fetch_add(1, Ordering::AcqRel);
    let now = CLIENT.in_hold.fetch_add(1, Ordering::AcqRel) + 1;
    CLIENT.most.fetch_max(now, Ordering::AcqRel);
}

unsafe extern "win64" fn lock(_: *mut c_void) {
    while CLIENT.locked.swap(true, Ordering::AcqRel) {
        spin_loop();
    }
    CLIENT.in_hold.store(0, Ordering::Release);
}

unsafe extern "win64" fn unlock(_: *mut c_void) {
    CLIENT.locked.store(false, Ordering::Release);
}

/// A table or object of the provider's, which takes calls on any thread.
#[derive(Clone, Copy)]
struct Sent<T>(T);
// SAFETY: only handed back to the provider.
unsafe impl<T> Send for Sent<T> {}

impl<T> Sent<T> {
    fn get(&self) -> &T {
        &self.0
    }
}

/// Asks a child of xenbus.sys for the interface.
fn query(instance: &str) -> Result<Sent<CacheV2>, String> {
    let node = node::by_instance(instance).and_then(node::get);
    let node = node.ok_or("no such device")?;
    let mut guid = GUID {
        Data1: CACHE.data1,
        Data2: CACHE.data2,
        Data3: CACHE.data3,
        Data4: CACHE.data4,
    };
    let mut table = std::mem::MaybeUninit::<CacheV2>::zeroed();
    let answer = node.pdo.pnp(IRP_MN_QUERY_INTERFACE, |location| {
        location.Parameters.QueryInterface = IO_QUERY_INTERFACE {
            InterfaceType: &raw mut guid,
            Size: size_of::<CacheV2>() as u16,
            Version: 2,
            Interface: table.as_mut_ptr().cast(),
            InterfaceSpecificData: null_mut(),
        };
    });
    match nt_success(answer.status) {
        // SAFETY: the provider filled it in.
        true => Ok(Sent(unsafe { table.assume_init() })),
        false => Err(format!("no CACHE interface: {:#x}", answer.status)),
    }
}

/// Objects are got, put back, given up by the thread that looks after caches, and freed when the cache ends.
pub fn freed_in_steps(machine: &Machine) -> Result<(), String> {
    let devices = machine.devices();
    let mut children = devices.iter().map(|row| row.instance.clone());
    let child = children.find(|instance| instance.starts_with(r"XENBUS\"));
    let child = child.ok_or("xenbus.sys has no child")?;
    let table = on_thread(move || query(&child))?;
    let made = on_thread(move || {
        let table = table.get();
        let this = &raw const table.header;
        // SAFETY: the provider's method, as documented; so below.
        let status = unsafe { (table.acquire)(this) };
        if !nt_success(status) {
            return Err(format!("Acquire: {status:#x}"));
        }
        let mut cache: *mut Cache = null_mut();
        // SAFETY: as above, with functions that live as long as the process.
        let status = unsafe {
            (table.create)(
                this,
                c"test".as_ptr(),
                SIZE,
                0,
                0,
                construct,
                destruct,
                lock,
                unlock,
                null_mut(),
                &raw mut cache,
            )
        };
        if !nt_success(status) {
            return Err(format!("Create: {status:#x}"));
        }
        // SAFETY: as above.
        let get = || unsafe { (table.get)(this, cache, 0) };
        let objects: Vec<_> = (0..OBJECTS).map(|_| get()).collect();
        if objects.iter().any(|object| object.is_null()) {
            return Err("an object is not to be had".to_owned());
        }
        for object in objects {
            // SAFETY: as above; each is put back once.
            unsafe { (table.put)(this, cache, object, 0) };
        }
        Ok(Sent(cache))
    })?;
    let freed = || CLIENT.freed.load(Ordering::Acquire);
    until("what nobody needs is given up", || freed() > 0)?;
    on_thread(move || {
        let (table, cache) = (table.get(), *made.get());
        let this = &raw const table.header;
        // SAFETY: as above; every object is back.
        unsafe { (table.destroy)(this, cache) };
        // SAFETY: as above.
        unsafe { (table.release)(this) };
    });
    let (made, most) = (
        CLIENT.made.load(Ordering::Acquire),
        CLIENT.most.load(Ordering::Acquire),
    );
    if freed() != made || made < OBJECTS {
        return Err(format!("{} of {made} objects are freed", freed()));
    }
    match most <= AT_A_TIME {
        true => Ok(()),
        false => Err(format!(
            "{most} objects are freed within one hold of the lock"
        )),
    }
}
