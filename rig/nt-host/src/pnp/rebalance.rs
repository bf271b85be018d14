//! Other resources for a device that works (Microsoft Learn, "Stopping a Device to Rebalance Resources").
//!
//! ```text
//!   QUERY_STOP ── refused ──▶ CANCEL_STOP, and it works on
//!        └─ agreed ──▶ STOP ──▶ requirements, filters, arbiter ──▶ START ──▶ state, BusRelations
//! ```

use alloc::format;

use nt_sys::{IRP_MN_CANCEL_STOP_DEVICE, IRP_MN_QUERY_STOP_DEVICE, IRP_MN_STOP_DEVICE, nt_success};

use super::node::{self, NodeId, State};
use super::{arbiter, enumerate, remove};

/// Stops a device whose requirements have changed, and starts it with what it requires now.
pub fn device(id: NodeId) {
    let Some(node) = node::get(id).filter(|node| node.state == State::Started) else {
        return;
    };
    let started = |id: &NodeId| node::get(*id).is_some_and(|child| child.state == State::Started);
    if node.children.iter().any(started) {
        super::log(format!(
            "{}: not stopped for other resources, since its children work",
            node.instance
        ));
        return;
    }
    let status = node.pdo.tell(IRP_MN_QUERY_STOP_DEVICE);
    if !nt_success(status) {
        // Drivers above the one that refused had agreed.
        node.pdo.tell(IRP_MN_CANCEL_STOP_DEVICE);
        return;
    }
    node.pdo.tell(IRP_MN_STOP_DEVICE);
    node::update(id, |node| {
        node.state = State::Stopped;
        node.resources.clear();
    });
    arbiter::release(id.0);
    match enumerate::start(id) {
        Ok(()) => enumerate::children(id),
        Err(why) => {
            super::log(format!("{}: {why}", node.instance));
            remove::failed(id, why);
        }
    }
}
