//! Memory that another domain may still use is not freed: the next owner would share it with that domain.

use super::Rule;
use crate::host::host;
use crate::mm::frames::Frame;

/// A driver frees `what`, the frames that `is_freed` picks.
pub fn freed(what: &str, is_freed: impl Fn(Frame) -> bool) {
    let Some(hypervisor) = host().config().hypervisor else {
        return;
    };
    if let Some(how) = hypervisor.shared(&is_freed) {
        Rule::GrantFreed.breach(format_args!("frees {what} with {how}"));
    }
}
