//! What the class installer of network adapters writes when a device gets its driver: a name of its own, the defaults of
//! its keywords, before them what the user chose, and the connection that people see.

use alloc::format;
use alloc::string::String;

use nt_host::cm::{self, CONTROL_SET, Value};

use crate::keyword;

/// The setup class of network adapters (devguid.h: GUID_DEVCLASS_NET).
const CLASS: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";

/// Completes an adapter's software key, and says by what name its device is known (NetCfgInstanceId).
pub fn adapter(software_key: &str, instance: &str) -> String {
    let name = match cm::read(software_key, "NetCfgInstanceId").and_then(|value| value.as_string())
    {
        Some(name) => name,
        None => {
            let name = instance_id(instance);
            cm::write(software_key, "NetCfgInstanceId", Value::sz(&name));
            name
        }
    };
    keyword::write_chosen(software_key);
    let parameters = format!("{software_key}\\Ndi\\params");
    for keyword in cm::children(&parameters) {
        let default = cm::read(&format!("{parameters}\\{keyword}"), "default");
        if let Some(default) = default.filter(|_| cm::read(software_key, &keyword).is_none()) {
            cm::write(software_key, &keyword, default);
        }
    }
    let connection = format!("{CONTROL_SET}\\Control\\Network\\{CLASS}\\{name}\\Connection");
    if !cm::exists(&connection) {
        cm::write(&connection, "Name", Value::sz("Ethernet"));
        cm::write(&connection, "PnpInstanceID", Value::sz(instance));
    }
    let linkage = format!("{software_key}\\Linkage");
    let device = format!("\\Device\\{name}");
    cm::write(&linkage, "RootDevice", Value::multi_sz(&[&name]));
    cm::write(&linkage, "Export", Value::multi_sz(&[&device]));
    name
}

/// A GUID that follows from a device's instance path, so that each boot names it alike.
fn instance_id(instance: &str) -> String {
    // FNV-1a, twice, from two starts (RFC 9923).
    let hash = |start: u64| {
        instance.bytes().fold(start, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    let (a, b) = (hash(0xcbf2_9ce4_8422_2325), hash(0x6c62_272e_07bb_0142));
    format!(
        "{{{:08X}-{:04X}-4{:03X}-8{:03X}-{:012X}}}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_has_a_name_of_its_own() {
        let name = instance_id(r"XENVIF\VEN_XP0001&DEV_NET\0");
        assert_eq!(name.len(), 38);
        assert_eq!(name, instance_id(r"XENVIF\VEN_XP0001&DEV_NET\0"));
        assert_ne!(name, instance_id(r"XENVIF\VEN_XP0001&DEV_NET\1"));
    }

    #[test]
    fn keywords_get_their_defaults_and_keep_what_was_set() {
        let key = r"\Registry\Machine\Software\NdisDefaults";
        for (keyword, default) in [("*RSS", "1"), ("*JumboPacket", "1514")] {
            let own = format!("{key}\\Ndi\\params\\{keyword}");
            cm::write(&own, "default", Value::sz(default));
        }
        cm::write(key, "*JumboPacket", Value::sz("9014"));
        let name = adapter(key, "Root\\Test\\0");
        assert_eq!(cm::read(key, "*RSS"), Some(Value::sz("1")));
        assert_eq!(cm::read(key, "*JumboPacket"), Some(Value::sz("9014")));
        assert_eq!(cm::read(key, "NetCfgInstanceId"), Some(Value::sz(&name)));
        assert_eq!(adapter(key, "Root\\Test\\0"), name);
    }
}
