//! Building the guest: pages, channels, parameters, xenstore directories.

use std::sync::Arc;

use xen_abi::grant::{RESERVED_CONSOLE, RESERVED_XENSTORE};
use xen_abi::hvm::*;
use xen_abi::{DomId, Gref, Port};

use super::{GUEST_PATH, GUESTS_OWN, Guest, GuestSpec, READ_ONLY};
use crate::dom0::{Dom0, Links};
use crate::frames::Page;
use crate::hypercall::guard;
use crate::store::{RingConnection, Store};
use crate::{EventEnd, GUEST, Xen};

/// Guest frame of the xenstore page. tools/libs/guest/xg_dom_x86.c: special page 4 of those that start at 0xFEFF8.
const STORE_GFN: u64 = 0xF_EFFC;
/// Guest frame of the console page: special page 7.
const CONSOLE_GFN: u64 = 0xF_EFFF;
/// Directories the guest may only read.
const GUEST_READS: [&str; 6] = [
    "cpu",
    "memory",
    "device",
    "control",
    "hvmloader",
    "platform",
];
/// Nodes the guest owns, also below directories that it does not: once removed by the guest they are gone.
const GUEST_OWNS: [&str; 13] = [
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/feature-s3",
    "control/feature-s4",
    "control/sysrq",
    "device/suspend/event-channel",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

impl Dom0 {
    /// Builds domain 1 and introduces it to xenstored, if it shall have that. To be called once, before the guest runs.
    pub fn build_guest(&self, spec: GuestSpec) {
        if !spec.store {
            // Xen's parameters stay 0, as they are in a PVH domain 0.
            return;
        }
        self.populate_store(&spec);
        *guard(self.guest.lock()) = Some(Guest {
            spec,
            disks: Default::default(),
            vifs: Default::default(),
        });
        self.relink(|store| link(self.xen(), store));
        self.bell().ring();
    }

    /// Builds it again, as after a restore: its memory is what it was, everything of Xen's is new.
    pub(super) fn rebuild_guest(&self) {
        let xen = self.xen();
        self.relink(|store| {
            store.remove(GUEST_PATH);
            store.introduce(GUEST, false);
            xen.forget_guest_state();
            None
        });
        let mut guest = guard(self.guest.lock());
        if let Some(guest) = &mut *guest {
            self.populate_store(&guest.spec);
            self.rewrite_disk_keys(&mut guest.disks);
            for vif in guest.vifs.values() {
                self.write_vif_keys(vif);
            }
        }
        drop(guest);
        self.relink(|store| link(xen, store));
        self.bell().ring();
    }

    fn populate_store(&self, spec: &GuestSpec) {
        let mut store = self.store();
        let ram_kib = self.xen().machine().ram_frames() * 4;
        let static_max = spec.static_max_kib.unwrap_or(ram_kib);
        store.make_dir(GUEST_PATH, &READ_ONLY);
        let vm = format!("/vm/{}", spec.uuid);
        store.make_dir(&vm, &READ_ONLY);
        store.write(&format!("{vm}/name"), &spec.name);
        store.write(&format!("{vm}/uuid"), &spec.uuid);
        for dir in GUEST_READS {
            store.make_dir(&format!("{GUEST_PATH}/{dir}"), &READ_ONLY);
        }
        for node in GUEST_OWNS {
            store.make_dir(&format!("{GUEST_PATH}/{node}"), &GUESTS_OWN);
        }
        let mut put = |key: &str, value: String| store.write(&format!("{GUEST_PATH}/{key}"), value);
        put("vm", vm);
        put("name", spec.name.clone());
        put("domid", GUEST.to_string());
        put("memory/static-max", static_max.to_string());
        put(
            "memory/target",
            spec.target_kib.unwrap_or(static_max).to_string(),
        );
        put("memory/videoram", "0".into());
        for feature in ["multiprocessor-suspend", "s3", "s4"] {
            put(&format!("control/platform-feature-{feature}"), "1".into());
        }
        for vcpu in 0..self.xen().machine().vcpus() {
            put(&format!("cpu/{vcpu}/availability"), "online".into());
        }
    }
}

/// Gives the guest its two special pages with a channel each, and connects the daemons.
fn link(xen: &Arc<Xen>, store: &mut Store) -> Option<Links> {
    let channel = |gfn: u64,
                   frame: u64,
                   gref: Gref,
                   pfn_param: u32,
                   port_param: u32|
     -> Option<(Port, Arc<EventEnd>)> {
        xen.physmap.show(frame, gfn).ok()?;
        xen.write_grant(GUEST, gref, DomId::DOM0, gfn as u32);
        let port = xen.alloc_unbound(GUEST, DomId::DOM0).ok()?;
        xen.hvm.set(pfn_param, gfn);
        xen.hvm.set(port_param, u64::from(port.0));
        Some((port, xen.dom0_bind(port, &xen.dom0_bell).ok()?))
    };
    let store_frame = xen.layout.store;
    let (store_port, store_end) = channel(
        STORE_GFN,
        store_frame,
        RESERVED_XENSTORE,
        PARAM_STORE_PFN,
        PARAM_STORE_EVTCHN,
    )?;
    let console_frame = xen.layout.console;
    let (console_port, console) = channel(
        CONSOLE_GFN,
        console_frame,
        RESERVED_CONSOLE,
        PARAM_CONSOLE_PFN,
        PARAM_CONSOLE_EVTCHN,
    )?;
    let mut put = |key: &str, value: String| store.write(&format!("{GUEST_PATH}/{key}"), value);
    put("store/port", store_port.to_string());
    put("store/ring-ref", STORE_GFN.to_string());
    put("console/port", console_port.to_string());
    put("console/ring-ref", CONSOLE_GFN.to_string());
    put("console/limit", "1048576".into());
    put("console/type", "xenconsoled".into());
    let store_link = RingConnection::new(store, xen, GUEST, store_end);
    store.introduce(GUEST, true);
    Some(Links {
        store: store_link,
        console,
        console_line: Vec::new(),
    })
}

impl Xen {
    /// Everything Xen knows of the guest but its memory, as it is for a domain that was just created.
    fn forget_guest_state(&self) {
        self.reset_ports(GUEST);
        self.physmap.forget_xen_frames(&[]);
        self.reset_grants();
        for frame in [
            self.layout.shared_info,
            self.layout.store,
            self.layout.console,
        ] {
            Page::xen(self.machine(), frame).scrub();
        }
        self.hvm.set(PARAM_CALLBACK_IRQ, 0);
        self.upcalls.reset();
        self.timers.reset();
        self.start_clock();
    }
}
