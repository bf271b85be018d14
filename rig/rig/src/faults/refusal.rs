//! The errors that hypercalls may have: Xen's own, for a guest that keeps to the rules, when it lacks memory or refuses.

use xen_model::faults::Refusal;

use super::name;

/// The results by name that a hypercall (as [`xen_model::faults::name_of`] has it) may have besides success.
pub fn names(hypercall: &str) -> &'static [&'static str] {
    match hypercall {
        "event_channel_op.alloc_unbound" => &["ENOSPC", "ENOMEM", "EPERM"],
        "event_channel_op.bind_virq" => &["ENOSPC", "EEXIST", "EINVAL"],
        "event_channel_op.bind_interdomain" | "event_channel_op.bind_ipi" => &["ENOSPC", "EINVAL"],
        "event_channel_op.bind_vcpu" => &["EINVAL", "ENOENT"],
        "event_channel_op.close" | "event_channel_op.unmask" | "event_channel_op.send" => {
            &["EINVAL"]
        }
        "grant_table_op.setup_table" => &["EPERM", "EFAULT"],
        "grant_table_op.query_size" => &[
            "EPERM",
            "EFAULT",
            "GNTST_general_error",
            "GNTST_bad_domain",
            "GNTST_permission_denied",
        ],
        // Xen asks for patience where the peer's page is swapped out, and refuses for want of handles.
        "grant_table_op.map_grant_ref" => &[
            "EFAULT",
            "GNTST_general_error",
            "GNTST_bad_gntref",
            "GNTST_no_device_space",
            "GNTST_permission_denied",
            "GNTST_eagain",
        ],
        "grant_table_op.unmap_grant_ref" => &["GNTST_bad_handle", "GNTST_general_error"],
        "grant_table_op.copy" => &[
            "GNTST_bad_page",
            "GNTST_bad_copy_arg",
            "GNTST_bad_gntref",
            "GNTST_eagain",
        ],
        "memory_op.add_to_physmap" => &["ENOMEM", "EINVAL", "EBUSY"],
        "memory_op.remove_from_physmap" => &["ENOENT", "EINVAL"],
        // They return how much was done.
        "memory_op.decrease_reservation" | "memory_op.populate_physmap" => &["0", "ENOMEM"],
        "vcpu_op.register_vcpu_info" => &["ENOMEM", "EINVAL"],
        "hvm_op.set_evtchn_upcall_vector" => &["ENOSYS", "EINVAL"],
        "hvm_op.get_param" | "hvm_op.set_param" => &["EINVAL", "EPERM"],
        // Without an answer to these there is no Xen, and the drivers do nothing at all.
        "xen_version.version" | "xen_version.extraversion" => &[],
        _ => &["ENOSYS", "EINVAL"],
    }
}

/// One of them, by a number.
pub fn pick(hypercall: &str, number: u64) -> Option<Refusal> {
    let names = names(hypercall);
    let index = number.checked_rem(names.len() as u64)? as usize;
    names.get(index).and_then(|text| name::result(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_name() {
        for hypercall in [
            "event_channel_op.alloc_unbound",
            "event_channel_op.bind_virq",
            "event_channel_op.bind_vcpu",
            "event_channel_op.send",
            "grant_table_op.setup_table",
            "grant_table_op.query_size",
            "grant_table_op.map_grant_ref",
            "grant_table_op.unmap_grant_ref",
            "grant_table_op.copy",
            "memory_op.add_to_physmap",
            "memory_op.remove_from_physmap",
            "memory_op.populate_physmap",
            "vcpu_op.register_vcpu_info",
            "hvm_op.set_evtchn_upcall_vector",
            "hvm_op.get_param",
            "sched_op.yield",
        ] {
            assert!(!names(hypercall).is_empty(), "{hypercall}");
            for (number, text) in (0..).zip(names(hypercall)) {
                assert!(name::result(text).is_some(), "{text}");
                assert_eq!(pick(hypercall, number), name::result(text));
            }
        }
        assert_eq!(pick("xen_version.version", 3), None);
    }
}
