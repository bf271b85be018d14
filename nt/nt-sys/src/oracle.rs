//! The layouts stated in this crate, put to a C compiler with mingw-w64's DDK headers.
//!
//! Each statement becomes a `_Static_assert`; nothing is run. What those headers lack or have in an older form is
//! listed below with its reason.

use crate::layout::Layout;
use crate::{
    base, csq, device, interrupt, irp, ke, mm, ndis, netio, pci, pnp, power, registry, resources,
    storport,
};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::string::String;
use std::{eprintln, format};

const COMPILER: &str = "x86_64-w64-mingw32-gcc";

/// Structures that the headers do not have, or only in a form that is not ours.
const UNKNOWN_TO_ORACLE: &[(&str, &str)] = &[
    ("KWAIT_BLOCK", "opaque here"),
    ("IO_REMOVE_LOCK", "the headers' is that of a checked build"),
    (
        "PORT_CONFIGURATION_INFORMATION",
        "the headers end before SynchronizationModel",
    ),
    (
        "HW_INITIALIZATION_DATA",
        "the headers end at HwAdapterControl",
    ),
    ("MEMORY_REGION", "newer than the headers"),
    ("PERF_CONFIGURATION_DATA", "newer than the headers"),
    ("STOR_ADDRESS", "newer than the headers"),
    ("STOR_ADDR_BTL8", "newer than the headers"),
    (
        "PCI_HEADER_TYPE_0",
        "an inner type of the headers' PCI_COMMON_HEADER",
    ),
    ("NDIS_IPSEC_OFFLOAD_V1", "only its size is ours"),
    ("NDIS_IPSEC_OFFLOAD_V2", "only its size is ours"),
    (
        "NDIS_TCP_LARGE_SEND_OFFLOAD_V1",
        "the headers have one more level of names",
    ),
];

/// The headers' ndis.h is that of NDIS 5, so these are only Microsoft's documentation's word.
const NDIS_6: &[&str] = &[
    "NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES",
    "NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES",
    "NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES",
    "NDIS_MINIPORT_DRIVER_CHARACTERISTICS",
    "NDIS_MINIPORT_INIT_PARAMETERS",
    "NDIS_MINIPORT_PAUSE_PARAMETERS",
    "NDIS_MINIPORT_RESTART_PARAMETERS",
    "NDIS_RESTART_ATTRIBUTES",
    "NET_DEVICE_PNP_EVENT",
    "NET_BUFFER",
    "NET_BUFFER_LIST_CONTEXT",
    "NET_BUFFER_LIST",
    "NET_BUFFER_LIST_POOL_PARAMETERS",
    "NDIS_STATUS_INDICATION",
    "NDIS_OID_QUERY",
    "NDIS_OID_SET",
    "NDIS_OID_METHOD",
    "NDIS_OID_REQUEST",
    "NDIS_CONFIGURATION_OBJECT",
    "NDIS_CONFIGURATION_PARAMETER",
    "NDIS_SG_DMA_DESCRIPTION",
    "NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2",
    "NDIS_RFC6877_464XLAT_OFFLOAD",
    "NDIS_UDP_SEGMENTATION_OFFLOAD",
    "NDIS_OFFLOAD_ENCAPSULATION",
];

/// Fields that have another name there: (structure, ours, theirs).
const RENAMED: &[(&str, &str, &str)] = &[("PCI_COMMON_HEADER", "u", "u.type0.BaseAddresses")];

/// Bit fields have no offset in C, and fields newer than the headers none there.
const WITHOUT_OFFSET: &[(&str, &str)] = &[
    ("DEVICE_CAPABILITIES", "Bits"),
    ("NDIS_TCP_IP_CHECKSUM_OFFLOAD", "IPv4Transmit.Bits"),
    ("NDIS_TCP_LARGE_SEND_OFFLOAD_V2", "IPv6.Bits"),
    ("NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD", "Bits"),
    ("NDIS_OFFLOAD", "EncapsulatedPacketTaskOffloadVxlan"),
    ("NDIS_OFFLOAD", "EncapsulationTypes"),
    ("NDIS_OFFLOAD", "Rfc6877Xlat"),
    ("NDIS_OFFLOAD", "UdpSegmentation"),
    ("NDIS_OFFLOAD_PARAMETERS", "EncapsulationProtocolParameters"),
    ("NDIS_OFFLOAD_PARAMETERS", "UdpSegmentationIPv4"),
    ("NDIS_OFFLOAD_PARAMETERS", "UdpSegmentationIPv6"),
    ("NDIS_RECEIVE_SCALE_PARAMETERS", "DefaultProcessorNumber"),
];

/// The headers leave out the alignment to 16 bytes of the first, and the newest fields of the others, so only the
/// offsets compare.
const SIZE_DIFFERS: &[&str] = &[
    "DEVICE_OBJECT",
    "NDIS_OFFLOAD",
    "NDIS_OFFLOAD_PARAMETERS",
    "NDIS_RECEIVE_SCALE_PARAMETERS",
];

