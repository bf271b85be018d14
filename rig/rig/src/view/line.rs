//! An event as a line of words.

use std::fmt::{self, Display};

use trace::{Event, Reader, table};

use super::{names, net};
use crate::platform::symbols::Symbols;

/// What turns numbers of one trace into names.
pub struct Words<'a> {
    reader: &'a Reader,
    symbols: &'a Symbols,
}

impl<'a> Words<'a> {
    /// For the events of `reader`, with the functions that `symbols` knows.
    pub fn new(reader: &'a Reader, symbols: &'a Symbols) -> Self {
        Self { reader, symbols }
    }

    /// The name of an image, or of the executive.
    pub fn driver(&self, driver: u64) -> &'a str {
        match driver {
            0 => "the executive",
            _ => self
                .reader
                .name(table::DRIVER, driver)
                .unwrap_or("an unknown image"),
        }
    }

    /// A place in an image.
    pub fn place(&self, driver: u64, rva: u64) -> String {
        if driver == 0 {
            return self.driver(0).to_owned();
        }
        let name = self.driver(driver);
        match self.symbols.find(name, rva as u32) {
            Some(symbol) => format!("{name}!{symbol}"),
            None => format!("{name}+{rva:#x}"),
        }
    }

    fn named(&self, table: u64, id: u64, kind: &str) -> String {
        match self.reader.name(table, id) {
            Some(name) => name.to_owned(),
            None => format!("{kind} {id:#x}"),
        }
    }

    fn device(&self, device: u64) -> String {
        self.named(table::DEVICE, device, "device")
    }

    /// The event in words.
    pub fn of(&self, event: Event<'a>) -> impl Display {
        fmt::from_fn(move |f| self.write(f, event))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, event: Event<'a>) -> fmt::Result {
        match event {
            Event::Name { table, id, text } => write!(f, "name {id} of table {table}: {text}"),
            Event::Mark { text } => write!(f, "── {text} ──"),
            Event::CallEnter { .. } | Event::CallLeave { .. } | Event::Irql { .. } => {
                self.call(f, event)
            }
            Event::IrpCall { .. } | Event::IrpReturn { .. } | Event::IrpComplete { .. } => {
                self.irp(f, event)
            }
            Event::Request { .. }
            | Event::RequestDone { .. }
            | Event::SrbBuild { .. }
            | Event::SrbStart { .. }
            | Event::SrbComplete { .. } => disk(f, event),
            Event::BackendTake { .. } | Event::BackendDone { .. } | Event::Fault { .. } => {
                backend(f, event)
            }
            Event::Unknown { number, words } => write!(f, "unknown event {number} {words:x?}"),
            _ if event
                .kind()
                .is_some_and(|kind| kind.class == trace::Class::Xen) =>
            {
                xen(f, event)
            }
            _ if event
                .kind()
                .is_some_and(|kind| kind.class == trace::Class::Net) =>
            {
                net::write(f, event)
            }
            _ => self.kernel(f, event),
        }
    }

    fn call(&self, f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
        let function = |function| self.named(table::FUNCTION, function, "function");
        match event {
            Event::CallEnter {
                driver,
                function: number,
                rva,
                irql,
            } => {
                write!(
                    f,
                    "{} calls {} at IRQL {irql}",
                    self.place(driver, rva),
                    function(number)
                )
            }
            Event::CallLeave {
                driver,
                function: number,
                irql,
            } => {
                write!(
                    f,
                    "{} returns to {} at IRQL {irql}",
                    function(number),
                    self.driver(driver)
                )
            }
            Event::Irql { from, to } => write!(f, "IRQL {from} to {to}"),
            _ => Ok(()),
        }
    }

    fn irp(&self, f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
        match event {
            Event::IrpCall {
                irp,
                device,
                driver,
                major,
                minor,
            } => write!(
                f,
                "IRP {irp:#x} {} to {} of {}",
                names::irp(major, minor),
                self.device(device),
                self.driver(driver)
            ),
            Event::IrpReturn {
                irp,
                device,
                status,
            } => write!(
                f,
                "IRP {irp:#x} returns from {}: {}",
                self.device(device),
                names::status(status)
            ),
            Event::IrpComplete { irp, status } => {
                write!(f, "IRP {irp:#x} completed: {}", names::status(status))
            }
            _ => Ok(()),
        }
    }

    fn kernel(&self, f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
        match event {
            Event::Switch { from, to } => write!(f, "thread {from} to thread {to}"),
            Event::ThreadStart {
                thread,
                driver,
                rva,
            } => {
                write!(f, "thread {thread} starts: {}", self.place(driver, rva))
            }
            Event::ThreadEnd { thread } => write!(f, "thread {thread} ends"),
            Event::DpcQueue { driver, rva, on } => {
                write!(f, "DPC queued on CPU {on}: {}", self.place(driver, rva))
            }
            Event::DpcRun { driver, rva } => write!(f, "DPC: {}", self.place(driver, rva)),
            Event::DpcEnd { driver, rva } => write!(f, "DPC ends: {}", self.place(driver, rva)),
            Event::InterruptRaise { on, vector } => write!(f, "interrupt {vector:#x} for CPU {on}"),
            Event::InterruptRun {
                vector,
                driver,
                rva,
            } => {
                write!(f, "interrupt {vector:#x}: {}", self.place(driver, rva))
            }
            Event::InterruptEnd { vector } => write!(f, "interrupt {vector:#x} ends"),
            Event::TimerSet { timer, due } => {
                write!(f, "timer {timer:#x} set for {} ms", due as f64 / 10_000.0)
            }
            Event::TimerFire { timer } => write!(f, "timer {timer:#x} expires"),
            Event::WorkQueue { driver, rva } => {
                write!(f, "work item queued: {}", self.place(driver, rva))
            }
            Event::WorkRun { driver, rva } => write!(f, "work item: {}", self.place(driver, rva)),
            Event::WorkEnd { driver, rva } => {
                write!(f, "work item ends: {}", self.place(driver, rva))
            }
            Event::Ipi { driver, rva } => {
                write!(f, "call on all CPUs: {}", self.place(driver, rva))
            }
            other => write!(f, "{other:x?}"),
        }
    }
}

