//! What the verifier asks of the model of Xen: who else may use memory that a driver frees, and what drivers have left
//! with Xen when they are gone.
//!
//! A grant is made in memory, without a hypercall: its owner is whoever allocated the page. Event channels and mappings
//! are made by hypercalls, so the stack of that moment says who wanted them.

use std::sync::Arc;

use nt_host::hypervisor::Hypervisor;
use nt_host::ke::backtrace;
use nt_host::mm;
use nt_host::mm::frames::Frame;
use nt_host::pe::modules;
use nt_host::verifier::Rule;
use xen_model::{PortState, Witness, Xen};

struct Shares(Arc<Xen>);

impl Hypervisor for Shares {
    fn shared(&self, is_freed: &dyn Fn(Frame) -> bool) -> Option<String> {
        let granted = self.0.granted_among(is_freed);
        let first = granted.first()?;
        Some(format!("frame {:#x} in it, {first}", first.gfn))
    }
}

/// The model as the executive asks it, for the rest of the process.
pub fn of(xen: &Arc<Xen>) -> &'static dyn Hypervisor {
    Box::leak(Box::new(Shares(Arc::clone(xen))))
}

/// Who makes a hypercall.
pub fn witness() -> Witness {
    Arc::new(backtrace::of_trap)
}

/// What the drivers, which are gone, have left with Xen, and what they did to grants in use; a line each.
pub fn findings(xen: &Xen) -> Vec<String> {
    let mut lines = Vec::new();
    for changed in xen.take_violations() {
        lines.push(format!(
            "{}: {} changed grant {} of frame {:#x} in use: flags and domain {:#x}, were {:#x}",
            Rule::GrantChanged,
            owner(changed.gfn),
            changed.gref,
            changed.gfn,
            changed.found,
            changed.expected,
        ));
    }
    for granted in xen.granted() {
        lines.push(format!(
            "{}: {} left frame {:#x} {granted}",
            Rule::GrantLeak,
            owner(granted.gfn),
            granted.gfn
        ));
    }
    for borrowed in xen.borrowed() {
        lines.push(format!(
            "{}: {} left grant {} of domain {} mapped at frame {:#x}, by {}",
            Rule::GrantMapLeak,
            maker(&borrowed.made_by),
            borrowed.gref,
            borrowed.granter,
            borrowed.gfn,
            stack(&borrowed.made_by),
        ));
    }
    for bound in xen.bound() {
        lines.push(format!(
            "{}: {} left event channel {}, {}, made by {}",
            Rule::EventChannelLeak,
            maker(&bound.made_by),
            bound.port,
            describe(bound.state),
            stack(&bound.made_by),
        ));
    }
    lines
}

/// Whose memory a frame is.
fn owner(frame: Frame) -> &'static str {
    match mm::owner_of(frame) {
        Some(module) => modules::name_of(module),
        None => "a driver that freed it",
    }
}

/// The driver on whose behalf something was made: the executive called it, and it others.
fn maker(made_by: &[u64]) -> &'static str {
    let module = made_by
        .last()
        .and_then(|&address| modules::by_address(address));
    module.map_or("a driver", |module| module.name.as_str())
}

fn stack(made_by: &[u64]) -> String {
    backtrace::describe(made_by).join(" < ")
}

fn describe(state: PortState) -> String {
    match state {
        PortState::Unbound(domain) => format!("waiting for domain {domain}"),
        PortState::Interdomain(domain, port) => format!("bound to port {port} of domain {domain}"),
        PortState::Virq(virq) => format!("bound to virtual interrupt {virq}"),
        PortState::Ipi => "between processors".to_owned(),
        PortState::Free | PortState::Reserved => "of no use".to_owned(),
    }
}