fn all_layouts() -> impl Iterator<Item = &'static Layout> {
    [
        base::LAYOUTS,
        csq::LAYOUTS,
        device::LAYOUTS,
        interrupt::LAYOUTS,
        irp::LAYOUTS,
        ke::LAYOUTS,
        mm::LAYOUTS,
        pci::LAYOUTS,
        pnp::LAYOUTS,
        power::LAYOUTS,
        registry::LAYOUTS,
        resources::LAYOUTS,
        storport::layouts::MINIPORT,
        storport::layouts::PORT,
        storport::layouts::SRB,
        ndis::layouts::OBJECT,
        ndis::layouts::ATTRIBUTES,
        ndis::layouts::BUFFER,
        ndis::layouts::INDICATION,
        ndis::layouts::MINIPORT,
        ndis::layouts::OFFLOAD,
        ndis::layouts::OID,
        ndis::layouts::RESOURCE,
        ndis::layouts::SCALE,
    ]
    .into_iter()
    .flatten()
}

/// netio's structures are those of user mode, whose headers do not go with the kernel's.
fn netio_program() -> String {
    let mut program = String::from(
        "#define NTDDI_VERSION 0x0A000000\n#define _WIN32_WINNT 0x0A00\n#include <stddef.h>\n\
         #include <winsock2.h>\n#include <ws2ipdef.h>\n#include <iphlpapi.h>\n#include <netioapi.h>\n",
    );
    state(&mut program, netio::LAYOUTS.iter());
    program
}

fn c_program() -> String {
    let mut program = String::from(
        "#define NT_PROCESSOR_GROUPS\n#define NTDDI_VERSION 0x0A000000\n#define _WIN32_WINNT 0x0A00\n\
         #include <stddef.h>\n#include <ntddk.h>\n#include <srb.h>\n",
    );
    // storport.h declares a structure again that its own include srb.h has: give that one another name.
    for name in [
        "_SCSI_WMI_REQUEST_BLOCK",
        "SCSI_WMI_REQUEST_BLOCK",
        "PSCSI_WMI_REQUEST_BLOCK",
    ] {
        let _ = writeln!(program, "#define {name} {name}_again");
    }
    program.push_str("#include <storport.h>\n#include <scsi.h>\n");
    for version in ["6", "61", "620", "630"] {
        let _ = writeln!(program, "#define NDIS_SUPPORT_NDIS{version} 1");
    }
    // ntddndis.h wants a type of the user-mode header that it includes, which does not go with ntddk.h.
    program.push_str(
        "#define _WS2IPDEF_\ntypedef int SOCKADDR_INET;\n#include <ifdef.h>\n#include <ntddndis.h>\n",
    );
    state(&mut program, all_layouts());
    program
}

/// Writes what is stated of layouts.
fn state(program: &mut String, layouts: impl Iterator<Item = &'static Layout>) {
    for layout in layouts {
        if UNKNOWN_TO_ORACLE
            .iter()
            .map(|(name, _)| name)
            .chain(NDIS_6)
            .any(|name| *name == layout.name)
        {
            continue;
        }
        if !SIZE_DIFFERS.contains(&layout.name) {
            let _ = writeln!(
                program,
                "_Static_assert(sizeof({0}) == {1}, \"sizeof {0} is not {1}\");",
                layout.name, layout.size
            );
        }
        for (field, offset) in layout.fields {
            let field: String = field.split_whitespace().collect();
            if WITHOUT_OFFSET.contains(&(layout.name, &field)) {
                continue;
            }
            let renamed = RENAMED.iter().find(|r| r.0 == layout.name && r.1 == field);
            let field = renamed.map_or(field.as_str(), |r| r.2);
            let field = field.trim_start_matches("Anonymous.");
            let _ = writeln!(
                program,
                "_Static_assert(offsetof({0}, {1}) == {2}, \"{0}.{1} is not at {2}\");",
                layout.name, field, offset
            );
        }
    }
}

#[test]
fn layouts_agree_with_the_ddk_headers_of_mingw_w64() {
    compile(&c_program());
}

#[test]
fn layouts_of_netio_agree_with_the_headers_of_mingw_w64() {
    compile(&netio_program());
}

/// Has a C compiler look at what is stated.
fn compile(program: &str) {
    let child = Command::new(COMPILER)
        .args([
            "-fsyntax-only",
            "-w",
            "-I/usr/share/mingw-w64/include/ddk",
            "-x",
            "c",
            "-",
        ])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!(
                "SKIPPED: {COMPILER} does not start ({error}); apt-get install gcc-mingw-w64-x86-64"
            );
            return;
        }
    };
    let written = child
        .stdin
        .take()
        .map(|mut pipe| pipe.write_all(program.as_bytes()));
    assert!(
        matches!(written, Some(Ok(()))),
        "the compiler did not read its input"
    );
    let output = child.wait_with_output();
    let (success, messages) = match &output {
        Ok(output) => (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ),
        Err(error) => (false, format!("{error}")),
    };
    assert!(success, "{messages}");
}

#[test]
fn a_guid_reads_like_its_spelling() {
    let guid = pnp::GUID_BUS_INTERFACE_STANDARD;
    assert_eq!(
        (guid.Data1, guid.Data2, guid.Data3),
        (0x496B8280, 0x6F25, 0x11D0)
    );
    assert_eq!(guid.Data4, [0xBE, 0xAF, 0x08, 0x00, 0x2B, 0xE2, 0x09, 0x2F]);
}