fn disk(f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
    match event {
        Event::Request {
            request,
            target,
            op,
            lba,
            blocks,
            block_size,
        } => write!(
            f,
            "request {request}: {} of {}, block {lba}, {blocks} x {block_size} bytes",
            names::scsi(op),
            names::target(target)
        ),
        Event::RequestDone { request, status } => match status {
            0 => write!(f, "request {request} done"),
            _ => write!(f, "request {request} failed: {status:#x}"),
        },
        Event::SrbBuild { request, srb, page } => {
            write!(
                f,
                "request {request}: HwBuildIo, SRB {srb}, first page {page:#x}"
            )
        }
        Event::SrbStart { request, srb } => write!(f, "request {request}: HwStartIo, SRB {srb}"),
        Event::SrbComplete {
            request,
            srb,
            status,
        } => {
            write!(
                f,
                "request {request}: SRB {srb} completed: {}",
                names::srb(status)
            )
        }
        _ => Ok(()),
    }
}

fn xen(f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
    match event {
        Event::Hypercall { number, command } => {
            write!(f, "hypercall {} {command:#x}", names::hypercall(number))
        }
        Event::HypercallDone { number, result } => {
            write!(
                f,
                "hypercall {} gives {}",
                names::hypercall(number),
                names::result(result)
            )
        }
        Event::EventSend { port } => write!(f, "the guest sends on port {port}"),
        Event::EventNotify { port } => write!(f, "domain 0 sends to port {port}"),
        Event::Upcall { on, vector } => write!(f, "upcall to CPU {on}: {}", names::vector(vector)),
        Event::GrantMap {
            reference,
            page,
            write,
        } => {
            let how = if write == 0 { "to read" } else { "to write" };
            write!(f, "grant {reference} (page {page:#x}) mapped {how}")
        }
        Event::GrantUnmap { reference } => write!(f, "grant {reference} unmapped"),
        Event::GrantCopy { from, to, bytes } => {
            write!(f, "grant copy {from:#x} to {to:#x}, {bytes} bytes")
        }
        Event::Store {
            operation,
            error,
            path,
        } => {
            let end = if error == 0 { "" } else { ": failed" };
            write!(f, "xenstore {} {path}{end}", names::store(operation))
        }
        other => write!(f, "{other:x?}"),
    }
}

fn backend(f: &mut fmt::Formatter<'_>, event: Event<'_>) -> fmt::Result {
    match event {
        Event::BackendTake {
            vdev,
            queue,
            id,
            operation,
            sector,
            segments,
        } => write!(
            f,
            "backend of {} takes {} at sector {sector}, {segments} segments (queue {queue}, id {id:#x})",
            names::vdev(vdev),
            names::block(operation)
        ),
        Event::BackendDone {
            vdev,
            queue,
            id,
            status,
        } => write!(
            f,
            "backend of {} answers {} (queue {queue}, id {id:#x})",
            names::vdev(vdev),
            names::answer(status)
        ),
        Event::Fault { what } => write!(f, "fault: {what}"),
        _ => Ok(()),
    }
}
