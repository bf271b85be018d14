//! Looking for interfaces: the directories below xenstore's `device/vif`, each with an address.

use super::Fdo;
use crate::session::Session;
use crate::settings;
use crate::vif::Vif;
use ::bus::{VifIdentity, VifNumber};
use alloc::sync::Arc;
use alloc::vec::Vec;
use netfront::MacAddress;
use nt::{NtStatus, Result};
use pv_client::{CText, c_text};

impl Fdo {
    /// Looks once. PASSIVE_LEVEL, one at a time.
    ///
    /// # Errors
    /// It should be done again: better no change than devices that vanish because xenstored is slow.
    pub(super) fn scan(self: &Arc<Self>) -> Result<()> {
        let Some(session) = self.session().filter(|_| self.function.is_started()) else {
            return Ok(());
        };
        if settings::enumerate() {
            wanted(&session)
                .and_then(|wanted| self.reconcile(&session, &wanted))
                .inspect_err(|status| nt::warning!("looking for interfaces: {status}"))?;
        }
        self.children.set_known();
        Ok(())
    }

    /// Makes the children agree with `wanted`.
    fn reconcile(
        self: &Arc<Self>,
        session: &Session,
        wanted: &[(VifNumber, MacAddress)],
    ) -> Result<()> {
        let mut changed = self
            .children
            .keep(|vif| wanted.iter().any(|(number, _)| *number == vif.number()));
        let mut outcome = Ok(());
        for &(number, address) in wanted {
            // One that is on its way out has to be gone before it can come again.
            if self.children.any(|vif| vif.number() == number) {
                continue;
            }
            if is_leaving(session, number) {
                continue;
            }
            let identity = VifIdentity {
                platform: self.platform,
                number,
                address: address.0,
            };
            match Vif::create(self, identity).and_then(|vif| self.children.adopt(vif)) {
                Ok(()) => changed = true,
                Err(status) => {
                    nt::error!("creating a device for vif/{number}: {status}");
                    outcome = Err(status);
                }
            }
        }
        if changed {
            self.function.physical.invalidate_bus_relations();
        }
        outcome
    }
}

/// Whether the toolstack is about to take an interface away. One that was ejected is not to come back before it has gone.
fn is_leaving(session: &Session, number: VifNumber) -> bool {
    let plain = session.store.plain();
    let online = plain
        .read(&c_text!("device/vif/{number}"), &c_text!("backend"))
        .and_then(|backend| plain.read(&CText::from_bytes(backend.as_bytes()), &c_text!("online")));
    online.is_ok_and(|online| online.as_bytes() == b"0")
}

/// The interfaces that there shall be devices of.
fn wanted(session: &Session) -> Result<Vec<(VifNumber, MacAddress)>> {
    let plain = session.store.plain();
    let mut wanted = Vec::new();
    let names = match plain.list(None, &c_text!("device/vif")) {
        // No interfaces at all.
        Err(NtStatus::OBJECT_NAME_NOT_FOUND | NtStatus::OBJECT_PATH_NOT_FOUND) => {
            return Ok(wanted);
        }
        names => names?,
    };
    let unsupported = settings::unsupported()?;
    for name in names.names() {
        let Some(number) = VifNumber::new(name) else {
            nt::warning!("device/vif/{}: no number", name.escape_ascii());
            continue;
        };
        if unsupported.iter().any(|other| other.as_bytes() == name) {
            nt::info!("vif/{number} is not to be used");
            continue;
        }
        let address = match plain.read(&c_text!("device/vif/{number}"), &c_text!("mac")) {
            // The toolstack has not got that far, or is taking it away.
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) => continue,
            address => address?,
        };
        match MacAddress::parse(address.as_bytes()) {
            Some(address) => {
                wanted.try_reserve(1)?;
                wanted.push((number, address));
            }
            None => nt::warning!("vif/{number}: the address is none"),
        }
    }
    Ok(wanted)
}
