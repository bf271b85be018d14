//! Which offloads there are, which of them are on, and who is told.
//!
//! ```text
//!   hardware: what the interface offers ──┐
//!   wished:   keywords, then each         ├─ ∩ ─▶ current configuration ─▶ NDIS, in blocks of every revision
//!             OID_TCP_OFFLOAD_PARAMETERS ─┘            │
//!   started:  OID_OFFLOAD_ENCAPSULATION, per IP ───────┴─ ∩ ─▶ what a send may ask; the options of the receiver
//! ```
//!
//! What a sender may ask for starts when it is switched on, by either OID; checking of received checksums starts with
//! the encapsulation only (Learn, "OID_OFFLOAD_ENCAPSULATION"); coalescing needs none. What is wished and cannot be had
//! is remembered: after a migration there may be another backend, which can.

mod encapsulation;
mod hardware;
mod parameters;
mod record;

pub use encapsulation::{Encapsulation, Switch};
pub use hardware::Hardware;
pub use parameters::Parameters;
pub use record::{MAX_RECORD, Revision};

use crate::keyword::Settings;
use crate::status::{Failure, NOT_SUPPORTED};
use crate::tasks::Tasks;
use pv_interfaces::vif::OffloadOptions;

/// The offloads of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    hardware: Hardware,
    /// What shall be on, as far as there is such a thing.
    wished: Tasks,
    /// What has been started.
    started: Tasks,
    /// What an encapsulation has switched off until it is switched on again.
    stopped: Tasks,
    need_checksum_value: bool,
    /// Whether tags are beside the packets that are sent.
    tags: bool,
}

impl Offload {
    /// Of an adapter before its first OID.
    pub fn new(hardware: Hardware, settings: &Settings) -> Self {
        Self {
            hardware,
            wished: settings.tasks,
            started: Tasks::NONE,
            stopped: Tasks::NONE,
            need_checksum_value: settings.need_checksum_value,
            tags: settings.priority || settings.vlan,
        }
    }

    /// What the interface offers.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// The interface offers something else now. Whether that changes the current configuration.
    pub fn set_hardware(&mut self, hardware: Hardware) -> bool {
        let before = (self.current(), self.hardware);
        self.hardware = hardware;
        before != (self.current(), self.hardware)
    }

    /// The current configuration: what the transport may count on.
    pub fn current(&self) -> Tasks {
        self.hardware.tasks() & self.wished & !self.stopped
    }

    /// What a packet that is sent may ask for now.
    pub fn transmit(&self) -> Tasks {
        self.current() & self.started & !(Tasks::RX_CHECKSUMS | Tasks::RSC)
    }

    /// What the interface shall do with received packets.
    pub fn receive_options(&self) -> OffloadOptions {
        let checks = self.current() & self.started & Tasks::RX_CHECKSUMS;
        let large = self.current() & Tasks::RSC;
        let mut options = OffloadOptions::TAG_MANIPULATION | (checks | large).receive_options();
        if self.need_checksum_value {
            options |= OffloadOptions::NEED_CHECKSUM_VALUE;
        }
        if large != Tasks::NONE {
            options |= OffloadOptions::NEED_LARGE_PACKET_SPLIT;
        }
        OffloadOptions(options)
    }

    /// OID_TCP_OFFLOAD_PARAMETERS: all of it, or nothing.
    pub fn set_parameters(&mut self, parameters: &Parameters) -> Result<(), Failure> {
        let available = self.hardware.tasks();
        // What is asked for must be there, at least in one of its directions.
        if parameters
            .demands()
            .any(|demanded| !available.has(demanded))
        {
            return Err(NOT_SUPPORTED);
        }
        self.wished = self.wished & !parameters.off() | parameters.on();
        self.stopped = self.stopped & !parameters.on();
        self.started |= parameters.on() & !Tasks::RX_CHECKSUMS;
        Ok(())
    }

    /// OID_OFFLOAD_ENCAPSULATION.
    pub fn set_encapsulation(&mut self, encapsulation: &Encapsulation) {
        for (switch, tasks) in [
            (encapsulation.ipv4, Tasks::IPV4),
            (encapsulation.ipv6, Tasks::IPV6),
        ] {
            // Coalescing is not a matter of it.
            let tasks = tasks & !Tasks::RSC;
            match switch {
                Switch::Unchanged => {}
                Switch::On => {
                    self.started |= tasks;
                    self.stopped = self.stopped & !tasks;
                }
                Switch::Off => {
                    self.started = self.started & !tasks;
                    self.stopped |= tasks;
                }
            }
        }
    }

    /// Writes the current configuration as `NDIS_OFFLOAD`, and gives its length.
    pub fn write_current(&self, out: &mut [u8; MAX_RECORD]) -> usize {
        record::write(&self.hardware, self.current(), self.tags, out)
    }

    /// Writes what the interface offers as `NDIS_OFFLOAD`, and gives its length.
    pub fn write_hardware(&self, out: &mut [u8; MAX_RECORD]) -> usize {
        record::write(&self.hardware, self.hardware.tasks(), self.tags, out)
    }
}

#[cfg(test)]
mod tests;
