//! Block backends over xen-model.
