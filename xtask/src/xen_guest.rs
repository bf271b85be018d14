//! Builds the kernel of rig/xen-guest, and the boot module that it is given.
//!
//! ```text
//!   cargo ─> ELF64 with a PVH note: a PVH domain's kernel, or domain 0's
//!              └─ copied into an ELF32 without notes: an HVM domain's firmware (libxc takes no other)
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use object::{
    LittleEndian as LE, Object, ObjectSymbol, SymbolKind,
    elf::{PF_R, PF_W, PF_X, PT_LOAD},
    read::elf::{ElfFile64, FileHeader, ProgramHeader},
};
use pdb::{FallibleIterator, PDB, SymbolData};
use xen_lab::cpio::Archive;

use crate::{
    drivers::{self, DRIVERS},
    process,
    toolchain::{KERNEL_TARGET, Toolchain, root},
};

/// Permissions of the module's files, at which the guest does not look.
const MODE: u32 = 0o644;

/// The kernel's files.
pub(crate) struct Kernels {
    /// ELF64 with Xen's PVH note.
    pub pvh: PathBuf,
    /// Its ELF32 copy, for HVM.
    pub hvm: PathBuf,
}

/// Builds both files into target/xen-guest.
pub(crate) fn build() -> Result<Kernels> {
    process::expect(
        "build xen-guest",
        Toolchain::current()
            .cargo_for_kernel("build")
            .env("CARGO_TERM_PROGRESS_WHEN", "never"),
    )?;
    let target = root().join("target");
    let built = target.join(KERNEL_TARGET).join("kernel/xen-guest");
    let bytes =
        fs::read(&built).with_context(|| format!("the build left no {}", built.display()))?;
    let folder = target.join("xen-guest");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kernels = Kernels {
        pvh: folder.join("xen-guest.elf"),
        hvm: folder.join("xen-guest-hvm.elf"),
    };
    let hvm = elf32(&bytes).context("the kernel's ELF32 copy")?;
    for (path, content) in [(&kernels.pvh, &bytes), (&kernels.hvm, &hvm)] {
        fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(kernels)
}

/// `./x xen-guest`.
pub(crate) fn build_and_say(job: &Path) -> Result<()> {
    let job = fs::read_to_string(job).with_context(|| format!("cannot read {}", job.display()))?;
    drivers::build()?;
    let kernels = build()?;
    let module = root().join("target/xen-guest/job.cpio");
    fs::write(&module, archive(&job)?)
        .with_context(|| format!("cannot write {}", module.display()))?;
    for path in [&kernels.pvh, &kernels.hvm, &module] {
        println!("{} {:>9} bytes", path.display(), fs::metadata(path)?.len());
    }
    Ok(())
}

/// The loaded parts of an ELF64 file as an ELF32 file for the i386.
fn elf32(bytes: &[u8]) -> Result<Vec<u8>> {
    const HEADER: usize = 52;
    const PROGRAM_HEADER: usize = 32;
    const PAGE: usize = 4096;
    let file = ElfFile64::<LE>::parse(bytes)?;
    let entry = u32::try_from(file.elf_header().e_entry(LE))?;
    let loads: Vec<_> = file
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(LE) == PT_LOAD)
        .collect();
    ensure!(!loads.is_empty(), "nothing is loaded");

    let mut out = Vec::new();
    // ELF, 32 bits, little-endian, version 1; an executable for the i386 (ELF specification, figure 1-3).
    out.extend([0x7F, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend([2u16.to_le_bytes(), 3u16.to_le_bytes()].concat());
    for word in [1, entry, HEADER as u32, 0, 0] {
        out.extend(word.to_le_bytes());
    }
    for half in [HEADER, PROGRAM_HEADER, loads.len(), 40, 0, 0] {
        out.extend((half as u16).to_le_bytes());
    }
    let mut at = PAGE;
    let mut contents = Vec::new();
    for load in &loads {
        let content = load
            .data(LE, bytes)
            .ok()
            .context("a part lies outside of the file")?;
        let address = u32::try_from(load.p_paddr(LE))?;
        let flags = load.p_flags(LE) & (PF_R | PF_W | PF_X);
        let size = u32::try_from(load.p_memsz(LE))?;
        for word in [
            PT_LOAD,
            at as u32,
            address,
            address,
            content.len() as u32,
            size,
            flags,
            PAGE as u32,
        ] {
            out.extend(word.to_le_bytes());
        }
        contents.push((at, content));
        at = (at + content.len()).next_multiple_of(PAGE);
    }
    for (at, content) in contents {
        out.resize(at, 0);
        out.extend(content);
    }
    Ok(out)
}

/// The boot module for a job: the drivers of dist/x64 with their INF files, names of functions, and the job's lines.
pub(crate) fn archive(job: &str) -> Result<Vec<u8>> {
    let dist = drivers::dist();
    let mut archive = Archive::default();
    archive.file("job", MODE, job.as_bytes());
    let mut add = |name: &str| -> Result<()> {
        let path = dist.join(name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(name, MODE, &bytes);
        Ok(())
    };
    for driver in DRIVERS {
        add(&format!("{}.sys", driver.name))?;
        if driver.has_inf {
            add(&format!("{}.inf", driver.name))?;
        }
    }
    for driver in DRIVERS {
        let path = dist.join(format!("{}.pdb", driver.name));
        let symbols = of_driver(&path).with_context(|| format!("{}", path.display()))?;
        archive.file(&format!("{}.sym", driver.name), MODE, symbols.as_bytes());
    }
    let kernel = root().join("target/xen-guest/xen-guest.elf");
    archive.file("xen-guest.sym", MODE, of_kernel(&kernel)?.as_bytes());
    Ok(archive.finish())
}

/// Lines of address and name, ascending.
fn lines(functions: &BTreeMap<u64, String>) -> String {
    let mut text = String::new();
    for (address, name) in functions {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{address:x} {name}");
    }
    text
}

/// The functions of an image, by its debug information.
fn of_driver(path: &Path) -> Result<String> {
    let mut pdb = PDB::open(File::open(path)?)?;
    let map = pdb.address_map()?;
    let mut functions = BTreeMap::new();
    let information = pdb.debug_information()?;
    let mut modules = information.modules()?;
    while let Some(module) = modules.next()? {
        let Some(module) = pdb.module_info(&module)? else {
            continue;
        };
        let mut symbols = module.symbols()?;
        while let Some(symbol) = symbols.next()? {
            if let Ok(SymbolData::Procedure(procedure)) = symbol.parse()
                && let Some(rva) = procedure.offset.to_rva(&map)
            {
                functions.insert(u64::from(rva.0), procedure.name.to_string().into_owned());
            }
        }
    }
    Ok(lines(&functions))
}

/// The functions of the kernel.
fn of_kernel(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = ElfFile64::<LE>::parse(&*bytes)?;
    let functions = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
        .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
        .map(|(address, name)| {
            let name = rustc_demangle::demangle(name);
            (address, format!("{name:#}"))
        })
        .collect();
    Ok(lines(&functions))
}
