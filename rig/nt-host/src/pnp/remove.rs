//! Taking devices away: asked for, surprising, after a failure, at the end of a run.
//!
//! | | sent, children before parents |
//! |---|---|
//! | asked for | QUERY_REMOVE to all, then REMOVE to all; one refusal: CANCEL_REMOVE to all asked |
//! | surprising | SURPRISE_REMOVAL to all that were started, then REMOVE to all |
//! | failed start | REMOVE to the one |
//!
//! A node leaves the tree when its bus no longer reports it. Until then its PDO stays, without drivers.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use nt_sys::{
    IRP_MN_CANCEL_REMOVE_DEVICE, IRP_MN_EJECT, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_REMOVE_DEVICE,
    IRP_MN_SURPRISE_REMOVAL, NTSTATUS, nt_success,
};

use super::node::{self, Node, NodeId, State};
use super::{arbiter, device_interface, enumerate};
use crate::io::device;
use crate::verifier::Rule;

/// A refusal to be removed.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Instance path of the device that refused.
    pub instance: String,
    /// What its stack answered.
    pub status: NTSTATUS,
}

/// Removes a device with all below it, if every driver agrees.
pub fn query(id: NodeId) -> Result<(), Refused> {
    let mut asked: Vec<NodeId> = Vec::new();
    for id in node::subtree(id).into_iter().rev() {
        let Some(node) = node::get(id).filter(|node| has_drivers(&node.state)) else {
            continue;
        };
        let status = node.pdo.tell(IRP_MN_QUERY_REMOVE_DEVICE);
        asked.push(id);
        if !nt_success(status) {
            // Whoever agreed, and whoever is below the refusing driver, learns that it was for nothing.
            for id in asked.into_iter().rev() {
                if let Some(node) = node::get(id) {
                    node.pdo.tell(IRP_MN_CANCEL_REMOVE_DEVICE);
                }
            }
            return Err(Refused {
                instance: node.instance,
                status,
            });
        }
    }
    for id in node::subtree(id).into_iter().rev() {
        take_drivers(id, State::Removed);
    }
    forget_children(id);
    Ok(())
}

fn has_drivers(state: &State) -> bool {
    matches!(state, State::Added | State::Started | State::Stopped)
}

/// Sends REMOVE to a device's stack and takes its resources back.
fn take_drivers(id: NodeId, becomes: State) {
    let Some(node) = node::get(id).filter(|node| has_drivers(&node.state)) else {
        return;
    };
    remove_stack(&node);
    device_interface::disable_all(&node.instance);
    arbiter::release(id.0);
    node::update(id, |node| {
        node.state = becomes;
        node.resources.clear();
        node.service = None;
    });
}

/// Sends REMOVE, which no driver may refuse and after which only the PDO is left.
fn remove_stack(node: &Node) {
    let status = node.pdo.tell(IRP_MN_REMOVE_DEVICE);
    if !nt_success(status) {
        Rule::RemoveRefused.breach(format_args!(
            "{}: REMOVE_DEVICE was completed with {status:#010x}",
            node.instance
        ));
    }
    // SAFETY: the node holds a reference of its PDO.
    let left = unsafe { device::stack(node.pdo.as_ptr()) };
    if let [_, above, ..] = left[..] {
        let above = device::describe(above);
        Rule::DeviceAttached.breach(format_args!(
            "{}: {above} is still attached after REMOVE_DEVICE",
            node.instance
        ));
    }
}

/// Forgets the nodes below a device: their bus, having no driver, reports nothing any more.
fn forget_children(id: NodeId) {
    for child in node::subtree(id)
        .into_iter()
        .rev()
        .filter(|child| *child != id)
    {
        forget(child);
    }
}

fn forget(id: NodeId) {
    arbiter::release(id.0);
    if let Some(node) = node::remove(id) {
        node.pdo.release();
    }
}

/// A device that its bus no longer reports.
pub fn missing(id: NodeId) {
    let Some(node) = node::get(id) else { return };
    match has_drivers(&node.state) {
        true => surprise(id, State::Removed),
        // A PDO without drivers outlived its REMOVE, or had none yet; its bus may have deleted it meanwhile.
        false if !node.pdo.is_deleted() => remove_stack(&node),
        false => {}
    }
    forget(id);
}

/// Removes a device with all below it without asking.
pub fn surprise(id: NodeId, becomes: State) {
    let all: Vec<NodeId> = node::subtree(id).into_iter().rev().collect();
    for id in &all {
        if let Some(node) = node::get(*id).filter(|node| node.state == State::Started) {
            node.pdo.tell(IRP_MN_SURPRISE_REMOVAL);
        }
    }
    for id in &all {
        take_drivers(*id, becomes.clone());
    }
    forget_children(id);
}

/// A device that could not be configured: its drivers go, the node stays and says why.
pub fn failed(id: NodeId, why: String) {
    let Some(node) = node::get(id) else { return };
    // AddDevice may have failed above a driver that had added its device.
    // SAFETY: the node holds a reference of its PDO.
    if has_drivers(&node.state) || unsafe { device::stack(node.pdo.as_ptr()) }.len() > 1 {
        remove_stack(&node);
    }
    arbiter::release(id.0);
    node::update(id, |node| {
        node.state = State::Failed(why);
        node.resources.clear();
    });
}

/// A device that its driver wants ejected (IoRequestDeviceEject), or the rig's user.
pub fn eject(id: NodeId) -> Result<(), Refused> {
    let Some(node) = node::get(id) else {
        return Ok(());
    };
    query(id)?;
    let status = node.pdo.tell(IRP_MN_EJECT);
    if !nt_success(status) {
        super::log(format!(
            "{}: EJECT failed with {status:#010x}",
            node.instance
        ));
    }
    if let Some(parent) = node.parent {
        enumerate::children(parent);
    }
    Ok(())
}
