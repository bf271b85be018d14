//! The device tree: what the PnP manager knows of each device.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use nt_sys::DEVICE_OBJECT;

use super::query::Pdo;
use super::resources::Resource;
use crate::sync::Mutex;

/// Names a device for as long as the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Where a device is in its life (Microsoft Learn, "State Transitions for PnP Devices").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Reported by its bus; no drivers yet.
    Present,
    /// Its drivers are loaded and have added their devices.
    Added,
    /// Started.
    Started,
    /// Stopped to be given other resources.
    Stopped,
    /// Its drivers were removed; the device is still on its bus.
    Removed,
    /// It does not work, for this reason.
    Failed(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("no driver"),
            Self::Added => f.write_str("added"),
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Removed => f.write_str("removed"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// A device.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its parent; none for the root.
    pub parent: Option<NodeId>,
    /// Its children in order of discovery.
    pub children: Vec<NodeId>,
    /// Its physical device object.
    pub pdo: Pdo,
    /// Device ID and instance ID: its path below `Enum`.
    pub instance: String,
    /// Hardware IDs, most specific first.
    pub hardware_ids: Vec<String>,
    /// Compatible IDs, most specific first.
    pub compatible_ids: Vec<String>,
    /// The bus's or the INF's description.
    pub description: String,
    /// Where it is on its bus.
    pub location: Option<String>,
    /// The service of its function driver.
    pub service: Option<String>,
    /// The ID by which its driver was chosen.
    pub matching_id: Option<String>,
    /// DEVICE_CAPABILITIES.Address and UINumber.
    pub address: u32,
    /// CAPABILITY_* bits.
    pub capabilities: u32,
    /// DEVICE_CAPABILITIES.DeviceState.
    pub device_states: [i32; nt_sys::PowerSystemMaximum],
    /// INTERFACE_TYPE and number of the bus in its resource lists.
    pub bus: (i32, u32),
    /// What it has been given.
    pub resources: Vec<Resource>,
    /// Where it is in its life.
    pub state: State,
}

impl Node {
    /// A device that was just reported.
    pub fn new(parent: Option<NodeId>, pdo: Pdo, instance: String) -> Self {
        Self {
            parent,
            children: Vec::new(),
            pdo,
            instance,
            hardware_ids: Vec::new(),
            compatible_ids: Vec::new(),
            description: String::new(),
            location: None,
            service: None,
            matching_id: None,
            address: u32::MAX,
            capabilities: 0,
            device_states: [0; nt_sys::PowerSystemMaximum],
            bus: (nt_sys::Internal, 0),
            resources: Vec::new(),
            state: State::Present,
        }
    }
}

struct Tree {
    nodes: BTreeMap<NodeId, Node>,
    next: u32,
}

static TREE: Mutex<Tree> = Mutex::new(Tree {
    nodes: BTreeMap::new(),
    next: 1,
});

/// Adds a device below its parent.
pub fn add(node: Node) -> NodeId {
    let mut tree = TREE.lock();
    let id = NodeId(tree.next);
    tree.next = tree.next.saturating_add(1);
    if let Some(parent) = node.parent.and_then(|parent| tree.nodes.get_mut(&parent)) {
        parent.children.push(id);
    }
    tree.nodes.insert(id, node);
    id
}

/// Takes a device off the tree.
pub fn remove(id: NodeId) -> Option<Node> {
    let mut tree = TREE.lock();
    let node = tree.nodes.remove(&id)?;
    if let Some(parent) = node.parent.and_then(|parent| tree.nodes.get_mut(&parent)) {
        parent.children.retain(|child| *child != id);
    }
    Some(node)
}

/// A copy of what is known of a device.
pub fn get(id: NodeId) -> Option<Node> {
    TREE.lock().nodes.get(&id).cloned()
}

/// Changes what is known of a device.
pub fn update(id: NodeId, change: impl FnOnce(&mut Node)) {
    if let Some(node) = TREE.lock().nodes.get_mut(&id) {
        change(node);
    }
}

/// The device with that PDO.
pub fn by_pdo(pdo: *mut DEVICE_OBJECT) -> Option<NodeId> {
    let tree = TREE.lock();
    tree.nodes
        .iter()
        .find(|(_, node)| node.pdo.as_ptr() == pdo)
        .map(|(id, _)| *id)
}

/// The device with that instance path.
pub fn by_instance(instance: &str) -> Option<NodeId> {
    let tree = TREE.lock();
    tree.nodes
        .iter()
        .find(|(_, node)| node.instance.eq_ignore_ascii_case(instance))
        .map(|(id, _)| *id)
}

/// A device and all below it, parents first.
pub fn subtree(id: NodeId) -> Vec<NodeId> {
    let tree = TREE.lock();
    let mut found = Vec::new();
    let mut open = alloc::vec![id];
    while let Some(id) = open.pop() {
        if let Some(node) = tree.nodes.get(&id) {
            found.push(id);
            open.extend(node.children.iter().rev());
        }
    }
    found
}

/// The root of the tree, once there is one.
pub fn root() -> Option<NodeId> {
    let tree = TREE.lock();
    tree.nodes
        .iter()
        .find(|(_, node)| node.parent.is_none())
        .map(|(id, _)| *id)
}
