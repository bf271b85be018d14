//! What the loader says about images that it cannot load, and that no image makes it fail.

mod image;

use image::Image;
use nt_host::pe::LoadError;
use nt_host::pe::image::Layout;
use nt_host::pe::insn::{self, Privileged};
use proptest::prelude::*;

const RET: u8 = 0xc3;

fn driver() -> Image {
    let mut driver = Image::new(&[RET, 0xcc]);
    driver.import("ntoskrnl.exe", "KeSetEvent");
    driver.import("xen.sys", "XenTouch");
    driver.exports = vec![("DllInitialize", 0), ("Again", 1)];
    driver.pointers = vec![8, 24];
    driver
}

fn refused(bytes: &[u8]) -> String {
    Layout::read("a.sys", bytes)
        .expect_err("a faulty image")
        .to_string()
}

#[test]
fn a_good_image_is_read() {
    let layout = Layout::read("a.sys", &driver().build()).unwrap();
    let imports: Vec<_> = layout
        .imports
        .iter()
        .map(|import| (&*import.module, &*import.name))
        .collect();
    assert_eq!(
        imports,
        [("ntoskrnl.exe", "KeSetEvent"), ("xen.sys", "XenTouch")]
    );
    assert_eq!(layout.exports["DllInitialize"], image::TEXT);
    assert_eq!(layout.exports["Again"], image::TEXT + 1);
    assert_eq!(layout.relocations, [image::DATA + 8, image::DATA + 24]);
}

#[test]
fn what_is_no_image_is_named() {
    assert_eq!(refused(&[]), "a.sys: not a PE image (it is empty)");
    assert_eq!(
        refused(b"#!/bin/sh"),
        "a.sys: not a PE image (it does not start with MZ)"
    );
    assert_eq!(
        refused(&driver().build()[..0x44]),
        "a.sys: not a PE image (it is cut short)"
    );
}

#[test]
fn an_image_that_ends_early_is_refused() {
    let bytes = driver().build();
    assert!(Layout::read("a.sys", &bytes[..0x100]).is_err());
    assert_eq!(
        refused(&bytes[..0x500]),
        "a.sys: not a PE image (it is cut short, a section lies outside the file)"
    );
}

#[test]
fn images_for_other_machines_and_subsystems_are_refused() {
    let bytes = Image {
        machine: 0xaa64,
        ..driver()
    }
    .build();
    assert_eq!(
        refused(&bytes),
        "a.sys: for machine 0xaa64, not x64 (0x8664)"
    );
    let bytes = Image {
        subsystem: 3,
        ..driver()
    }
    .build();
    assert_eq!(refused(&bytes), "a.sys: for subsystem 3, not native (1)");
}

#[test]
fn a_section_both_writable_and_executable_is_refused() {
    let bytes = Image {
        code_flags: 0xE000_0020,
        ..driver()
    }
    .build();
    assert_eq!(
        Layout::read("a.sys", &bytes).unwrap_err(),
        LoadError::WritableAndExecutable("a.sys".into(), ".text".into())
    );
}

#[test]
fn an_image_without_relocations_is_refused() {
    let mut bytes = driver().build();
    // Characteristics: IMAGE_FILE_RELOCS_STRIPPED.
    bytes[0x40 + 22] |= 1;
    assert_eq!(
        refused(&bytes),
        "a.sys: has no relocations, so it cannot be loaded"
    );
}

#[test]
fn instructions_that_leave_the_rig_are_found_and_replaced() {
    // cpuid; vmcall; jz over a byte that would swallow vmmcall; vmmcall; ret
    let code = [
        0x0f, 0xa2, 0x0f, 0x01, 0xc1, 0x74, 0x01, 0xb8, 0x0f, 0x01, 0xd9, RET,
    ];
    let mut driver = Image::new(&code);
    driver.exports = vec![("Target", 8)];
    let layout = Layout::read("a.sys", &driver.build()).unwrap();
    let mut memory = vec![0; layout.size as usize];
    let text = image::TEXT as usize;
    memory[text..text + code.len()].copy_from_slice(&code);
    let found = insn::patch(&layout, &mut memory, false);
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.rva - image::TEXT, found.kind))
        .collect();
    let expected = [
        (0, Privileged::Cpuid),
        (2, Privileged::Vmcall),
        (8, Privileged::Vmmcall),
    ];
    assert_eq!(found, expected);
    assert_eq!(memory[text..text + 5], [0x0f, 0x0b, 0x0f, 0x0b, 0x90]);
    assert_eq!(memory[text + 8..text + 12], [0x0f, 0x0b, 0x90, RET]);
}

#[test]
fn a_hypercall_moves_with_what_is_behind_it_unless_something_branches_there() {
    let movable = |code: &[u8]| {
        let layout = Layout::read("a.sys", &Image::new(code).build()).unwrap();
        let mut memory = vec![0; layout.size as usize];
        let text = image::TEXT as usize;
        memory[text..text + code.len()].copy_from_slice(code);
        insn::find(&layout, &memory)[0].movable
    };
    // vmcall; mov rcx, rax; ret
    assert_eq!(movable(&[0x0f, 0x01, 0xc1, 0x48, 0x89, 0xc1, RET]), 6);
    // vmcall; ret: too short.
    assert_eq!(movable(&[0x0f, 0x01, 0xc1, RET]), 0);
    // vmcall; mov rcx, rax; jmp to the mov
    assert_eq!(
        movable(&[0x0f, 0x01, 0xc1, 0x48, 0x89, 0xc1, 0xeb, 0xfb]),
        0
    );
    // vmcall; lea rax, [rip + 0]: not the same elsewhere.
    assert_eq!(
        movable(&[0x0f, 0x01, 0xc1, 0x48, 0x8d, 0x05, 0, 0, 0, 0, RET]),
        0
    );
}

/// Values at which sizes, addresses and counts go wrong.
const EDGES: [u32; 12] = [
    0,
    1,
    7,
    0xfff,
    0x1000,
    0x2000,
    0x4fff,
    0x5000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_f000,
    u32::MAX,
];

/// Examines an image; what is wrong with it must fit a line.
fn examine(bytes: &[u8]) {
    if let Err(error) = nt_host::pe::image::examine("a.sys", bytes) {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

proptest! {
    /// Fields of headers, directories and tables, set to values at which arithmetic goes wrong.
    #[test]
    fn no_field_makes_the_loader_fail(
        fields in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(&EDGES)),
            1..6,
        ),
        small in any::<bool>(),
    ) {
        let mut driver = driver();
        driver.forwards = vec![("Elsewhere", "ntoskrnl.KeSetEvent"), ("Loop", "a.#4")];
        driver.import("ntoskrnl.exe", "#17");
        let mut bytes = driver.build();
        for (at, value) in fields {
            // Headers and section table, or anywhere: tables have fields of two and of four bytes.
            let room = if small { 0x200 } else { bytes.len() - 4 };
            let at = at.index(room / 2) * 2;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        examine(&bytes);
    }

    #[test]
    fn no_damage_makes_the_reader_fail(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        keep in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = driver().build();
        for (at, value) in damage {
            let length = bytes.len();
            bytes[at.index(length)] = value;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        examine(&bytes);
    }

    #[test]
    fn no_damage_to_the_headers_makes_the_reader_fail(
        damage in prop::collection::vec((0_usize..0x1f0, any::<u8>()), 1..8),
    ) {
        let mut bytes = driver().build();
        for (at, value) in damage {
            bytes[at] = value;
        }
        examine(&bytes);
    }
}
