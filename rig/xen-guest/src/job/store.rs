//! xenstore as xenbus.sys gives it to the drivers above it, and what domain 0 orders through it: this kernel stands where
//! a guest agent's driver does.

use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::ptr::{null, null_mut};

use nt_host::ke::border;
use nt_host::ke::event::Event;
use nt_host::ke::wait::Timeout;
use nt_host::pnp::{self, node, query::Pdo};
use nt_host::sync::Mutex;
use nt_sys::{
    GUID, IO_QUERY_INTERFACE, IRP_MN_QUERY_INTERFACE, NTSTATUS, STATUS_OBJECT_NAME_NOT_FOUND,
    nt_success,
};
use pv_interfaces::store::{GUID as STORE, StoreV2, Watch};
use pv_interfaces::{Interface, Table, This};
use xen_guest::step::Step;

use super::{Outcome, SECOND, deadline};
use crate::{clock, end};

/// How long the PnP manager may take to ask the devices.
const PATIENCE: u64 = 60 * SECOND;
/// How often a key is read though its watch did not fire, for a message that says what it was last.
const LOOK: u64 = SECOND;

/// The acquired interface. It is given back when this goes.
struct Store(Box<StoreV2>);

// SAFETY: the table's methods may be called on any processor; its context is the provider's.
unsafe impl Send for Store {}

/// What a driver returned, as an error that says who was asked for what.
fn check(status: NTSTATUS, what: &str, path: &str) -> Result<(), String> {
    match nt_success(status) {
        true => Ok(()),
        false => Err(format!("{what} {path} in xenstore: status {status:#010x}")),
    }
}

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{text} holds a zero byte"))
}

impl Store {
    /// Asks each device for the interface, as a driver on top of it would; the first that has it is taken.
    fn acquire() -> Result<Self, String> {
        let (found, done) = (Arc::new(Mutex::new(None)), Arc::new(Event::new(true)));
        let (answer, signal) = (Arc::clone(&found), Arc::clone(&done));
        pnp::post(pnp::Event::Call(Box::new(move || {
            let ids = node::root().map(node::subtree).unwrap_or_default();
            let mut started = ids
                .into_iter()
                .filter_map(node::get)
                .filter(|node| node.state == node::State::Started);
            *answer.lock() = started.find_map(|node| Self::of(node.pdo));
            signal.set();
        })));
        if !done.wait(Timeout::after(PATIENCE)) {
            return Err("the PnP manager does not answer".to_string());
        }
        let store = found
            .lock()
            .take()
            .ok_or("no device has a store interface")?;
        // SAFETY: the provider filled the table in.
        let status = border::call(|| unsafe { (store.0.acquire)(store.this()) });
        if !nt_success(status) {
            // What was not acquired is not released.
            core::mem::forget(store);
            return Err(format!("the store interface: status {status:#010x}"));
        }
        Ok(store)
    }

    fn of(pdo: Pdo) -> Option<Self> {
        let mut table: Box<MaybeUninit<StoreV2>> = Box::new(MaybeUninit::zeroed());
        let mut guid = GUID {
            Data1: STORE.data1,
            Data2: STORE.data2,
            Data3: STORE.data3,
            Data4: STORE.data4,
        };
        let asked = pdo.pnp(IRP_MN_QUERY_INTERFACE, |location| {
            location.Parameters.QueryInterface = IO_QUERY_INTERFACE {
                InterfaceType: &raw mut guid,
                Size: size_of::<StoreV2>() as u16,
                Version: StoreV2::VERSION,
                Interface: table.as_mut_ptr().cast(),
                InterfaceSpecificData: null_mut(),
            };
        });
        let header = table.as_ptr().cast::<Interface>();
        // SAFETY: zeros are a header, too: an empty one.
        let header = unsafe { header.read() };
        // A bus that knows no interfaces may succeed all the same: a provider's context is never null.
        if !nt_success(asked.status) || header.context.is_null() {
            return None;
        }
        // SAFETY: the provider has filled in the table, whose size it was told.
        Some(Self(unsafe { table.assume_init() }))
    }

    fn this(&self) -> This {
        self.0.header()
    }

    /// A key's value; `None` if it is not there.
    fn read(&self, path: &str) -> Result<Option<String>, String> {
        let node = c_string(path)?;
        let mut value: *mut c_char = null_mut();
        // SAFETY: the interface is acquired; the strings live during the call.
        let status = border::call(|| unsafe {
            (self.0.read)(
                self.this(),
                null_mut(),
                null(),
                node.as_ptr(),
                &raw mut value,
            )
        });
        if status == STATUS_OBJECT_NAME_NOT_FOUND {
            return Ok(None);
        }
        check(status, "reading", path)?;
        // SAFETY: the provider ends the value with zeros.
        let text = unsafe { CStr::from_ptr(value) };
        let text = text.to_string_lossy().into_owned();
        // SAFETY: the value is the provider's, and not used any more.
        border::call(|| unsafe { (self.0.free)(self.this(), value) });
        Ok(Some(text))
    }

    /// Makes a key empty, which acknowledges an order.
    fn clear(&self, path: &str) -> Result<(), String> {
        let node = c_string(path)?;
        // SAFETY: the interface is acquired; the strings live during the call, and the format has no arguments.
        let status = border::call(|| unsafe {
            (self.0.printf)(self.this(), null_mut(), null(), node.as_ptr(), c"".as_ptr())
        });
        check(status, "clearing", path)
    }

    /// Waits until a key has a value, by a watch.
    fn wait_for(&self, path: &str, wanted: &str, end: u64) -> Result<(), String> {
        let node = c_string(path)?;
        let event = Event::new(false);
        let mut watch: *mut Watch = null_mut();
        // SAFETY: the interface is acquired; the event outlives the watch, which is removed below.
        let status = border::call(|| unsafe {
            (self.0.watch_add)(
                self.this(),
                null(),
                node.as_ptr(),
                event.object().as_ptr().cast(),
                &raw mut watch,
            )
        });
        check(status, "watching", path)?;
        let found = loop {
            match self.read(path) {
                Ok(Some(value)) if value == wanted => break Ok(()),
                Ok(value) if clock::interrupt_time() > end => {
                    break Err(format!("{path} is {value:?}, not {wanted:?}"));
                }
                Ok(_) => {}
                Err(why) => break Err(why),
            }
            event.wait(Timeout::after(LOOK));
        };
        // SAFETY: the watch is this function's.
        let status = border::call(|| unsafe { (self.0.watch_remove)(self.this(), watch) });
        found.and(check(status, "unwatching", path))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the interface is acquired, and nothing of it is in use.
        border::call(|| unsafe { (self.0.release)(self.this()) });
    }
}

/// `await what=connected count= within=`: domain 0 has looked at so many connected disks.
pub fn wait_until_seen(step: &Step) -> Outcome {
    step.knows(&["what", "count", "within"])?;
    let count = step.wanted("count")?;
    Store::acquire()?.wait_for("data/connected", &format!("{count}"), deadline(step)?)?;
    Ok(format!("count={count}"))
}

/// `await what=poweroff within=` and `what=reboot`: the toolstack's order, acknowledged as an agent would.
pub fn wait_for_order(step: &Step, order: &str) -> Outcome {
    const ORDER: &str = "control/shutdown";
    step.knows(&["what", "within"])?;
    let store = Store::acquire()?;
    store.wait_for(ORDER, order, deadline(step)?)?;
    store.clear(ORDER)?;
    if order == "reboot" {
        end::reboot();
    }
    Ok(format!("order={order}"))
}
