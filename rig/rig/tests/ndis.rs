//! xennet.sys under each version of NDIS that it knows: how it registers, what it offers, and that it answers every
//! object that it lists, whatever room there is for the answer.

#[path = "support/adapter.rs"]
mod adapter;
#[path = "support/guest.rs"]
mod guest;
#[allow(dead_code, reason = "other tests let the machine suspend and sleep")]
#[path = "support/life.rs"]
mod life;
#[path = "support/nics.rs"]
mod nics;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use adapter::running;
use guest::{boot, packages, shut_down};
use life::until;
use ndis_host::blocks::{self, Feature};
use ndis_host::{Adapter, Control, Kind, OidRequest, Protocol, Received};
use nics::serve;
use rig::port_nic;
use support::check;
use xen_model::toolstack::VifSpec;

// Numbers of objects (ntddndis.h), a status (ndis.h: NDIS_STATUS_TASK_OFFLOAD_CURRENT_CONFIG), a filter.
const OID_GEN_SUPPORTED_LIST: u32 = 0x0001_0101;
const OID_GEN_STATISTICS: u32 = 0x0002_0106;
const OID_GEN_XMIT_OK: u32 = 0x0002_0101;
const OID_TCP_OFFLOAD_PARAMETERS: u32 = 0xFC01_020C;
const OID_GEN_RECEIVE_SCALE_PARAMETERS: u32 = 0x0001_0204;
const OID_PNP_SET_POWER: u32 = 0xFD01_0101;
const OFFLOAD_CHANGED: i32 = 0x4002_0006;
const DIRECTED: u32 = 1;

/// Counts what the adapter says.
#[derive(Default)]
struct Ear {
    offloads: AtomicU32,
}

impl Protocol for Ear {
    fn receive(&self, _frames: &mut Received<'_>) {}
    fn sent(&self, _tag: u64, _status: i32) {}
    fn status(&self, code: i32, _buffer: &[u8]) {
        if code == OFFLOAD_CHANGED {
            self.offloads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn failed(what: &str) -> impl Fn(i32) -> String + '_ {
    move |status| format!("{what}: {status:#010x}")
}

/// Every object that the miniport lists, asked with too little room, just enough and plenty.
fn objects(adapter: &'static Adapter) -> Result<(), String> {
    let list = port_nic::query(adapter, OID_GEN_SUPPORTED_LIST, 4096)
        .map_err(failed("the list of objects"))?;
    let (oids, rest) = list.as_chunks::<4>();
    if oids.len() < 30 || !rest.is_empty() {
        return Err(format!("a list of {} bytes", list.len()));
    }
    let mut answered = 0;
    for oid in oids {
        let oid = u32::from_le_bytes(*oid);
        if oid == OID_PNP_SET_POWER {
            continue;
        }
        for kind in [Kind::Query, Kind::Statistics] {
            let ask = |room| {
                let mut request = OidRequest::query(oid, room);
                request.kind = kind;
                port_nic::request(adapter, request)
            };
            let whole = ask(4096);
            if whole.status != 0 {
                continue;
            }
            answered += 1;
            let length = whole.buffer.len();
            if length == 0 {
                continue;
            }
            let short = ask(length - 1);
            // Counters of 64 bits may be asked for in 32.
            let cut = length == 8 && short.status == 0;
            if !cut && (short.status == 0 || (short.needed as usize) < length) {
                return Err(format!(
                    "object {oid:#010x} has {length} bytes; in one less: {:#010x}, {} needed",
                    short.status, short.needed
                ));
            }
            let exact = ask(length);
            if exact.status != 0 {
                return Err(format!("object {oid:#010x} does not fit its own length"));
            }
        }
    }
    if answered < 30 {
        return Err(format!("{answered} objects were answered"));
    }
    let statistics = port_nic::query(adapter, OID_GEN_STATISTICS, 152);
    statistics.map_err(failed("statistics"))?;
    match port_nic::query(adapter, OID_GEN_XMIT_OK, 4).map(|value| value.len()) {
        Ok(4) => Ok(()),
        other => Err(format!("a counter in 4 bytes: {other:?}")),
    }
}

/// Offloads off and on again: the adapter tells what it does then.
fn offloads(adapter: &'static Adapter, ear: &Ear) -> Result<(), String> {
    let before = adapter.offload();
    if !before.tx.tcp4 || !before.rx.tcp4 {
        return Err(format!("at first: {before:?}"));
    }
    for value in [1, 4] {
        let told = ear.offloads.load(Ordering::SeqCst);
        let block = blocks::offload_parameters(&[(Feature::Tcp4Checksum, value)]);
        port_nic::set(adapter, OID_TCP_OFFLOAD_PARAMETERS, &block)
            .map_err(failed("a change of offloads"))?;
        if ear.offloads.load(Ordering::SeqCst) == told {
            return Err("a change of offloads was not told".to_owned());
        }
        let (now, on) = (adapter.offload(), value == 4);
        if now.tx.tcp4 != on || now.rx.tcp4 != on || now.tx.udp4 != before.tx.udp4 {
            return Err(format!("after {value}: {now:?}"));
        }
    }
    Ok(())
}

fn version(minor: u8, image: &Path) -> Result<(), String> {
    ndis_host::set_version(minor);
    let packages = packages()?;
    let machine = boot(&packages, image)?;
    let nics = serve(&machine);
    machine.dom0().attach_vif(VifSpec::new(0));
    let adapter = running(0)?;
    until("it is connected", || nics.is_connected(0))?;
    until("it has a link", || adapter.link().connected)?;
    let info = adapter.info();
    let has_uso = info.hardware.uso4.is_some();
    // The block that offers it came with 6.83; before, nobody could be told.
    if minor < 83 && has_uso {
        return Err(format!("under 6.{minor}: {:?}", info.hardware));
    }
    if info.hardware.lso_v2_4.is_none() || info.mtu != 1500 {
        return Err(format!("{info:?}"));
    }
    let ear = Arc::new(Ear::default());
    let binding = adapter.open(ear.clone()).map_err(|_| "it is taken")?;
    port_nic::bring_up(&binding, DIRECTED).map_err(failed("bringing it up"))?;
    objects(adapter)?;
    offloads(adapter, &ear)?;
    if info.rss_queues != 0 {
        let on = blocks::rss(&[0x5A; 40], &[0, 1, 0, 1], 0x200);
        for block in [on, blocks::rss_off()] {
            port_nic::set(adapter, OID_GEN_RECEIVE_SCALE_PARAMETERS, &block)
                .map_err(failed("RSS"))?;
        }
    }
    for _ in 0..3 {
        for what in [Control::Pause, Control::Restart] {
            port_nic::control(adapter, what).map_err(failed("a pause or restart"))?;
        }
    }
    drop(binding);
    shut_down(machine)
}

/// Not a test of its own: what each test runs in a process.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    support::child(|name, image| {
        let minor = name
            .strip_prefix("ndis-")
            .and_then(|minor| minor.parse().ok());
        version(minor.ok_or("no such version")?, image)
    });
}

#[test]
fn xennet_works_with_ndis_6_30() {
    check("ndis-30");
}

#[test]
fn xennet_works_with_ndis_6_60() {
    check("ndis-60");
}

#[test]
fn xennet_works_with_ndis_6_83() {
    check("ndis-83");
}

#[test]
fn xennet_works_with_ndis_6_89() {
    check("ndis-89");
}
