//! The adapters that the NDIS host has.

use ndis_host::{Adapter, State};
use rig::port_nic;

use crate::life::until;

/// The adapter of interface `number`, once it runs.
pub fn running(number: u32) -> Result<&'static Adapter, String> {
    let end = format!(r"\{number}");
    let find = || {
        let mut all = port_nic::all().into_iter();
        all.find(|it| {
            it.instance().ends_with(&end) && !it.is_gone() && it.state() == State::Running
        })
    };
    until("the adapter runs", || find().is_some())?;
    find().ok_or_else(|| "the adapter went".to_owned())
}
