//! The loaded images, and the files they are loaded from.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use nt_sys::{NTSTATUS, UNICODE_STRING};
use trace::{Class, Event, table};

use super::image::{Import, Layout, Memory};
use super::unwind::RuntimeFunction;
use super::{LoadError, bind, detour, dynamic, insn, thunk};
use crate::export::{self, Export};
use crate::host::platform;
use crate::ke::border;
use crate::platform::PAGE_SIZE;
use crate::sync::Mutex;
use crate::verifier::Rule;

/// The most images in a machine's life.
pub(crate) const MOST: usize = 256;

/// A loaded image. It stays known after it was unloaded, so that a late call into it can be named.
pub struct Module {
    /// Its number, never 0: what the executive notes as owner.
    pub id: u32,
    /// Its file name, as "xen.sys".
    pub name: String,
    layout: Layout,
    memory: Memory,
    /// Privileged instructions that were replaced.
    pub patched: Vec<insn::Found>,
    /// What it asked for by name.
    asked: dynamic::Thunks,
    /// The images it imports from.
    needs: Vec<&'static Module>,
    users: AtomicU32,
    /// Its `DllInitialize` has run.
    initialized: AtomicBool,
    /// Its discardable sections are gone.
    discarded: AtomicBool,
    unloaded: AtomicBool,
}

// SAFETY: after loading, the executive only reads the image's tables; its memory belongs to the driver.
unsafe impl Sync for Module {}
// SAFETY: as for `Sync`.
unsafe impl Send for Module {}

impl Module {
    /// Its address.
    pub fn base(&self) -> usize {
        self.memory.base().as_ptr() as usize
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.layout.size as usize
    }

    /// The address of its entry point (`DriverEntry`).
    pub fn entry(&self) -> Option<usize> {
        (self.layout.entry != 0).then(|| self.base() + self.layout.entry as usize)
    }

    /// Whether it has been unloaded.
    pub fn is_unloaded(&self) -> bool {
        self.unloaded.load(Ordering::Acquire)
    }

    /// Takes its discardable sections away, as Windows does when `DriverEntry` has returned: an access faults.
    pub fn discard_init(&self) {
        self.discarded.store(true, Ordering::Release);
        self.memory.discard(&self.layout);
    }

    /// The address of an export, by its name or as `#12`.
    pub fn export(&self, name: &str) -> Option<usize> {
        let number = name
            .strip_prefix('#')
            .and_then(|number| number.parse().ok());
        let rva = match number {
            Some(number) => self.layout.ordinals.get::<u16>(&number),
            None => self.layout.exports.get(name),
        };
        rva.map(|&rva| self.base() + rva as usize)
    }

    /// The module and the name there to which an export leads on.
    pub fn forward(&self, name: &str) -> Option<(&str, &str)> {
        let (module, there) = self.layout.forwards.get(name)?;
        Some((module, there))
    }

    /// The import whose slot is at `rva`.
    pub fn import_at(&self, rva: u32) -> Option<&Import> {
        self.layout.imports.iter().find(|import| import.slot == rva)
    }

    /// The address by which this image uses `export`, for one that it asks for by name.
    pub fn resolve(&self, export: &Export) -> Option<usize> {
        let pageable = thunk::Pageable::of(&self.layout, &self.memory);
        self.asked.resolve(&self.memory, self.id, pageable, export)
    }

    /// The function with unwind information that covers `rva`.
    pub fn function(&self, rva: u32) -> Option<RuntimeFunction> {
        self.function_row(rva).copied()
    }

    /// As [`function`](Self::function), at an address that does not change.
    pub fn function_row(&self, rva: u32) -> Option<&RuntimeFunction> {
        let functions = &self.layout.functions;
        let index = functions
            .partition_point(|function| function.begin <= rva)
            .checked_sub(1)?;
        functions.get(index).filter(|function| rva < function.end)
    }

    /// Whether `address` lies in its code.
    pub fn is_code(&self, address: u64) -> bool {
        let offset = address.wrapping_sub(self.base() as u64);
        u32::try_from(offset).is_ok_and(|rva| self.layout.is_code(rva))
    }

