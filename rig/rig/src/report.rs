//! What a run saw: for people, and as JSON.

use std::fmt::{self, Display};

use serde::Serialize;

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The rig's version.
    pub version: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// RAM of the guest in MiB.
    pub memory_mib: u64,
    /// Seconds from the start until the devices were ready.
    pub boot_seconds: f64,
    /// Drivers that were loaded.
    pub drivers: Vec<Driver>,
    /// The device tree, parents first.
    pub devices: Vec<Device>,
    /// The disks.
    pub disks: Vec<Disk>,
    /// Network cards.
    pub nics: usize,
    /// What was done with disks and network cards by the rig itself.
    pub checks: Vec<Check>,
    /// What was done by NBD clients.
    pub nbd: Option<Nbd>,
    /// Faults that were asked for and struck.
    pub faults: Vec<String>,
    /// What the verifier found at the end; nothing is the aim.
    pub findings: Vec<String>,
    /// What each driver took at most.
    pub figures: Vec<Figures>,
    /// Whether all is well.
    pub passed: bool,
    /// The same in a line.
    pub verdict: String,
}

/// A loaded driver.
#[derive(Clone, Debug, Serialize)]
pub struct Driver {
    /// `xenbus.sys`.
    pub image: String,
    /// Bytes of the file.
    pub bytes: usize,
}

/// What a driver took at most, as far as it was seen. Nanoseconds of its processor's time, 0 for less than some 2 us.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// `xenbus.sys`.
    pub driver: String,
    /// The longest DPC routine.
    pub dpc_ns: u64,
    /// The longest interrupt routine.
    pub interrupt_ns: u64,
    /// The longest hold of a spin lock.
    pub lock_ns: u64,
    /// Bytes of stack that drivers had in use when it called the kernel.
    pub stack: u64,
}

/// A device.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// 0 at the top.
    pub depth: usize,
    /// Instance path.
    pub instance: String,
    /// Description from the INF or the bus.
    pub description: String,
    /// The driver's service.
    pub driver: Option<String>,
    /// The ID by which the driver was chosen.
    pub matched: Option<String>,
    /// All hardware IDs, most specific first.
    pub hardware_ids: Vec<String>,
    /// `started` or what else.
    pub state: String,
    /// Interfaces it provides to others, with their versions.
    pub interfaces: Vec<String>,
}

/// A disk.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// The name it has here, and as an NBD export.
    pub name: String,
    /// The image file.
    pub image: String,
    /// Sectors.
    pub sectors: u64,
    /// Bytes in a sector.
    pub sector_size: u32,
    /// Bytes in a physical sector.
    pub physical_sector_size: u32,
    /// Vendor and product, as INQUIRY tells them.
    pub product: String,
    /// Serial number.
    pub serial: String,
    /// Whether it has a volatile write cache.
    pub write_cache: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// What frontend and backend agreed on.
    pub negotiated: Vec<String>,
}

/// Something the rig did with a disk or a network card.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The disk, or the card.
    pub disk: String,
    /// What was done, and with what result.
    pub what: String,
    /// Bytes per second, where it was about that.
    pub bytes_per_second: Option<f64>,
}

/// The NBD server's account.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Nbd {
    /// Where it listened.
    pub address: String,
    /// Connections.
    pub connections: u64,
    /// Requests, and how many of them failed.
    pub requests: u64,
    /// Requests answered with an error.
    pub failed: u64,
    /// Bytes read by clients.
    pub read: u64,
    /// Bytes written by clients.
    pub written: u64,
}

/// Bytes in the unit that fits.
pub fn bytes(count: u64) -> impl Display {
    let (mut number, mut unit) = (count as f64, "bytes");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    if unit == "bytes" {
        format!("{count} bytes")
    } else {
        format!("{number:.1} {unit}")
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = 2 + self.depth * 2;
        write!(f, "{:indent$}{}  ", "", self.instance)?;
        if let Some(driver) = &self.driver {
            write!(f, "{driver}  ")?;
        }
        write!(f, "{}", self.state)?;
        if let Some(matched) = &self.matched {
            write!(f, "\n{:indent$}    by {matched}", "")?;
        }
        if !self.interfaces.is_empty() {
            write!(
                f,
                "\n{:indent$}    interfaces {}",
                "",
                self.interfaces.join(", ")
            )?;
        }
        Ok(())
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |nanoseconds: u64| match nanoseconds {
            0 => "< 2".to_owned(),
            _ => nanoseconds.div_ceil(1000).to_string(),
        };
        write!(
            f,
            "{}: longest DPC {} us, interrupt {} us, spin lock held {} us, stack {} bytes",
            self.driver,
            time(self.dpc_ns),
            time(self.interrupt_ns),
            time(self.lock_ns),
            self.stack
        )
    }
}

impl Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = bytes(self.sectors.saturating_mul(u64::from(self.sector_size)));
        write!(
            f,
            "  {}  {size}, {} sectors of {} bytes",
            self.name, self.sectors, self.sector_size
        )?;
        if self.physical_sector_size != self.sector_size {
            write!(f, " (physical {})", self.physical_sector_size)?;
        }
        write!(
            f,
            ", {}",
            if self.write_cache {
                "write cache"
            } else {
                "no write cache"
            }
        )?;
        if self.read_only {
            write!(f, ", read-only")?;
        }
        write!(f, "\n      {}", self.product)?;
        if !self.serial.is_empty() {
            write!(f, ", serial {}", self.serial)?;
        }
        write!(f, "\n      image {}", self.image)?;
        if !self.negotiated.is_empty() {
            write!(f, "\n      negotiated {}", self.negotiated.join(", "))?;
        }
        Ok(())
    }
}

impl Report {
    /// The part that is known when the machine has booted.
    pub fn print_machine(&self) {
        let plural = if self.cpus == 1 { "" } else { "s" };
        println!(
            "winpv {}: {} virtual CPU{plural}, {} MiB, booted in {:.1} s",
            self.version, self.cpus, self.memory_mib, self.boot_seconds
        );
        let drivers: Vec<_> = self
            .drivers
            .iter()
            .map(|driver| format!("{} ({} bytes)", driver.image, driver.bytes))
            .collect();
        println!("drivers  {}", drivers.join(", "));
        println!("devices");
        for device in &self.devices {
            println!("{device}");
        }
        println!("disks");
        for disk in &self.disks {
            println!("{disk}");
        }
    }

    /// The end.
    pub fn print_verdict(&self) {
        if let Some(nbd) = &self.nbd {
            println!(
                "nbd      {} connections, {} requests ({} failed), {} read, {} written",
                nbd.connections,
                nbd.requests,
                nbd.failed,
                bytes(nbd.read),
                bytes(nbd.written)
            );
        }
        if self.findings.is_empty() {
            println!("verifier nothing found");
        }
        for finding in &self.findings {
            println!("verifier {finding}");
        }
        for figures in &self.figures {
            println!("at most  {figures}");
        }
        println!("{}", self.verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(bytes(512).to_string(), "512 bytes");
        assert_eq!(bytes(64 << 20).to_string(), "64.0 MiB");
        assert_eq!(bytes(3 << 39).to_string(), "1.5 TiB");
    }
}
