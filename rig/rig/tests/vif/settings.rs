//! What the registry says: network settings of the emulated card that stood for a device, which become its own; where
//! received frames lie; whether checksums of sent ones are looked at.

use backends::net::{Frame, Nics};
use nt_host::cm::{self, Value};
use nt_host::netio;
use nt_host::pnp::install;
use pv_interfaces::vif::{COMPLETION_OK, OffloadOptions, Statistic};
use rig::boot::Machine;
use rig::vif::client::{Received, VifClient};
use xen_model::toolstack::VifSpec;

use crate::addresses::{MAC, interface};
use crate::life::until;
use crate::{DEVICE, SERVICES, connect, device, nic, plain, serve, tcp, unplug};

/// The emulated card, and the device's own adapter.
const CARD: &str = "{00000005-0000-0000-0000-000000000000}";
const OWN: &str = "{0BADCAFE-0000-0000-0000-000000000001}";
const NSI: &str = r"\Registry\Machine\System\CurrentControlSet\Control\Nsi\{eb004a00-9b1a-11d4-9123-0050047759bc}\10";

fn tcpip(adapter: &str) -> String {
    format!(r"{SERVICES}\Tcpip\Parameters\Interfaces\{adapter}")
}

fn text(key: &str, name: &str) -> Option<String> {
    cm::read(key, name).and_then(|value| value.as_string())
}

pub fn moved(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    let kept = format!(r"{SERVICES}\xenvif\Settings\0");
    // The card works: the device waits for the boot without it.
    netio::set(interface(5, MAC, Vec::new()));
    machine.dom0().attach_vif(VifSpec::new(0));
    until("the device asks for a reboot", || {
        device(machine, 0).is_some_and(|row| row.state.contains("0xc00002d2"))
    })?;
    if text(&kept, "NetCfgInstanceId").as_deref() != Some(CARD) {
        return Err("the card is not written down".to_owned());
    }
    unplug(machine, 0)?;
    netio::remove(5);
    cm::write(&tcpip(CARD), "IPAddress", Value::sz("192.0.2.7"));
    cm::write(&tcpip(CARD), "EnableDHCP", Value::dword(0));
    cm::write(NSI, "0500000000000000aabb", Value::dword(7));
    let key = install::software_key(DEVICE).ok_or("no software key")?;
    cm::write(&key, "NetCfgInstanceId", Value::sz(OWN));
    cm::write(&key, "NetLuidIndex", Value::dword(3));
    cm::write(&key, "*IfType", Value::dword(6));
    connect(machine, &nics)?;
    let own = tcpip(OWN);
    let address = text(&own, "IPAddress");
    let dhcp = cm::read(&own, "EnableDHCP").and_then(|value| value.as_dword());
    // Index 3 and type 6, each in its bytes.
    let luid = cm::read(NSI, "0000000300000600aabb").and_then(|value| value.as_dword());
    if (address.as_deref(), dhcp, luid) != (Some("192.0.2.7"), Some(0), Some(7)) {
        return Err(format!("the settings are {address:?}, {dhcp:?}, {luid:?}"));
    }
    if text(&kept, "NetCfgInstanceId").as_deref() != Some(OWN) {
        return Err("the settings would be moved again".to_owned());
    }
    let enumerated = format!(r"\Registry\Machine\System\CurrentControlSet\Enum\{DEVICE}");
    match text(&enumerated, "FriendlyName").as_deref() {
        Some("Test network device #0") => unplug(machine, 0),
        name => Err(format!("the device is named {name:?}")),
    }
}

fn set(name: &str, value: u32) {
    let key = format!(r"{SERVICES}\xenvif\Parameters");
    cm::write(&key, name, Value::dword(value));
}

/// Has the backend send a frame, which has to arrive as it is.
fn receive(
    machine: &Machine,
    nics: &Nics,
    client: &VifClient,
    frame: Vec<u8>,
) -> Result<Received, String> {
    let sent = Frame {
        bytes: frame.clone(),
        ..Frame::default()
    };
    nics.send(machine.dom0(), 0, sent);
    until("a frame arrives", || client.count() == 1)?;
    let got = client.take().remove(0);
    match got.bytes == frame {
        true => Ok(got),
        false => Err("another frame arrived".to_owned()),
    }
}

/// ReceiverIpAlignOffset, ReceiverAlwaysPullup, and the room that a client wants before a frame.
pub fn laid_out(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    for (align, pull_up) in [(0, 0), (2, 0), (2, 1)] {
        set("ReceiverIpAlignOffset", align);
        set("ReceiverAlwaysPullup", pull_up);
        let mut spec = VifSpec::new(0);
        spec.mtu = Some(9000);
        machine.dom0().attach_vif(spec);
        until("its driver starts", || {
            device(machine, 0).is_some_and(|row| row.started)
        })?;
        until("it is connected", || nics.is_connected(0))?;
        let client = VifClient::open(DEVICE, 10)?;
        client.enable(0)?;
        for (backfill, length) in [(0, 60), (0, 4000), (0, 9014), (128, 1514), (128, 9014)] {
            client.call(move |table, this| {
                // SAFETY: the provider's method.
                unsafe { (table.receiver_set_backfill_size)(this, backfill) };
            });
            let got = receive(machine, &nics, &client, plain(length, 3))?;
            let start = (align.max(backfill)) as usize;
            let pieces = (start + length).div_ceil(4096);
            let fits = match start {
                // It lies where the backend put it.
                0 => true,
                start => got.start == start,
            };
            if !fits || got.pieces != pieces {
                return Err(format!(
                    "with {align}, {pull_up}, {backfill} a frame of {length} bytes begins at {} of {} pages",
                    got.start, got.pieces
                ));
            }
        }
        client.disable();
        client.release();
        unplug(machine, 0)?;
    }
    Ok(())
}

/// TransmitterValidateChecksums: right ones, wrong ones, and those that are left to be made.
pub fn validated(machine: &Machine) -> Result<(), String> {
    nic::bind();
    let nics = serve(machine);
    let counters = [
        Statistic::TransmitterIpv4ChecksumSucceeded,
        Statistic::TransmitterIpv4ChecksumFailed,
        Statistic::TransmitterTcpChecksumSucceeded,
        Statistic::TransmitterTcpChecksumFailed,
        Statistic::TransmitterTcpChecksumNotValidated,
    ];
    for (validates, expected) in [(0, [0; 5]), (1, [4, 1, 2, 2, 1])] {
        set("TransmitterValidateChecksums", validates);
        connect(machine, &nics)?;
        let mut client = VifClient::open(DEVICE, 10)?;
        client.enable(0)?;
        let right = tcp(500, false);
        let (mut data, mut header) = (right.clone(), right.clone());
        data[100] ^= 1;
        header[22] ^= 1;
        let blank = OffloadOptions::IPV4_TCP_CHECKSUM;
        for (frame, options) in [
            (right.clone(), 0),
            (data.clone(), 0),
            (header, 0),
            (data, 0),
            (tcp(500, true), blank),
        ] {
            let status = client.send(vec![frame], 4096, options, 0)?;
            if status != [COMPLETION_OK] {
                return Err(format!("a frame was not sent: {status:?}"));
            }
        }
        let found = counters.map(|counter| client.statistic(counter));
        if found != expected {
            return Err(format!("with {validates}: {found:?}, not {expected:?}"));
        }
        client.disable();
        client.release();
        unplug(machine, 0)?;
    }
    Ok(())
}