    /// The rule that whoever uses `address` in it breaks.
    fn gone(&self, address: u64) -> Option<Rule> {
        let rva = address.wrapping_sub(self.base() as u64) as u32;
        let section = self.layout.section(rva);
        if self.is_unloaded() {
            Some(Rule::CodeUnloaded)
        } else if self.discarded.load(Ordering::Acquire) && section?.discardable {
            Some(Rule::CodeDiscarded)
        } else {
            None
        }
    }

    /// `N` bytes of the image at `rva`.
    pub fn read_bytes<const N: usize>(&self, rva: u32) -> Option<[u8; N]> {
        let end = (rva as usize).checked_add(N)?;
        if end > self.size() {
            return None;
        }
        let address = self.base() + rva as usize;
        if !platform().readable(address as u64, N) {
            return None;
        }
        // SAFETY: the bytes lie in the image and are readable; byte arrays have no alignment.
        Some(unsafe { (address as *const [u8; N]).read_volatile() })
    }

    /// The export at or before `rva` with the distance to it: a symbol where there is nothing better.
    fn nearest_export(&self, rva: u32) -> Option<String> {
        let function = self.function(rva).map_or(0, |function| function.begin);
        let exports = self
            .layout
            .exports
            .iter()
            .filter(|&(_, &at)| at <= rva && at >= function);
        exports
            .max_by_key(|&(_, &at)| at)
            .map(|(name, at)| format!("{name}+{:#x}", rva - at))
    }

    /// A code address as text: `xenbus.sys!evtchn::send+0x1c`.
    pub fn describe(&self, address: u64) -> String {
        let rva = address.wrapping_sub(self.base() as u64) as u32;
        let symbol = platform()
            .symbol(&self.name, rva)
            .or_else(|| self.nearest_export(rva));
        let unloaded = if self.is_unloaded() { "unloaded " } else { "" };
        match symbol {
            Some(symbol) => format!("{unloaded}{}!{symbol}", self.name),
            None => format!("{unloaded}{}+{rva:#x}", self.name),
        }
    }
}

static FILES: Mutex<BTreeMap<String, Arc<[u8]>>> = Mutex::new(BTreeMap::new());
/// The images by number, from 1. A slot is filled once and never changes, so that the handler of a fault looks here
/// without a lock.
static MODULES: [AtomicPtr<Module>; MOST] = [const { AtomicPtr::new(null_mut()) }; MOST];

/// Puts a driver file where the loader finds it, as into `System32\drivers`.
pub fn provide(name: &str, bytes: impl Into<Arc<[u8]>>) {
    FILES.lock().insert(name.to_ascii_lowercase(), bytes.into());
}

/// The bytes of a provided file.
pub fn file(name: &str) -> Option<Arc<[u8]>> {
    FILES.lock().get(&name.to_ascii_lowercase()).cloned()
}

/// Every image that was ever loaded, in load order; what an unloaded one left behind still bears its number.
pub fn all() -> impl Iterator<Item = &'static Module> {
    let slots = MODULES.iter().map(|slot| slot.load(Ordering::Acquire));
    // SAFETY: a slot is null or the address of a leaked module.
    slots.map_while(|module| unsafe { module.as_ref() })
}

/// Every loaded image, in load order.
pub fn loaded() -> Vec<&'static Module> {
    all().filter(|module| !module.is_unloaded()).collect()
}

/// The loaded image of that file name (any case).
pub fn by_name(name: &str) -> Option<&'static Module> {
    all().find(|module| !module.is_unloaded() && module.name.eq_ignore_ascii_case(name))
}

/// The image that covers `address`; also one that was unloaded.
pub fn by_address(address: u64) -> Option<&'static Module> {
    all().find(|module| address.wrapping_sub(module.base() as u64) < module.size() as u64)
}

/// The image at `address`, if its memory there is gone, and the rule that whoever uses it breaks.
pub fn gone(address: u64) -> Option<(&'static Module, Rule)> {
    let module = by_address(address)?;
    Some((module, module.gone(address)?))
}

/// Whether `address` lies in pageable code.
pub fn is_pageable(address: u64) -> bool {
    let module = by_address(address);
    module.is_some_and(|module| {
        let rva = address.wrapping_sub(module.base() as u64) as u32;
        module.layout.is_pageable(rva)
    })
}

