//! The table of what drivers can import: which module, which name, which address.
//!
//! Each file that implements kernel functions lists them with [`exports!`]; [`tables`] is the list of those lists.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::sync::Once;

/// One importable function or variable.
#[derive(Clone, Copy)]
pub struct Export {
    /// The module in whose export table Windows has it, in lower case ("ntoskrnl.exe", "hal.dll", "storport.sys").
    pub module: &'static str,
    /// Its name, exactly as imported.
    pub name: &'static str,
    /// What an import slot receives.
    pub address: *const (),
    /// Functions are called, data is read through the slot.
    pub kind: Kind,
}

/// What an import slot points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A function with the x64 Windows calling convention.
    Function,
    /// A variable.
    Data,
}

// SAFETY: the address is that of a function or of a static variable which is itself safe to share.
unsafe impl Sync for Export {}
// SAFETY: as for `Sync`.
unsafe impl Send for Export {}

/// Defines `pub static EXPORTS: &[Export]` from the functions (and statics) in scope:
/// `exports!("ntoskrnl.exe": KeSetEvent, KeResetEvent; data InitSafeBootMode);`
#[macro_export]
macro_rules! exports {
    ($module:literal: $($name:ident),* $(,)? $(; data $($data:ident),* $(,)?)?) => {
        /// What this file gives to drivers.
        pub static EXPORTS: &[$crate::Export] = &[
            $($crate::Export {
                module: $module,
                name: stringify!($name),
                address: $name as *const (),
                kind: $crate::export::Kind::Function,
            },)*
            $($($crate::Export {
                module: $module,
                name: stringify!($data),
                address: (&raw const $data).cast(),
                kind: $crate::export::Kind::Data,
            },)*)?
        ];
    };
}

/// Every list of exports in this crate.
pub(crate) fn tables() -> impl Iterator<Item = &'static [Export]> {
    [
        crate::cm::zw::EXPORTS,
        crate::cng::EXPORTS,
        crate::dbg::print::EXPORTS,
        crate::ex::callback::EXPORTS,
        crate::ex::event::EXPORTS,
        crate::ex::image::EXPORTS,
        crate::ex::information::EXPORTS,
        crate::ex::list::EXPORTS,
        crate::ex::process::EXPORTS,
        crate::ex::processor::EXPORTS,
        crate::io::cancel::EXPORTS,
        crate::io::complete::EXPORTS,
        crate::io::csq::EXPORTS,
        crate::io::device::EXPORTS,
        crate::io::driver_key::EXPORTS,
        crate::io::interrupt::EXPORTS,
        crate::io::irp::EXPORTS,
        crate::io::remove_lock::EXPORTS,
        crate::io::shutdown::EXPORTS,
        crate::io::wmi::EXPORTS,
        crate::io::wmi::library::EXPORTS,
        crate::io::work::EXPORTS,
        crate::ke::affinity::EXPORTS,
        crate::ke::bugcheck::EXPORTS,
        crate::ke::bugcheck_callback::EXPORTS,
        crate::ke::dpc::EXPORTS,
        crate::ke::event::EXPORTS,
        crate::ke::interrupt::EXPORTS,
        crate::ke::ipi::EXPORTS,
        crate::ke::irql::EXPORTS,
        crate::ke::mutex::EXPORTS,
        crate::ke::queued_lock::EXPORTS,
        crate::ke::raise::EXPORTS,
        crate::ke::rwlock::EXPORTS,
        crate::ke::spinlock::EXPORTS,
        crate::ke::thread::EXPORTS,
        crate::ke::time::EXPORTS,
        crate::ke::timer::EXPORTS,
        crate::ke::wait::EXPORTS,
        crate::mm::address::EXPORTS,
        crate::mm::hotplug::EXPORTS,
        crate::mm::mdl::EXPORTS,
        crate::mm::pool::EXPORTS,
        crate::netio::EXPORTS,
        crate::ob::EXPORTS,
        crate::ob::handle::EXPORTS,
        crate::pnp::device_interface::EXPORTS,
        crate::pnp::property::EXPORTS,
        crate::po::EXPORTS,
        crate::rtl::ansi::EXPORTS,
        crate::rtl::context::EXPORTS,
        crate::rtl::memory::EXPORTS,
        crate::rtl::printf::EXPORTS,
        crate::rtl::random::EXPORTS,
        crate::rtl::system::EXPORTS,
        crate::rtl::text::EXPORTS,
        crate::rtl::unicode::EXPORTS,
        crate::rtl::unwind::EXPORTS,
    ]
    .into_iter()
}

static INDEX: Once<BTreeMap<(String, &'static str), Export>> = Once::new();

/// Builds the index from this crate's tables and `more` (port drivers that live in crates of their own).
pub(crate) fn register(more: &[&'static [Export]]) {
    let mut index = BTreeMap::new();
    for table in tables().chain(more.iter().copied()) {
        for export in table {
            index.insert((export.module.to_ascii_lowercase(), export.name), *export);
        }
    }
    INDEX.set(index);
}

/// The module that stands in for another: kernel and HAL, since functions moved between them over Windows' releases.
fn stand_in(module: &str) -> Option<&'static str> {
    match module {
        "ntoskrnl.exe" => Some("hal.dll"),
        "hal.dll" => Some("ntoskrnl.exe"),
        _ => None,
    }
}

/// The export `name` of `module` (any case), or of its stand-in.
pub fn find(module: &str, name: &str) -> Option<Export> {
    let index = INDEX.get()?;
    let module = module.to_ascii_lowercase();
    let look = |module: &str| index.get(&(String::from(module), name)).copied();
    look(&module).or_else(|| stand_in(&module).and_then(look))
}

/// Whether any export belongs to `module` (any case): a module provided by the executive rather than by a file.
pub fn is_provided(module: &str) -> bool {
    let module = module.to_ascii_lowercase();
    stand_in(&module).is_some()
        || INDEX
            .get()
            .is_some_and(|index| index.keys().any(|(owner, _)| *owner == module))
}
