//! What people see of the device tree, and the end of a run: everything removed, and what was left behind.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::node::{self, NodeId, State};
use super::remove;
use super::resources::Given;
use crate::io::{complete, driver, shutdown};
use crate::ob::handle;
use crate::verifier::{Rule, unload};

/// One device of the tree, parents before children.
#[derive(Clone, Debug)]
pub struct Row {
    /// 0 for what is directly below the root.
    pub depth: usize,
    /// Instance path.
    pub instance: String,
    /// Description.
    pub description: String,
    /// Service of its function driver.
    pub service: Option<String>,
    /// The ID by which the driver was chosen.
    pub matching_id: Option<String>,
    /// Hardware IDs.
    pub hardware_ids: Vec<String>,
    /// Its resources, readable.
    pub resources: Vec<String>,
    /// Whether it is started.
    pub started: bool,
    /// Its state in words.
    pub state: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = self.depth.saturating_mul(2);
        write!(f, "{:indent$}{}  [{}]", "", self.instance, self.state)?;
        if let Some(service) = &self.service {
            write!(f, "  driver {service}")?;
        }
        match &self.matching_id {
            Some(id) => write!(f, "  by {id}"),
            None => Ok(()),
        }
    }
}

/// The device tree, without its root.
pub fn tree() -> Vec<Row> {
    let Some(root) = node::root() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for id in node::subtree(root).into_iter().filter(|id| *id != root) {
        let Some(node) = node::get(id) else { continue };
        rows.push(Row {
            depth: depth(id).saturating_sub(1),
            instance: node.instance,
            description: node.description,
            service: node.service,
            matching_id: node.matching_id,
            hardware_ids: node.hardware_ids,
            resources: node
                .resources
                .iter()
                .map(|resource| readable(resource.what))
                .collect(),
            started: node.state == State::Started,
            state: node.state.to_string(),
        });
    }
    rows
}

fn depth(id: NodeId) -> usize {
    let mut depth = 0usize;
    let mut at = node::get(id).and_then(|node| node.parent);
    while let Some(parent) = at {
        depth = depth.saturating_add(1);
        at = node::get(parent).and_then(|node| node.parent);
    }
    depth
}

fn readable(given: Given) -> String {
    match given {
        Given::Port(start, length) => format!("ports {start:#x}+{length:#x}"),
        Given::Memory(start, length) => format!("memory {start:#x}+{length:#x}"),
        Given::Interrupt {
            line,
            vector,
            processors,
        } if line == vector => {
            format!("message, vector {vector:#x}, processors {processors:#x}")
        }
        Given::Interrupt { line, vector, .. } => format!("line {line}, vector {vector:#x}"),
    }
}

/// What was left behind at the end of a run; nothing is the aim.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    /// Devices that could not be removed, drivers that could not be unloaded, and why.
    pub refusals: Vec<String>,
    /// IRPs that drivers never completed.
    pub irps: Vec<String>,
    /// What drivers left behind when they were unloaded, or have not given back.
    pub left: Vec<String>,
    /// Handles of the executive's own that are still open.
    pub handles: usize,
}

impl Leaks {
    /// The report, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.refusals.clone();
        lines.extend(
            self.irps
                .iter()
                .map(|irp| format!("{}: {irp}", Rule::IrpLeak)),
        );
        lines.extend(self.left.iter().cloned());
        if self.handles != 0 {
            lines.push(format!(
                "{}: {} handles are still open",
                Rule::HandleLeak,
                self.handles
            ));
        }
        lines
    }
}

/// Shutdown notification, removal of the whole tree, unloading. On the manager's thread.
pub(super) fn tear_down() -> Leaks {
    let mut leaks = Leaks::default();
    shutdown::notify();
    let Some(root) = node::root() else {
        return leaks;
    };
    for child in node::get(root)
        .map(|node| node.children)
        .unwrap_or_default()
    {
        if let Err(refused) = remove::query(child) {
            leaks.refusals.push(format!(
                "{} refused to be removed with {:#010x}",
                refused.instance, refused.status
            ));
        }
    }
    crate::ke::dpc::KeFlushQueuedDpcs();
    leaks.irps = complete::outstanding();
    for service in driver::loaded() {
        if let Err(why) = driver::unload(&service) {
            leaks.refusals.push(why);
        }
    }
    leaks.left = unload::take();
    leaks.handles = handle::opened_by(0).len();
    leaks
}