/// The loaded image of that number.
pub fn by_id(id: u32) -> Option<&'static Module> {
    all().find(|module| module.id == id && !module.is_unloaded())
}

/// The function that the call before `back` calls by its import slot, as `ntoskrnl.exe!KeSetEvent`.
pub fn called_before(back: u64) -> Option<String> {
    // call [rip + distance]
    const CALL: [u8; 2] = [0xFF, 0x15];
    let module = by_address(back)?;
    let rva = (back - module.base() as u64) as u32;
    let [a, b, distance @ ..] = module.read_bytes::<6>(rva.checked_sub(6)?)?;
    let slot = rva.wrapping_add(u32::from_le_bytes(distance));
    let import = module.import_at(slot).filter(|_| [a, b] == CALL)?;
    Some(format!("{}!{}", import.module, import.name))
}

/// The name of a module by its number: the executive's for 0.
pub fn name_of(id: u32) -> &'static str {
    let found = all().find(|module| module.id == id);
    found.map_or("ntoskrnl.exe", |module| &module.name)
}

/// Loads a provided image with what it imports from other images, in an NT thread at PASSIVE_LEVEL; one call at a time.
/// An image that is loaded already gets one more user. Each call is undone by one [`unload`].
pub fn load(name: &str) -> Result<&'static Module, LoadError> {
    load_with(name, &mut Vec::new())
}

/// As [`load`]; `loading` are the images that are being loaded, which need this one.
fn load_with(name: &str, loading: &mut Vec<String>) -> Result<&'static Module, LoadError> {
    if let Some(module) = by_name(name) {
        module.users.fetch_add(1, Ordering::Relaxed);
        return Ok(module);
    }
    let bytes = file(name).ok_or_else(|| LoadError::NotFound(name.to_owned()))?;
    let layout = Layout::read(name, &bytes)?;
    bind::check(name, &layout)?;
    loading.push(name.to_ascii_lowercase());
    let needs = load_needs(name, &layout, loading)?;
    loading.pop();
    let module = build(name, layout, &bytes, &needs);
    if module.is_err() {
        release(&needs);
    }
    module
}

/// Loads and initialises the images from which `layout` imports.
fn load_needs(
    name: &str,
    layout: &Layout,
    loading: &mut Vec<String>,
) -> Result<Vec<&'static Module>, LoadError> {
    let mut needs: Vec<&'static Module> = Vec::new();
    let imported = layout
        .imports
        .iter()
        .map(|import| import.module.to_ascii_lowercase());
    // A forwarded export whose module is not there only matters to who imports it.
    let forwarded = layout
        .forwards
        .values()
        .map(|(module, _)| bind::file_name(module));
    let forwarded = forwarded.filter(|module| file(module).is_some());
    for module in imported.chain(forwarded) {
        if export::is_provided(&module) || needs.iter().any(|need| need.name == module) {
            continue;
        }
        match load_need(name, &module, loading) {
            Ok(need) => needs.push(need),
            Err(error) => {
                release(&needs);
                return Err(error);
            }
        }
    }
    Ok(needs)
}

fn load_need(
    name: &str,
    module: &str,
    loading: &mut Vec<String>,
) -> Result<&'static Module, LoadError> {
    if loading.iter().any(|image| image == module) {
        return Err(LoadError::Cycle(name.to_owned(), module.to_owned()));
    }
    let need = load_with(module, loading)?;
    if let Err(error) = initialize_dll(need) {
        unload(need);
        return Err(error);
    }
    Ok(need)
}

