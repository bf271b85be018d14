//! Import thunks: each kernel function that a driver imports is called through a few instructions of its own.
//!
//! They note which module called and where its return address is, which costs two stores, and jump on. So an exported
//! function knows its caller (pool owners, reports), and a stack walk knows where to start, without any guessing.
//! Where shortages are played, the thunk of a function that can lack memory asks first whether it does.

use crate::ke::processor::{CALLER, CALLER_RSP};
use crate::shortage::{self, Fallible};

/// Size of a thunk in bytes.
pub const SIZE: usize = 112;

/// The code of a thunk for module `module` that jumps to `target`, unless the function `lacks` what it needs.
pub fn code(module: u32, target: u64, lacks: Option<Fallible>) -> [u8; SIZE] {
    let mut code = [0xCC; SIZE];
    let mut at = 0;
    let mut emit = |bytes: &[u8]| {
        code[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    // mov dword ptr gs:[CALLER], module
    emit(&[0x65, 0xC7, 0x04, 0x25]);
    emit(&CALLER.to_le_bytes());
    emit(&module.to_le_bytes());
    // mov gs:[CALLER_RSP], rsp
    emit(&[0x65, 0x48, 0x89, 0x24, 0x25]);
    emit(&CALLER_RSP.to_le_bytes());
    if let Some(Fallible { index, answer }) = lacks {
        // push rcx; push rdx; push r8; push r9; sub rsp, 0x28: the stack is aligned for a call again
        emit(&[0x51, 0x52, 0x41, 0x50, 0x41, 0x51, 0x48, 0x83, 0xEC, 0x28]);
        // mov ecx, index
        emit(&[0xB9]);
        emit(&index.to_le_bytes());
        // mov rax, strikes; call rax
        emit(&[0x48, 0xB8]);
        emit(&(shortage::strikes as *const () as u64).to_le_bytes());
        emit(&[0xFF, 0xD0]);
        // add rsp, 0x28; pop r9; pop r8; pop rdx; pop rcx
        emit(&[0x48, 0x83, 0xC4, 0x28, 0x41, 0x59, 0x41, 0x58, 0x5A, 0x59]);
        // test al, al; jz over the next two; mov eax, answer; ret
        emit(&[0x84, 0xC0, 0x74, 0x06, 0xB8]);
        emit(&answer.to_le_bytes());
        emit(&[0xC3]);
    }
    // jmp [rip]; the target follows
    emit(&[0xFF, 0x25, 0, 0, 0, 0]);
    emit(&target.to_le_bytes());
    code
}