fn build(
    name: &str,
    layout: Layout,
    bytes: &[u8],
    needs: &[&'static Module],
) -> Result<&'static Module, LoadError> {
    let id = all().count() as u32 + 1;
    let slot = MODULES.get(id as usize - 1);
    let slot = slot.ok_or_else(|| LoadError::NoMemory(name.to_owned()))?;
    let thunks = layout.imports.len() * thunk::SIZE;
    let asked = (layout.end() as usize + thunks + detour::ROOM).next_multiple_of(PAGE_SIZE);
    let extra = asked + dynamic::ROOM - layout.end() as usize;
    let mut memory = Memory::map(name, &layout, bytes, extra)?;
    bind::bind(name, id, &layout, &mut memory)?;
    set_cookie(&layout, &mut memory);
    let patched = if platform().is_native() {
        Vec::new()
    } else {
        insn::patch(&layout, memory.bytes(), platform().is_seeded())
    };
    if let Some(entry) = platform().hypercall_entry() {
        let start = layout.end() as usize + thunks;
        detour::install(&mut memory, &layout, &patched, start, entry);
    }
    memory.protect(&layout);
    let module = Box::new(Module {
        id,
        name: name.to_ascii_lowercase(),
        layout,
        memory,
        patched,
        asked: dynamic::Thunks::new(asked),
        needs: needs.to_vec(),
        users: AtomicU32::new(1),
        initialized: AtomicBool::new(false),
        discarded: AtomicBool::new(false),
        unloaded: AtomicBool::new(false),
    });
    let module: &'static Module = Box::leak(module);
    slot.store(core::ptr::from_ref(module).cast_mut(), Ordering::Release);
    trace::emit(Class::Name, || Event::Name {
        table: table::DRIVER,
        id: u64::from(id),
        text: &module.name,
    });
    platform().image_loaded(&module.name, module.base());
    crate::ex::image::loaded(module);
    Ok(module)
}

/// Undoes one [`load`]. With the last, the export driver's `DllUnload` runs, the image can no longer be accessed, and
/// what it needed is unloaded too. In an NT thread at PASSIVE_LEVEL.
pub fn unload(module: &'static Module) {
    if module.users.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    if module.initialized.load(Ordering::Acquire)
        && let Some(address) = module.export("DllUnload")
    {
        // SAFETY: the export driver's contract: DllUnload takes nothing and answers a status.
        let unload: extern "win64" fn() -> NTSTATUS = unsafe { core::mem::transmute(address) };
        border::call(|| unload());
    }
    crate::verifier::unload::unloaded(module);
    crate::verifier::freed::check(module.base(), module.size());
    module.unloaded.store(true, Ordering::Release);
    module.memory.revoke();
    release(&module.needs);
}

fn release(modules: &[&'static Module]) {
    for module in modules {
        unload(module);
    }
}

/// Gives the image's stack-protector cookie a value of its own, as the loader must (IMAGE_LOAD_CONFIG_DIRECTORY64:
/// SecurityCookie at 0x58).
fn set_cookie(layout: &Layout, memory: &mut Memory) {
    let Some(config) = layout.load_config else {
        return;
    };
    if config.checked_add(0x60).is_none_or(|end| end > layout.size) {
        return;
    }
    let length = memory.read(config) as u32;
    let cookie = memory.read(config + 0x58);
    let rva = cookie.wrapping_sub(memory.base().as_ptr() as u64);
    if length >= 0x60 && cookie != 0 && rva.saturating_add(8) <= u64::from(layout.size) {
        let value = crate::rtl::random::next() & 0x0000_ffff_ffff_ffff;
        memory.write(rva as u32, value | 1 << 40);
    }
}

/// Calls `DllInitialize` of an export driver once, with the path of its service's key.
fn initialize_dll(module: &'static Module) -> Result<(), LoadError> {
    let Some(address) = module.export("DllInitialize") else {
        return Ok(());
    };
    if module.initialized.swap(true, Ordering::AcqRel) {
        return Ok(());
    }
    let service = module.name.trim_end_matches(".sys");
    let path = format!("\\REGISTRY\\MACHINE\\SYSTEM\\CurrentControlSet\\Services\\{service}");
    let mut units: Vec<u16> = path.encode_utf16().collect();
    let length = (units.len() * 2) as u16;
    units.push(0);
    let path = UNICODE_STRING {
        Length: length,
        MaximumLength: length + 2,
        Buffer: units.as_mut_ptr(),
    };
    // SAFETY: the export driver's contract: DllInitialize takes the registry path and answers a status.
    let initialize: extern "win64" fn(*const UNICODE_STRING) -> NTSTATUS =
        unsafe { core::mem::transmute(address) };
    match border::call(|| initialize(&raw const path)) {
        status if status >= 0 => Ok(()),
        status => {
            module.initialized.store(false, Ordering::Release);
            Err(LoadError::DllInitialize(module.name.clone(), status))
        }
    }
}
